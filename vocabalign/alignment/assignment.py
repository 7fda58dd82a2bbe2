"""Views of one lexicon: weighted top-K, one-best, and one-to-one by an assignment on the candidates."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy import sparse
from scipy.sparse.csgraph import min_weight_full_bipartite_matching

from vocabalign.lexicon import Lexicon


def one_to_one(source_ids: np.ndarray, scores: np.ndarray, num_sources: int) -> np.ndarray:
    """Give each row at most one of its candidates and no candidate to two rows, with the largest sum of scores.

    Each row has, besides its candidates, a place of its own that is worth nothing, so that an assignment
    always exists, also where there are more rows than candidates. Memory grows with the candidates, not with
    rows times sources.

    Args:
        source_ids: (T, K) candidates, -1 for none.
        scores: (T, K) float, positive where there is a candidate.
        num_sources: S.

    Returns:
        (T,) int64 chosen source ids, -1 where a row has none.

    Reference:
        Jonker and Volgenant (1987), sparse, as in scipy.
    """
    num_rows = len(source_ids)
    if not num_rows:
        return np.zeros(0, dtype=np.int64)
    rows, columns = np.nonzero((source_ids >= 0) & (scores > 0))
    candidates = source_ids[rows, columns].astype(np.int64)
    # The solver takes a zero for no edge: all edges are raised by 1, which changes no comparison, as every
    # assignment has one edge a row.
    edges = sparse.csr_matrix(
        (
            np.concatenate([1 + scores[rows, columns].astype(np.float64), np.ones(num_rows)]),
            (
                np.concatenate([rows, np.arange(num_rows)]),
                np.concatenate([candidates, num_sources + np.arange(num_rows)]),
            ),
        ),
        shape=(num_rows, num_sources + num_rows),
    )
    found_rows, found = min_weight_full_bipartite_matching(edges, maximize=True)
    chosen = np.full(num_rows, -1, dtype=np.int64)
    chosen[found_rows] = np.where(found < num_sources, found, -1)
    return chosen


def one_to_one_view(lexicon: Lexicon, num_sources: int) -> Lexicon:
    """The lexicon with no source token serving twice; a target token that goes empty-handed has no evidence.

    What an assignment is worth is weight times confidence, so copies come first.
    """
    scores = lexicon.weights.astype(np.float64) * lexicon.confidence[:, None]
    return lexicon.only(one_to_one(lexicon.source_ids, scores, num_sources))


VIEWS: dict[str, Callable[[Lexicon, int], Lexicon]] = {
    "top-k": lambda lexicon, num_sources: lexicon,
    "one-best": lambda lexicon, num_sources: lexicon.top(1),
    "one-to-one": one_to_one_view,
}
