from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from vocabalign.alignment import quantised
from vocabalign.alignment.exact_search import ExactSearch
from vocabalign.alignment.neighbors import top_k, unit_rows
from vocabalign.alignment.quantised import QuantisedSearch, multiplies_integers_fast
from vocabalign.alignment.search import SearchOptions

INTEGERS = SearchOptions(precision="int8")


def tensor(rows: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(rows.astype(np.float32))


def skewed(number: int, dimensions: int, seed: int, spread: float) -> np.ndarray:
    """Rows far from the origin, most of their energy in a few dimensions, and some rows much longer than others."""
    rng = np.random.default_rng(seed)
    scales = np.exp(-spread * np.arange(dimensions))
    rows = rng.standard_normal((number, dimensions)) * scales + 2 * scales
    return rows * rng.choice([1.0, 1.0, 30.0], size=(number, 1))


@settings(deadline=None, max_examples=60)
@given(
    keys=st.integers(1, 900),
    k=st.integers(1, 9),
    dimensions=st.sampled_from([1, 3, 17]),
    spread=st.sampled_from([0.0, 0.5]),
    offset=st.sampled_from([0.0, 0.1, 50.0]),
    chunk=st.sampled_from([32, 4096]),
    seed=st.integers(0, 99),
)
def test_no_key_that_is_left_out_is_better_than_the_bound(keys, k, dimensions, spread, offset, chunk, seed):
    key_rows, query_rows = skewed(keys, dimensions, seed, spread), skewed(6, dimensions, seed + 1, spread)
    query_rows[5] = 0
    offsets = offset * np.random.default_rng(seed).standard_normal(keys)
    k = min(k, keys)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(quantised, "CHUNK_KEYS", chunk)
        engine = QuantisedSearch(tensor(key_rows), torch.from_numpy(offsets), 64)
        engine.look(tensor(query_rows))
        for with_offsets in (False, True):
            ids, others = engine.candidates(k, with_offsets=with_offsets)
            scores = query_rows @ key_rows.T + (offsets if with_offsets else 0)
            slack = 1e-4 * (1 + np.abs(scores).max())
            for row in range(6):
                chosen = ids[row].tolist()
                assert len(set(chosen)) == k and 0 <= min(chosen) and max(chosen) < keys
                left_out = np.delete(scores[row], chosen)
                assert not len(left_out) or left_out.max() <= float(others[row]) + slack


@pytest.mark.parametrize("spread", [0.0, 0.05, 0.5])
def test_integers_find_the_same_as_float32(spread):
    keys, queries = skewed(6_000, 40, 0, spread), skewed(500, 40, 1, spread)
    offsets = np.random.default_rng(2).standard_normal(6_000)
    sides = [side.astype(np.float32) for side in (queries, keys)]
    for given_offsets in (None, offsets):
        found = top_k(*sides, 10, INTEGERS, key_offsets=given_offsets)
        expected = top_k(*sides, 10, SearchOptions(precision="float32"), key_offsets=given_offsets)
        assert np.array_equal(found[1], expected[1]) and np.array_equal(found[0], expected[0])


def test_queries_that_leave_too_much_open_are_searched_in_float32(monkeypatch):
    """Keys so alike that integers cannot tell them apart."""
    rng = np.random.default_rng(0)
    centre = rng.standard_normal(16)
    keys = unit_rows((centre + 1e-4 * rng.standard_normal((5_000, 16))).astype(np.float32))
    keys[0] = -keys[0]
    queries = unit_rows((centre + rng.standard_normal((40, 16))).astype(np.float32))
    searched: list[int] = []
    original = ExactSearch._again

    def counted(self, rows, *rest):
        searched.append(len(rows))
        return original(self, rows, *rest)

    monkeypatch.setattr(ExactSearch, "_again", counted)
    found = top_k(queries, keys, 5, INTEGERS)
    assert sum(searched) >= 40
    exact = (queries.astype(np.float64) @ keys.astype(np.float64).T).astype(np.float32)
    assert np.array_equal(found[1], np.argsort(-exact, axis=1, kind="stable")[:, :5])


def test_integers_are_only_trusted_where_their_products_are_exact(monkeypatch):
    multiplies_integers_fast.cache_clear()
    monkeypatch.setattr(torch, "_int_mm", lambda a, b, out=None: (a.float() @ b.float()).int() + 1)
    assert multiplies_integers_fast() is False
    multiplies_integers_fast.cache_clear()
    monkeypatch.delattr(torch, "_int_mm")
    assert multiplies_integers_fast() is False
    multiplies_integers_fast.cache_clear()
