"""Relative representations: a token told by its likeness to the anchors, which both spaces share."""

from __future__ import annotations

import numpy as np

from vocabalign.alignment.neighbors import unit_rows


def relative_representations(vectors: np.ndarray, anchors: np.ndarray, block_rows: int = 65_536) -> np.ndarray:
    """``rep(x) = unit(x . Anchors^T)``, by blocks of rows.

    Args:
        vectors: (N, D) float32.
        anchors: (A, D) float32, the anchors' vectors in the same space, in the order of the other side.
        block_rows: rows at a time.

    Returns:
        (N, A) float32 rows of length 1; zero rows stay zero.

    Reference:
        TokAlign (2506.03523); Moschella et al. (2023).
    """
    result = np.empty((len(vectors), len(anchors)), dtype=np.float32)
    for start in range(0, len(vectors), block_rows):
        part = slice(start, start + block_rows)
        result[part] = unit_rows(vectors[part] @ anchors.T)
    return result
