from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vocabalign.alignment.neighbors import csls_top_k, mutual_nearest, top_k, unit_rows
from vocabalign.alignment.search import SearchOptions


def rows(number: int, dimensions: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((number, dimensions)).astype(np.float32)


def naive_csls(source: np.ndarray, target: np.ndarray, k: int) -> np.ndarray:
    """(T, S), straight from the formula in float64."""
    x, y = source.astype(np.float64), target.astype(np.float64)
    cosine = (y / np.linalg.norm(y, axis=1, keepdims=True)) @ (x / np.linalg.norm(x, axis=1, keepdims=True)).T
    of_target = np.sort(cosine, axis=1)[:, ::-1][:, :k].mean(axis=1)
    of_source = np.sort(cosine, axis=0)[::-1][:k].mean(axis=0)
    return 2 * cosine - of_target[:, None] - of_source[None, :]


@pytest.mark.parametrize("backend", ["torch", "faiss"])
@settings(deadline=None, max_examples=15)
@given(queries=st.integers(0, 30), keys=st.integers(1, 60), k=st.integers(1, 12), seed=st.integers(0, 99))
def test_top_k_is_the_sorted_product(backend, queries, keys, k, seed):
    if backend == "faiss":
        pytest.importorskip("faiss")
    a, b, offsets = rows(queries, 5, seed), rows(keys, 5, seed + 1), rows(1, keys, seed + 2)[0]
    scores, ids = top_k(a, b, k, SearchOptions(backend=backend), key_offsets=offsets)
    every = (a.astype(np.float64) @ b.T.astype(np.float64) + offsets).astype(np.float32)
    expected = np.argsort(-every, axis=1, kind="stable")[:, :k]
    assert np.array_equal(ids, expected) and ids.dtype == np.int64
    assert np.allclose(scores, np.take_along_axis(every, expected, axis=1), atol=1e-6)


def test_faiss_and_torch_find_the_same():
    pytest.importorskip("faiss")
    queries, keys = unit_rows(rows(500, 24, 0)), unit_rows(rows(2_000, 24, 1))
    offsets = -np.abs(rows(1, 2_000, 2)[0]) / 10
    by_faiss = top_k(queries, keys, 10, SearchOptions(backend="faiss"), key_offsets=offsets)
    by_torch = top_k(queries, keys, 10, SearchOptions(backend="torch"), key_offsets=offsets)
    assert np.array_equal(by_faiss[1], by_torch[1]) and np.array_equal(by_faiss[0], by_torch[0])


def test_blocks_do_not_matter():
    queries, keys = rows(3_000, 8, 0), rows(5_000, 8, 1)
    small = top_k(queries, keys, 5, SearchOptions(block_mebibytes=1))
    large = top_k(queries, keys, 5, SearchOptions(block_mebibytes=512))
    assert np.array_equal(small[0], large[0]) and np.array_equal(small[1], large[1])


@pytest.mark.parametrize("backend", ["torch", "faiss"])
def test_of_equal_keys_the_lower_id_comes_first(backend):
    if backend == "faiss":
        pytest.importorskip("faiss")
    keys = np.tile(unit_rows(rows(3, 6, 0)), (40, 1))
    _, ids = top_k(keys[:3], keys, 4, SearchOptions(backend=backend))
    assert ids.tolist() == [[0, 3, 6, 9], [1, 4, 7, 10], [2, 5, 8, 11]]
    assert top_k(np.zeros((1, 6), np.float32), keys, 4, SearchOptions(backend=backend))[1].tolist() == [[0, 1, 2, 3]]


@settings(deadline=None, max_examples=15)
@given(sources=st.integers(2, 60), targets=st.integers(2, 60), neighbors=st.integers(1, 12), seed=st.integers(0, 99))
def test_blocked_csls_is_the_naive_formula(sources, targets, neighbors, seed):
    source, target = unit_rows(rows(sources, 7, seed)), unit_rows(rows(targets, 7, seed + 1))
    expected = naive_csls(source, target, neighbors)
    scores, ids = csls_top_k(source, target, 3, neighbors, SearchOptions(block_mebibytes=1))
    assert np.allclose(scores, np.take_along_axis(expected, ids, axis=1), atol=1e-5)
    assert np.allclose(scores, -np.sort(-expected, axis=1)[:, :3], atol=1e-5)
    some = np.arange(0, targets, 2)
    assert np.array_equal(csls_top_k(source, target, 3, neighbors, queries=some)[1], ids[some])


def test_mutual_nearest_is_the_naive_one():
    source, target = unit_rows(rows(70, 6, 0)), unit_rows(rows(90, 6, 1))
    csls = naive_csls(source, target, 10)
    expected = [[s, csls[:, s].argmax()] for s in range(70) if csls[csls[:, s].argmax()].argmax() == s]
    pairs, cosines = mutual_nearest(source, target, 10, SearchOptions(block_mebibytes=1))
    assert pairs.tolist() == expected
    assert np.allclose(cosines, (source[pairs[:, 0]] * target[pairs[:, 1]]).sum(axis=1), atol=1e-6)


def test_zero_rows_stay_zero():
    assert unit_rows(np.zeros((2, 3), np.float32)).any() == False  # noqa: E712 - a numpy bool
    assert np.allclose(np.linalg.norm(unit_rows(rows(4, 3, 0)), axis=1), 1)
