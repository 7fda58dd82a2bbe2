"""Vectors from counts alone: positive pointwise mutual information, factorised. Nothing in it is random."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import sparse

# Columns beyond D and passes of the subspace iteration; with these the singular values that count are found to
# several digits (Halko et al. 2011, section 4.5).
SPARE_COLUMNS = 32
PASSES = 6
# Below this size the whole decomposition is cheaper.
DENSE_SIZE = 600


@dataclass(frozen=True, kw_only=True)
class PpmiOptions:
    """Choices of the factorisation; the names are those of Levy et al. (2015).

    Attributes:
        dimensions: D.
        smoothing: exponent of the context counts; below 1 rare contexts count less.
        shift: k; ``ln k`` is subtracted, as k negative samples do in skip-gram.
        power: exponent of the singular values; 1 keeps them, 0 drops them.
    """

    dimensions: int
    smoothing: float = 0.75
    shift: float = 1.0
    power: float = 0.5


def ppmi_vectors(cooccurrence: sparse.csr_matrix, options: PpmiOptions) -> np.ndarray:
    """(V, D) float32: ``U S^p`` of the truncated decomposition of the shifted positive PMI.

    Where the table has fewer than D singular values the last columns are zero. Signs are fixed, so the same table
    gives the same vectors.

    Args:
        cooccurrence: (V, V) X, not negative, symmetric.
        options: see ``PpmiOptions``.

    Reference:
        Levy, Goldberg, Dagan (2015), sections 2.1, 3.2 and 3.3.
    """
    table = shifted_ppmi(cooccurrence, options.smoothing, options.shift)
    used = np.flatnonzero(np.diff(table.indptr))
    vectors = np.zeros((table.shape[0], options.dimensions), dtype=np.float32)
    if len(used):
        left, singular = _truncated(sparse.csr_matrix(table[used]), options.dimensions)
        vectors[used, : len(singular)] = left * singular**options.power
    return vectors


def shifted_ppmi(cooccurrence: sparse.csr_matrix, smoothing: float = 0.75, shift: float = 1.0) -> sparse.csr_matrix:
    """(V, V) float64: ``max(0, ln(P(w, c) / (P(w) P_a(c))) - ln k)``, zeros left out.

    Args:
        cooccurrence: (V, V) X, rows w, columns c.
        smoothing: a, the exponent of the context counts in ``P_a(c)``.
        shift: k.
    """
    table = sparse.coo_matrix(cooccurrence, dtype=np.float64)
    of_words, of_contexts = (np.asarray(cooccurrence.sum(axis=axis)).ravel() for axis in (1, 0))
    smoothed = of_contexts**smoothing
    expected = of_words[table.row] * smoothed[table.col] / max(smoothed.sum(), np.finfo(float).tiny)
    values = np.log(table.data / expected) - np.log(shift)
    kept = values > 0
    places = (table.row[kept], table.col[kept])
    return sparse.csr_matrix((values[kept], places), shape=table.shape)


def _truncated(table: sparse.csr_matrix, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Left singular vectors (N, K) with fixed signs, and singular values (K,), K at most ``size``."""
    if min(table.shape) <= max(DENSE_SIZE, size + SPARE_COLUMNS):
        left, singular, _ = np.linalg.svd(table.toarray(), full_matrices=False)
    else:
        basis = _leading_subspace(table, size + SPARE_COLUMNS)
        small, singular, _ = np.linalg.svd((table.T @ basis).T, full_matrices=False)
        left = basis @ small
    tolerance = singular[:1].max(initial=0.0) * max(table.shape) * np.finfo(np.float64).eps
    singular = singular[:size][singular[:size] > tolerance]
    left = left[:, : len(singular)]
    # Of a pair of singular vectors only the product is determined: the largest entry is made positive.
    signs = np.sign(left[np.abs(left).argmax(axis=0), np.arange(left.shape[1])])
    return left * signs, singular


def _leading_subspace(table: sparse.csr_matrix, size: int) -> np.ndarray:
    """(N, size) float64 orthonormal columns that nearly span the leading left singular vectors.

    Reference:
        Halko, Martinsson, Tropp (2011), algorithm 4.4. The start is always the same.
    """
    start = np.random.default_rng(0).standard_normal((table.shape[1], size))
    transposed = table.T.tocsr()
    basis = np.linalg.qr(table @ start)[0]
    for _ in range(PASSES):
        basis = np.linalg.qr(transposed @ basis)[0]
        basis = np.linalg.qr(table @ basis)[0]
    return basis
