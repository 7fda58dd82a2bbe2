from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from vocabalign.alignment.mapping_options import PRESETS
from vocabalign.alignment.matching import MatchOptions, find_neighbors, known_pair_precision, make_common_space
from vocabalign.errors import TooFewAnchorsError
from vocabalign.token_embeddings import TokenEmbeddings


def rotated(number: int = 300, dimensions: int = 10) -> tuple[TokenEmbeddings, TokenEmbeddings]:
    rng = np.random.default_rng(0)
    x = rng.standard_normal((number, dimensions)).astype(np.float32)
    rotation = np.linalg.qr(rng.standard_normal((dimensions, dimensions)))[0].astype(np.float32)
    counts = np.arange(number, 0, -1)
    return TokenEmbeddings(x, counts, "s"), TokenEmbeddings(x @ rotation, counts, "t")


@pytest.mark.parametrize("space", ["mapped", "relative"])
def test_hidden_pairs_are_found_in_rotated_spaces_and_not_in_unrelated_ones(space):
    source, target = rotated()
    anchors = np.stack([np.arange(300)] * 2, axis=1)
    options = MatchOptions(space=space)
    found = known_pair_precision(source, target, anchors, options, seed=0)
    assert found["known_pair_precision_at_1"] > 0.9 and found["known_pairs_held_out"] == 60
    noise = np.random.default_rng(9).standard_normal((300, 10)).astype(np.float32)
    unrelated = TokenEmbeddings(noise, target.counts, "")
    assert known_pair_precision(source, unrelated, anchors, options, seed=0)["known_pair_precision_at_5"] < 0.2
    assert known_pair_precision(source, target, anchors[:30], options, seed=0) == {}


def test_only_tokens_with_vectors_are_asked_and_found():
    source, target = rotated(60)
    source.vectors[50:] = 0
    target.vectors[:5] = 0
    anchors = np.stack([np.arange(60)] * 2, axis=1)
    options = MatchOptions()
    space = make_common_space(source, target, anchors[5:50], options)
    found = find_neighbors(space, source.counts, target.counts, np.array([2, 7, 55]), 3, options)
    assert found.target_ids.tolist() == [7, 55]
    assert found.source_ids[0, 0] == 7 and found.source_ids.max() < 50
    assert found.cosines[0, 0] == pytest.approx(1, abs=1e-2)
    assert found.support[0] == 53


def test_too_few_anchors_say_how_many_and_what_to_do():
    source, target = rotated(60)
    anchors = np.stack([np.arange(7)] * 2, axis=1)
    with pytest.raises(TooFewAnchorsError, match="share 7 tokens .* at least 16 .* method auto"):
        make_common_space(source, target, anchors, MatchOptions())


def test_an_unsupervised_start_makes_a_space_without_anchors():
    source, target = rotated(300, 6)
    options = MatchOptions(mapping=replace(PRESETS["tokalign++"], start="unsupervised", keep_seeds=False))
    space = make_common_space(source, target, np.zeros((0, 2), dtype=np.int64), options)
    found = find_neighbors(space, source.counts, target.counts, np.arange(300), 1, options)
    assert (found.source_ids[:, 0] == np.arange(300)).mean() > 0.9


def test_tokens_that_are_not_allowed_are_not_found():
    source, target = rotated(100)
    anchors = np.stack([np.arange(100)] * 2, axis=1)
    space = make_common_space(source, target, anchors, MatchOptions())
    allowed = np.arange(100) >= 50
    found = find_neighbors(space, source.counts, target.counts, np.arange(100), 1, MatchOptions(), allowed)
    assert found.source_ids.min() >= 50 and (found.source_ids[50:, 0] == np.arange(50, 100)).all()


def test_hidden_pairs_are_hidden_from_other_anchors_too():
    source, target = rotated()
    anchors = np.stack([np.arange(300)] * 2, axis=1)
    every = known_pair_precision(source, target, anchors, MatchOptions(), 0, used=anchors)
    assert every == known_pair_precision(source, target, anchors, MatchOptions(), 0)
    assert len(every["known_pair_precision_at_1_by_frequency"]) == 3
    # Made of nothing but wrong pairs, the space is of no use, whatever is shared.
    wrong = np.stack([np.arange(300), np.roll(np.arange(300), 7)], axis=1)
    assert (
        known_pair_precision(source, target, anchors, MatchOptions(), 0, used=wrong)["known_pair_precision_at_1"] < 0.3
    )
