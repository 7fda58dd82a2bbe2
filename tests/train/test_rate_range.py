"""The range test: what it advises on known curves and real models, and that it leaves no trace."""

import math

import pytest
import torch

from tests.conftest import TEXT
from tests.train.runs import SMALL, finetuned, interrupted_at, losses, same
from vocabalign.errors import TrainingError
from vocabalign.models import load_model
from vocabalign.stages import TrainingOptions
from vocabalign.text.tokenizers import load_vocabulary
from vocabalign.train import schedule
from vocabalign.train.data import Blocks, tokenize
from vocabalign.train.objectives import cross_entropy
from vocabalign.train.rate_range import BACK_OFF, advise, range_test, rates


def test_rates_grow_by_one_factor():
    tried = rates(1e-4, 1e-1, 31)
    assert tried[0] == pytest.approx(1e-4) and tried[-1] == pytest.approx(1e-1)
    assert all(b / a == pytest.approx(10 ** (3 / 30)) for a, b in zip(tried, tried[1:]))


@pytest.mark.parametrize("limit", [1e-3, 1e-2])
def test_it_advises_below_where_the_loss_turns(limit):
    tried = rates()
    found = [5 - math.log10(rate / 1e-5) if rate < limit else 3 + 300 * (rate - limit) / limit for rate in tried]
    assert limit / (2.5 * BACK_OFF) < advise(tried, found) <= 1.5 * limit / BACK_OFF


def test_what_comes_after_a_number_that_is_none_does_not_count():
    tried = rates(steps=6)
    assert advise(tried, [3.0, 2.0, 1.9, math.nan, 0.0, 0.0]) == advise(tried, [3.0, 2.0, 1.9])
    with pytest.raises(TrainingError, match="before anything"):
        advise(tried, [math.nan])


def test_the_model_is_left_as_it_was_and_the_advice_repeats(tmp_path, tiny_llama):
    vocabulary = load_vocabulary(tiny_llama)
    model = load_model(tiny_llama, dtype=torch.float32, device=torch.device("cpu"))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    blocks = Blocks(tokenize(TEXT, vocabulary, tmp_path, "a"), 24, 0)
    options = TrainingOptions(**SMALL)
    advised = [
        range_test(model, cross_entropy, blocks, options, first_batch=3, device=torch.device("cpu")) for _ in range(2)
    ]
    assert advised[0] == advised[1] and 1e-5 < advised[0] < 1e-1
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters()) and not model.training


def test_an_interrupted_run_goes_on_with_the_same_rates(tmp_path, tiny_llama, corpus_file, monkeypatch):
    more = dict(rows_learning_rate="auto", learning_rate="auto")
    expected = finetuned(tiny_llama, corpus_file, tmp_path / "whole", **more)
    tests = []
    monkeypatch.setattr(schedule, "range_test", lambda *a, **k: tests.append(1) or range_test(*a, **k))
    with interrupted_at(5):
        finetuned(tiny_llama, corpus_file, tmp_path / "stopped", **more)
    again = finetuned(tiny_llama, corpus_file, tmp_path / "stopped", **more)
    assert same(again, expected) and losses(again) == losses(expected)
    assert len(tests) == 2
