"""Pieces of an aligned document: what a block of the student's and a window of the teacher's have in common.

A block holds tokens ``first`` to ``last`` of a document as the student cuts it. The teacher reads the same bytes, cut
by its own tokenizer; where that is more than it can read at once, in windows that overlap by half, so that what it
predicts has at least half a window before it. Tokens keep their numbers in the document; ``Document.student_at`` and
``teacher_at`` say which row of the batch number 0 would be.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from vocabalign.losses.aligned import Document
from vocabalign.text.alignment import Alignment

__all__ = ["Piece", "cut_pieces"]

ENDLESS = 1 << 62


@dataclass(frozen=True)
class Piece:
    """Chunks that a run of the student's rows and one window of the teacher's predict.

    Attributes:
        document: alignment and ids, cut behind the last token that is predicted; rows of neither side yet.
        first: the student's first token in the block.
        teacher_first: the teacher's first token in the window.
        teacher_last: one behind the last token that the window reads.
        student_inputs: one behind the last of the student's tokens that has a row; the last of a block has none.
    """

    document: Document
    first: int
    teacher_first: int
    teacher_last: int
    student_inputs: int

    def placed(self, student_row: int, teacher_row: int) -> Piece:
        """The same where the rows of both first tokens are known."""
        document = replace(
            self.document, student_at=student_row - self.first, teacher_at=teacher_row - self.teacher_first
        )
        return replace(self, document=document)

    def ends(self) -> np.ndarray:
        """(C, 2) int64 rows of both sides that have read the same bytes and end a token there."""
        a, d = self.document.alignment, self.document
        mine, theirs = a.cs_end.astype(np.int64) - 1, a.ct_end.astype(np.int64) - 1
        read = (mine < self.student_inputs) & (theirs < self.teacher_last)
        return np.stack([mine[read] + d.student_at, theirs[read] + d.teacher_at], 1)


def cut_pieces(
    whole: Document, first: int, last: int, student_inputs: int, teacher_context: int | None
) -> Iterator[Piece]:
    """The pieces of a document in one block.

    Args:
        whole: the aligned document; its ids may go on behind ``last``.
        first: the student's first token in the block.
        last: one behind its last token that is predicted there.
        student_inputs: one behind its last token that is read there.
        teacher_context: tokens that the teacher reads at once; None for any number. ``ENDLESS`` rows of a cache need
            no window: the teacher has read the document from its beginning.
    """
    a = whole.alignment
    low, high = int(np.searchsorted(a.cs_start, first)), int(np.searchsorted(a.cs_end, last, side="right"))
    if low >= high:
        return
    cached = teacher_context == ENDLESS
    # What stands between two chunks (a template's words) is read too.
    window = int(a.ct_end[low - 1]) if low and first and not cached else 0
    width = teacher_context or ENDLESS
    # What begins with a side's first token is predicted by nothing.
    done = low + int(np.searchsorted(a.cs_start[low:high], first, side="right"))
    done = max(done, low + int(np.searchsorted(a.ct_start[low:high], window, side="right")))
    while done < high:
        until = min(high, int(np.searchsorted(a.ct_end, min(window + width, ENDLESS - 1), side="right")))
        if until > done:
            stop = int(a.ct_end[until - 1])
            read = min(stop, window + width)
            yield Piece(_part(whole, done, until, last, stop), first, window, read, student_inputs)
            done = until
            if done >= high:
                return
        else:
            done += 1  # a chunk that no window holds
            if done >= high:
                return
        window = max(window + 1, int(a.ct_start[done]) - width // 2)


def _part(whole: Document, low: int, high: int, last: int, teacher_last: int) -> Document:
    a = whole.alignment
    pairs = a.start_pairs
    base = int(a.byte_end[low - 1]) if low else 0
    # A start belongs to the chunk that the next token begins.
    inside = (pairs[:, 1] + 1 >= a.cs_start[low]) & (pairs[:, 1] + 1 < a.cs_end[high - 1])
    part = Alignment(
        cs_start=a.cs_start[low:high],
        cs_end=a.cs_end[low:high],
        ct_start=a.ct_start[low:high],
        ct_end=a.ct_end[low:high],
        byte_end=a.byte_end[low:high] - base,
        start_pairs=pairs[inside] - np.array([base, 0, 0], dtype=pairs.dtype),
        num_bytes=int(a.byte_end[high - 1]) - base,
        truncated=(0, 0),
        refused=a.refused,
        unmatched_specials=a.unmatched_specials,
    )
    # Only the document's own opening may have a space that the other side has not.
    opening = whole.same_opening or base > 0
    return Document(part, whole.student_ids[:last], whole.teacher_ids[:teacher_last], same_opening=opening)
