from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tests.alignment.toy import make_vocabulary
from vocabalign.alignment.scores import (
    bleu1,
    bleu1_both_ways,
    coverage,
    hub_statistics,
    one_best_reverse,
    precision_at,
    take_text,
)
from vocabalign.lexicon import Evidence, Lexicon


def make_lexicon(sources: list[list[int]], evidence: list[Evidence], confidence: list[float] | None = None) -> Lexicon:
    ids = np.array(sources, dtype=np.int32)
    weights = (ids >= 0) / np.maximum(1, (ids >= 0).sum(axis=1, keepdims=True))
    return Lexicon(
        ids,
        weights.astype(np.float32),
        np.array(evidence, dtype=np.uint8),
        np.array(confidence or [1.0] * len(ids), dtype=np.float32),
        "s",
        "t",
    )


def test_bleu1_clips_and_punishes_brevity():
    assert bleu1([[1, 2, 3]], [[1, 2, 3]]) == 1
    assert bleu1([[1, 2, 3]], [[3, 1, 2]]) == 1
    assert bleu1([[1, 2, 3]], [[1, 1, 1]]) == pytest.approx(1 / 3)
    assert bleu1([[1, 2, 3, 4]], [[1, 2]]) == pytest.approx(np.exp(-1))
    assert bleu1([[1, 2]], [[1, 2, -1, -1]]) == pytest.approx(1 / 2)
    assert bleu1([[1]], [[-1]]) == bleu1([], []) == 0


def test_a_permuted_vocabulary_scores_one_both_ways():
    source = make_vocabulary([b"a", b"b", b"c"])
    target = make_vocabulary([b"c", b"a", b"b"])
    lexicon = make_lexicon([[2], [0], [1]], [Evidence.IDENTICAL] * 3)
    scores = bleu1_both_ways(lexicon, source, target, ["abcabba", "ccc"])
    assert scores == {"bleu1_target_to_source": 1.0, "bleu1_source_to_target": 1.0}


def test_the_way_back_takes_the_strongest():
    lexicon = make_lexicon([[0, 1], [0, -1], [0, -1], [-1, -1]], [Evidence.IDENTICAL] * 4, [1.0, 0.9, 0.9, 0.0])
    assert one_best_reverse(lexicon, 3).tolist() == [1, 0, -1]
    assert one_best_reverse(lexicon, 3, np.array([9, 1, 5, 9])).tolist() == [2, 0, -1]


def test_the_way_back_goes_by_bayes_rule_where_counts_are_known():
    lexicon = make_lexicon([[0, -1], [0, 1], [2, -1], [2, -1]], [Evidence.IDENTICAL] * 4, [1.0, 0.5, 0.4, 0.6])
    counted = replace(lexicon, target_counts=np.array([3, 10, 0, 0]))
    # A twin that text hardly uses gives way to the longer token of which the piece is half.
    assert one_best_reverse(lexicon, 3).tolist() == [0, 1, 3]
    assert one_best_reverse(counted, 3).tolist() == [1, 1, 3]
    assert one_best_reverse(replace(counted, target_counts=np.array([6, 10, 0, 0])), 3).tolist() == [0, 1, 3]
    assert one_best_reverse(replace(counted, reverse=np.array([3, -1, 0])), 3).tolist() == [3, 1, 0]


def test_coverage_and_hubs():
    kinds = [Evidence.IDENTICAL, Evidence.DISTRIBUTIONAL, Evidence.DISTRIBUTIONAL, Evidence.NONE]
    lexicon = make_lexicon([[0], [5], [5], [-1]], kinds)
    found = coverage(lexicon, np.array([70, 10, 10, 10]))
    assert found["running_token_shares"]["identical"] == 0.7 and found["running_token_shares"]["none"] == 0.1
    assert sum(found["running_token_shares"].values()) == pytest.approx(1)
    assert hub_statistics(lexicon) == {"hub_share_top3": 1.0, "distinct_sources": 1, "hub_targets": 2}


def test_text_is_taken_up_to_a_limit_at_a_character():
    assert take_text(["abc", "d\u00e9f", "g"], 5) == ["abc", "d"]
    assert take_text(["abc"], 5) == ["abc"]


def test_precision():
    assert precision_at(np.array([[1, 2], [3, 4]]), np.array([2, 3]), 1) == 0.5
    assert precision_at(np.array([[1, 2], [3, 4]]), np.array([2, 3]), 2) == 1.0
