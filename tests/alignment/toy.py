"""A vocabulary made by hand: words with their leading space, and a text generator with some structure."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import replace

import numpy as np

from vocabalign.text.batches import in_batches
from vocabalign.text.covers import CoverCounter, CoverCounts
from vocabalign.text.vocabulary import Vocabulary


def make_vocabulary(tokens: list[bytes | None], byte_ids: frozenset[int] = frozenset()) -> Vocabulary:
    """Greedy longest match from the left; ``None`` is a special token. Bytes without a token are left out."""
    by_bytes: dict[bytes, int] = {}
    for token_id in sorted(range(len(tokens)), key=lambda i: (i in byte_ids, i)):
        if tokens[token_id]:
            by_bytes.setdefault(tokens[token_id], token_id)
    longest = max(map(len, by_bytes))

    def encode(text: str) -> list[int]:
        data, ids, start = text.encode(), [], 0
        while start < len(data):
            for end in range(min(len(data), start + longest), start, -1):
                if data[start:end] in by_bytes:
                    ids.append(by_bytes[data[start:end]])
                    start = end
                    break
            else:
                start += 1
        return ids

    raw = tuple(
        "<s>"
        if token is None
        else f"<0x{token[0]:02X}>"
        if i in byte_ids
        else token.decode("utf-8", "backslashreplace")
        for i, token in enumerate(tokens)
    )
    return Vocabulary(
        name="toy",
        token_bytes=tuple(tokens),
        encode_batch=lambda texts: [encode(text) for text in texts],
        raw_tokens=raw,
        roles={"bos": tokens.index(None)} if None in tokens else {},
        special_ids=frozenset(i for i, token in enumerate(tokens) if token is None),
        byte_ids=byte_ids,
        dummy_prefix=False,
        fingerprint=hashlib.sha256(repr(tokens).encode()).hexdigest(),
    )


def running_text_uses(vocabulary: Vocabulary, ids: dict[int, int]) -> Vocabulary:
    """The same tokens, but text is given other ids with the same bytes: {id: the one given instead}."""

    def encode_batch(texts):
        return [[ids.get(token, token) for token in row] for row in vocabulary.encode_batch(texts)]

    return replace(vocabulary, encode_batch=encode_batch, fingerprint=vocabulary.fingerprint[::-1])


ENDINGS = ("n", "rt", "sk", "va", "x", "de", "pu", "fl")
WORDS = [f" {start}{end}" for start in ("ka", "lo", "mi", "su", "te", "ro") for end in ENDINGS]
SINGLE_BYTES = [bytes([byte]) for byte in b" abcdefghijklmnopqrstuvwxyz."]


def make_texts(number: int = 300, seed: int = 0) -> list[str]:
    """Documents in which words keep company with words of their own topic."""
    rng = np.random.default_rng(seed)
    texts = []
    for _ in range(number):
        topic = rng.integers(6)
        words = [WORDS[(topic * 8 + int(rng.zipf(1.6))) % len(WORDS)] for _ in range(40)]
        texts.append("".join(words) + ".")
    return texts


def word_vocabulary(order_seed: int | None = None, words: list[str] = WORDS) -> Vocabulary:
    """All words, single bytes and one special token; permuted where a seed is given."""
    tokens: list[bytes | None] = [None, *SINGLE_BYTES, *(word.encode() for word in words)]
    if order_seed is not None:
        order = np.random.default_rng(order_seed).permutation(len(tokens))
        tokens = [tokens[i] for i in order]
    return make_vocabulary(tokens)


def cover_counts(source: Vocabulary, target: Vocabulary, texts: Iterable[str]) -> CoverCounts:
    """Which source tokens cover each target token in all of the texts."""
    counter = CoverCounter(source, target)
    for batch in in_batches(texts):
        counter.add(batch, source.encode_batch(batch), target.encode_batch(batch))
    return counter.result()
