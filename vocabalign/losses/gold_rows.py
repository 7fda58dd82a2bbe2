"""What the hybrid of GOLD needs of a batch: chunks, their events, and how their probability moves there."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from vocabalign.losses.aligned import Document
from vocabalign.losses.classes import EventClasses
from vocabalign.losses.logits import NEVER

__all__ = ["ChunkSide", "GoldRows", "MovedChunks", "gold_rows"]

# At most all but this share of a class may move, so that its logarithm stays finite.
_KEPT = 1e-6


@dataclass(frozen=True)
class ChunkSide:
    """Chunks on one side; P chunks, M tokens beyond the first ones.

    Attributes:
        first: (P,) int64, first token of each chunk.
        origin: (P,) int64, its class, from which the chunk's probability is taken; -1 where the first token is all of
            the chunk and its class the chunk's event, or has no class.
        rows: (M,) int64, rows of hidden states that predict the second and later tokens.
        labels: (M,) int64, these tokens.
        owner: (M,) int64, the chunk of each.
    """

    first: Tensor
    origin: Tensor
    rows: Tensor
    labels: Tensor
    owner: Tensor


@dataclass(frozen=True)
class GoldRows:
    """Chunks that begin at aligned starts; P chunks.

    Attributes:
        pairs: (P, 2) int64 rows of student and teacher that predict the first token of the chunk.
        event: (P,) int64: the class that the whole chunk is; the number of classes for an event of its own.
        student: the chunk's tokens on the student's side.
        teacher: the same for the teacher.
    """

    pairs: Tensor
    event: Tensor
    student: ChunkSide
    teacher: ChunkSide


def gold_rows(documents: Sequence[Document], classes: EventClasses) -> GoldRows:
    """The chunks of a batch for ``gold_loss``.

    Args:
        documents: aligned.
        classes: from ``shared_token_classes``.
    """
    pairs, events = [np.zeros((0, 2), dtype=np.int64)], [np.zeros(0, dtype=np.int64)]
    sides: list[list[list[np.ndarray]]] = [[[np.zeros(0, dtype=np.int64)] * 5], [[np.zeros(0, dtype=np.int64)] * 5]]
    count = 0
    for document in documents:
        a, starts = document.alignment, document.start_pairs
        chunk = np.searchsorted(a.cs_start, starts[:, 1] + 1)
        tokens = (
            (a.cs_start[chunk], a.cs_end[chunk], document.student_ids, document.student_at, classes.student),
            (a.ct_start[chunk], a.ct_end[chunk], document.teacher_ids, document.teacher_at, classes.teacher),
        )
        event = np.full(len(chunk), classes.num_classes, dtype=np.int64)
        for start, end, ids, _, number in tokens:
            own = number[np.asarray(ids)[start]]
            single = (end - start == 1) & (own >= 0) & (own != (-1 if classes.other is None else classes.other))
            event = np.where(single, own, event)
        for part, (start, end, ids, at, number) in zip(sides, tokens):
            part.append(_chunk_side(start, end, np.asarray(ids), at, number, event, count))
        pairs.append(starts[:, 1:] + np.array([document.student_at, document.teacher_at]))
        events.append(event)
        count += len(chunk)
    joined = [ChunkSide(*(torch.from_numpy(np.concatenate(column)) for column in zip(*part))) for part in sides]
    return GoldRows(torch.from_numpy(np.concatenate(pairs)), torch.from_numpy(np.concatenate(events)), *joined)


def _chunk_side(
    start: np.ndarray, end: np.ndarray, ids: np.ndarray, at: int, classes: np.ndarray, event: np.ndarray, count: int
) -> list[np.ndarray]:
    first = ids[start].astype(np.int64)
    origin = np.where((end - start == 1) & (classes[first] == event), -1, classes[first])
    more = (end - start - 1).astype(np.int64)
    owner = np.repeat(np.arange(len(start)), more)
    row = start[owner] + np.arange(len(owner)) - np.repeat(np.cumsum(more) - more, more)
    return [first, origin, row + at, ids[row + 1].astype(np.int64), owner + count]


class MovedChunks:
    """The probability of whole chunks, taken from the class of their first token and given to their own event."""

    def __init__(self, z: Tensor, side: ChunkSide, rest: Tensor, event: Tensor, rank: Tensor, rows: slice) -> None:
        self.at = (side.origin[rows] >= 0).nonzero().squeeze(1)
        number = self.at + rows.start
        self.origin, self.event = rank[side.origin[number]], rank[event[number]]
        self.mass = z[self.at, side.first[number]] + rest[number].to(z.dtype)

    def forward(self, merged: Tensor) -> Tensor:
        """(C, K) -> (C, K + 1) logits, the last for chunks that are no class."""
        result = torch.cat([merged, merged.new_full((len(merged), 1), NEVER)], 1)
        with torch.enable_grad():
            self.inputs = [
                t.clone().requires_grad_()
                for t in (result[self.at, self.origin], result[self.at, self.event], self.mass)
            ]
            left, there, mass = self.inputs
            mass = torch.minimum(mass, left + math.log1p(-_KEPT))
            self.outputs = (left + torch.log1p(-(mass - left).exp()), torch.logaddexp(there, mass))
        result[self.at, self.origin] = self.outputs[0].detach()
        result[self.at, self.event] = self.outputs[1].detach()
        return result

    def back(self, towards: Tensor) -> tuple[Tensor, Tensor]:
        """Overwrite the gradient of the K + 1 logits with that before the move; rows and derivatives of the mass."""
        given = (towards[self.at, self.origin], towards[self.at, self.event])
        left, there, mass = torch.autograd.grad(self.outputs, self.inputs, given)
        towards[self.at, self.origin] = left
        towards[self.at, self.event] = there
        return self.at, mass
