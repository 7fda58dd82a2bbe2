"""How a teacher's targets are written down: numbers in as few bits as they need."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

# The likeliest tokens keep their log-probabilities; a curve goes through those of the others.
EXACT_TOKENS = 4
CURVE_TERMS = 4
KEY_BYTES = 16


def bits_for(num_values: int) -> int:
    """Bits of numbers from 0 to ``num_values - 1``, at least 1."""
    return max(1, (num_values - 1).bit_length())


def pack_bits(values: np.ndarray, bits: int) -> np.ndarray:
    """(..., k) non-negative integers -> (..., ceil(k bits / 8)) uint8, each row by itself."""
    places = np.arange(bits, dtype=np.uint64)
    flags = (values[..., None].astype(np.uint64) >> places) & np.uint64(1)
    return np.packbits(
        flags.reshape(*values.shape[:-1], values.shape[-1] * bits).astype(np.uint8), axis=-1, bitorder="little"
    )


def unpack_bits(packed: np.ndarray, bits: int, count: int) -> np.ndarray:
    """The inverse of ``pack_bits``: (..., count) int64."""
    flags = np.unpackbits(np.ascontiguousarray(packed), axis=-1, count=count * bits, bitorder="little")
    weights = np.left_shift(np.int64(1), np.arange(bits, dtype=np.int64))
    return flags.reshape(*packed.shape[:-1], count, bits) @ weights


@lru_cache(maxsize=8)
def _basis(k: int) -> tuple[np.ndarray, np.ndarray]:
    """(k - EXACT_TOKENS, CURVE_TERMS) powers of the logarithm of the rank, and the matrix that fits them."""
    x = np.log(np.arange(EXACT_TOKENS + 1, k + 1, dtype=np.float64))
    x = x - x[0]
    terms = np.stack([x**power for power in range(min(CURVE_TERMS, len(x)))], 1)
    return terms, np.linalg.pinv(terms)


def fit_curve(log_probs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Log-probabilities in descending order as a few exact ones and a curve with the same sum of probabilities.

    Args:
        log_probs: (N, k), k > ``EXACT_TOKENS``.

    Returns:
        (N, EXACT_TOKENS) float16 and (N, CURVE_TERMS) float16 (fewer where k is small).
    """
    terms, fit = _basis(log_probs.shape[1])
    rest = np.maximum(log_probs[:, EXACT_TOKENS:].astype(np.float64), -60.0)
    weights = (rest @ fit.T).astype(np.float16).astype(np.float64)
    mass, fitted = np.logaddexp.reduce(rest, 1), np.logaddexp.reduce(weights @ terms.T, 1)
    weights[:, 0] += mass - fitted
    return log_probs[:, :EXACT_TOKENS].astype(np.float16), weights.astype(np.float16)


def read_curve(exact: np.ndarray, weights: np.ndarray, k: int) -> np.ndarray:
    """(N, k) float32 log-probabilities from what ``fit_curve`` wrote."""
    terms, _ = _basis(k)
    return np.concatenate([exact.astype(np.float32), (weights.astype(np.float64) @ terms.T).astype(np.float32)], 1)


def count_draws(ids: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(N, S) drawn tokens -> how many different ones each row has, these, and how often each was drawn.

    Returns:
        (N,) uint8, (M,) int64 and (M,) uint8; M over all rows.
    """
    ordered = np.sort(ids, axis=1)
    first = np.ones(ordered.shape, dtype=bool)
    first[:, 1:] = ordered[:, 1:] != ordered[:, :-1]
    at = np.flatnonzero(first.reshape(-1))
    counts = np.diff(np.append(at, ordered.size))
    return first.sum(1).astype(np.uint8), ordered.reshape(-1)[at].astype(np.int64), counts.astype(np.uint8)
