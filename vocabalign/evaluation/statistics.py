"""How sure a score is: resampling documents, for one model and for the difference of two."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from vocabalign.evaluation.bits_per_byte import DocumentScores

NUM_RESAMPLES = 2000
BLOCK_CELLS = 2**22
CONFIDENCE = 0.95


@dataclass(frozen=True)
class Interval:
    """A value in bits per byte with its 95 % interval; no bounds where there is one document only."""

    value: float
    low: float | None
    high: float | None


@dataclass(frozen=True)
class PairedDifference:
    """A model against another on the same documents.

    Attributes:
        difference: bits per byte of the second minus the first; negative is better than the first.
        documents_better: documents that cost the second fewer bits.
        documents_worse: documents that cost it more.
    """

    difference: Interval
    documents_better: int
    documents_worse: int


def bootstrap_interval(scores: DocumentScores, *, seed: int = 0, num_resamples: int = NUM_RESAMPLES) -> Interval:
    """Bits per byte with the 95 % interval that resampling whole documents gives.

    Tokens of one document depend on each other, so the document is the unit; the ratio of sums is
    taken anew in each resample, as in the point estimate.

    Raises:
        ValueError: there is no text.

    Reference:
        Efron (1979), percentile interval.
    """
    _require_text(scores)
    nats, num_bytes = _resampled_sums(scores.num_bytes, [scores.nats], seed, num_resamples)
    return _interval(scores.bits_per_byte, nats[0] / num_bytes / math.log(2), scores.num_bytes)


def paired_difference(
    first: DocumentScores, second: DocumentScores, *, seed: int = 0, num_resamples: int = NUM_RESAMPLES
) -> PairedDifference:
    """Difference second - first in bits per byte, both scored on the same resampled documents.

    Pairing takes away what is hard or easy about the text itself: the interval is much narrower
    than two separate ones suggest.

    Raises:
        ValueError: the two were not scored on the same documents, or there is no text.
    """
    if not np.array_equal(first.num_bytes, second.num_bytes):
        raise ValueError("paired differences need scores of the same documents in the same order")
    _require_text(first)
    nats, num_bytes = _resampled_sums(first.num_bytes, [second.nats - first.nats], seed, num_resamples)
    better = int((second.nats < first.nats).sum())
    worse = int((second.nats > first.nats).sum())
    value = second.bits_per_byte - first.bits_per_byte
    return PairedDifference(_interval(value, nats[0] / num_bytes / math.log(2), first.num_bytes), better, worse)


def _require_text(scores: DocumentScores) -> None:
    if not scores.num_bytes.sum():
        raise ValueError("there is no text: bits per byte need at least one byte")


def _resampled_sums(
    num_bytes: np.ndarray, columns: list[np.ndarray], seed: int, num_resamples: int
) -> tuple[list[np.ndarray], np.ndarray]:
    """Sums of each column and of bytes over ``num_resamples`` draws of N documents, in blocks of bounded memory."""
    # Documents without bytes carry no evidence, and a draw of only such would divide by zero.
    kept = num_bytes > 0
    table = np.stack([*(column[kept] for column in columns), num_bytes[kept].astype(np.float64)], axis=1)
    rng = np.random.default_rng(seed)
    block = max(1, BLOCK_CELLS // len(table))
    sums = []
    for start in range(0, num_resamples, block):
        draws = rng.multinomial(len(table), np.full(len(table), 1 / len(table)), size=min(block, num_resamples - start))
        sums.append(draws @ table)
    stacked = np.concatenate(sums)
    return [stacked[:, i] for i in range(len(columns))], stacked[:, -1]


def _interval(value: float, resamples: np.ndarray, num_bytes: np.ndarray) -> Interval:
    if (num_bytes > 0).sum() < 2:
        return Interval(value, None, None)
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(resamples, [tail, 1 - tail])
    return Interval(value, min(float(low), value), max(float(high), value))
