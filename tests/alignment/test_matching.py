from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from vocabalign.alignment.mapping_options import PRESETS
from vocabalign.alignment.matching import MatchOptions, find_hidden_pairs, find_neighbors, make_common_space
from vocabalign.errors import TooFewAnchorsError
from vocabalign.token_embeddings import TokenEmbeddings


def rotated(number: int = 300, dimensions: int = 10) -> tuple[TokenEmbeddings, TokenEmbeddings]:
    rng = np.random.default_rng(0)
    x = rng.standard_normal((number, dimensions)).astype(np.float32)
    rotation = np.linalg.qr(rng.standard_normal((dimensions, dimensions)))[0].astype(np.float32)
    counts = np.arange(number, 0, -1)
    return TokenEmbeddings(x, counts, "s"), TokenEmbeddings(x @ rotation, counts, "t")


def precision(source, target, anchors, options, used=None):
    return find_hidden_pairs(source, target, anchors, options, 0, used=used).precision(target.counts)


@pytest.mark.parametrize("space", ["mapped", "relative"])
def test_hidden_pairs_are_found_in_rotated_spaces_and_not_in_unrelated_ones(space):
    source, target = rotated()
    anchors = np.stack([np.arange(300)] * 2, axis=1)
    options = MatchOptions(space=space)
    found = precision(source, target, anchors, options)
    assert found["known_pair_precision_at_1"] > 0.9 and found["known_pairs_held_out"] == 60
    noise = np.random.default_rng(9).standard_normal((300, 10)).astype(np.float32)
    unrelated = TokenEmbeddings(noise, target.counts, "")
    assert precision(source, unrelated, anchors, options)["known_pair_precision_at_5"] < 0.2
    assert find_hidden_pairs(source, target, anchors[:30], options, seed=0) is None


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
    every = precision(source, target, anchors, MatchOptions(), used=anchors)
    assert every == precision(source, target, anchors, MatchOptions())
    for k in (1, 5):
        by_frequency = every[f"known_pair_precision_at_{k}_by_frequency"]
        assert len(by_frequency) == 3
        assert np.mean(by_frequency) == pytest.approx(every[f"known_pair_precision_at_{k}"])
    # Made of nothing but wrong pairs, the space is of no use, whatever is shared.
    wrong = np.stack([np.arange(300), np.roll(np.arange(300), 7)], axis=1)
    assert precision(source, target, anchors, MatchOptions(), used=wrong)["known_pair_precision_at_1"] < 0.3


def test_as_many_neighbours_of_hidden_pairs_as_are_wanted():
    source, target = rotated()
    anchors = np.stack([np.arange(300)] * 2, axis=1)
    few, many = (find_hidden_pairs(source, target, anchors, MatchOptions(), 0, width=width) for width in (1, 9))
    assert few.found.source_ids.shape == (60, 5) and many.found.source_ids.shape == (60, 9)
    assert np.array_equal(few.found.source_ids, many.found.source_ids[:, :5]) and np.array_equal(few.truth, many.truth)


def test_given_spaces_are_compared_as_they_are_by_csls_or_cosine():
    source, _ = rotated(60)
    noisy = source.vectors + 0.1 * np.random.default_rng(1).standard_normal(source.vectors.shape).astype(np.float32)
    target = TokenEmbeddings(noisy, source.counts, "t")
    for k in (10, 0):
        options = MatchOptions(space="given", csls_neighbors=k)
        space = make_common_space(source, target, np.zeros((0, 2), dtype=int), options)
        assert space.mapping is None
        found = find_neighbors(space, source.counts, target.counts, np.arange(60), 3, options)
        assert (found.source_ids[:, 0] == np.arange(60)).mean() > 0.9
        if not k:
            cosines = (space.target[:, None] * space.source[found.source_ids]).sum(axis=2)
            assert found.scores == pytest.approx(cosines, abs=1e-5)
            assert found.cosines == pytest.approx(cosines, abs=1e-5)
