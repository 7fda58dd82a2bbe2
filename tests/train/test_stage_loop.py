"""A stage to its end: interrupted, killed, and stopped by a loss that is no number."""

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests.train.runs import Interrupted, finetuned, interrupted_at, make_neox, same
from vocabalign.errors import TrainingError
from vocabalign.train.trainer import StageTrainer


@pytest.mark.parametrize("step,kind", [(2, "llama"), (4, "neox")])
def test_an_interrupted_run_goes_on_to_the_same_bits(tmp_path, tiny_llama, corpus_file, heldout_file, step, kind):
    model = tiny_llama if kind == "llama" else make_neox(tmp_path / "model")
    training = {"checkpoint_every": 1, "evaluate_every": 2}
    arguments = dict(learning_rate=1e-3, heldout=[str(heldout_file)])
    undisturbed = finetuned(model, corpus_file, tmp_path / "undisturbed", training, **arguments)
    with interrupted_at(step + 1, error=Interrupted):
        finetuned(model, corpus_file, tmp_path / "out", training, **arguments)
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
from tests.train import test_stage_loop as t
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
