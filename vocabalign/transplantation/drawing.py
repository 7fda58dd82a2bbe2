"""Texts drawn from a stream, to run a model on: parts of documents from all over a corpus."""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from hashlib import blake2b

SAMPLE_CHARACTERS = 4_000


def parts_of(text: str) -> Iterator[str]:
    """A document in parts of at most ``SAMPLE_CHARACTERS``, which end before a line or a word where they can."""
    begin = 0
    while len(text) - begin > SAMPLE_CHARACTERS:
        ends = (text.rfind(mark, begin + SAMPLE_CHARACTERS // 2, begin + SAMPLE_CHARACTERS) for mark in "\n ")
        end = next((end for end in ends if end > 0), begin + SAMPLE_CHARACTERS)
        yield text[begin:end]
        begin = end
    yield text[begin:]


class Draw:
    """Texts of about so many bytes, drawn evenly from a stream of unknown length and whatever its order.

    Those with the smallest hashes stay, so the same corpus gives the same texts, and each text is drawn once.
    """

    def __init__(self, num_bytes: int) -> None:
        self._room = num_bytes
        self._kept: list[tuple[int, str]] = []
        self._hashes: set[int] = set()

    def add(self, text: str) -> None:
        """Offer a text."""
        data = text.encode()
        number = int.from_bytes(blake2b(data, digest_size=8).digest())
        if not data or number in self._hashes or (self._room < 0 and number > -self._kept[0][0]):
            return
        heapq.heappush(self._kept, (-number, text))
        self._hashes.add(number)
        self._room -= len(data)
        while self._room < 0 and self._room + len(self._kept[0][1].encode()) <= 0 and len(self._kept) > 1:
            number, dropped = heapq.heappop(self._kept)
            self._hashes.discard(-number)
            self._room += len(dropped.encode())

    def texts(self) -> list[str]:
        """What was drawn."""
        return [text for _, text in sorted(self._kept, reverse=True)]
