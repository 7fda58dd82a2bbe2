from __future__ import annotations

import numpy as np
import pytest
from scipy import sparse

from tests.alignment.toy import make_vocabulary, running_text_uses
from vocabalign.alignment.evidence_layers import (
    Neighbors,
    contained_layer,
    cooccurrence_layer,
    distributional_layer,
    layer_of_entries,
    relaxed_layer,
    segmentation_layer,
    share_of_fragments,
)
from vocabalign.lexicon import Evidence


def row(layer, token_id: int) -> dict[int, float]:
    matrix = layer.weights.tocsr()[token_id].tocoo()
    return dict(zip(matrix.col.tolist(), np.round(matrix.data, 6).tolist(), strict=True))


def test_relaxed_bytes_take_the_space_before_the_case():
    source = make_vocabulary([b" word", b"word", b"Word", b"1", b"the", "\u00e9t\u00e9".encode()])
    target = make_vocabulary([b" Word", b"WORD", b" 1", b" the", b"The", b"xyz", None, " \u00c9t\u00e9".encode()])
    layer = relaxed_layer(source, target, np.arange(8))
    assert row(layer, 0) == {2: 1.0}
    assert row(layer, 1) == {1: 1.0}
    assert row(layer, 3) == row(layer, 4) == {4: 1.0}
    assert layer.speaks.tolist() == [True, True, False, True, True, False, False, False]
    # A digit is not the same without its space, and two changes at once are too many.
    assert [row(layer, i) for i in (2, 5, 6, 7)] == [{}, {}, {}, {}]


def test_counted_covers_are_shares_of_bytes():
    overlap = sparse.csr_matrix(np.array([[20, 10, 0], [2, 1, 0], [0, 0, 0], [0, 0, 5], [0, 200, 0]]))
    layer = cooccurrence_layer(overlap)
    assert row(layer, 0) == row(layer, 1) == pytest.approx({0: 2 / 3, 1: 1 / 3}, abs=1e-5)
    assert row(layer, 3) == {2: 1.0} and row(layer, 4) == {1: 1.0}
    assert layer.speaks.tolist() == [True, True, False, True, True]


def test_rows_are_emptied_and_normalised():
    layer = layer_of_entries(Evidence.SEGMENTATION, (3, 2), [(0, 0, 3), (0, 1, 1), (2, 1, 5), (2, 1, 2)])
    assert row(layer, 0) == {0: 0.75, 1: 0.25} and row(layer, 1) == {} and row(layer, 2) == {1: 1.0}
    left = layer.without(np.array([True, False, False]))
    assert row(left, 0) == {} and row(left, 2) == {1: 1.0} and left.kind == Evidence.SEGMENTATION


def test_segmentation_counts_pieces_by_their_bytes():
    source = make_vocabulary([b"abc", b"d", b"e"])
    target = make_vocabulary([b"abcd", b"dede", b"de", None])
    pieces = {b"abcd": [0, 1], b"dede": [1, 2, 1, 2], b"de": [1, 2]}
    layer = segmentation_layer(source, target, np.arange(4), lambda tokens: [pieces[token] for token in tokens])
    assert row(layer, 0) == {0: 0.75, 1: 0.25} and row(layer, 1) == {1: 0.5, 2: 0.5}
    assert layer.speaks.tolist() == [True, True, True, False]


def test_contained_pieces_are_all_tokens_that_stand_in_the_bytes():
    source = make_vocabulary([b"ab", b"b", b"bc", b"abcd", b"x"])
    target = make_vocabulary([b"abc", b"b", b"zz", None])
    layer = contained_layer(source, target, np.arange(4))
    assert row(layer, 0) == pytest.approx({0: 0.4, 1: 0.2, 2: 0.4}) and row(layer, 1) == {1: 1.0}
    assert row(layer, 2) == row(layer, 3) == {}


def test_fragments_are_what_is_no_whole_character():
    source = make_vocabulary([b"a", b"\xd0", "\u0434".encode(), None])
    weights = sparse.csr_matrix(np.array([[0.5, 0.5, 0, 0], [0.25, 0, 0.75, 0], [0, 0, 0, 1.0]]))
    assert share_of_fragments(source, weights).tolist() == [0.5, 0, 1]


def test_neighbours_are_weighted_by_their_scores():
    ids = np.array([[2, 0], [1, 0], [0, 1]])
    scores = np.array([[0.9, 0.1], [0.9, 0.8], [-0.2, -0.3]], dtype=np.float32)
    neighbors = Neighbors(np.array([0, 2, 3]), ids, scores, scores, np.array([1e9, 20, 1e9]))
    layer = distributional_layer((4, 3), neighbors)
    assert row(layer, 0)[2] > 0.99 and row(layer, 2)[1] == pytest.approx(1 / (1 + np.exp(-1)), abs=1e-4)
    assert np.allclose(np.asarray(layer.weights.sum(axis=1)).ravel(), [1, 0, 1, 1])


def test_relaxed_bytes_are_of_tokens_that_running_text_uses():
    source = running_text_uses(make_vocabulary([b"a", b"word", b"word"]), {1: 2})
    target = running_text_uses(make_vocabulary([b"a", b" word", b" word"]), {1: 2})
    layer = relaxed_layer(source, target, np.arange(3))
    assert row(layer, 2) == {2: 1.0} and row(layer, 1) == {}
