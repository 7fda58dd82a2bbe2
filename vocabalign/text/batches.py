"""Texts in batches for the tokenizer."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sized
from typing import TypeVar

Text = TypeVar("Text", bound=Sized)

# While it works, a tokenizer keeps some forty times as much as the text; and it works on a batch in parallel.
BATCH_CHARACTERS = 1_000_000


def in_batches(texts: Iterable[Text], max_characters: int = BATCH_CHARACTERS) -> Iterator[list[Text]]:
    """Lists of texts (whatever has a length in characters) of at most this many characters, in their order.

    A longer text is a list of its own.

    Memory follows characters, not documents.
    """
    batch: list[Text] = []
    size = 0
    for text in texts:
        if batch and size + len(text) > max_characters:
            yield batch
            batch, size = [], 0
        batch.append(text)
        size += len(text)
    if batch:
        yield batch
