"""Hubs held down: no source token stands first for very many target tokens that have others."""

from __future__ import annotations

import numpy as np
from scipy import sparse

# The commonest source tokens may each lead this share of the open target tokens: three take under 3 %, although a few
# rows have no other source left and stay ...
HUB_SHARE = 0.0085
# ... but never fewer than this many, which are no hub in a small vocabulary, nor less than this many times their even
# share, for which there would hardly be room.
HUB_LEAST, HUB_EVEN_SHARES = 30, 1.25
JUST_BELOW = 1 - 1e-5
# An entry below this share of its row's largest is an alternative only where no other is left.
LEAST_SHARE = 0.05


def hub_capacity(num_targets: int, num_sources: int) -> int:
    """How many of the open target tokens a source token may lead, with so many source tokens to choose from."""
    return int(max(HUB_LEAST, HUB_SHARE * num_targets, HUB_EVEN_SHARES * num_targets / max(1, num_sources)))


def hold_hubs_down(weights: sparse.csr_matrix, capacity: int | None = None) -> sparse.csr_matrix:
    """Let no column lead more rows than it may, as far as the rows have alternatives.

    A piece that stands in every token of a script (the first byte of all Cyrillic letters) says little about any of
    them. A column that leads too many rows keeps those that are most bound to it, whose next best is relatively
    weakest; the others are led by their next best, and so on until every column has found room for its rows (deferred
    acceptance). An entry that lost the lead counts as much as the entry that took it, no more. Other rows stay as
    they are, and a row with one entry always keeps it. Entries far below their row's largest come last.

    Args:
        weights: (T, S), non-negative.
        capacity: rows that a column may lead; by default ``hub_capacity`` of the rows and columns in use.

    Returns:
        (T, S) with the same entries, those of hubs lowered.

    Reference:
        Gale and Shapley (1962), with the rows' weights as their wishes.
    """
    weights = sparse.csr_matrix(weights, dtype=np.float64, copy=True)
    weights.eliminate_zeros()
    weights.sort_indices()
    open_rows = np.flatnonzero(np.diff(weights.indptr) > 0)
    if not len(open_rows):
        return weights
    starts, columns = weights.indptr[open_rows].astype(np.int64), weights.indices
    row_of_entry = np.repeat(np.arange(len(open_rows)), np.diff(weights.indptr)[open_rows])
    if capacity is None:
        capacity = hub_capacity(len(open_rows), len(np.unique(columns)))
    weak = weights.data < LEAST_SHARE * np.maximum.reduceat(weights.data, starts)[row_of_entry]
    values = np.where(weak, 0.0, weights.data)
    _give_way(values, columns, starts, row_of_entry, capacity)
    values[weak] = weights.data[weak]
    _give_way(values, columns, starts, row_of_entry, capacity)
    best = np.maximum.reduceat(values, starts)[row_of_entry]
    weights.data = np.where(values > 0, values, np.minimum(weights.data, best * JUST_BELOW))
    return weights


def rows_of_hubs(weights: sparse.csr_matrix) -> np.ndarray:
    """(T,) bool, rows led by a column that leads more rows than ``hub_capacity``: they had no alternative with room."""
    weights = sparse.csr_matrix(weights)
    used = np.diff(weights.indptr) > 0
    leaders = np.asarray(weights.argmax(axis=1)).ravel()
    led = np.bincount(leaders[used], minlength=weights.shape[1])
    capacity = hub_capacity(int(used.sum()), len(np.unique(weights.indices)))
    return used & (led[leaders] > capacity)


def _give_way(
    values: np.ndarray, columns: np.ndarray, starts: np.ndarray, row_of_entry: np.ndarray, capacity: int
) -> None:
    """Set entries to 0 that lead for a column which leads too many, until none does that has alternatives."""
    while len(lost := _losing_entries(values, columns, starts, row_of_entry, capacity)):
        values[lost] = 0.0


def _losing_entries(
    values: np.ndarray, columns: np.ndarray, starts: np.ndarray, row_of_entry: np.ndarray, capacity: int
) -> np.ndarray:
    """(L,) int64 entries that lead their row for a column that leads too many, and must give way.

    Args:
        values: (E,) entries of the rows one after the other, 0 for those that gave way before.
        columns: (E,) their columns.
        starts: (R,) first entry of each row.
        row_of_entry: (E,).
        capacity: rows that a column may lead.
    """
    best = np.maximum.reduceat(values, starts)
    places = np.where(values == best[row_of_entry], np.arange(len(values)), len(values))
    leading = np.minimum.reduceat(places, starts)
    others = values.copy()
    others[leading] = 0.0
    bond = np.maximum.reduceat(others, starts) / best
    leader = columns[leading]
    # By column, the most bound rows first; of equals the first.
    order = np.lexsort((np.arange(len(leader)), bond, leader))
    rank = np.arange(len(order)) - np.searchsorted(leader[order], leader[order], side="left")
    leaving = order[(rank >= capacity) & (bond[order] > 0)]
    return leading[leaving]
