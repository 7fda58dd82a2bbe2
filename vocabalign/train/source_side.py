"""The untouched source's tokens for each block of training text, and where they meet the model's own.

The source is a teacher like another: it reads the bytes of each block, cut by its own tokenizer, and what lines up is
said once for a document. Here that becomes tensors of the batch, so that it is made by the workers that read the text
and travels with it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import fields
from typing import Any
from zlib import crc32

import numpy as np
import torch
from torch import Tensor

from vocabalign.losses.aligned import AlignedChunks, ChunkRows, aligned_chunks, aligned_starts
from vocabalign.losses.continuations import Continuations
from vocabalign.text.vocabulary import Vocabulary
from vocabalign.train.data import Documents, Fragment
from vocabalign.train.pieces import Piece
from vocabalign.train.teacher_side import OwnTokens, TeacherSide

_ROWS = tuple(field.name for field in fields(ChunkRows))


class SourceSide:
    """Adds the source's side to the batches of ``Blocks``.

    Args:
        documents: as the trained model cuts them.
        vocabulary: of the trained model.
        source_documents: the same texts as the source cuts them.
        source_vocabulary: of the source.
        context: tokens in a block.
        source_context: tokens that the source can read at once, or None; more are read in windows.
        packed: whether the source keeps windows of one row apart by their positions.
        continuations: also give the rows inside tokens.
        chunks: also say which tokens of both sides are the same bytes, for chunk likelihoods.
        share: of the sequences that the source reads, see ``rows_to_read``.
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
        packed: bool = True,
        continuations: Continuations | None = None,
        chunks: bool = False,
        share: float = 1.0,
    ) -> None:
        self.share = share
        prepare: dict[str, Callable[[Sequence[Piece]], Any]] = {"ends": _ends, "starts": _starts}
        if continuations is not None:
            prepare["continuations"] = lambda pieces: continuations.rows([piece.document for piece in pieces])
        if chunks:
            prepare["chunks"] = lambda pieces: aligned_chunks([piece.document for piece in pieces])
        self.side = TeacherSide(
            documents,
            vocabulary,
            OwnTokens(source_documents),
            source_vocabulary,
            context,
            prepare,
            teacher_context=source_context,
            packed=packed,
        )

    def __call__(self, rows: Sequence[Sequence[Fragment]]) -> dict[str, Tensor]:
        """Tensors that ``Blocks`` adds to a batch.

        Returns:
            ``source_ids`` and ``source_positions`` (Bs, Ls) int64; ``ends`` (P, 2) int64, flat places in the (B, L)
            inputs and in the (Bs, Ls) source inputs that have read the same bytes; ``starts`` (Q, 2) int64, those
            whose next tokens start at the same byte on both sides; ``continuations`` (R, 3) and the tensors of
            ``pack_chunks`` where these are asked for.
        """
        found = self.side(rows[: rows_to_read(self.share, rows)])
        assert found.input_ids is not None and found.positions is not None  # the source is run, not a cache
        batch = {"source_ids": found.input_ids, "source_positions": found.positions}
        for name, value in found.rows.items():
            batch |= pack_chunks(value) if name == "chunks" else {name: value}
        return batch


def rows_to_read(share: float, rows: Sequence[Sequence[Fragment]]) -> int:
    """How many rows of a batch are a share of them, over many batches exactly.

    What is left of a row is rounded up or down by lot, by where the batch begins: the same after an interruption. So
    a batch of one row can have none that is read.
    """
    if not rows or not rows[0]:
        return len(rows)
    first = rows[0][0]
    lot = crc32(f"{first.document} {first.first}".encode()) / 2**32
    return int(share * len(rows) + lot)


def _ends(pieces: Sequence[Piece]) -> Tensor:
    parts = [piece.ends() for piece in pieces]
    return torch.from_numpy(np.concatenate(parts) if parts else np.zeros((0, 2), dtype=np.int64))


def _starts(pieces: Sequence[Piece]) -> Tensor:
    return aligned_starts([piece.document for piece in pieces])


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
