"""Intervals by resampling documents."""

from __future__ import annotations

import numpy as np
import pytest

from vocabalign.evaluation import statistics as module
from vocabalign.evaluation.bits_per_byte import DocumentScores
from vocabalign.evaluation.statistics import Interval, paired_difference, resample


def make_scores(seed: int, documents: int = 60, shift: float = 0.0) -> DocumentScores:
    rng = np.random.default_rng(seed)
    sizes = rng.integers(100, 2000, documents)
    nats = sizes * (1 + 0.2 * rng.standard_normal(documents) + shift)
    return DocumentScores(nats, sizes, sizes // 4)


def interval_of(scores: DocumentScores, seed: int = 0) -> Interval:
    return resample({"alone": scores}, seed=seed).interval("alone")


@pytest.mark.parametrize("seed", range(5))
def test_interval_contains_the_estimate_and_repeats(seed):
    scores = make_scores(seed)
    interval = interval_of(scores, seed=seed)
    assert interval.value == scores.bits_per_byte
    assert interval.low < interval.value < interval.high
    assert interval_of(scores, seed=seed) == interval


def test_interval_is_as_wide_as_theory_says():
    scores = make_scores(1, documents=400)
    interval = interval_of(scores)
    ratio = scores.nats.sum() / scores.num_bytes.sum()
    error = np.sqrt(((scores.nats - ratio * scores.num_bytes) ** 2).sum()) / scores.num_bytes.sum() / np.log(2)
    assert interval.high - interval.low == pytest.approx(2 * 1.96 * error, rel=0.1)


def test_more_documents_make_it_narrower():
    few, many = interval_of(make_scores(0, 20)), interval_of(make_scores(0, 2000))
    assert many.high - many.low < (few.high - few.low) / 3


def test_blocks_do_not_change_the_interval(monkeypatch):
    whole = interval_of(make_scores(3))
    monkeypatch.setattr(module, "BLOCK_CELLS", 1)
    assert interval_of(make_scores(3)).low == pytest.approx(whole.low, abs=1e-9)


def test_a_model_differs_from_itself_by_nothing():
    scores = make_scores(2)
    paired = paired_difference(scores, scores)
    assert (paired.difference.value, paired.difference.low, paired.difference.high) == (0, 0, 0)
    assert (paired.documents_better, paired.documents_worse) == (0, 0)


def test_pairing_sees_a_small_constant_gain():
    first = make_scores(4)
    second = DocumentScores(first.nats * 0.99, first.num_bytes, first.num_tokens)
    paired = paired_difference(first, second)
    assert paired.difference.high < 0
    assert paired.documents_better == 60
    apart = interval_of(first)
    assert paired.difference.high - paired.difference.low < (apart.high - apart.low) / 10


def test_one_document_gives_no_interval():
    interval = interval_of(make_scores(0, documents=1))
    assert interval.low is None
    assert interval.high is None


def test_empty_documents_are_no_evidence():
    scores = DocumentScores(np.array([0.0, 5.0, 9.0]), np.array([0, 10, 10]), np.array([0, 3, 3]))
    assert np.isfinite(interval_of(scores).low)


def test_no_text_and_other_documents_are_refused():
    nothing = DocumentScores(np.zeros(2), np.zeros(2, dtype=int), np.zeros(2, dtype=int))
    with pytest.raises(ValueError, match="no text"):
        interval_of(nothing)
    with pytest.raises(ValueError, match="same documents"):
        paired_difference(make_scores(1), make_scores(2))
