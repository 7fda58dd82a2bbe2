"""Two processes (gloo) train as one does with the same global batch: DDP, also when they go back."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.conftest import TEXT
from tests.train.runs import losses, weights
from vocabalign.manifests import read_manifest

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.slow
TRAINING = {"steps": 6, "context": 32, "evaluate_every": 2, "checkpoint_every": 2}
POISONED = """
import sys
import vocabalign.train.trainer as t
from vocabalign.cli import run
original = t.StageTrainer.compute_loss
left = [1]
def spoil(self, model, inputs, *args, **kwargs):
    loss = original(self, model, inputs, *args, **kwargs)
    if self.first_batch and self.state.global_step == 1 and left[0]:
        left[0] -= 1
        return loss * float("nan")
    return loss
t.StageTrainer.compute_loss = spoil
sys.exit(run(sys.argv[1:]))
"""


def configured(folder: Path, name: str, model: Path, corpus: Path, batch_size: int, **more) -> Path:
    heldout = folder / "heldout.jsonl"
    heldout.write_text("".join(json.dumps({"text": f"{text} Apart."}) + "\n" for text in TEXT))
    values = {
        "model": str(model),
        "corpus": [str(corpus)],
        "heldout": [str(heldout)],
        "out": str(folder / name),
        "device": "cpu",
        "training": {**TRAINING, "batch_size": batch_size, **more},
    }
    (folder / f"{name}.yaml").write_text(yaml.safe_dump(values))
    return folder / f"{name}.yaml"


def launched(*command: str) -> subprocess.CompletedProcess:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "CUDA_VISIBLE_DEVICES": ""}
    environment["PYTHONPATH"] = str(ROOT)
    return subprocess.run(
        [sys.executable, "-m", *command], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=400
    )


def by_torchrun(*command: str) -> subprocess.CompletedProcess:
    return launched("torch.distributed.run", "--standalone", "--nproc-per-node", "2", *command)


def alone(folder: Path, model: Path, corpus: Path, **more) -> Path:
    ended = launched("vocabalign", "finetune", "--config", str(configured(folder, "one", model, corpus, 4, **more)))
    assert ended.returncode == 0, ended.stderr[-3000:]
    return folder / "one"


def check_same(one: Path, two: Path, tolerance: float = 2e-6) -> None:
    assert losses(two) == pytest.approx(losses(one), abs=tolerance)
    first, second = weights(one), weights(two)
    assert first.keys() == second.keys()
    # AdamW divides by the root of the second moment: a rounding of a tiny gradient shows.
    assert all(float((first[name] - second[name]).abs().max()) < 2e-4 for name in first)
    scores = [read_manifest(folder)["metrics"]["heldout_bits_per_byte"] for folder in (one, two)]
    assert scores[0] == pytest.approx(scores[1], abs=2e-5)


@pytest.mark.parametrize("accumulation", [1, 2])
def test_ddp_is_one_process_with_the_same_global_batch(tmp_path, tiny_llama, corpus_file, accumulation):
    one = alone(tmp_path, tiny_llama, corpus_file)
    config = configured(tmp_path, "two", tiny_llama, corpus_file, 2 // accumulation, accumulation=accumulation)
    ended = by_torchrun("-m", "vocabalign", "finetune", "--config", str(config))
    assert ended.returncode == 0, ended.stderr[-3000:]
    check_same(one, tmp_path / "two")


def test_ranks_go_back_together(tmp_path, tiny_llama, corpus_file):
    (tmp_path / "poisoned.py").write_text(POISONED)
    config = configured(tmp_path, "two", tiny_llama, corpus_file, 2)
    ended = by_torchrun(str(tmp_path / "poisoned.py"), "finetune", "--config", str(config))
    assert ended.returncode == 0, ended.stderr[-3000:]
    (rollback,) = read_manifest(tmp_path / "two")["metrics"]["rollbacks"]
    assert rollback["from_step"] == 5 and rollback["to_step"] == 3
    assert len(losses(tmp_path / "two")) == 6
    assert ended.stderr.count("going back to step 3") == 1
