"""The untouched source's tokens for each block of training text, and where they meet the model's own.

A block holds pieces of documents as the trained model cuts them. The source reads the same bytes of each piece, cut by
its own tokenizer, and nothing else; what lines up is said by ``text.alignment``, once for a document, and nothing is
guessed: a document that a tokenizer does not give back as it was takes no part.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from vocabalign.losses.aligned import (
    AlignedChunks,
    ChunkRows,
    Document,
    aligned_chunks,
    aligned_ends,
    aligned_starts,
)
from vocabalign.losses.continuations import Continuations
from vocabalign.text.alignment import Alignment, AlignmentTally, align_tokens
from vocabalign.text.vocabulary import Vocabulary
from vocabalign.train.data import Documents, Fragment

_ROWS = tuple(field.name for field in fields(ChunkRows))
REMEMBERED_DOCUMENTS = 4096


class SourceSide:
    """Adds the source's side to the batches of ``Blocks``.

    Args:
        documents: as the trained model cuts them.
        vocabulary: of the trained model.
        source_documents: the same texts as the source cuts them.
        source_vocabulary: of the source.
        context: tokens in a block.
        source_context: tokens that the source can read at once, or None.
        continuations: also give the rows inside tokens.
        chunks: also say which tokens of both sides are the same bytes, for chunk likelihoods.
    """

    def __init__(
        self,
        documents: Documents,
        vocabulary: Vocabulary,
        source_documents: Documents,
        source_vocabulary: Vocabulary,
        context: int,
        source_context: int | None,
        *,
        continuations: Continuations | None = None,
        chunks: bool = False,
    ) -> None:
        self.sides = ((documents, vocabulary), (source_documents, source_vocabulary))
        self.context, self.source_context = context, source_context or 1 << 62
        self.continuations, self.chunks = continuations, chunks
        self.same_opening = vocabulary.dummy_prefix == source_vocabulary.dummy_prefix
        self.tally = AlignmentTally()
        self._aligned = lru_cache(maxsize=REMEMBERED_DOCUMENTS)(self._align)

    def __call__(self, rows: Sequence[Sequence[Fragment]]) -> dict[str, Tensor]:
        """Tensors that ``Blocks`` adds to a batch.

        Returns:
            ``source_ids`` and ``source_positions`` (B, Ls) int64; ``ends`` (P, 2) int64, flat places in the (B, L)
            inputs and in the (B, Ls) source inputs that have read the same bytes; ``starts`` (Q, 2) int64, those of
            them whose next tokens start at the same byte on both sides; ``continuations`` (R, 3) and the tensors of
            ``pack_chunks`` where these are asked for.
        """
        found = [[self._piece(fragment, last) for fragment, last in self._cut(row)] for row in rows]
        width = max(1, *(sum(len(piece.teacher_ids) for piece in row if piece) for row in found))
        ids = np.zeros((len(rows), width), dtype=np.int64)
        positions = np.zeros((len(rows), width), dtype=np.int64)
        pieces: list[Document] = []
        for number, (row, fragments) in enumerate(zip(found, rows, strict=True)):
            at, source_at = number * self.context, 0
            for piece, fragment in zip(row, fragments, strict=False):
                if piece is not None:
                    size = len(piece.teacher_ids)
                    ids[number, source_at : source_at + size] = piece.teacher_ids
                    positions[number, source_at : source_at + size] = np.arange(size)
                    place = number * width + source_at
                    pieces.append(_at(piece, at, place))
                    source_at += size
                at += fragment.last - fragment.first
        batch = {
            "source_ids": torch.from_numpy(ids),
            "source_positions": torch.from_numpy(positions),
            "ends": aligned_ends(pieces),
            "starts": aligned_starts(pieces),
        }
        if self.continuations is not None:
            batch["continuations"] = self.continuations.rows(pieces)
        return batch | pack_chunks(aligned_chunks(pieces)) if self.chunks else batch

    def _cut(self, row: Sequence[Fragment]) -> list[tuple[Fragment, int]]:
        """Fragments with the end of what the block has as inputs: its last token is only a label."""
        result, at = [], 0
        for fragment in row:
            last = min(fragment.last, fragment.first + self.context - at)
            result.append((fragment, last))
            at += fragment.last - fragment.first
        return result

    def _piece(self, fragment: Fragment, last: int) -> Document | None:
        """Both sides of tokens ``first`` to ``last`` of a document; None where nothing of them lines up."""
        whole = self._aligned(fragment.document)
        if whole is None:
            return None
        return cut_piece(whole, fragment.first, last, self.source_context)

    def _align(self, document: int) -> Document | None:
        (ids, mine), (source_ids, theirs) = (
            (documents.ids[documents.starts[document] : documents.starts[document + 1]].astype(np.int64), vocabulary)
            for documents, vocabulary in self.sides
        )
        alignment = align_tokens(mine, ids, theirs, source_ids)
        self.tally.add(alignment)
        if alignment is None:
            return None
        return Document(alignment, ids, source_ids, same_opening=self.same_opening)


def cut_piece(whole: Document, first: int, last: int, source_context: int) -> Document | None:
    """The chunks of a document that lie within tokens ``first`` to ``last`` (exclusive) of the student.

    The source begins to read where the first of these chunks begins, and at the beginning of a document from its
    first token on; it stops after ``source_context`` tokens.

    Returns:
        Ids and alignment counted from the piece's first token on each side; None where no chunk fits.
    """
    a = whole.alignment
    low = int(np.searchsorted(a.cs_start, first))
    high = int(np.searchsorted(a.cs_end, last, side="right"))
    if low >= high:
        return None
    begin = 0 if first == 0 else int(a.ct_start[low])
    high = min(high, int(np.searchsorted(a.ct_end, begin + source_context, side="right")))
    if low >= high:
        return None
    end, base = int(a.ct_end[high - 1]), int(a.byte_end[low - 1]) if low and first else 0
    starts = a.start_pairs
    inside = (starts[:, 1] >= max(first, int(a.cs_start[low]))) & (starts[:, 2] >= begin)
    inside &= (starts[:, 1] < int(a.cs_end[high - 1])) & (starts[:, 2] < end)
    piece = Alignment(
        cs_start=a.cs_start[low:high] - first,
        cs_end=a.cs_end[low:high] - first,
        ct_start=a.ct_start[low:high] - begin,
        ct_end=a.ct_end[low:high] - begin,
        byte_end=a.byte_end[low:high] - base,
        start_pairs=starts[inside] - np.array([base, first, begin], dtype=starts.dtype),
        num_bytes=int(a.byte_end[high - 1]) - base,
        truncated=(last - first - int(a.cs_end[high - 1] - first), 0),
        refused=a.refused,
        unmatched_specials=a.unmatched_specials,
    )
    # Inside a document no piece has an opening of its own.
    opening = whole.same_opening or first > 0
    return Document(piece, whole.student_ids[first:last], whole.teacher_ids[begin:end], same_opening=opening)


def _at(piece: Document, place: int, source_place: int) -> Document:
    return Document(
        piece.alignment, piece.student_ids, piece.teacher_ids, place, source_place, same_opening=piece.same_opening
    )


def pack_chunks(chunks: AlignedChunks) -> dict[str, Tensor]:
    """Chunks as tensors of a batch, so that they travel with it."""
    packed = {f"chunks_{name}": getattr(chunks.student, name) for name in _ROWS}
    packed |= {f"source_chunks_{name}": getattr(chunks.teacher, name) for name in _ROWS}
    return packed | {"chunk_bytes": chunks.num_bytes}


def unpack_chunks(batch: dict[str, Tensor]) -> AlignedChunks:
    """The chunks of a batch again."""
    mine = ChunkRows(*(batch[f"chunks_{name}"] for name in _ROWS))
    theirs = ChunkRows(*(batch[f"source_chunks_{name}"] for name in _ROWS))
    return AlignedChunks(mine, theirs, batch["chunk_bytes"])
