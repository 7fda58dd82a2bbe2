"""Fine-tuning and distillation on tiny models: what is trained, what is the same, what is refused."""

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from tests.conftest import make_byte_level_tokenizer, make_llama
from vocabalign.errors import ArtifactError, ConfigError, CorpusError, ModelError, TrainingError
from vocabalign.manifests import read_manifest
from vocabalign.stages import DistillConfig, FinetuneConfig, TrainingOptions
from vocabalign.train import distill, finetune
from vocabalign.train.trainer import StageTrainer

SMALL = dict(steps=6, batch_size=4, context=32, checkpoint_every=2)


@pytest.fixture(autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def finetuned(model: Path, corpus: Path, out: Path, training: dict | None = None, **more) -> Path:
    options = TrainingOptions(**{**SMALL, **(training or {})})
    return finetune.run(FinetuneConfig(model=str(model), corpus=[str(corpus)], out=out, training=options, **more))


def distilled(student: Path, teacher: Path, corpus: Path, out: Path, training: dict | None = None, **more) -> Path:
    options = TrainingOptions(**{**SMALL, **(training or {})})
    return distill.run(
        DistillConfig(
            student=str(student), teacher=str(teacher), corpus=[str(corpus)], out=out, training=options, **more
        )
    )


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model.safetensors")


def losses(folder: Path) -> list[float]:
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [line["loss"] for line in lines if "loss" in line]


def same(a: Path, b: Path) -> bool:
    first, second = weights(a), weights(b)
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


@pytest.fixture(scope="module")
def teacher(tmp_path_factory):
    folder = tmp_path_factory.mktemp("teacher")
    make_byte_level_tokenizer(folder)
    return make_llama(folder, 400, seed=5, hidden_size=48)


def make_neox(folder: Path, dtype=torch.float32) -> Path:
    from transformers import GPTNeoXConfig, GPTNeoXForCausalLM

    torch.manual_seed(3)
    make_byte_level_tokenizer(folder)
    config = GPTNeoXConfig(
        vocab_size=416,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=64,
        tie_word_embeddings=False,
        bos_token_id=0,
        eos_token_id=0,
    )
    GPTNeoXForCausalLM(config).to(dtype).save_pretrained(folder)
    return folder


def test_rows_alone_are_trained_and_really(tmp_path, tiny_llama, corpus_file):
    out = finetuned(tiny_llama, corpus_file, tmp_path / "out", rows_share=1.0)
    before, after = weights(tiny_llama), weights(out)
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed == {"model.embed_tokens.weight", "lm_head.weight"}


def test_rows_of_tied_and_of_neox_models(tmp_path, corpus_file):
    tied = tmp_path / "tied"
    make_byte_level_tokenizer(tied)
    make_llama(tied, 400, tied=True)
    neox = make_neox(tmp_path / "neox")
    for folder, expected in (
        (tied, {"model.embed_tokens.weight"}),
        (neox, {"gpt_neox.embed_in.weight", "embed_out.weight"}),
    ):
        out = finetuned(folder, corpus_file, tmp_path / f"out-{folder.name}", rows_share=1.0)
        before, after = weights(folder), weights(out)
        assert {name for name in before if not torch.equal(before[name], after[name])} == expected


def test_two_parts_and_an_ordinary_folder(tmp_path, corpus_file):
    folder = make_neox(tmp_path / "model", torch.float16)
    (folder / "provenance.json").write_text('{"source": "x"}')
    out = finetuned(
        folder, corpus_file, tmp_path / "out", {"steps": 40}, learning_rate=3e-3, heldout=[str(corpus_file)]
    )
    assert all(tensor.dtype == torch.float16 for tensor in weights(out).values())
    assert any(not torch.equal(a, weights(out)[name]) for name, a in weights(folder).items() if "layers.1" in name)
    for name in ("config.json", "tokenizer.json", "tokenizer_config.json", "generation_config.json", "provenance.json"):
        assert (out / name).read_bytes() == (folder / name).read_bytes()
    assert AutoModelForCausalLM.from_pretrained(out).config.model_type == "gpt_neox"
    assert AutoTokenizer.from_pretrained(out)
    metrics = read_manifest(out)["metrics"]
    assert metrics["steps"] == 40 and metrics["tokens"] == 40 * 4 * 32
    assert metrics["heldout_bits_per_byte"] < metrics["heldout_bits_per_byte_before"]
    assert losses(out)[-1] < losses(out)[0]
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    rates = [line["learning_rate"] for line in lines if "loss" in line]
    assert max(rates[:20]) == 6.4e-4 and max(rates[20:]) == 3e-3 and rates[19] == pytest.approx(6.4e-5)


def test_accumulation_is_one_big_batch(tmp_path, tiny_llama, corpus_file):
    a = finetuned(tiny_llama, corpus_file, tmp_path / "a", {"batch_size": 4})
    b = finetuned(tiny_llama, corpus_file, tmp_path / "b", {"batch_size": 1, "accumulation": 4})
    assert losses(a) == pytest.approx(losses(b), abs=2e-6)


class Interrupted(Exception):
    pass


@pytest.mark.parametrize("step,kind", [(2, "llama"), (4, "neox")])
def test_an_interrupted_run_goes_on_to_the_same_bits(tmp_path, tiny_llama, corpus_file, monkeypatch, step, kind):
    model = tiny_llama if kind == "llama" else make_neox(tmp_path / "model")
    training = {"checkpoint_every": 1, "evaluate_every": 2}
    arguments = dict(learning_rate=1e-3, heldout=[str(corpus_file)])
    undisturbed = finetuned(model, corpus_file, tmp_path / "undisturbed", training, **arguments)
    original, calls = StageTrainer.compute_loss, []

    def stop(self, *args, **kwargs):
        calls.append(1)
        if len(calls) == step + 1:
            raise Interrupted
        return original(self, *args, **kwargs)

    monkeypatch.setattr(StageTrainer, "compute_loss", stop)
    with pytest.raises(Interrupted):
        finetuned(model, corpus_file, tmp_path / "out", training, **arguments)
    monkeypatch.setattr(StageTrainer, "compute_loss", original)
    assert not (tmp_path / "out").exists()
    # A checkpoint without its marker is not one.
    parts = sorted((tmp_path / ".out.work").glob("*/checkpoint-*"))
    shutil.copytree(parts[-1], parts[-1].with_name("checkpoint-99"))
    (parts[-1].with_name("checkpoint-99") / "COMPLETE").unlink()
    out = finetuned(model, corpus_file, tmp_path / "out", training, **arguments)
    assert same(out, undisturbed)
    assert (out / "metrics.jsonl").read_text() == (undisturbed / "metrics.jsonl").read_text()


KILLED = """
import os, signal, sys
from pathlib import Path
import torch; torch.set_num_threads(1)
from tests.train import test_training as t
original = t.StageTrainer._save_checkpoint
def kill(self, *args):
    if self.state.global_step == 3 and self.state.max_steps == 3 and self.options.checkpoint_every == 1:
        self.save_model(str(Path(self.args.output_dir) / "checkpoint-3"))
        os.kill(os.getpid(), signal.SIGKILL)
    original(self, *args)
t.StageTrainer._save_checkpoint = kill
t.finetuned(*map(Path, sys.argv[1:]), {"checkpoint_every": 1})
"""


@pytest.mark.slow  # test_an_interrupted_run_goes_on_to_the_same_bits is the quick one
def test_killed_while_it_writes_a_checkpoint(tmp_path, tiny_llama, corpus_file):
    command = [sys.executable, "-c", KILLED, str(tiny_llama), str(corpus_file), str(tmp_path / "out")]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    root = Path(__file__).parents[2]
    killed = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert not (tmp_path / "out").exists()
    undisturbed = finetuned(tiny_llama, corpus_file, tmp_path / "undisturbed", {"checkpoint_every": 1})
    assert same(finetuned(tiny_llama, corpus_file, tmp_path / "out", {"checkpoint_every": 1}), undisturbed)


def test_another_configuration_does_not_go_on_from_it(tmp_path, tiny_llama, corpus_file, monkeypatch):
    original = StageTrainer.create_scheduler
    monkeypatch.setattr("vocabalign.train.finetune.write_model", lambda *_: (_ for _ in ()).throw(Interrupted))
    with pytest.raises(Interrupted):
        finetuned(tiny_llama, corpus_file, tmp_path / "out")
    monkeypatch.undo()
    assert original is StageTrainer.create_scheduler
    a = finetuned(tiny_llama, corpus_file, tmp_path / "out", seed=1)
    assert same(a, finetuned(tiny_llama, corpus_file, tmp_path / "b", seed=1))


def test_a_full_disk_leaves_the_last_checkpoint(tmp_path, tiny_llama, corpus_file, monkeypatch):
    import errno

    original = torch.save

    def save(value, path, *args, **kwargs):
        if "checkpoint-2" in str(path):
            raise OSError(errno.ENOSPC, "No space left on device")
        return original(value, path, *args, **kwargs)

    monkeypatch.setattr(torch, "save", save)
    with pytest.raises(TrainingError, match="the checkpoint of step 1 is kept"):
        finetuned(tiny_llama, corpus_file, tmp_path / "out", {"checkpoint_every": 1}, rows_share=0)
    monkeypatch.undo()
    undisturbed = finetuned(tiny_llama, corpus_file, tmp_path / "b", {"checkpoint_every": 1}, rows_share=0)
    again = finetuned(tiny_llama, corpus_file, tmp_path / "out", {"checkpoint_every": 1}, rows_share=0)
    assert same(again, undisturbed)


def test_a_loss_that_is_not_finite_is_named(tmp_path, tiny_llama, corpus_file, monkeypatch):
    original = StageTrainer.compute_loss

    def poison(self, model, inputs, *args, **kwargs):
        if self.state.global_step == 2:
            with torch.no_grad():
                self.raw_model.get_output_embeddings().weight[5] = float("nan")
        return original(self, model, inputs, *args, **kwargs)

    monkeypatch.setattr(StageTrainer, "compute_loss", poison)
    with pytest.raises(TrainingError, match="nan at step 3"):
        finetuned(tiny_llama, corpus_file, tmp_path / "out", rows_share=0)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("divergence", ["forward-kl", "reverse-kl", "jensen-shannon"])
def test_distilling_a_model_into_itself_keeps_it(tmp_path, tiny_llama, corpus_file, divergence):
    arguments = dict(distillation_weight=1.0, divergence=divergence, learning_rate=1e-3)
    out = distilled(tiny_llama, tiny_llama, corpus_file, tmp_path / "out", {"steps": 3}, **arguments)
    assert losses(out) == [0, 0, 0]
    assert same(out, tiny_llama)


def test_the_control_is_plain_fine_tuning_on_the_same_batches(tmp_path, tiny_llama, teacher, corpus_file, monkeypatch):
    control = distilled(
        tiny_llama, teacher, corpus_file, tmp_path / "control", distillation_weight=0, learning_rate=1e-3
    )
    plain = finetuned(tiny_llama, corpus_file, tmp_path / "plain", rows_share=0, learning_rate=1e-3)
    assert same(control, plain)
    seen = {}
    for weight in (0.0, 0.5):
        batches = seen.setdefault(weight, [])
        original = StageTrainer.compute_loss

        def record(self, model, inputs, *args, batches=batches, original=original, **kwargs):
            batches.append(inputs["input_ids"].clone())
            return original(self, model, inputs, *args, **kwargs)

        monkeypatch.setattr(StageTrainer, "compute_loss", record)
        out = distilled(tiny_llama, teacher, corpus_file, tmp_path / f"w{weight}", distillation_weight=weight)
        monkeypatch.undo()
    assert all(torch.equal(a, b) for a, b in zip(seen[0.0], seen[0.5], strict=True))
    assert not same(out, control)


def test_distillation_brings_the_student_nearer(tmp_path, tiny_llama, teacher, corpus_file):
    out = distilled(
        tiny_llama, teacher, corpus_file, tmp_path / "out", {"steps": 30}, distillation_weight=1.0, learning_rate=1e-2
    )
    assert losses(out)[-1] < 0.5 * losses(out)[0]


def test_what_does_not_belong_together_is_refused(tmp_path, tiny_llama, teacher, corpus_file):
    other = tmp_path / "other"
    make_byte_level_tokenizer(other, texts=["entirely other words with other merges 0123456789"] * 5)
    shutil.copy(teacher / "model.safetensors", other)
    shutil.copy(teacher / "config.json", other)
    with pytest.raises(ModelError, match="[Tt]ransplant"):
        distilled(tiny_llama, other, corpus_file, tmp_path / "out")
    small = tmp_path / "small"
    make_byte_level_tokenizer(small)
    make_llama(small, 300)
    with pytest.raises(ModelError, match="300 rows"):
        finetuned(small, corpus_file, tmp_path / "out")
    (tmp_path / "short.txt").write_text("few words")
    with pytest.raises(CorpusError, match="too few"):
        finetuned(tiny_llama, tmp_path / "short.txt", tmp_path / "out")
    (tmp_path / "empty.txt").write_text("")
    with pytest.raises(CorpusError):
        finetuned(tiny_llama, tmp_path / "empty.txt", tmp_path / "out")
    with pytest.raises(ConfigError, match="at most 128"):
        finetuned(tiny_llama, corpus_file, tmp_path / "out", {"context": 256})
    with pytest.raises(ConfigError, match="learning_rate"):
        finetuned(tiny_llama, corpus_file, tmp_path / "out", trainer={"learning_rate": 1})
    with pytest.raises(ConfigError, match="nonsense"):
        finetuned(tiny_llama, corpus_file, tmp_path / "out", trainer={"nonsense": 1})
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "file").write_text("x")
    with pytest.raises(ArtifactError, match="exists"):
        finetuned(tiny_llama, corpus_file, tmp_path / "out")


def test_the_teachers_context(tmp_path, tiny_llama, corpus_file):
    short = make_neox(tmp_path / "short")
    with pytest.raises(ModelError, match="at most 64"):
        distilled(tiny_llama, short, corpus_file, tmp_path / "out", {"context": 100})
    out = distilled(tiny_llama, short, corpus_file, tmp_path / "out", {"context": None, "steps": 1})
    assert read_manifest(out)["metrics"]["tokens"] == 4 * 64


def test_bfloat16_and_gradient_checkpointing(tmp_path, tiny_llama, corpus_file):
    plain = finetuned(tiny_llama, corpus_file, tmp_path / "a")
    saving = finetuned(tiny_llama, corpus_file, tmp_path / "b", {"gradient_checkpointing": True})
    half = finetuned(tiny_llama, corpus_file, tmp_path / "c", dtype="bfloat16")
    assert losses(saving) == pytest.approx(losses(plain), abs=1e-5)
    assert losses(half) == pytest.approx(losses(plain), abs=2e-2) and losses(half) != losses(plain)


def test_real_models(tmp_path, material):
    model, corpus = material / "models" / "stories260K-hf", material / "corpora" / "tinystories" / "heldout.jsonl"
    before = finetuned(model, corpus, tmp_path / "finetuned", {"steps": 5, "context": 128}, learning_rate=1e-4)
    assert losses(before)[-1] < 5
    out = distilled(before, model, corpus, tmp_path / "distilled", {"steps": 3, "context": 128})
    assert losses(out)[-1] < 5
