"""Records of groups and pairs against the same numbers computed one by one."""

from __future__ import annotations

import math

import numpy as np
import pytest

from vocabalign.evaluation.bits_per_byte import DocumentScores
from vocabalign.evaluation.records import comparison_records, group_records
from vocabalign.evaluation.statistics import Interval, paired_difference, resample


def make_scores(seed: int, tokens_per_byte: float = 0.25, documents: int = 40) -> DocumentScores:
    sizes = np.random.default_rng(0).integers(50, 900, documents)
    noise = np.random.default_rng(seed).standard_normal(documents)
    return DocumentScores(sizes * (1 + 0.1 * noise), sizes, (sizes * tokens_per_byte).astype(np.int64))


def interval_of(scores: DocumentScores, seed: int) -> Interval:
    return resample({"alone": scores}, seed=seed).interval("alone")


@pytest.fixture
def scores():
    return {"a": make_scores(1), "b": make_scores(2, 0.5), "c": make_scores(3)}


@pytest.fixture
def rows(scores):
    return [{"name": name} for name in scores]


def test_every_pair_once_and_as_if_it_were_alone(rows, scores):
    records = comparison_records(rows, scores, seed=7)
    assert [r["name"] for r in records["comparisons"]] == ["b", "c"]
    assert [(r["against"], r["name"]) for r in records["other_comparisons"]] == [("b", "c")]
    for record in records["comparisons"] + records["other_comparisons"]:
        alone = paired_difference(scores[record["against"]], scores[record["name"]], seed=7)
        assert record["bits_per_byte_difference"] == pytest.approx(alone.difference.value)
        assert record["bits_per_byte_difference_low"] == pytest.approx(alone.difference.low)
        assert record["documents_better"] == alone.documents_better
    for row in rows:
        assert row["bits_per_byte_high"] == pytest.approx(interval_of(scores[row["name"]], 7).high)


def test_normalised_perplexity_counts_the_first_models_tokens(rows, scores):
    comparison_records(rows, scores, seed=0)
    for row in rows:
        expected = math.exp(scores[row["name"]].nats.sum() / scores["a"].num_tokens.sum())
        assert row["normalised_perplexity"] == pytest.approx(expected)
    # For the first model it is the ordinary perplexity per token; for all it is bits per byte on another scale.
    ratio = math.log(2) * scores["a"].num_bytes.sum() / scores["a"].num_tokens.sum()
    assert [math.log(row["normalised_perplexity"]) / row["bits_per_byte"] for row in rows] == pytest.approx([ratio] * 3)


def test_groups_are_what_their_documents_score_alone(rows, scores):
    domains = ["prose" if i % 4 else "code" for i in range(40)]
    comparisons = comparison_records(rows, scores, seed=0)
    group_records(rows, scores, {"domain": domains, "language": [None] * 40}, comparisons, seed=3)
    for row in rows:
        for name in ("prose", "code"):
            mask = np.array([domain == name for domain in domains])
            part = scores[row["name"]].select(mask)
            record = row["domains"][name]
            interval = interval_of(part, 3)
            expected = [interval.value, interval.low, interval.high]
            assert [record[f"bits_per_byte{end}"] for end in ("", "_low", "_high")] == pytest.approx(expected)
            assert record["tokens_per_kilobyte"] == pytest.approx(1000 * part.num_tokens.sum() / part.num_bytes.sum())
        assert sum(record["bytes"] for record in row["domains"].values()) == scores["a"].num_bytes.sum()
        values = [record["bits_per_byte"] for record in row["domains"].values()]
        assert row["bits_per_byte_domain_median"] == pytest.approx(np.median(values))
        assert "languages" not in row
    difference = comparisons["comparisons"][0]["domains"]["code"]["bits_per_byte_difference"]
    codes = [row["domains"]["code"]["bits_per_byte"] for row in rows]
    assert difference == pytest.approx(codes[1] - codes[0])


def test_one_name_for_the_whole_text_is_no_group(rows, scores):
    comparisons = comparison_records(rows, scores, seed=0)
    group_records(rows, scores, {"domain": ["all"] * 40}, comparisons, seed=0)
    assert "domains" not in rows[0]
