"""The trainer: accumulated batches, and checkpoints on a full disk."""

import pytest
import torch

from tests.train.runs import finetuned, losses, same
from vocabalign.errors import TrainingError


def test_accumulation_is_one_big_batch(tmp_path, tiny_llama, corpus_file):
    a = finetuned(tiny_llama, corpus_file, tmp_path / "a", {"batch_size": 4})
    b = finetuned(tiny_llama, corpus_file, tmp_path / "b", {"batch_size": 1, "accumulation": 4})
    assert losses(a) == pytest.approx(losses(b), abs=2e-6)


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
