from __future__ import annotations

import numpy as np
import pytest

from vocabalign.alignment.matching import MatchOptions, find_neighbors, make_common_space
from vocabalign.alignment.relative import relative_representations
from vocabalign.alignment.search import SearchOptions
from vocabalign.token_embeddings import TokenEmbeddings


def public_map(source: np.ndarray, target: np.ndarray, anchors: np.ndarray, cosine: bool) -> list[int]:
    """The public code's matching, slow and dense in float64; with ``cosine`` as its paper says."""

    def unit(x: np.ndarray) -> np.ndarray:
        return x / np.linalg.norm(x)

    def representation(x: np.ndarray, pivots: np.ndarray) -> np.ndarray:
        likeness = np.array([unit(x) @ unit(pivot) for pivot in pivots])
        return unit(likeness) if cosine else likeness

    source, target = source.astype(np.float64), target.astype(np.float64)
    theirs = [representation(x, source[anchors[:, 0]]) for x in source]
    return [int(np.argmax([representation(x, target[anchors[:, 1]]) @ other for other in theirs])) for x in target]


@pytest.mark.parametrize("cosine", [False, True])
@pytest.mark.parametrize("block_mebibytes", [1, 256])
def test_the_map_is_that_of_the_slow_dense_formula(cosine, block_mebibytes):
    rng = np.random.default_rng(0)
    source = (rng.standard_normal((120, 12)) * rng.uniform(0.1, 3, (120, 1))).astype(np.float32)
    target = rng.standard_normal((90, 9)).astype(np.float32)
    source[100:], target[80:] = 0, 0
    anchors = np.stack([np.arange(40), np.arange(40)[::-1]], axis=1)
    counts = [np.ones(120, dtype=np.int64), np.ones(90, dtype=np.int64)]
    sides = [TokenEmbeddings(v, c, "") for v, c in zip((source, target), counts, strict=True)]
    search = SearchOptions(block_mebibytes=block_mebibytes)
    options = MatchOptions(space="relative", scale_relative=cosine, search=search)
    space = make_common_space(*sides, anchors, options)
    found = find_neighbors(space, *counts, np.arange(90), 1, options)
    assert found.source_ids[:, 0].tolist() == public_map(source[:100], target[:80], anchors, cosine)
    # A token without a vector has no neighbour, where the public code draws one.
    assert found.target_ids.tolist() == list(range(80))
    assert (found.cosines <= 1 + 1e-5).all()


def test_the_two_formulas_differ():
    rng = np.random.default_rng(0)
    source, target = rng.standard_normal((60, 8)), rng.standard_normal((50, 8))
    anchors = np.stack([np.arange(20)] * 2, axis=1)
    assert public_map(source, target, anchors, True) != public_map(source, target, anchors, False)


def test_blocks_and_zero_rows():
    vectors = np.random.default_rng(1).standard_normal((50, 4)).astype(np.float32)
    vectors[7] = 0
    whole = relative_representations(vectors, vectors[:10])
    assert np.allclose(whole, relative_representations(vectors, vectors[:10], block_rows=7), atol=1e-6)
    assert not whole[7].any()
