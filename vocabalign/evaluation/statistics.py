"""How sure a score is: resampling documents, for one model and for the difference of two."""

from __future__ import annotations

import math
from collections.abc import Mapping
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


@dataclass(frozen=True, eq=False)
class Resamples:
    """Several models on the same resampled documents; R resamples.

    Tokens of one document depend on each other, so the document is the unit; the ratio of sums is
    taken anew in each resample, as in the point estimate. All models see the same draws: what is
    hard or easy about the text itself cancels in their differences.

    Attributes:
        scores: name -> scores of the documents themselves.
        bits_per_byte: name -> (R,) float64, of each resample.
    """

    scores: Mapping[str, DocumentScores]
    bits_per_byte: Mapping[str, np.ndarray]

    def interval(self, name: str) -> Interval:
        """One model's bits per byte."""
        scores = self.scores[name]
        return _interval(scores.bits_per_byte, self.bits_per_byte[name], scores.num_bytes)

    def difference(self, first: str, second: str) -> PairedDifference:
        """Difference second - first; its interval is much narrower than two separate ones suggest."""
        a, b = self.scores[first], self.scores[second]
        resamples = self.bits_per_byte[second] - self.bits_per_byte[first]
        difference = _interval(b.bits_per_byte - a.bits_per_byte, resamples, a.num_bytes)
        return PairedDifference(difference, int((b.nats < a.nats).sum()), int((b.nats > a.nats).sum()))


def resample(scores: Mapping[str, DocumentScores], *, seed: int = 0, num_resamples: int = NUM_RESAMPLES) -> Resamples:
    """Draw whole documents with replacement, once for all models.

    Args:
        scores: name -> scores, of the same documents in the same order.
        seed: of the draws.
        num_resamples: R.

    Raises:
        ValueError: the models were not scored on the same documents, or there is no text.

    Reference:
        Efron (1979), percentile interval; paired: Koehn (2004), section 4.
    """
    sizes = next(iter(scores.values())).num_bytes
    if not all(np.array_equal(score.num_bytes, sizes) for score in scores.values()):
        raise ValueError("paired differences need scores of the same documents in the same order")
    if not sizes.sum():
        raise ValueError("there is no text: bits per byte need at least one byte")
    columns = [score.nats for score in scores.values()]
    sums, num_bytes = _resampled_sums(sizes, columns, seed, num_resamples)
    bits = {name: nats / num_bytes / math.log(2) for name, nats in zip(scores, sums)}
    return Resamples(scores, bits)


def paired_difference(
    first: DocumentScores, second: DocumentScores, *, seed: int = 0, num_resamples: int = NUM_RESAMPLES
) -> PairedDifference:
    """Difference second - first in bits per byte; see ``resample``.

    Raises:
        ValueError: the two were not scored on the same documents, or there is no text.
    """
    resamples = resample({"first": first, "second": second}, seed=seed, num_resamples=num_resamples)
    return resamples.difference("first", "second")


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
