"""Counting what text uses, file by file."""

from __future__ import annotations

import json

import numpy as np
import pytest

from vocabalign.text.tokenizers import load_vocabulary
from vocabalign.text.usage import count_usage, short_labels


def test_counts_of_each_file(byte_level_folder, metaspace_folder, texts, tmp_path):
    lines = "\n".join(json.dumps({"text": text}) for text in texts)
    (tmp_path / "a.jsonl").write_text(lines, encoding="utf-8")
    (tmp_path / "b.jsonl").write_text(json.dumps({"text": texts[0]}), encoding="utf-8")
    vocabularies = [load_vocabulary(byte_level_folder), load_vocabulary(metaspace_folder)]
    first, second = count_usage(vocabularies, [tmp_path])
    assert (first.documents, second.documents) == (len(texts), 1)
    assert first.bytes == sum(len(text.encode()) for text in texts)
    for usage, documents in ((first, texts), (second, texts[:1])):
        for vocabulary, counts in zip(vocabularies, usage.counts):
            expected = np.zeros(len(vocabulary), dtype=np.int64)
            for text in documents:
                for token_id in vocabulary.encode(text):
                    expected[token_id] += 1
            assert np.array_equal(counts, expected)


@pytest.mark.parametrize(
    ("paths", "labels"),
    [
        (["x/en.txt", "x/de.jsonl.gz"], ["en", "de"]),
        (["x/en.txt", "y/en.txt"], ["x/en", "y/en"]),
        (["a.txt", "a.jsonl"], ["a.txt", "a.jsonl"]),
        (["one.v2.txt"], ["one.v2"]),
        ([], []),
    ],
)
def test_labels(paths, labels):
    assert short_labels(paths) == labels
