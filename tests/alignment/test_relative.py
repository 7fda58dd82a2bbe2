from __future__ import annotations

import numpy as np

from vocabalign.alignment.matching import MatchOptions, find_neighbors, make_common_space
from vocabalign.alignment.relative import relative_representations
from vocabalign.token_embeddings import TokenEmbeddings


def test_it_agrees_with_the_slow_dense_formula():
    rng = np.random.default_rng(0)
    source = rng.standard_normal((120, 12)).astype(np.float32)
    target = rng.standard_normal((90, 9)).astype(np.float32)
    source[100:], target[80:] = 0, 0
    anchors = np.stack([np.arange(40), np.arange(40)[::-1]], axis=1)
    counts = [np.ones(120, dtype=np.int64), np.ones(90, dtype=np.int64)]
    sides = [TokenEmbeddings(v, c, "") for v, c in zip((source, target), counts, strict=True)]
    options = MatchOptions(space="relative")
    space = make_common_space(*sides, anchors, options)
    found = find_neighbors(space, *counts, np.arange(90), 1, options)

    def rep(x: np.ndarray, anchor_rows: np.ndarray) -> np.ndarray:
        product = x.astype(np.float64) @ anchor_rows.T.astype(np.float64)
        return product / np.linalg.norm(product)

    for row, token in enumerate(found.target_ids):
        mine = rep(target[token], target[anchors[:, 1]])
        similarity = [mine @ rep(source[s], source[anchors[:, 0]]) for s in range(100)]
        assert found.source_ids[row, 0] == int(np.argmax(similarity))
        assert np.isclose(found.cosines[row, 0], max(similarity), atol=1e-5)
    assert found.target_ids.tolist() == list(range(80))


def test_blocks_and_zero_rows():
    vectors = np.random.default_rng(1).standard_normal((50, 4)).astype(np.float32)
    vectors[7] = 0
    whole = relative_representations(vectors, vectors[:10])
    assert np.allclose(whole, relative_representations(vectors, vectors[:10], block_rows=7), atol=1e-6)
    assert not whole[7].any()
