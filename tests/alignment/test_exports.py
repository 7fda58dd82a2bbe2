from __future__ import annotations

import numpy as np

from tests.alignment.toy import make_vocabulary
from vocabalign.alignment.exports import embedding_map, token_text, write_table
from vocabalign.alignment.mapping import MappingOptions, learn_mapping
from vocabalign.lexicon import Evidence, Lexicon
from vocabalign.token_embeddings import TokenEmbeddings


def test_tokens_are_written_on_one_line():
    vocabulary = make_vocabulary([b"a\tb\n", b"\xff", None, "\u0436\u2028".encode(), b"\\n"])
    assert [token_text(vocabulary, i) for i in range(5)] == [r"a\tb\n", r"\xff", "<s>", "\u0436\\u2028", r"\\n"]


def test_the_table_has_every_target_token(tmp_path):
    source, target = make_vocabulary([b" a", b"b"]), make_vocabulary([b" ab", b"\n", b"b"])
    ids = np.array([[0, 1], [-1, -1], [1, -1]], dtype=np.int32)
    weights = np.array([[0.75, 0.25], [0, 0], [1, 0]], dtype=np.float32)
    kinds = np.array([Evidence.SEGMENTATION, Evidence.NONE, Evidence.IDENTICAL], dtype=np.uint8)
    lexicon = Lexicon(ids, weights, kinds, np.array([0.5, 0, 1], dtype=np.float32), "", "")
    write_table(tmp_path / "lexicon.tsv", lexicon, source, target)
    assert (tmp_path / "lexicon.tsv").read_text(encoding="utf-8").splitlines()[1:] == [
        "0\t ab\tsegmentation\t0.5000\t0:\u2423a=0.7500 1:b=0.2500",
        "1\t\\n\tnone\t0.0000\t",
        "2\tb\tidentical\t1.0000\t1:b=1.0000",
    ]


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
