from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linear_sum_assignment

from vocabalign.alignment.assignment import VIEWS, one_to_one
from vocabalign.lexicon import Evidence, Lexicon


def candidates(rows: int, sources: int, k: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    ids = np.stack([rng.permutation(max(sources, k))[:k] for _ in range(rows)])
    ids = np.where((rng.random(ids.shape) < 0.8) & (ids < sources), ids, -1)
    return ids, np.where(ids >= 0, rng.random(ids.shape) + 0.01, 0)


@settings(deadline=None, max_examples=40)
@given(rows=st.integers(1, 12), sources=st.integers(1, 12), k=st.integers(1, 6), seed=st.integers(0, 999))
def test_it_is_the_best_assignment_of_a_dense_solver(rows, sources, k, seed):
    ids, scores = candidates(rows, sources, k, seed)
    chosen = one_to_one(ids, scores, sources)
    used = chosen[chosen >= 0]
    assert len(set(used.tolist())) == len(used)
    dense = np.zeros((rows, sources))
    for row in range(rows):
        for column in range(k):
            if ids[row, column] >= 0:
                dense[row, ids[row, column]] = max(dense[row, ids[row, column]], scores[row, column])
    total = sum(dense[row, source] for row, source in enumerate(chosen) if source >= 0)
    assert total == pytest.approx(dense[linear_sum_assignment(dense, maximize=True)].sum())
    assert all(source < 0 or source in ids[row] for row, source in enumerate(chosen.tolist()))


def test_more_targets_than_sources_always_have_an_assignment():
    chosen = one_to_one(np.zeros((50, 1), dtype=int), np.linspace(0.1, 1, 50)[:, None], 1)
    assert chosen.tolist() == [-1] * 49 + [0]
    assert one_to_one(np.zeros((0, 3), dtype=int), np.zeros((0, 3)), 5).shape == (0,)
    assert one_to_one(np.full((3, 2), -1), np.zeros((3, 2)), 5).tolist() == [-1] * 3


def make_lexicon() -> Lexicon:
    ids = np.array([[0, 1, 2], [0, 2, -1], [-1, -1, -1], [0, -1, -1]], dtype=np.int32)
    weights = np.array([[0.5, 0.3, 0.2], [0.9, 0.1, 0], [0, 0, 0], [1, 0, 0]], dtype=np.float32)
    evidence = np.array([5, 4, 0, 1], dtype=np.uint8)
    return Lexicon(ids, weights, evidence, np.array([0.5, 0.8, 0, 1.0], dtype=np.float32), "s", "t")


def test_views_of_one_lexicon():
    lexicon = make_lexicon()
    assert VIEWS["top-k"](lexicon, 3) is lexicon
    best = VIEWS["one-best"](lexicon, 3)
    assert best.source_ids.tolist() == [[0], [0], [-1], [0]] and best.weights.tolist() == [[1], [1], [0], [1]]
    two = lexicon.top(2)
    assert two.weights[0].tolist() == pytest.approx([0.625, 0.375])
    one = VIEWS["one-to-one"](lexicon, 3)
    # The copy keeps its source; the others take what is left.
    assert one.source_ids[:, 0].tolist() == [1, 2, -1, 0]
    assert one.evidence.tolist() == [5, 4, Evidence.NONE, 1] and one.confidence[2] == 0
    assert (one.source_fingerprint, one.target_fingerprint) == ("s", "t")


@pytest.mark.slow
def test_thousands_of_tokens_are_assigned_in_seconds():
    rng = np.random.default_rng(0)
    truth = rng.permutation(8_000)
    ids = np.concatenate([truth[:, None], rng.integers(0, 8_000, (8_000, 19))], axis=1)
    scores = np.concatenate([np.full((8_000, 1), 0.9), rng.random((8_000, 19))], axis=1)
    found = one_to_one(ids, scores, 8_000)
    assert len(np.unique(found)) == 8_000, "there is an assignment that gives every row a source"
    worth = np.where(ids == found[:, None], scores, 0).max(axis=1)
    assert worth.sum() >= 0.9 * 8_000 and (worth > 0).all()
