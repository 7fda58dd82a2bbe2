"""How short a vocabulary makes text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

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


def measure_compression(
    vocabulary: Vocabulary, texts: Sequence[str], documents: Sequence[Sequence[int]] | None = None
) -> Compression:
    """Count the tokens of texts.

    Args:
        vocabulary: the vocabulary that cuts them.
        texts: N documents.
        documents: their ids, where they are known already.
    """
    documents = encode_documents(vocabulary, texts) if documents is None else documents
    size = 1 + max(len(vocabulary), *(max(ids) for ids in documents if len(ids)), 0)
    counts = np.zeros(size, dtype=np.int64)
    for ids in documents:
        counts += np.bincount(np.asarray(ids, dtype=np.int64), minlength=size)
    unknown = {vocabulary.roles["unk"]} if "unk" in vocabulary.roles else set()
    return Compression(
        documents=len(texts),
        bytes=sum(len(text.encode()) for text in texts),
        tokens=int(counts.sum()),
        byte_fallback_tokens=int(counts[sorted(vocabulary.byte_ids)].sum()),
        unknown_tokens=int(counts[sorted(unknown)].sum()),
    )
