"""The hybrid of GOLD with its faults mended: shared tokens by a divergence, the others by sorted probabilities."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from vocabalign.losses.aligned import Document
from vocabalign.losses.checks import check_finite, chosen, cut_head
from vocabalign.losses.classes import EventClasses
from vocabalign.losses.divergences import Divergence
from vocabalign.losses.events import EventMerge
from vocabalign.losses.likelihood import token_log_probs
from vocabalign.losses.logits import NEVER, Head
from vocabalign.losses.pairs import Pair
from vocabalign.losses.streaming import Side, stream
from vocabalign.losses.uld import sorted_distance

__all__ = ["ChunkSide", "GoldRows", "gold_loss", "gold_rows"]

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


def gold_loss(
    hidden: Tensor,
    head: Head,
    rest_hidden: Tensor,
    teacher_hidden: Tensor,
    teacher_head: Head,
    teacher_rest: Tensor,
    rows: GoldRows,
    classes: EventMerge,
    *,
    divergence: str | Divergence = "jensen-shannon",
    unmatched: float = 1.0,
    top: int = 1024,
    weights: Tensor | None = None,
    num_items: Tensor | float | None = None,
    block_bytes: int | None = None,
) -> Tensor:
    """``sum_c w_c [D(P_c, Q_c) + unmatched P_c(other) ULD(p_c | other, q_c | other)] / num_items`` over chunks c.

    Events at the start of a chunk are the byte strings that are tokens of both sides (special tokens by role, EOS
    among them), everything else together, and the chunk that is really there: its probability is the product of those
    of its tokens by the chain rule, taken from what its first token alone stands for. Both sides are distributions, so
    D is a divergence; other tokens are compared sorted, renormalised, and count as much as the teacher gives them.

    For parity with published results; ``event_loss`` needs no sorting because it leaves nothing unmatched. With one
    vocabulary on both sides it is the plain divergence, bit for bit.

    Gradient: the divergence's, carried through the sums and the chain rule to every token of the chunk; the further
    tokens' logits are made twice (``token_log_probs``). The teacher gets none.

    Args:
        hidden: (P, H) student's hidden states at ``rows.pairs[:, 0]``.
        head: (V, H).
        rest_hidden: (M, H) student's hidden states at ``rows.student.rows``.
        teacher_hidden: (P, Ht) at ``rows.pairs[:, 1]``.
        teacher_head: (Vt, Ht).
        teacher_rest: (Mt,) teacher's log-probabilities of ``rows.teacher.labels``, from ``observed_log_probs``.
        rows: from ``gold_rows``.
        classes: of ``shared_token_classes``.
        divergence: a name in ``divergences.DIVERGENCES``, or one with other settings.
        unmatched: weight of the sorted part, 0 for none.
        top: how many sorted probabilities are compared one by one.
        weights: (P,) w, 1 by default.
        num_items: the sum of the weights by default; over accumulated batches and ranks give the sum of all.
        block_bytes: memory of a block of logits.

    Returns:
        A scalar in nats; 0 with zero gradients where there are no rows.

    Raises:
        ValueError: shapes that do not fit, a head with fewer rows than tokens, NaN in the teacher's log-probabilities.

    Reference:
        TRL's GOLD (Hugging Face, 2025), with chain rule, shift, EOS and the events that make it a divergence put right.
    """
    check_finite(teacher_rest, "teacher's log-probabilities")
    if teacher_rest.shape != rows.teacher.labels.shape:
        raise ValueError(
            f"{tuple(teacher_rest.shape)} log-probabilities for {len(rows.teacher.labels)} further tokens."
        )
    mine = cut_head(head, classes.num_tokens[0], "student")
    theirs = cut_head(teacher_head, classes.num_tokens[1], "teacher")
    rest = token_log_probs(rest_hidden, mine, rows.student.labels, block_bytes=block_bytes)
    rests = [_sums(values, side) for values, side in ((rest, rows.student), (teacher_rest, rows.teacher))]
    loss = _GoldLoss(rows, classes, [part.detach() for part in rests], chosen(divergence), unmatched, top)
    sides = (Side(hidden, mine), Side(teacher_hidden, theirs, trained=False))
    total = stream(loss, sides, weights=weights, num_items=num_items, block_bytes=block_bytes)[0]
    # The row loss has left dL/d(rest): a term of value 0 carries it to the further tokens.
    slopes = loss.slopes if weights is None else loss.slopes * weights.to(loss.slopes)
    divisor = (len(hidden) if weights is None else weights.double().sum()) if num_items is None else num_items
    extra = (slopes * (rests[0] - rests[0].detach())).sum() / (divisor if bool(divisor) else 1)
    return total + extra.to(total.dtype)


def _sums(log_probs: Tensor, side: ChunkSide) -> Tensor:
    total = torch.zeros(len(side.first), dtype=log_probs.dtype, device=log_probs.device)
    return total.index_add(0, side.owner, log_probs)


class _GoldLoss:
    """Values and gradient of a few rows; keeps the derivatives with respect to the further tokens."""

    def __init__(
        self,
        rows: GoldRows,
        classes: EventMerge,
        rests: Sequence[Tensor],
        divergence: Divergence,
        unmatched: float,
        top: int,
    ) -> None:
        self.rows, self.classes, self.rests = rows, classes, rests
        self.divergence, self.unmatched, self.top = divergence, unmatched, top
        self.slopes = torch.zeros_like(rests[0])
        self.moves = any(bool((side.origin >= 0).any()) for side in (rows.student, rows.teacher))

    def __call__(self, logits: Sequence[Tensor], rows: slice, gradient: bool) -> Tensor:
        mine, theirs = logits
        classes = self.classes
        shares = [classes.student.arrange(mine), classes.teacher.arrange(theirs)]
        moved = []
        if self.moves:
            for z, side, rest in ((mine, self.rows.student, self.rests[0]), (theirs, self.rows.teacher, self.rests[1])):
                moved.append(_Moved(z, side, rest, self.rows.event, classes.rank, rows))
        merged, target = classes.student.merge(shares[0]), classes.in_order(classes.teacher.merge(shares[1]))
        if moved:
            merged, target = moved[0].forward(merged), moved[1].forward(target)
        values, towards = self.divergence(Pair.from_logits(merged, target))
        extra = None
        if classes.other is not None and self.unmatched:
            parts = [
                side.share_of(classes.other, share) for side, share in zip((classes.student, classes.teacher), shares)
            ]
            distance, extra = sorted_distance(*parts, self.top)
            weight = target[:, classes.rank[classes.other]].exp() * self.unmatched
            values = values + weight * distance
            extra *= weight[:, None]
        if gradient:
            d_first = moved[0].back(towards) if moved else None
            classes.student.spread(towards[:, : classes.num_classes], shares[0], mine)
            if extra is not None:
                mine.index_add_(1, classes.student.columns_of(classes.other), extra)
            if d_first is not None:
                at, amounts = d_first
                self.slopes[at + rows.start] = amounts.to(self.slopes.dtype)
                mine[at, self.rows.student.first[at + rows.start]] += amounts
        return values[None]


class _Moved:
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
