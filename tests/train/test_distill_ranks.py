"""Two processes (gloo) are taught as one is with the same global batch, across two tokenizers."""

import json
from pathlib import Path

import pytest
import yaml

from tests.conftest import TEXT
from tests.train.test_ranks import TRAINING, by_torchrun, check_same, launched

pytestmark = pytest.mark.slow


def configured(folder: Path, name: str, student: Path, teacher: Path, corpus: Path, loss: str, batch_size: int) -> Path:
    heldout = folder / "heldout.jsonl"
    heldout.write_text("".join(json.dumps({"text": f"{text} Apart."}) + "\n" for text in TEXT))
    values = {
        "student": str(student),
        "teacher": str(teacher),
        "corpus": [str(corpus)],
        "heldout": [str(heldout)],
        "loss": loss,
        "learning_rate": 1e-3,
        "out": str(folder / name),
        "device": "cpu",
        "training": {**TRAINING, "batch_size": batch_size},
    }
    (folder / f"{name}.yaml").write_text(yaml.safe_dump(values))
    return folder / f"{name}.yaml"


@pytest.mark.parametrize("loss", ["event+0.5*chunks", "prefixes", "uld"])
def test_two_processes_are_taught_as_one_is(tmp_path, tiny_llama, spaced, corpus_file, loss):
    """Every rank lines up its own share of the batch; what they divide by is counted over both."""
    sides = (tiny_llama, spaced, corpus_file, loss)
    ended = launched("vocabalign", "distill", "--config", str(configured(tmp_path, "one", *sides, 4)))
    assert ended.returncode == 0, ended.stderr[-3000:]
    ended = by_torchrun("-m", "vocabalign", "distill", "--config", str(configured(tmp_path, "two", *sides, 2)))
    assert ended.returncode == 0, ended.stderr[-3000:]
    check_same(tmp_path / "one", tmp_path / "two", 2e-5)
