from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse

from vocabalign.alignment.hubs import hold_hubs_down, hub_capacity, rows_of_hubs
from vocabalign.alignment.lexicon_building import best_of_rows


def leaders(weights: sparse.csr_matrix) -> np.ndarray:
    return best_of_rows(weights, 1)[0][:, 0]


def random_weights(rows: int, columns: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    dense = rng.integers(0, 4, (rows, columns)) * (rng.random((rows, columns)) < 0.4)
    dense[:, 0] *= 5  # a hub
    return dense / np.maximum(1, dense.sum(axis=1, keepdims=True))


@settings(deadline=None, max_examples=40)
@given(rows=st.integers(1, 40), columns=st.integers(1, 8), capacity=st.integers(1, 12), seed=st.integers(0, 999))
def test_no_column_leads_too_many_rows_that_have_others(rows, columns, capacity, seed):
    dense = random_weights(rows, columns, seed)
    weights = sparse.csr_matrix(dense)
    held = hold_hubs_down(weights, capacity)
    assert ((held.toarray() > 0) == (dense > 0)).all() and (held.toarray() <= dense + 1e-12).all()
    before, after = leaders(weights), leaders(held)
    counts = np.bincount(after[after >= 0], minlength=columns)
    for row in range(rows):
        # Whoever stands first in a full column has nowhere else to go: each other entry lost its lead elsewhere.
        others = np.flatnonzero(dense[row] > 0)
        if after[row] >= 0 and counts[after[row]] > capacity:
            assert all(counts[column] >= capacity for column in others)
        # Rows whose leader was no hub and stayed below the limit keep their weights.
    if (np.bincount(before[before >= 0], minlength=columns) <= capacity).all():
        assert np.array_equal(held.toarray(), dense)


def test_the_most_bound_rows_keep_the_hub():
    dense = np.array([[0.9, 0.1, 0], [0.6, 0, 0.4], [0.5, 0.5, 0], [1.0, 0, 0]])
    held = hold_hubs_down(sparse.csr_matrix(dense), 2).toarray()
    assert held.argmax(axis=1).tolist() == [0, 2, 1, 0]
    assert held[1, 0] < held[1, 2] and held[1, 0] > 0.999 * held[1, 2]
    assert np.array_equal(held[[0, 3]], dense[[0, 3]])


@settings(deadline=None, max_examples=15)
@given(seed=st.integers(0, 99))
def test_renumbered_sources_give_the_same_but_for_ties(seed):
    rng = np.random.default_rng(seed)
    dense = rng.random((30, 6)) * np.array([6, 1, 1, 1, 1, 1])
    order = rng.permutation(6)
    held = hold_hubs_down(sparse.csr_matrix(dense), 6).toarray()
    assert np.allclose(hold_hubs_down(sparse.csr_matrix(dense[:, order]), 6).toarray(), held[:, order])


def test_nothing_to_hold():
    empty = sparse.csr_matrix((3, 4))
    assert hold_hubs_down(empty).nnz == 0
    assert hub_capacity(30_000, 4_000) == 255 and hub_capacity(1_000, 10) == 125 and hub_capacity(5, 100) == 30


def test_what_is_far_below_the_best_takes_the_lead_only_where_nothing_else_is_left():
    dense = np.array([[0.60, 0.39, 0.01], [0.55, 0.44, 0.01], [0.52, 0.47, 0.01], [0.51, 0.48, 0.01]])
    held = hold_hubs_down(sparse.csr_matrix(dense), 2).toarray().argmax(axis=1)
    assert sorted(held.tolist()) == [0, 0, 1, 1]
    assert sorted(hold_hubs_down(sparse.csr_matrix(dense), 1).toarray().argmax(axis=1).tolist()) == [0, 1, 2, 2]


def test_rows_of_hubs_are_those_of_columns_that_lead_too_many():
    dense = np.zeros((200, 50))
    dense[:, 0] = 1
    dense[:40] = np.eye(50)[1:41]
    dense[190:] = 0
    found = rows_of_hubs(sparse.csr_matrix(dense))
    assert found.tolist() == [40 <= row < 190 for row in range(200)]
    assert not rows_of_hubs(sparse.csr_matrix(dense[:70])).any()
