"""When the first stage ends: not while it pays, soon after it stops, and always at the same step."""

import json

import numpy as np

from tests.train.runs import finetuned, interrupted_at, losses, same
from vocabalign.train import stage_switch
from vocabalign.train.stage_switch import has_stopped_paying


def first_end(losses, **options):
    return next((n for n in range(1, len(losses) + 1) if has_stopped_paying(losses[:n], **options)), None)


def test_it_goes_on_while_the_loss_falls_and_ends_when_it_is_flat():
    falling = [10 * 0.99**step for step in range(100)]
    assert first_end(falling) is None
    ended = first_end(falling + [falling[-1]] * 60)
    assert 100 < ended <= 140


def test_noise_of_single_steps_does_not_decide():
    random = np.random.default_rng(0)
    for _ in range(20):
        losses = 10 * 0.99 ** np.arange(80) * random.normal(1, 0.02, 80)
        assert first_end(losses.tolist()) is None


def test_nothing_is_decided_before_two_windows():
    assert not has_stopped_paying([1.0] * 9, window=5)
    assert has_stopped_paying([1.0] * 10, window=5)


def test_a_rising_loss_ends_the_stage():
    assert has_stopped_paying([1.0] * 5 + [2.0] * 5, window=5)


def test_only_what_was_recorded_decides():
    losses = [5 * 0.97**step for step in range(200)]
    assert first_end(losses) == first_end(losses + [0.0] * 50)


def stages_of(out):
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    return [line["stage"] for line in lines if "loss" in line]


def test_a_run_switches_and_an_interrupted_one_at_the_same_step(tmp_path, tiny_llama, corpus_file, monkeypatch):
    """With a window of 2 and a gain that cannot be reached the first stage ends after four steps."""
    monkeypatch.setattr(stage_switch.has_stopped_paying, "__kwdefaults__", {"window": 2, "least_gain": 10.0})
    more = dict(rows_share="auto", rows_learning_rate=1e-3, learning_rate=1e-3)
    training = dict(steps=12, checkpoint_every=3)
    whole = finetuned(tiny_llama, corpus_file, tmp_path / "whole", training, **more)
    assert stages_of(whole) == ["rows"] * 4 + ["everything"] * 8
    assert json.loads((whole / "manifest.json").read_text())["metrics"]["rows_steps"] == 4
    for stop in (2, 4, 5, 9):
        out = tmp_path / f"stopped-{stop}"
        with interrupted_at(stop + 1):
            finetuned(tiny_llama, corpus_file, out, training, **more)
        finetuned(tiny_llama, corpus_file, out, training, **more)
        assert stages_of(out) == stages_of(whole) and losses(out) == losses(whole)
        assert same(out, whole)


def test_it_ends_at_half_of_the_steps_at_the_latest(tmp_path, tiny_llama, corpus_file):
    out = finetuned(tiny_llama, corpus_file, tmp_path / "out", rows_share="auto")
    assert stages_of(out) == ["rows"] * 3 + ["everything"] * 3
