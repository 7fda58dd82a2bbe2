"""How short a vocabulary makes text."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np

from vocabalign.text.batches import BATCH_CHARACTERS, in_batches
from vocabalign.text.vocabulary import Vocabulary

KILOBYTE = 1000


@dataclass(frozen=True)
class Compression:
    """Tokens of some text.

    Attributes:
        documents: how many documents.
        bytes: UTF-8 bytes of the text.
        tokens: tokens, without special tokens around documents.
        byte_fallback_tokens: tokens that stand for one byte because no ordinary token fitted.
        unknown_tokens: tokens that stand for text that the vocabulary cannot tell.
    """

    documents: int
    bytes: int
    tokens: int
    byte_fallback_tokens: int
    unknown_tokens: int

    @property
    def tokens_per_kilobyte(self) -> float:
        """Tokens for 1,000 bytes of text."""
        return self.tokens * KILOBYTE / self.bytes if self.bytes else 0.0

    @property
    def bytes_per_token(self) -> float:
        """Bytes that a token stands for on average."""
        return self.bytes / self.tokens if self.tokens else 0.0

    @property
    def byte_fallback_share(self) -> float:
        """Share of tokens in [0, 1] that are byte fallback."""
        return self.byte_fallback_tokens / self.tokens if self.tokens else 0.0

    @property
    def unknown_share(self) -> float:
        """Share of tokens in [0, 1] that are unknown."""
        return self.unknown_tokens / self.tokens if self.tokens else 0.0


def encode_documents(
    vocabulary: Vocabulary, texts: Sequence[str], batch_characters: int = BATCH_CHARACTERS
) -> list[list[int]]:
    """Token ids of each text without special tokens, in batches that keep memory even."""
    return [ids for batch in in_batches(texts, batch_characters) for ids in vocabulary.encode_batch(batch)]


def count_ids(vocabulary: Vocabulary, documents: Iterable[Sequence[int]]) -> np.ndarray:
    """(V,) int64, how often each id is in the documents; longer where an id lies past the vocabulary."""
    ids = np.fromiter(chain.from_iterable(documents), dtype=np.int64)
    return np.bincount(ids, minlength=len(vocabulary)).astype(np.int64, copy=False)


def compression_of(vocabulary: Vocabulary, counts: np.ndarray, num_documents: int, num_bytes: int) -> Compression:
    """What the use of each id says.

    Args:
        vocabulary: whose ids these are.
        counts: as from ``count_ids``.
        num_documents: documents that were counted.
        num_bytes: their UTF-8 bytes.
    """
    unknown = vocabulary.roles.get("unk")
    return Compression(
        documents=num_documents,
        bytes=num_bytes,
        tokens=int(counts.sum()),
        byte_fallback_tokens=int(counts[sorted(vocabulary.byte_ids)].sum()),
        unknown_tokens=int(counts[unknown]) if unknown is not None else 0,
    )


def measure_compression(
    vocabulary: Vocabulary, texts: Sequence[str], documents: Sequence[Sequence[int]] | None = None
) -> Compression:
    """Count the tokens of texts.

    Args:
        vocabulary: the vocabulary that cuts them.
        texts: N documents.
        documents: their ids, where they are known already.
    """
    counts = np.zeros(len(vocabulary), dtype=np.int64)
    batches: Iterable[Sequence[Sequence[int]]] = (
        [documents] if documents is not None else map(vocabulary.encode_batch, in_batches(texts))
    )
    for rows in batches:
        added = count_ids(vocabulary, rows)
        if len(added) > len(counts):
            counts = np.pad(counts, (0, len(added) - len(counts)))
        counts[: len(added)] += added
    return compression_of(vocabulary, counts, len(texts), sum(len(text.encode()) for text in texts))
