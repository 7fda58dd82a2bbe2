from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse

from tests.alignment.toy import make_vocabulary
from vocabalign.alignment.anchors import identical_source
from vocabalign.alignment.evidence_layers import Neighbors
from vocabalign.alignment.lexicon_building import best_of_rows, make_lexicon, nearest_lexicon
from vocabalign.lexicon import Evidence

SOURCE = make_vocabulary([None, b"the", b" cat", b"s", b"\xe0", b"\xb8", b"\x81", b" dog", b"zq"])
TARGET = make_vocabulary([b"the", None, b" cats", b"\xe0\xb8\x81", b"cat", b"!?", b" unseen"])


def neighbors_of(*pairs: tuple[int, int, float]) -> Neighbors:
    targets, sources, cosines = (np.array(column) for column in zip(*pairs, strict=True))
    scores = cosines[:, None].astype(np.float32)
    return Neighbors(targets.astype(int), sources[:, None].astype(int), scores, scores, np.full(len(pairs), 1e6))


def test_the_papers_copy_what_is_shared_and_take_the_single_nearest_for_the_rest():
    identical = identical_source(SOURCE, TARGET)
    neighbors = neighbors_of((2, 8, 0.1), (0, 3, 1.0), (3, 7, -0.2))
    lexicon = nearest_lexicon(SOURCE, TARGET, identical, {1: [0]}, neighbors, 4)
    assert lexicon.source_ids[:, 0].tolist() == [1, 0, 8, 7, -1, -1, -1]
    assert (lexicon.source_ids[:, 1:] == -1).all()
    assert lexicon.evidence_counts() == {
        "none": 3, "identical": 1, "role": 1, "relaxed": 0, "cooccurrence": 0, "segmentation": 0, "distributional": 2
    }  # fmt: skip
    assert np.allclose(lexicon.confidence[:3], [1, 1, 0.1]) and 0 < lexicon.confidence[3] < 0.01


def test_without_neighbours_only_copies_are_left():
    lexicon = nearest_lexicon(SOURCE, TARGET, identical_source(SOURCE, TARGET), {1: [0]}, None)
    assert lexicon.source_ids[:, 0].tolist() == [1, 0, -1, -1, -1, -1, -1]
    assert not lexicon.confidence[2:].any() and not lexicon.evidence[2:].any()


def test_a_row_without_sources_has_neither_evidence_nor_confidence():
    weights = sparse.csr_matrix(([1.0], ([2], [3])), shape=(len(TARGET), len(SOURCE)))
    kinds = np.full(len(TARGET), Evidence.SEGMENTATION)
    lexicon = make_lexicon(SOURCE, TARGET, weights, kinds, np.full(len(TARGET), 0.5), 2)
    assert lexicon.evidence.tolist() == [0, 0, Evidence.SEGMENTATION, 0, 0, 0, 0]
    assert lexicon.confidence.tolist() == [0, 0, 0.5, 0, 0, 0, 0] and lexicon.weights[2].tolist() == [1, 0]


@settings(deadline=None, max_examples=25)
@given(rows=st.integers(1, 8), columns=st.integers(1, 8), k=st.integers(1, 10), seed=st.integers(0, 999))
def test_best_of_rows(rows, columns, k, seed):
    rng = np.random.default_rng(seed)
    dense = rng.integers(0, 4, (rows, columns)) * rng.random((rows, 1)).round(1)
    ids, weights = best_of_rows(sparse.csr_matrix(dense), k)
    assert np.isclose(weights.sum(axis=1), (dense.sum(axis=1) > 0)).all()
    for row in range(rows):
        order = [c for c in np.argsort(-dense[row], kind="stable") if dense[row, c] > 0][:k]
        assert ids[row].tolist() == order + [-1] * (k - len(order))
        assert (np.diff(weights[row]) <= 0).all() and (weights[row] >= 0).all()
