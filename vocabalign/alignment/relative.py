"""Relative representations: a token told by its likeness to the anchors, which both spaces share."""

from __future__ import annotations

import numpy as np

from vocabalign.alignment.neighbors import unit_rows


def relative_representations(
    vectors: np.ndarray, anchors: np.ndarray, block_rows: int = 65_536, *, scaled: bool = True
) -> np.ndarray:
    """``rep(x) = unit(x) . unit(Anchors)^T``, by blocks of rows, and of length 1 if wished.

    The paper compares by cosine, and so scales; the public code does not, so that a source token that is like many
    anchors is nearer to everything.

    Args:
        vectors: (N, D) float32.
        anchors: (A, D) float32, the anchors' vectors in the same space, in the order of the other side.
        block_rows: rows at a time.
        scaled: whether rows have length 1.

    Returns:
        (N, A) float32 rows; zero rows stay zero.

    Reference:
        TokAlign (2506.03523); Moschella et al. (2023).
    """
    result = np.empty((len(vectors), len(anchors)), dtype=np.float32)
    anchors = unit_rows(anchors)
    for start in range(0, len(vectors), block_rows):
        part = slice(start, start + block_rows)
        likeness = unit_rows(vectors[part]) @ anchors.T
        result[part] = unit_rows(likeness) if scaled else likeness
    return result
