"""How long a source is learned from: from one that is behind not for long, from one that is ahead as long as it is."""

import json
import logging

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.conftest import make_metaspace_tokenizer
from tests.train.runs import finetuned, interrupted_at, losses, same
from vocabalign.stages import TransplantConfig
from vocabalign.train import fading
from vocabalign.train.fading import is_passed, weight_after
from vocabalign.transplantation import transplant_stage

LEADS = st.lists(st.floats(-5, 5), min_size=6, max_size=40)
STEPS = 36
MORE = dict(rows_learning_rate=2e-3, learning_rate=5e-3, self_distillation={"fade_from": 1.0})


@given(LEADS, st.floats(0.05, 1))
def test_a_weight_is_between_0_and_1_and_follows_from_the_first_and_the_last_steps(leads, fade_from):
    found = weight_after(leads, fade_from, window=3)
    assert 0 <= found <= 1
    assert found == weight_after(leads[:3] + leads[-3:], fade_from, window=3)
    assert found >= weight_after(leads, 1.0, window=3)
    doubled = [2 * lead for lead in leads]
    assert weight_after(doubled, fade_from, window=3) == pytest.approx(found)


def test_it_falls_with_the_lead():
    assert weight_after([4.0] * 3 + [4.0] * 3, 1.0, window=3) == 1
    assert weight_after([4.0] * 3 + [1.0] * 3, 1.0, window=3) == 0.25
    assert weight_after([4.0] * 3 + [1.0] * 3, 0.5, window=3) == 0.5
    assert weight_after([4.0] * 3 + [-1.0] * 3, 0.5, window=3) == 0
    assert weight_after([4.0] * 5, 1.0, window=3) == 1  # too few to tell


def test_a_source_that_was_never_ahead_has_no_weight():
    assert weight_after([-1.0] * 3 + [2.0] * 3, 1.0, window=3) == 0


@given(LEADS)
def test_two_windows_without_a_lead_are_passed_and_one_is_not(leads):
    assert is_passed(leads + [-0.1] * 6, window=3)
    assert not is_passed([*leads, -0.1, -0.1, -0.1, 0.2, 0.2, 0.2], window=3)
    assert not is_passed([*leads, 0.2, 0.2, 0.2, -0.1, -0.1, -0.1], window=3)
    assert not is_passed([-1.0] * 5, window=3)


@pytest.fixture
def quick(monkeypatch):
    """Windows of two steps."""
    for function in (weight_after, is_passed):
        monkeypatch.setattr(function, "__kwdefaults__", {"window": 2})


def weak(source, corpus, folder):
    """A source that has seen something of the text."""
    return finetuned(source, corpus, folder / "weak", dict(steps=60), rows_share=0.0, learning_rate=5e-3)


def transplanted(source, folder):
    make_metaspace_tokenizer(folder / "target")
    config = TransplantConfig(source=str(source), target=str(folder / "target"), out=folder / "transplanted")
    return transplant_stage.run(config)


def lines_of(out):
    return [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]


def count_source_passes(monkeypatch):
    """How often hidden states are asked of a source."""
    from vocabalign.train import self_distillation

    calls, original = [], self_distillation.hidden_states

    def counted(model, *inputs):
        if not any(parameter.requires_grad for parameter in model.parameters()):
            calls.append(1)
        return original(model, *inputs)

    monkeypatch.setattr(self_distillation, "hidden_states", counted)
    return calls


def test_a_source_that_is_worse_than_its_student_fades_and_is_run_no_more(
    tmp_path, tiny_llama, corpus_file, monkeypatch, quick, caplog
):
    model = transplanted(weak(tiny_llama, corpus_file, tmp_path), tmp_path)
    calls = count_source_passes(monkeypatch)
    with caplog.at_level(logging.INFO, logger="vocabalign"):
        out = finetuned(model, corpus_file, tmp_path / "out", dict(steps=STEPS), **MORE)
    lines = lines_of(out)
    steps = [line for line in lines if "loss" in line]
    passed = [line["step"] for line in lines if line.get("source_passed")]
    assert len(passed) == 1 and passed[0] < STEPS - 4
    assert sum("as well as its source" in message for message in caplog.messages) == 1
    weights = [line["source_weight"] for line in steps]
    assert weights[0] == 1 and any(0 < weight < 1 for weight in weights) and weights[passed[0] - 1] == 0
    for line in steps[passed[0] :]:
        assert line["source_weight"] == 0 and "event_divergence" not in line
        assert line["loss"] == pytest.approx(line["cross_entropy"], rel=1e-5)
    memory_checks = 2
    assert len(calls) == passed[0] + memory_checks - (passed[0] <= STEPS // 2)
    assert json.loads((out / "manifest.json").read_text())["metrics"]["source_passed_at_step"] == passed[0]


def test_a_source_that_is_better_than_its_student_is_kept(tmp_path, tiny_llama, corpus_file, quick):
    good = finetuned(tiny_llama, corpus_file, tmp_path / "good", dict(steps=150), rows_share=0.0, learning_rate=1e-2)
    model = transplanted(good, tmp_path)
    out = finetuned(model, corpus_file, tmp_path / "out", dict(steps=12), rows_learning_rate=1e-3, learning_rate=1e-3)
    steps = [line for line in lines_of(out) if "loss" in line]
    assert all(line["source_lead"] > 0 and line["source_weight"] > 0 for line in steps)
    assert not any("source_passed" in line for line in lines_of(out))


def test_interrupted_before_or_after_it_was_passed_the_weights_are_the_same(tmp_path, tiny_llama, corpus_file, quick):
    model = transplanted(weak(tiny_llama, corpus_file, tmp_path), tmp_path)
    whole = finetuned(model, corpus_file, tmp_path / "whole", dict(steps=STEPS), **MORE)
    passed = next(line["step"] for line in lines_of(whole) if line.get("source_passed"))
    for stop in (3, passed - 1, passed, passed + 2):
        out = tmp_path / f"stopped-{stop}"
        with interrupted_at(stop + 1):
            finetuned(model, corpus_file, out, dict(steps=STEPS), **MORE)
        assert same(finetuned(model, corpus_file, out, dict(steps=STEPS), **MORE), whole)
        assert losses(out) == losses(whole)
        weights = [[line.get("source_weight") for line in lines_of(folder)] for folder in (out, whole)]
        assert weights[0] == weights[1]


def test_what_was_read_before_says_nothing(tmp_path, tiny_llama, corpus_file, quick, monkeypatch):
    """With an epoch of five steps the weight stays what it was after them."""
    model = transplanted(weak(tiny_llama, corpus_file, tmp_path), tmp_path)
    original = fading.FadeSource.__init__
    monkeypatch.setattr(
        fading.FadeSource,
        "__init__",
        lambda self, state, recorder, fade_from, _: original(self, state, recorder, fade_from, 5),
    )
    out = finetuned(model, corpus_file, tmp_path / "out", dict(steps=STEPS), **MORE)
    weights = [line["source_weight"] for line in lines_of(out) if "loss" in line]
    assert len(set(weights[5:])) == 1 and weights[5] > 0
    assert not any("source_passed" in line for line in lines_of(out))


def test_without_cross_entropy_there_is_nothing_else_to_learn(tmp_path, tiny_llama, corpus_file, quick):
    model = transplanted(tiny_llama, tmp_path)
    for options in ({"cross_entropy": 0.0}, {"fade": False}):
        out = finetuned(
            model, corpus_file, tmp_path / f"out-{len(options)}-{list(options)[0]}", self_distillation=options
        )
        assert all("source_weight" not in line for line in lines_of(out))
