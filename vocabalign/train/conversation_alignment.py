"""Conversations that each side renders by its own template, lined up at what the assistant says.

The templates write other things around the same words. What is common to both sides are the assistant's answers, one
run of scored tokens after the other, and that each of them ends: the token that ends a turn on one side and the one on
the other are the same event, whatever they are called.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from vocabalign.text.alignment import Alignment, Cut, align_cuts
from vocabalign.text.roles import SPECIAL, role_bit, role_masks
from vocabalign.text.spans import token_lengths
from vocabalign.text.vocabulary import Vocabulary

_WHITE = b" \t\n\r\x0b\x0c"


def align_conversation(
    student: Vocabulary,
    student_ids: np.ndarray,
    student_runs: Sequence[tuple[int, int]],
    teacher: Vocabulary,
    teacher_ids: np.ndarray,
    teacher_runs: Sequence[tuple[int, int]],
) -> Alignment | None:
    """Chunks and starts inside the answers of a conversation.

    White space that a template puts before an answer is left out on both sides; a token that holds some of it and some
    of the answer is lined up with nothing, as is what a template writes behind the end of a turn.

    Args:
        student: vocabulary of side S.
        student_ids: (L,) its tokens.
        student_runs: first and one behind the last token of each answer, its turn's end included.
        teacher: vocabulary of side T.
        teacher_ids: (Lt,) its tokens.
        teacher_runs: the same for the teacher.

    Returns:
        The alignment; None where the two sides do not have the same number of answers, or nothing lines up.
    """
    if len(student_runs) != len(teacher_runs):
        return None
    parts: list[list[np.ndarray]] = []
    num_bytes = 0
    for mine, theirs in zip(student_runs, teacher_runs):
        runs = [
            _Run(vocabulary, ids, first, last)
            for vocabulary, ids, (first, last) in ((student, student_ids, mine), (teacher, teacher_ids, theirs))
        ]
        length = _common(runs[0].text, runs[1].text)
        opening = np.intersect1d(runs[0].bounds, runs[1].bounds)
        opening = opening[(opening >= 0) & (opening < length)]
        if not len(opening) or any(run.first == 0 for run in runs):
            continue
        begin = int(opening[0])
        complete = all(length == len(run.text) for run in runs)
        found = align_cuts(*(run.cut(begin, length, complete) for run in runs))
        keep = (found.cs_start > 0) & (found.ct_start > 0)  # number 0 is the token before the answer
        offsets = [run.before(begin) for run in runs]
        starts = found.start_pairs.astype(np.int64)
        kept = [found.cs_start, found.cs_end, found.ct_start, found.ct_end, found.byte_end]
        shifts = [offsets[0], offsets[0], offsets[1], offsets[1], num_bytes]
        parts.append([
            *(array[keep].astype(np.int64) + shift for array, shift in zip(kept, shifts)),
            starts + np.array([num_bytes, *offsets]),
        ])  # fmt: skip
        num_bytes += found.num_bytes
    if not parts:
        return None
    joined = (np.concatenate(column).astype(np.int32) for column in zip(*parts))
    cs_start, cs_end, ct_start, ct_end, byte_end, start_pairs = joined
    return Alignment(cs_start, cs_end, ct_start, ct_end, byte_end, start_pairs, num_bytes, (0, 0), (0, 0), (0, 0))


class _Run:
    """One answer on one side.

    Args:
        vocabulary: of the side.
        ids: all its tokens.
        first: of the answer.
        last: one behind the answer.
    """

    def __init__(self, vocabulary: Vocabulary, ids: np.ndarray, first: int, last: int) -> None:
        own = ids[first:last]
        special = role_masks(vocabulary)[own] != 0
        ends = np.flatnonzero(special)
        self.first = first
        # The first special token ends the turn; what stands behind it is the template's.
        self.stop = int(ends[0]) if len(ends) else len(own)
        self.has_end = bool(len(ends))
        table = vocabulary.token_bytes
        joined = b"".join(table[i] or b"" for i in own[: self.stop].tolist())
        self.text = joined.lstrip(_WHITE)
        self.skipped = len(joined) - len(self.text)
        ends = np.cumsum(token_lengths(vocabulary)[own[: self.stop]], dtype=np.int64)
        # Where a token ends or the first begins, counted from the answer's first byte.
        self.bounds = np.concatenate([[0], ends]) - self.skipped
        self.text = self.text.rstrip(_WHITE)

    def before(self, begin: int) -> int:
        """The token behind which the answer goes on at byte ``begin``."""
        return self.first - 1 + int(np.searchsorted(self.bounds, begin, side="right")) - 1

    def cut(self, begin: int, length: int, complete: bool) -> Cut:
        """What is between two bytes, behind a token that stands for all before it; the turn's end where it is there.

        Args:
            begin: where a token of both sides begins.
            length: where the answers stop being the same.
            complete: whether that is the end of both.
        """
        ends = self.bounds[1:][self.before(begin) - self.first + 1 :]
        inside = ends <= length
        ends = ends[inside] - begin
        masks = np.zeros(len(ends) + 1, dtype=np.uint32)
        masks[0] = SPECIAL | role_bit("bos")
        ends = np.concatenate([np.zeros(1, dtype=np.int64), ends])
        if complete and self.has_end and inside.all():
            ends = np.append(ends, length - begin)
            masks = np.append(masks, np.uint32(SPECIAL | role_bit("turn_end")))
        return Cut(ends, masks)


def _common(a: bytes, b: bytes) -> int:
    """Bytes that both begin with."""
    if a == b:
        return len(a)
    limit = min(len(a), len(b))
    differ = np.flatnonzero(np.frombuffer(a[:limit], np.uint8) != np.frombuffer(b[:limit], np.uint8))
    return int(differ[0]) if len(differ) else limit
