"""Which tokens of one vocabulary cover which of another in running text, counted in bytes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np
from scipy import sparse

from vocabalign.text.spans import verified_ends
from vocabalign.text.sparse_sums import SparseSum
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

    Time and memory follow the bytes of the text: ends are marked on a ruler instead of being searched for.

    Returns:
        Index of the source token, index of the target token, and bytes of each piece, in order of the text.
    """
    size = int(source_ends[-1]) + 1 if len(source_ends) else 0
    is_end = np.zeros(size, dtype=bool)
    is_end[source_ends] = True
    is_end[target_ends] = True
    ends = np.flatnonzero(is_end[1:]) + 1
    sizes = np.diff(ends, prepend=0)
    return _token_at(source_ends, ends, size), _token_at(target_ends, ends, size), sizes


def _token_at(token_ends: np.ndarray, ends: np.ndarray, size: int) -> np.ndarray:
    """The first token whose end is at or behind each end: the one with bytes where others without any follow."""
    is_token_end = np.zeros(size, dtype=bool)
    is_token_end[token_ends] = True
    is_token_end[:1] = False
    here = is_token_end[ends]
    firsts = np.flatnonzero(np.diff(token_ends, prepend=0) > 0)
    return firsts[np.cumsum(here) - here] if len(ends) else ends


class CoverCounter:
    """Counts batch by batch which source tokens (S) cover which target tokens (T)."""

    def __init__(self, source: Vocabulary, target: Vocabulary) -> None:
        self.source, self.target = source, target
        self.shape = (len(target), len(source))
        self._sums = [SparseSum(self.shape) for _ in range(3)]
        self._counts = [np.zeros(size, dtype=np.int64) for size in self.shape]
        self._aligned = self._unaligned = 0

    def add(
        self, texts: Sequence[str], source_ids: Sequence[Sequence[int]], target_ids: Sequence[Sequence[int]]
    ) -> None:
        """Count texts that both sides have cut.

        A text that a side does not give back byte for byte is tried again line by line; lines that still fail
        are left out and their bytes counted.
        """
        passes, failed = self._align(texts, source_ids, target_ids)
        # A line alone begins differently from a line in a text, so lines are only the second choice.
        lines = [line for text in failed for line in text.splitlines(keepends=True)]
        if len(lines) > len(failed):
            cuts = self.source.encode_batch(lines), self.target.encode_batch(lines)
            more, failed = self._align(lines, *cuts)
            passes += more
        self._unaligned += sum(len(text.encode()) for text in failed)
        if passes:
            self._count(passes)

    def result(self) -> CoverCounts:
        """All that was counted so far."""
        overlap, first, last = (table.total() for table in self._sums)
        of_target, of_source = (counts.copy() for counts in self._counts)
        return CoverCounts(overlap, first, last, of_target, of_source, self._aligned, self._unaligned)

    def _align(
        self, texts: Sequence[str], source_ids: Sequence[Sequence[int]], target_ids: Sequence[Sequence[int]]
    ) -> tuple[list[_Pass], list[str]]:
        """(source ids, target ids, source ends, target ends) of texts that both sides give back; the other texts."""
        passes: list[_Pass] = []
        failed = []
        for text, in_source, in_target in zip(texts, source_ids, target_ids, strict=True):
            raw = text.encode()
            source_ends = verified_ends(self.source, in_source, raw)
            target_ends = verified_ends(self.target, in_target, raw)
            if source_ends is None or target_ends is None:
                failed.append(text)
            elif raw:
                passes.append((in_source, in_target, source_ends, target_ends))
        return passes, failed

    def _count(self, passes: list[_Pass]) -> None:
        in_source, in_target, of_source, of_target = zip(*passes, strict=True)
        source_ids, target_ids = (np.fromiter(chain.from_iterable(ids), np.int64) for ids in (in_source, in_target))
        s, t, sizes = covering_pieces(_end_to_end(of_source), _end_to_end(of_target))
        self._aligned += int(sizes.sum())
        begins = np.ones(len(t) + 1, dtype=bool)
        begins[1:-1] = t[1:] != t[:-1]
        for table, sums in zip(
            tables_of_pairs(self.shape, target_ids[t], source_ids[s], (sizes, begins[:-1], begins[1:])),
            self._sums,
            strict=True,
        ):
            sums.add(table)
        for counts, ids in zip(self._counts, (target_ids, source_ids), strict=True):
            counts += np.bincount(ids, minlength=len(counts))


def tables_of_pairs(
    shape: tuple[int, int], rows: np.ndarray, columns: np.ndarray, values: Sequence[np.ndarray]
) -> list[sparse.csr_matrix]:
    """For each of several values the (N, M) int64 table of its sums over pairs (row, column).

    Args:
        shape: N, M.
        rows: (P,) of each pair.
        columns: (P,).
        values: arrays (P,) of whole numbers.
    """
    keys = rows * shape[1] + columns
    # One sort settles the places of all tables; the order of equal keys does not matter for whole numbers.
    order = np.argsort(keys)
    keys = keys[order]
    starts = np.flatnonzero(np.diff(keys, prepend=-1))
    row_ends = np.searchsorted(keys[starts], np.arange(shape[0] + 1) * shape[1])
    found = keys[starts] % shape[1]
    tables = []
    for value in values:
        sums = np.add.reduceat(value[order].astype(np.int64), starts) if len(starts) else np.empty(0, np.int64)
        table = sparse.csr_matrix((sums, found.copy(), row_ends.copy()), shape=shape)
        table.eliminate_zeros()
        tables.append(table)
    return tables


_Pass = tuple[Sequence[int], Sequence[int], np.ndarray, np.ndarray]


def _end_to_end(columns: Sequence[np.ndarray]) -> np.ndarray:
    """Ends of several texts as if they were one text."""
    offsets = np.cumsum([0, *(ends[-1] for ends in columns[:-1])], dtype=np.int64)
    return np.concatenate([ends + offset for ends, offset in zip(columns, offsets, strict=True)])
