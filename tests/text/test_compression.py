"""Tokens per kilobyte and what is fallback."""

from __future__ import annotations

import pytest

from vocabalign.text.compression import encode_documents, measure_compression
from vocabalign.text.tokenizers import load_vocabulary


def test_counts_are_those_of_the_tokenizer(byte_level_folder, texts):
    vocabulary = load_vocabulary(byte_level_folder)
    compression = measure_compression(vocabulary, texts)
    assert compression.tokens == sum(len(vocabulary.encode(text)) for text in texts)
    assert compression.bytes == sum(len(text.encode()) for text in texts)
    assert compression.tokens_per_kilobyte == pytest.approx(1000 * compression.tokens / compression.bytes)
    assert compression.bytes_per_token * compression.tokens_per_kilobyte == pytest.approx(1000)
    assert compression.byte_fallback_tokens == compression.unknown_tokens == 0


def test_fallback_is_seen(metaspace_folder):
    vocabulary = load_vocabulary(metaspace_folder)
    compression = measure_compression(vocabulary, ["\N{SNOWMAN}\N{SNOWMAN}"])
    assert compression.byte_fallback_tokens == 6
    assert 0 < compression.byte_fallback_share <= 1


def test_batches_change_nothing(byte_level_folder, texts):
    vocabulary = load_vocabulary(byte_level_folder)
    expected = [vocabulary.encode(text) for text in texts]
    assert encode_documents(vocabulary, texts, batch_characters=150) == expected
    assert encode_documents(vocabulary, texts) == expected
    sizes: list[int] = []

    class Watched:
        def encode_batch(self, batch):
            sizes.append(sum(map(len, batch)))
            return vocabulary.encode_batch(batch)

    long = [text * 5000 for text in texts[:4]]
    assert len(encode_documents(Watched(), long)) == 4
    assert len(sizes) > 1 and max(sizes) <= 1_000_000


def test_no_text(byte_level_folder):
    compression = measure_compression(load_vocabulary(byte_level_folder), [])
    assert (compression.tokens_per_kilobyte, compression.bytes_per_token, compression.unknown_share) == (0, 0, 0)
