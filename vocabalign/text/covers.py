"""Which tokens of one vocabulary cover which of another in running text, counted in bytes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np
from scipy import sparse

from vocabalign.text.batches import in_batches
from vocabalign.text.spans import distinct, verified_ends
from vocabalign.text.vocabulary import Vocabulary


@dataclass(frozen=True)
class CoverCounts:
    """How source tokens cover target tokens in running text; T targets, S sources.

    Attributes:
        overlap: (T, S) int64, bytes of the target token that lay in the source token.
        first: (T, S) int64, how often the source token held the first byte of the target token.
        last: (T, S) int64, the same for the last byte.
        target_counts: (T,) int64, tokens in the aligned text.
        source_counts: (S,) int64, tokens in the aligned text.
        num_bytes: text that was aligned.
        num_bytes_unaligned: text that was refused because a side does not give it back.
    """

    overlap: sparse.csr_matrix
    first: sparse.csr_matrix
    last: sparse.csr_matrix
    target_counts: np.ndarray
    source_counts: np.ndarray
    num_bytes: int
    num_bytes_unaligned: int


def covering_pieces(source_ends: np.ndarray, target_ends: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The pieces into which the cuts of both sides divide a text; both must end at the same byte.

    Returns:
        Index of the source token, index of the target token, and bytes of each piece, in order of the text.
    """
    merged = np.concatenate([source_ends, target_ends])
    merged.sort(kind="stable")  # merges the two sorted halves
    ends = distinct(merged)
    ends = ends[ends > 0]
    sizes = np.diff(ends, prepend=0)
    # "left" takes the token with bytes where others without any end at the same place.
    return np.searchsorted(source_ends, ends), np.searchsorted(target_ends, ends), sizes


def cover_counts(source: Vocabulary, target: Vocabulary, texts: Iterable[str]) -> CoverCounts:
    """Count on running text which source tokens cover each target token.

    A text that a side does not give back byte for byte is tried again line by line; lines that still fail
    are left out and their bytes counted.
    """
    shape = (len(target), len(source))
    sums = [sparse.csr_matrix(shape, dtype=np.int64) for _ in range(3)]
    counts = [np.zeros(size, dtype=np.int64) for size in shape]
    aligned, unaligned = 0, 0
    for batch in in_batches(texts):
        passes, failed = _align_batch(source, target, batch)
        # A line alone begins differently from a line in a text, so lines are only the second choice.
        lines = [line for text in failed for line in text.splitlines(keepends=True)]
        if len(lines) > len(failed):
            more, failed = _align_batch(source, target, lines)
            passes += more
        unaligned += sum(len(text.encode()) for text in failed)
        if not passes:
            continue
        source_ids, target_ids = (
            np.fromiter(chain.from_iterable(column), np.int64)
            for column in ([row[0] for row in passes], [row[1] for row in passes])
        )
        source_ends, target_ends = _end_to_end([row[2] for row in passes]), _end_to_end([row[3] for row in passes])
        s, t, sizes = covering_pieces(source_ends, target_ends)
        aligned += int(sizes.sum())
        s_ids, t_ids = source_ids[s], target_ids[t]
        is_first = np.concatenate([[True], t[1:] != t[:-1]]) if len(t) else np.zeros(0, bool)
        is_last = np.concatenate([is_first[1:], [True]]) if len(t) else is_first
        ones = np.ones_like(sizes)
        everywhere = np.ones(len(t), dtype=bool)
        for number, (mask, values) in enumerate(((everywhere, sizes), (is_first, ones), (is_last, ones))):
            sums[number] += sparse.coo_matrix((values[mask], (t_ids[mask], s_ids[mask])), shape=shape).tocsr()
        counts[0] += np.bincount(target_ids, minlength=shape[0])
        counts[1] += np.bincount(source_ids, minlength=shape[1])
    return CoverCounts(sums[0], sums[1], sums[2], counts[0], counts[1], aligned, unaligned)


_Pass = tuple[list[int], list[int], np.ndarray, np.ndarray]


def _align_batch(source: Vocabulary, target: Vocabulary, texts: Sequence[str]) -> tuple[list[_Pass], list[str]]:
    """(source ids, target ids, source ends, target ends) of each text that both sides give back; the other texts."""
    passes: list[_Pass] = []
    failed = []
    for text, source_ids, target_ids in zip(texts, source.encode_batch(texts), target.encode_batch(texts), strict=True):
        raw = text.encode()
        source_ends, target_ends = verified_ends(source, source_ids, raw), verified_ends(target, target_ids, raw)
        if source_ends is None or target_ends is None:
            failed.append(text)
        elif raw:
            passes.append((source_ids, target_ids, source_ends, target_ends))
    return passes, failed


def _end_to_end(columns: Sequence[np.ndarray]) -> np.ndarray:
    """Ends of several texts as if they were one text."""
    offsets = np.cumsum([0, *(ends[-1] for ends in columns[:-1])], dtype=np.int64)
    return np.concatenate([ends + offset for ends, offset in zip(columns, offsets, strict=True)])
