"""The teacher's side of each batch: what it reads, and which of its rows meet which of the student's."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vocabalign.losses.aligned import Document
from vocabalign.text.alignment import AlignmentTally, Cut, align_cuts, align_tokens, cut_of
from vocabalign.text.vocabulary import Vocabulary
from vocabalign.train.conversation_alignment import align_conversation
from vocabalign.train.data import Documents, Fragment
from vocabalign.train.pieces import ENDLESS, Piece, cut_pieces

REMEMBERED_DOCUMENTS = 4096


class OwnTokens:
    """Documents that were tokenised for this run.

    Args:
        documents: of one vocabulary.
    """

    def __init__(self, documents: Documents) -> None:
        self.documents = documents
        self.closing = [documents.begin] if documents.marks_end else []

    def ids(self, document: int) -> np.ndarray:
        """(L,) int64 tokens with the one that begins the next document, where that is what ends this one."""
        starts = self.documents.starts
        ids = self.documents.ids[starts[document] : starts[document + 1]].astype(np.int64)
        return np.concatenate([ids, np.array(self.closing, dtype=np.int64)])

    def runs(self, document: int) -> list[tuple[int, int]] | None:
        """First and one behind the last token of each answer of a conversation; None where all is to be predicted."""
        ranges = self.documents.unscored
        if ranges is None:
            return None
        start, stop = (int(place) for place in self.documents.starts[document : document + 2])
        low = int(np.searchsorted(ranges[:, 1], start, side="right"))
        high = int(np.searchsorted(ranges[:, 0], stop))
        silent = np.clip(ranges[low:high], start, stop) - start
        silent = silent[silent[:, 1] > silent[:, 0]]
        if not len(silent):
            return None
        edges = np.concatenate([[0], silent.reshape(-1), [stop - start]]).reshape(-1, 2)
        return [(int(a), int(b)) for a, b in edges if b > a]


@dataclass(frozen=True)
class TeacherBatch:
    """What a teacher gets of a batch.

    Attributes:
        input_ids: (Bt, Lt) int64, or None where nothing is run (a cache).
        positions: (Bt, Lt) int64, from 0 in each window.
        rows: name of a loss -> what it needs to know of the rows of both sides.
    """

    input_ids: Tensor | None
    positions: Tensor | None
    rows: Mapping[str, Any]


Prepare = Callable[[Sequence[Piece]], Any]


class TeacherSide:
    """Aligns documents once and cuts them as the blocks do.

    Args:
        student: the training text.
        vocabulary: of the student.
        teacher: the same texts.
        teacher_vocabulary: of the teacher.
        context: tokens of a block, L.
        prepare: name of a loss -> what it makes of the pieces of a batch.
        teacher_context: tokens that the teacher reads at once, or None.
        packed: whether the teacher keeps windows of one row apart by their positions.
        row_of: for a cache, the row of each document's first token; then nothing is run.
        text_of: the text of a document, where it is at hand: then what a normalizer changed is lined up too.
        cut_of_teacher: where the teacher's tokens end, in place of its tokens where these are not known.
    """

    def __init__(
        self,
        student: Documents,
        vocabulary: Vocabulary,
        teacher: OwnTokens | None,
        teacher_vocabulary: Vocabulary,
        context: int,
        prepare: Mapping[str, Prepare],
        *,
        teacher_context: int | None = None,
        packed: bool = True,
        row_of: Callable[[int], int | None] | None = None,
        text_of: Callable[[int], str] | None = None,
        cut_of_teacher: Callable[[int], Cut | None] | None = None,
    ) -> None:
        self.student, self.teacher = OwnTokens(student), teacher
        self.vocabularies = (vocabulary, teacher_vocabulary)
        self.context, self.prepare = context, prepare
        self.teacher_context, self.packed = teacher_context, packed
        self.row_of, self.text_of, self.cut_of_teacher = row_of, text_of, cut_of_teacher
        self.same_opening = vocabulary.dummy_prefix == teacher_vocabulary.dummy_prefix
        self.tally = AlignmentTally()
        self._aligned = lru_cache(maxsize=REMEMBERED_DOCUMENTS)(self._align)

    def __call__(self, rows: Sequence[Sequence[Fragment]]) -> TeacherBatch:
        """The teacher's side of a batch of blocks."""
        found: list[tuple[int, int, Piece]] = []
        for number, fragments in enumerate(rows):
            at = 0
            for place, fragment in enumerate(fragments):
                key = number if self.row_of is None else fragment.document
                pieces = self._pieces(fragment, at, place + 1 < len(fragments))
                found += [(key, number * self.context + at, piece) for piece in pieces]
                at += fragment.last - fragment.first
        if self.row_of is not None:
            pieces = [piece.placed(row, self.row_of(document) or 0) for document, row, piece in found]
            return TeacherBatch(None, None, {name: prepare(pieces) for name, prepare in self.prepare.items()})
        return pack(found, len(rows), self.packed, self.prepare)

    def _pieces(self, fragment: Fragment, at: int, goes_on: bool) -> list[Piece]:
        """Pieces of one fragment that begins at place ``at`` of its block."""
        whole = self._aligned(fragment.document)
        if whole is None:
            return []
        # What ends a document is a label of its last token wherever the block goes on behind it.
        last = fragment.last + (len(self.student.closing) if goes_on else 0)
        inputs = min(fragment.last, fragment.first + self.context - at)
        if self.row_of is None:
            return list(cut_pieces(whole, fragment.first, last, inputs, self.teacher_context))
        if self.row_of(fragment.document) is None:
            return []
        return list(cut_pieces(whole, fragment.first, last, inputs, ENDLESS))

    def _align(self, document: int) -> Document | None:
        mine = self.student.ids(document)
        if self.cut_of_teacher is not None:
            found = self._align_cut(document, mine)
        else:
            assert self.teacher is not None
            found = self._align_ids(document, mine, self.teacher)
        self.tally.add(None if found is None else found.alignment)
        return found

    def _align_ids(self, document: int, mine: np.ndarray, teacher: OwnTokens) -> Document | None:
        theirs = teacher.ids(document)
        vocabulary, other = self.vocabularies
        runs = [side.runs(document) for side in (self.student, teacher)]
        if runs[0] is None or runs[1] is None:
            text = None if self.text_of is None else self.text_of(document)
            alignment = align_tokens(vocabulary, mine, other, theirs, text)
        else:
            alignment = align_conversation(vocabulary, mine, runs[0], other, theirs, runs[1])
        return None if alignment is None else Document(alignment, mine, theirs, same_opening=self.same_opening)

    def _align_cut(self, document: int, mine: np.ndarray) -> Document | None:
        assert self.cut_of_teacher is not None and self.text_of is not None
        own = cut_of(self.vocabularies[0], mine, self.text_of(document))
        other = self.cut_of_teacher(document)
        if own is None or other is None:
            return None
        # Which tokens these are is not known; what the teacher gave to each is.
        theirs = np.zeros(len(other.ends), dtype=np.int64)
        return Document(align_cuts(own, other), mine, theirs, same_opening=not self.vocabularies[0].dummy_prefix)


def pack(
    found: Sequence[tuple[int, int, Piece]], num_rows: int, packed: bool, prepare: Mapping[str, Prepare]
) -> TeacherBatch:
    """Windows of the teacher as a batch of rows, and what the losses need of them.

    Args:
        found: (row of the student's batch, flat place of the fragment's first token, piece).
        num_rows: of the student's batch.
        packed: put the windows of one row of the student into one row of the teacher.
        prepare: as for ``TeacherSide``.
    """
    windows: list[list[np.ndarray]] = [[] for _ in range(num_rows if packed else len(found))]
    places = []
    for index, (number, _, piece) in enumerate(found):
        row = number if packed else index
        places.append((row, sum(map(len, windows[row]))))
        windows[row].append(piece.document.teacher_ids[piece.teacher_first : piece.teacher_last])
    width = max(1, *(sum(map(len, row)) for row in windows)) if windows else 1
    ids = np.zeros((max(1, len(windows)), width), dtype=np.int64)
    positions = np.zeros_like(ids)
    for row, parts in enumerate(windows):
        if parts:
            joined = np.concatenate(parts)
            ids[row, : len(joined)] = joined
            positions[row, : len(joined)] = np.concatenate([np.arange(len(part)) for part in parts])
    pieces = [
        piece.placed(student_row, row * width + at)
        for (_, student_row, piece), (row, at) in zip(found, places, strict=True)
    ]
    rows = {name: function(pieces) for name, function in prepare.items()}
    return TeacherBatch(torch.from_numpy(ids), torch.from_numpy(positions), rows)
