"""Scores as they stand in metrics.json: of models, of domains and languages, and of pairs of models."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any

import numpy as np

from vocabalign.evaluation.bits_per_byte import DocumentScores
from vocabalign.evaluation.statistics import Interval, Resamples, resample
from vocabalign.text.heldout_text import KINDS, Labels, groups_of

KILOBYTE = 1000


def score_record(scores: DocumentScores, interval: Interval | None = None) -> dict[str, Any]:
    """Bits per byte, and their interval where it is known already."""
    record = {"bits_per_byte": scores.bits_per_byte, "bits_per_byte_low": None, "bits_per_byte_high": None}
    if interval is not None:
        record |= {"bits_per_byte_low": interval.low, "bits_per_byte_high": interval.high}
    return record


def comparison_records(
    rows: Sequence[dict[str, Any]], scores: Mapping[str, DocumentScores], seed: int
) -> dict[str, list[dict[str, Any]]]:
    """Intervals and normalised perplexity into ``rows``; differences of pairs of models.

    Returns:
        "comparisons": every model with the first; "other_comparisons": the other pairs.
    """
    resamples = resample(scores, seed=seed)
    first = next(iter(scores))
    reference_tokens = int(scores[first].num_tokens.sum())
    for row in rows:
        name = row["name"]
        row.update(score_record(scores[name], resamples.interval(name)))
        row["normalised_perplexity"] = scores[name].normalised_perplexity(reference_tokens)
    pairs = [(a, b, _difference(resamples, a, b)) for a, b in combinations(scores, 2)]
    return {
        "comparisons": [record for a, _, record in pairs if a == first],
        "other_comparisons": [record for a, _, record in pairs if a != first],
    }


def group_records(
    rows: Sequence[dict[str, Any]],
    scores: Mapping[str, DocumentScores],
    labels: Labels,
    comparisons: Mapping[str, Sequence[dict[str, Any]]],
    seed: int,
) -> None:
    """Add what each domain and language scored to the models and to the comparisons.

    Means over groups are dominated by the hardest one, so the median of the groups stands beside them.
    """
    groups = list(groups_of(labels))
    for kind, group, documents in groups:
        if len(documents) == len(next(iter(scores.values())).num_bytes):
            continue  # the whole text under another name
        part = {name: score.select(documents) for name, score in scores.items()}
        resamples = resample(part, seed=seed)
        tokens = int(next(iter(part.values())).num_tokens.sum())
        for row in rows:
            record = _group_record(part[row["name"]], resamples.interval(row["name"]), tokens)
            row.setdefault(KINDS[kind], {})[group] = record
        for comparison in (record for records in comparisons.values() for record in records):
            difference = _difference(resamples, comparison["against"], comparison["name"])
            comparison.setdefault(KINDS[kind], {})[group] = {
                key: value for key, value in difference.items() if key not in ("name", "against")
            }
    for row in rows:
        for kind, key in KINDS.items():
            if row.get(key):
                values = row[key].values()
                for measured in ("bits_per_byte", "normalised_perplexity", "tokens_per_kilobyte"):
                    row[f"{measured}_{kind}_median"] = float(np.median([value[measured] for value in values]))


def _group_record(scores: DocumentScores, interval: Interval, reference_tokens: int) -> dict[str, Any]:
    tokens, num_bytes = int(scores.num_tokens.sum()), int(scores.num_bytes.sum())
    return {
        **score_record(scores, interval),
        "normalised_perplexity": scores.normalised_perplexity(reference_tokens),
        "tokens_per_kilobyte": tokens * KILOBYTE / num_bytes,
        "bytes_per_token": num_bytes / tokens if tokens else 0.0,
        "bytes": num_bytes,
        "tokens": tokens,
        "documents": len(scores.nats),
    }


def _difference(resamples: Resamples, first: str, other: str) -> dict[str, Any]:
    """The paired difference other - first as a record."""
    paired = resamples.difference(first, other)
    return {
        "name": other,
        "against": first,
        "bits_per_byte_difference": paired.difference.value,
        "bits_per_byte_difference_low": paired.difference.low,
        "bits_per_byte_difference_high": paired.difference.high,
        "documents_better": paired.documents_better,
        "documents_worse": paired.documents_worse,
    }
