"""Training that diverges goes back to its last good state, and comes to the same however often it is interrupted."""

import json

import pytest
import torch

from tests.train.runs import Interrupted, finetuned, interrupted_at, same
from vocabalign.errors import TrainingError
from vocabalign.manifests import read_manifest
from vocabalign.train.trainer import StageTrainer

TRAINING = {"steps": 8, "checkpoint_every": 2, "evaluate_every": 2}


def poisoned(at: int, times: int, kind: str = "loss"):
    """``compute_loss`` that spoils one step of the second stage as often as ``times`` says."""
    original, left = StageTrainer.compute_loss, [times]

    def spoil(self, model, inputs, *args, **kwargs):
        loss = original(self, model, inputs, *args, **kwargs)
        if self.state.global_step + 1 == at and self.first_batch and left[0]:
            left[0] -= 1
            if kind == "weights":
                with torch.no_grad():
                    next(iter(self.raw_model.parameters()))[3] = float("nan")
            return loss * float("nan")
        return loss

    return spoil


def lines(folder) -> list[dict]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("at,back", [(1, 4), (4, 6)])
def test_it_goes_back_with_half_the_rate_and_says_so(
    tmp_path, tiny_llama, corpus_file, heldout_file, monkeypatch, at, back, caplog
):
    monkeypatch.setattr(StageTrainer, "compute_loss", poisoned(at, 1, "weights"))
    out = finetuned(tiny_llama, corpus_file, tmp_path / "out", TRAINING, heldout=[str(heldout_file)])
    (rollback,) = read_manifest(out)["metrics"]["rollbacks"]
    assert rollback["from_step"] == 4 + at and rollback["to_step"] == back and rollback["stage"] == "everything"
    assert rollback["documents"] and all(name.startswith(str(corpus_file)) for name in rollback["documents"])
    assert "the norm of the gradient is nan" in rollback["reason"] and f"going back to step {back}" in caplog.text
    assert [line["rollback"]["learning_rate_scale"] for line in lines(out) if "rollback" in line] == [0.5]
    monkeypatch.undo()
    plain = finetuned(tiny_llama, corpus_file, tmp_path / "plain", TRAINING, heldout=[str(heldout_file)])
    rates = {line["step"]: line["learning_rate"] for line in lines(out) if "loss" in line}
    usual = {line["step"]: line["learning_rate"] for line in lines(plain) if "loss" in line}
    assert rates.keys() == usual.keys() == set(range(1, 9))
    for step, rate in rates.items():
        assert rate == pytest.approx(usual[step] * (0.5 if step > back else 1.0))
    found, usual = (_losses(folder, back + 1) for folder in (out, plain))
    assert found == usual  # the step after it was taken from the same state
    assert all(torch.isfinite(parameter).all() for parameter in torch.nn.ParameterList(_parameters(out)))


def _losses(folder, until) -> dict[int, float]:
    return {line["step"]: line["loss"] for line in lines(folder) if "loss" in line and line["step"] <= until}


def _parameters(out):
    from transformers import AutoModelForCausalLM

    return [parameter.data for parameter in AutoModelForCausalLM.from_pretrained(out).parameters()]


def test_interrupted_after_going_back_it_ends_the_same(tmp_path, tiny_llama, corpus_file, heldout_file, monkeypatch):
    monkeypatch.setattr(StageTrainer, "compute_loss", poisoned(4, 1))
    undisturbed = finetuned(tiny_llama, corpus_file, tmp_path / "a", TRAINING, heldout=[str(heldout_file)])
    monkeypatch.setattr(StageTrainer, "compute_loss", poisoned(4, 1))
    after_going_back = 4 + 4 + 1
    with interrupted_at(after_going_back, error=Interrupted):
        finetuned(tiny_llama, corpus_file, tmp_path / "b", TRAINING, heldout=[str(heldout_file)])
    monkeypatch.undo()
    again = finetuned(tiny_llama, corpus_file, tmp_path / "b", TRAINING, heldout=[str(heldout_file)])
    assert same(again, undisturbed)
    assert (again / "metrics.jsonl").read_text() == (undisturbed / "metrics.jsonl").read_text()


def test_it_gives_up_after_some_times(tmp_path, tiny_llama, corpus_file, monkeypatch):
    monkeypatch.setattr(StageTrainer, "compute_loss", poisoned(4, 99))
    with pytest.raises(TrainingError, match="at step 8 .*after going back 3 times .*the checkpoint of step 6 is kept"):
        finetuned(tiny_llama, corpus_file, tmp_path / "out", TRAINING)
    with pytest.raises(TrainingError, match="at step 8 .*corpus.jsonl:.*use a lower learning rate"):
        finetuned(tiny_llama, corpus_file, tmp_path / "b", {**TRAINING, "max_rollbacks": 0})
    assert not (tmp_path / "out").exists()


def test_weights_that_are_spread_go_back_at_the_next_start(tmp_path, tiny_llama, corpus_file, monkeypatch):
    monkeypatch.setattr(StageTrainer, "compute_loss", poisoned(4, 1))
    monkeypatch.setattr("vocabalign.train.rollback.is_sharded", lambda _: True)
    with pytest.raises(TrainingError, match="start the same command again; it goes on from step 6 with 0.5"):
        finetuned(tiny_llama, corpus_file, tmp_path / "out", TRAINING)
    monkeypatch.undo()
    out = finetuned(tiny_llama, corpus_file, tmp_path / "out", TRAINING)
    (rollback,) = read_manifest(out)["metrics"]["rollbacks"]
    assert rollback["to_step"] == 6 and rollback["learning_rate_scale"] == 0.5
