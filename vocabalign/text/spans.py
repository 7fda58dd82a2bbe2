"""Byte offsets: where tokens end, and where two tokenisations of one text meet.

Two tokenizers share nothing but the bytes of the text, so that is where their tokens are lined up. What cannot
be lined up exactly is refused and counted, never guessed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from weakref import WeakKeyDictionary

import numpy as np

from vocabalign.text.original_offsets import original_ends
from vocabalign.text.segmentation import segment_bytes, segment_many
from vocabalign.text.vocabulary import Vocabulary

__all__ = [
    "AlignedSpans",
    "aligned_spans",
    "segment_bytes",
    "segment_many",
    "token_ends",
    "token_lengths",
    "verified_ends",
]

# White space of one byte that a normalizer may write as a space without moving anything.
_AS_SPACES = bytes.maketrans(b"\t\n\r\x0b\x0c", b"     ")
_lengths: WeakKeyDictionary[Vocabulary, np.ndarray] = WeakKeyDictionary()


@dataclass(frozen=True)
class AlignedSpans:
    """Chunks of a text at whose ends tokens of both sides end; N chunks.

    Chunk c is the tokens ``a[c]:a[c + 1]`` of one side and ``b[c]:b[c + 1]`` of the other.

    Attributes:
        a: (N + 1,) int64, first token of each chunk; the last entry is the number of tokens.
        b: the same for the other side.
        byte_ends: (N,) int64, byte offset at which each chunk ends.
    """

    a: np.ndarray
    b: np.ndarray
    byte_ends: np.ndarray


def token_lengths(vocabulary: Vocabulary) -> np.ndarray:
    """(V,) int32, bytes of each token; 0 for special tokens and gaps. Read-only, kept for later calls."""
    if vocabulary not in _lengths:
        lengths = np.array([len(token) if token else 0 for token in vocabulary.token_bytes], dtype=np.int32)
        lengths.flags.writeable = False
        _lengths[vocabulary] = lengths
    return _lengths[vocabulary]


def token_ends(vocabulary: Vocabulary, ids: Sequence[int] | np.ndarray, num_bytes: int | None = None) -> np.ndarray:
    """Byte offset at which each token ends.

    The dummy prefix is clipped away: a lone one ends at 0.

    Args:
        vocabulary: whose ids these are.
        ids: L tokens.
        num_bytes: bytes of the text; tells whether a dummy prefix is there (not every text gets one).

    Returns:
        (L,) int64, never decreasing.
    """
    ends = np.cumsum(token_lengths(vocabulary)[np.asarray(ids, dtype=np.int64)], dtype=np.int64)
    if not vocabulary.dummy_prefix or not len(ends):
        return ends
    if num_bytes is None:
        opening = next((token for i in ids if (token := vocabulary.token_bytes[i])), b"")
        clip = opening.startswith(b" ")
    else:
        clip = ends[-1] == num_bytes + 1
    return np.maximum(ends - 1, 0) if clip else ends


def verified_ends(vocabulary: Vocabulary, ids: Sequence[int], text: str | bytes) -> np.ndarray | None:
    """``token_ends``, or None unless the tokens are exactly the text.

    Allowed are a dummy prefix, white space of one byte that became another, for tokenizers without any white space
    in their tokens (WordPiece) that it is left out and ASCII letters are lower-cased, and what the tokenizer's own
    normalizer changes, as long as every part of the text can be told from its tokens (``original_offsets``).
    """
    raw = text.encode() if isinstance(text, str) else text
    table = vocabulary.token_bytes
    try:
        joined = b"".join([table[i] for i in ids])  # type: ignore[misc]
    except TypeError:  # a special token: the text spells one, or holds what the vocabulary lacks
        return None
    if vocabulary.dummy_prefix and len(joined) == len(raw) + 1 and joined[:1] == b" ":
        joined = joined[1:]
    if joined == raw or (len(joined) == len(raw) and joined.translate(_AS_SPACES) == raw.translate(_AS_SPACES)):
        return token_ends(vocabulary, ids, len(raw))
    ends = _ends_without_spaces(vocabulary, ids, joined, raw)
    if ends is not None or vocabulary.components is None or not vocabulary.components.normalizer:
        return ends
    return original_ends(vocabulary, ids, text if isinstance(text, str) else raw.decode())


def _ends_without_spaces(vocabulary: Vocabulary, ids: Sequence[int], joined: bytes, raw: bytes) -> np.ndarray | None:
    """Ends for tokenizers that drop white space (WordPiece): it is counted to the token behind it."""
    if not joined or len(joined.split()) != 1 or b"".join(raw.split()).lower() != joined.lower():
        return None
    kept = np.flatnonzero(~np.isin(np.frombuffer(raw, np.uint8), np.frombuffer(b" \t\n\r\x0b\x0c", np.uint8)))
    ends = np.concatenate([[0], kept + 1])[np.cumsum(token_lengths(vocabulary)[np.asarray(ids, dtype=np.int64)])]
    ends[-1] = len(raw)
    return ends.astype(np.int64)


def aligned_spans(ends_a: np.ndarray, ends_b: np.ndarray) -> AlignedSpans | None:
    """Cut two tokenisations of one text wherever both have a token end; linear time.

    Tokens without bytes go with the chunk before them, at the beginning with the first.

    Args:
        ends_a: (La,) byte ends, never decreasing, of the one side.
        ends_b: (Lb,) byte ends of the other.

    Returns:
        The chunks, or None where the sides do not end at the same byte: they are not the same text.
    """
    total_a, total_b = (int(ends[-1]) if len(ends) else 0 for ends in (ends_a, ends_b))
    if total_a != total_b:
        return None
    common = np.intersect1d(distinct(ends_a), distinct(ends_b), assume_unique=True)
    common = common[common > 0]
    a, b = (np.concatenate([[0], np.searchsorted(ends, common, side="right")]) for ends in (ends_a, ends_b))
    return AlignedSpans(a.astype(np.int64), b.astype(np.int64), common.astype(np.int64))


def distinct(ends: np.ndarray) -> np.ndarray:
    """Values of a sorted array, each once."""
    return ends[np.concatenate([[True], ends[1:] != ends[:-1]])] if len(ends) else ends
