"""The hybrid of GOLD with its faults mended: shared tokens by a divergence, the others by sorted probabilities."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from vocabalign.losses.checks import check_numbers, cut_head
from vocabalign.losses.divergences import Divergence, named
from vocabalign.losses.events import EventMerge
from vocabalign.losses.gold_rows import ChunkSide, GoldRows, MovedChunks
from vocabalign.losses.likelihood import token_log_probs
from vocabalign.losses.logits import Head
from vocabalign.losses.pairs import Pair
from vocabalign.losses.positions import check_finite
from vocabalign.losses.streaming import Side, stream
from vocabalign.losses.uld import sorted_distance

__all__ = ["gold_loss"]


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
        ValueError: shapes that do not fit, a head with fewer rows than tokens, NaN in the teacher.

    Reference:
        TRL's GOLD (Hugging Face, 2025), with chain rule, shift, EOS and the events that make it a divergence put right.
    """
    check_finite(teacher_hidden, teacher_head.weight)
    check_numbers(teacher_rest, "teacher's log-probabilities")
    if teacher_rest.shape != rows.teacher.labels.shape:
        raise ValueError(
            f"{tuple(teacher_rest.shape)} log-probabilities for {len(rows.teacher.labels)} further tokens."
        )
    mine = cut_head(head, classes.num_tokens[0], "student")
    theirs = cut_head(teacher_head, classes.num_tokens[1], "teacher")
    rest = token_log_probs(rest_hidden, mine, rows.student.labels, block_bytes=block_bytes)
    rests = [_sums(values, side) for values, side in ((rest, rows.student), (teacher_rest, rows.teacher))]
    loss = _GoldLoss(rows, classes, [part.detach() for part in rests], named(divergence), unmatched, top)
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
        arranged = [classes.student.arrange(mine), classes.teacher.arrange(theirs)]
        moved = []
        if self.moves:
            for z, side, rest in ((mine, self.rows.student, self.rests[0]), (theirs, self.rows.teacher, self.rests[1])):
                moved.append(MovedChunks(z, side, rest, self.rows.event, classes.rank, rows))
        merged, totals = classes.student.merge(arranged[0])
        target = classes.in_order(classes.teacher.merge(arranged[1])[0])
        if moved:
            merged, target = moved[0].forward(merged), moved[1].forward(target)
        values, towards = self.divergence(Pair.from_logits(merged, target))
        extra = None
        if classes.other is not None and self.unmatched:
            q = classes.student.share_of(classes.other, arranged[0])
            p = classes.teacher.share_of(classes.other, arranged[1])
            distance, extra = sorted_distance(q, p, self.top)
            weight = target[:, classes.rank[classes.other]].exp() * self.unmatched
            values = values + weight * distance
            extra *= weight[:, None]
        if gradient:
            d_first = moved[0].back(towards) if moved else None
            classes.student.spread(towards[:, : classes.num_classes], totals, arranged[0], mine)
            if extra is not None and classes.other is not None:
                mine.index_add_(1, classes.student.columns_of(classes.other), extra)
            if d_first is not None:
                at, amounts = d_first
                self.slopes[at + rows.start] = amounts.to(self.slopes.dtype)
                mine[at, self.rows.student.first[at + rows.start]] += amounts
        return values[None]
