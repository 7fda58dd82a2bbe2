from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse

from tests.alignment.toy import make_vocabulary
from vocabalign.alignment.anchors import identical_source
from vocabalign.alignment.evidence_layers import Neighbors
from vocabalign.alignment.lexicon_building import best_of_rows, build_lexicon
from vocabalign.lexicon import Evidence

SOURCE = make_vocabulary([None, b"the", b" cat", b"s", b"\xe0", b"\xb8", b"\x81", b" dog", b"zq"])
TARGET = make_vocabulary([b"the", None, b" cats", b"\xe0\xb8\x81", b"cat", b"!?", b" unseen"])


def neighbors_of(*pairs: tuple[int, int, float], support: float = 1e6) -> Neighbors:
    targets, sources, cosines = (np.array(column) for column in zip(*pairs, strict=True))
    scores = cosines[:, None].astype(np.float32)
    return Neighbors(targets.astype(int), sources[:, None].astype(int), scores, scores, np.full(len(pairs), support))


def segment(tokens: list[bytes]) -> list[list[int]]:
    known = {b" cats": [2, 3], b"\xe0\xb8\x81": [4, 5, 6], b"cat": [], b"!?": [], b" unseen": []}
    return [known[token] for token in tokens]


def build(method: str = "auto", **parts):
    identical = identical_source(SOURCE, TARGET)
    return build_lexicon(SOURCE, TARGET, method=method, top_k=4, identical=identical, roles={1: [0]}, **parts)


def test_each_token_rests_on_its_best_evidence():
    lexicon = build(segment=segment, neighbors=neighbors_of((2, 8, 0.1), (3, 7, 0.9)), precision=0.6)
    kinds = [Evidence(int(kind)) for kind in lexicon.evidence]
    assert kinds[:5] == [
        Evidence.IDENTICAL,
        Evidence.ROLE,
        Evidence.SEGMENTATION,
        Evidence.DISTRIBUTIONAL,
        Evidence.RELAXED,
    ]
    assert lexicon.source_ids[2].tolist() == [2, 3, -1, -1]
    assert lexicon.weights[2].tolist() == pytest.approx([0.8, 0.2, 0, 0])
    # Three bytes of one character say less than a good neighbour.
    assert lexicon.source_ids[3, 0] == 7
    assert lexicon.confidence[:2].tolist() == [1, 1]


def test_evidence_of_like_strength_is_blended():
    lexicon = build(segment=segment, neighbors=neighbors_of((2, 8, 0.68)), precision=1.0)
    assert set(lexicon.source_ids[2].tolist()) == {2, 3, 8, -1}
    weights = dict(zip(lexicon.source_ids[2].tolist(), lexicon.weights[2].tolist(), strict=True))
    assert weights[8] == pytest.approx(0.5, abs=0.01) and weights[2] == pytest.approx(0.4, abs=0.01)


def test_without_evidence_the_row_is_empty():
    lexicon = build()
    for token in (5, 6):
        assert lexicon.evidence[token] == Evidence.NONE and lexicon.confidence[token] == 0
        assert (lexicon.source_ids[token] == -1).all() and not lexicon.weights[token].any()


@pytest.mark.parametrize("method", ["tokalign", "tokalign++"])
def test_the_papers_copy_what_is_shared_and_the_single_nearest_for_the_rest(method):
    lexicon = build(method, segment=segment, neighbors=neighbors_of((2, 8, 0.1), (0, 3, 1.0)))
    assert lexicon.source_ids[:, 0].tolist() == [1, 0, 8, -1, -1, -1, -1]
    assert (lexicon.source_ids[:, 1:] == -1).all()
    assert lexicon.evidence_counts() == {
        "none": 4, "identical": 1, "role": 1, "relaxed": 0, "cooccurrence": 0, "segmentation": 0, "distributional": 1
    }  # fmt: skip


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
