"""Aligned texts as tensors: which rows of hidden states predict what, on both sides of a batch.

A *row* is a hidden state: that of token i predicts token i + 1. The hidden states of a side are taken as one matrix
(sequences and batch flattened); ``Document.at`` says where in it the first token of a document is. A document's last
token need not have a hidden state: none is asked for.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from vocabalign.text.alignment import Alignment

__all__ = [
    "AlignedChunks",
    "ChunkRows",
    "Document",
    "aligned_chunks",
    "aligned_ends",
    "aligned_starts",
    "observed_at",
    "start_bytes",
]

NOT_OBSERVED = -100


@dataclass(frozen=True)
class Document:
    """One text on both sides.

    Attributes:
        alignment: of the two token sequences.
        student_ids: (Ls,) tokens.
        teacher_ids: (Lt,) tokens.
        student_at: row of the first token's hidden state among the student's.
        teacher_at: the same for the teacher.
        same_opening: False where one side puts a space before the text (``Vocabulary.dummy_prefix``) and the other
            does not: then their first tokens of text are different events and no start.
    """

    alignment: Alignment
    student_ids: np.ndarray
    teacher_ids: np.ndarray
    student_at: int = 0
    teacher_at: int = 0
    same_opening: bool = True

    @property
    def start_pairs(self) -> np.ndarray:
        """(P, 3) int64: byte, index of the student's and of the teacher's token that predicts what follows."""
        pairs = self.alignment.start_pairs.astype(np.int64)
        return pairs if self.same_opening else pairs[pairs[:, 0] > 0]


@dataclass(frozen=True)
class ChunkRows:
    """The rows of one side that predict the tokens of chunks; N rows in the order of the text, C chunks.

    Attributes:
        positions: (N,) int64, rows of the side's hidden states.
        labels: (N,) int64, the token observed next; -100 where the row is only behind a chunk.
        starts: (C,) int64, the first of the N rows that predicts a token of the chunk.
        stops: (C,) int64, one behind the last.
        after: (C,) int64, the row that has read the whole chunk, -1 where the document ends there.
    """

    positions: Tensor
    labels: Tensor
    starts: Tensor
    stops: Tensor
    after: Tensor


@dataclass(frozen=True)
class AlignedChunks:
    """Runs of tokens that are the same bytes on both sides, and that a row of both sides predicts; C chunks.

    Attributes:
        student: its rows.
        teacher: its rows.
        num_bytes: (C,) int64; special tokens have none.
    """

    student: ChunkRows
    teacher: ChunkRows
    num_bytes: Tensor

    def __len__(self) -> int:
        """C."""
        return len(self.num_bytes)

    def weights(self, by: str = "bytes") -> Tensor:
        """(C,) float64 weights: the bytes of each chunk (1 for special tokens), or its tokens on the student's side.

        Raises:
            ValueError: neither "bytes" nor "tokens".
        """
        if by not in ("bytes", "tokens"):
            raise ValueError(f"Unknown weights '{by}': expected 'bytes' or 'tokens'.")
        counts = self.num_bytes.clamp(min=1) if by == "bytes" else self.student.stops - self.student.starts
        return counts.double()

    def merged(self, ends: Tensor) -> AlignedChunks:
        """Join every chunk to the next of its document, except where ``ends`` says that it stays the last of its run.

        Args:
            ends: (C,) bool. A chunk whose successor does not follow on both sides without a gap, or is a
                special token, ends in any case.
        """
        count = len(self)
        if ends.shape != (count,):
            raise ValueError(f"The ends have shape {tuple(ends.shape)}; expected one for each of {count} chunks.")
        last = ends.bool().clone().cpu()
        for side in (self.student, self.teacher):
            # Rows that follow each other are neighbours in the same document.
            last[:-1] |= (side.after[:-1] != side.starts[1:]).cpu()
        # A special token stays by itself.
        special = (self.num_bytes == 0).cpu()
        last |= special
        last[:-1] |= special[1:]
        last[-1:] = True
        stop = last.nonzero().squeeze(1)
        start = torch.cat([stop.new_zeros(min(1, len(stop))), stop[:-1] + 1])
        run = torch.cumsum(last, 0) - last.long()
        num_bytes = torch.zeros(len(stop), dtype=torch.int64).index_add_(0, run, self.num_bytes.cpu())
        return AlignedChunks(
            _joined(self.student, start, stop), _joined(self.teacher, start, stop), num_bytes.to(self.num_bytes.device)
        )


def _joined(rows: ChunkRows, start: Tensor, stop: Tensor) -> ChunkRows:
    """Runs of chunks as chunks: from the first of each to the last."""
    start, stop = start.to(rows.starts.device), stop.to(rows.starts.device)
    return ChunkRows(rows.positions, rows.labels, rows.starts[start], rows.stops[stop], rows.after[stop])


def aligned_chunks(documents: Sequence[Document]) -> AlignedChunks:
    """Chunks of a batch for ``chunk_loss``; those that begin where a side has nothing read are left out."""
    parts: list[list[list[np.ndarray]]] = [[], []]
    sizes = []
    counts = [0, 0]
    for document in documents:
        a = document.alignment
        keep = (a.cs_start > 0) & (a.ct_start > 0)
        sizes.append(_chunk_bytes(a)[keep])
        sides = (
            (a.cs_start, a.cs_end, document.student_ids, document.student_at),
            (a.ct_start, a.ct_end, document.teacher_ids, document.teacher_at),
        )
        for number, (first, end, ids, at) in enumerate(sides):
            rows = _chunk_rows(first[keep].astype(np.int64), end[keep].astype(np.int64), np.asarray(ids), at)
            for index in (2, 3):
                rows[index] += counts[number]
            rows[4][rows[4] >= 0] += counts[number]
            counts[number] += len(rows[0])
            parts[number].append(rows)
    student, teacher = (ChunkRows(*(_join([p[i] for p in side]) for i in range(5))) for side in parts)
    return AlignedChunks(student, teacher, _join(sizes))


def aligned_starts(documents: Sequence[Document]) -> Tensor:
    """(P, 2) int64 rows of student and teacher that have read the same bytes and predict what comes next.

    Both sides' next token starts at the same byte. Special tokens that meet by role are among what is predicted, so
    the student learns when to stop.
    """
    parts = [d.start_pairs[:, 1:] + np.array([d.student_at, d.teacher_at]) for d in documents]
    return torch.from_numpy(np.concatenate(parts) if parts else np.zeros((0, 2), dtype=np.int64))


def observed_at(documents: Sequence[Document]) -> Tensor:
    """(P, 2) int64: the tokens that really follow at ``aligned_starts``, on both sides."""
    parts = []
    for d in documents:
        pairs = d.start_pairs
        columns = [np.asarray(ids)[pairs[:, 1 + n] + 1] for n, ids in enumerate((d.student_ids, d.teacher_ids))]
        parts.append(np.stack(columns, 1).astype(np.int64))
    return torch.from_numpy(np.concatenate(parts) if parts else np.zeros((0, 2), dtype=np.int64))


def start_bytes(documents: Sequence[Document]) -> Tensor:
    """(P,) float64 bytes from each of ``aligned_starts`` to the next one, 1 before special tokens: weights for rows."""
    parts = []
    for d in documents:
        places = np.append(d.start_pairs[:, 0], d.alignment.num_bytes)
        parts.append(np.maximum(np.diff(places), 1))
    return _join(parts).double()


def aligned_ends(documents: Sequence[Document]) -> Tensor:
    """(C, 2) int64 rows of student and teacher of the last token of each chunk: both have read the same bytes."""
    parts = []
    for d in documents:
        a = d.alignment
        parts.append(np.stack([a.cs_end - 1 + d.student_at, a.ct_end - 1 + d.teacher_at], 1).astype(np.int64))
    return torch.from_numpy(np.concatenate(parts) if parts else np.zeros((0, 2), dtype=np.int64))


def _chunk_bytes(alignment: Alignment) -> np.ndarray:
    """(C,) int64. Where chunks were given up, what follows a gap counts as one byte at most."""
    sizes = np.diff(alignment.byte_end.astype(np.int64), prepend=0)
    if alignment.refused[0]:
        gap = np.zeros(len(sizes), dtype=bool)
        gap[1:] = alignment.cs_start[1:] != alignment.cs_end[:-1]
        gap[:1] = alignment.cs_start[:1] > 1
        sizes[gap] = np.minimum(sizes[gap], 1)
    return sizes


def _chunk_rows(first: np.ndarray, end: np.ndarray, ids: np.ndarray, at: int) -> list[np.ndarray]:
    """Positions, labels, starts, stops, after of one side of one document."""
    length = len(ids)
    marks = np.zeros(length + 1, dtype=np.int64)
    np.add.at(marks, first - 1, 1)
    np.add.at(marks, end - 1, -1)
    labelled = np.cumsum(marks)[:length] > 0
    has_after = end < length
    used = labelled.copy()
    used[end[has_after] - 1] = True
    rank = np.cumsum(used) - 1
    rows = np.flatnonzero(used)
    labels = np.where(labelled[rows], ids[np.minimum(rows + 1, length - 1)], NOT_OBSERVED)
    after = np.where(has_after, rank[np.minimum(end - 1, length - 1)], -1)
    starts = rank[first - 1]
    return [(rows + at).astype(np.int64), labels.astype(np.int64), starts, starts + end - first, after]


def _join(parts: Sequence[np.ndarray]) -> Tensor:
    return torch.from_numpy(np.concatenate(parts).astype(np.int64) if parts else np.zeros(0, dtype=np.int64))
