from __future__ import annotations

import numpy as np

from tests.alignment.toy import make_vocabulary
from vocabalign.alignment.exports import embedding_map
from vocabalign.alignment.mapping import MappingOptions, learn_mapping
from vocabalign.token_embeddings import TokenEmbeddings


def test_the_map_flags_pairs_and_brings_them_together():
    rng = np.random.default_rng(0)
    x = rng.standard_normal((60, 6)).astype(np.float32)
    rotation = np.linalg.qr(rng.standard_normal((6, 6)))[0].astype(np.float32)
    vocabulary = make_vocabulary([bytes([65 + i]) for i in range(60)])
    counts = np.arange(60, 0, -1)
    sides = [TokenEmbeddings(x, counts, ""), TokenEmbeddings(x @ rotation, counts, "")]
    anchors = np.stack([np.arange(30)] * 2, axis=1)
    mapping = learn_mapping(x, x @ rotation, anchors, options=MappingOptions(self_learning=False))
    found = embedding_map(vocabulary, vocabulary, *sides, anchors, mapping, size=80)
    points = found["points"]
    assert len(points) == 80 and sum(point["shared"] for point in points) == 40
    by_pair = {(point["side"], point["pair"]): point for point in points if point["shared"]}
    apart = {
        when: np.mean(
            [np.linalg.norm(np.subtract(by_pair["source", i][when], by_pair["target", i][when])) for i in range(20)]
        )
        for when in ("before", "after")
    }
    assert apart["after"] < 0.01 < 0.3 < apart["before"]
    unmapped = embedding_map(vocabulary, vocabulary, *sides, anchors, None)
    assert all(point["after"] is None for point in unmapped["points"])
