"""On which side of a split a text is: by a hash of what it says, so that it stays there when the corpus grows."""

from __future__ import annotations

import hashlib
from typing import Any

SPLIT, SAMPLE = b"split", b"sample"
# Fewer .txt files than this are split by piece.
FEWEST_FILES, SPLIT_BYTES = 20, 2**14


def text_fraction(text: str, salt: bytes = SPLIT) -> float:
    """A number in [0, 1) that follows from the text alone."""
    state = text_hash(salt)
    state.update(text.encode())
    return as_fraction(state)


def text_key(text: str) -> int:
    """A number of 64 bits that texts of the same words have in common, however these are spaced."""
    state = text_hash()
    state.update(" ".join(text.split()).encode())
    return int.from_bytes(state.digest())


def text_hash(salt: bytes = SPLIT) -> Any:
    """A hash to feed with the parts of a text; different salts split independently."""
    return hashlib.blake2b(digest_size=8, salt=salt)


def as_fraction(state: Any) -> float:
    """What ``text_hash`` has come to, in [0, 1)."""
    return int.from_bytes(state.digest()) / 2**64
