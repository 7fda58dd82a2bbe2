"""Distillation on tiny models: what is the same, what is nearer, what is refused."""

import shutil

import pytest
import torch

from tests.conftest import make_byte_level_tokenizer, make_llama
from tests.train.runs import distilled, finetuned, losses, make_neox, same
from vocabalign.errors import ArtifactError, ConfigError, CorpusError, ModelError
from vocabalign.losses.divergences import DIVERGENCES
from vocabalign.manifests import read_manifest
from vocabalign.train.trainer import StageTrainer


@pytest.fixture(scope="module")
def teacher(tmp_path_factory):
    folder = tmp_path_factory.mktemp("teacher")
    make_byte_level_tokenizer(folder)
    return make_llama(folder, 400, seed=5, hidden_size=48)


@pytest.mark.parametrize("divergence", sorted(DIVERGENCES))
def test_distilling_a_model_into_itself_keeps_it(tmp_path, tiny_llama, corpus_file, divergence):
    arguments = dict(distillation_weight=1.0, divergence=divergence, learning_rate=1e-3, calibrate_teacher=False)
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
        distilled(tiny_llama, other, corpus_file, tmp_path / "out", loss="token")
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
