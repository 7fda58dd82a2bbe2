"""The best weights are whole or the ones before."""

import errno

import pytest
import torch
from transformers import AutoModelForCausalLM

from tests.conftest import make_llama
from vocabalign.errors import TrainingError
from vocabalign.train import best as module
from vocabalign.train.best import Best, keep_best, load_best, mend_best, read_best


@pytest.mark.parametrize("tied", [True, False])
def test_kept_replaced_and_put_back(tmp_path, tied):
    model = AutoModelForCausalLM.from_pretrained(make_llama(tmp_path / "model", 64, tied=tied))
    assert read_best(tmp_path) is None
    for step in (2, 5):
        with torch.no_grad():
            model.get_input_embeddings().weight.fill_(step)
        keep_best(tmp_path, Best(step, 1 / step), model.state_dict())
        assert read_best(tmp_path) == Best(step, 1 / step)
    other = AutoModelForCausalLM.from_pretrained(tmp_path / "model")
    load_best(tmp_path, other)
    assert all(torch.equal(value, other.state_dict()[name]) for name, value in model.state_dict().items())


def test_a_full_disk_and_a_kill_leave_the_ones_before(tmp_path, monkeypatch):
    keep_best(tmp_path, Best(1, 2.0), {"a": torch.ones(2)})

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(module, "save_file", full)
    with pytest.raises(TrainingError, match="No space left for the best weights .step 2."):
        keep_best(tmp_path, Best(2, 1.0), {"a": torch.zeros(2)})
    assert read_best(tmp_path) == Best(1, 2.0) and not (tmp_path / "best.new").exists()
    (tmp_path / "best").rename(tmp_path / "best.old")
    mend_best(tmp_path)
    assert read_best(tmp_path) == Best(1, 2.0)
