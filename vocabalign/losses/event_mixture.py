"""Cross-entropy, event-KL and continuations from one set of logits: what self-distillation pays at starts of tokens.

``fused_loss`` and ``event_loss`` each make the student's logits, and event-KL works on their logarithms class by class.
Where both are wanted with forward KL, one softmax serves both: the probability of a class is a sum of probabilities,
and the gradient of both together is ``q`` times one factor for each class. What follows inside tokens is read off the
same logits.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import pad

from vocabalign.losses.checks import check_labels, cut_head
from vocabalign.losses.class_sums import ClassSums, in_float64, is_out_of_reach
from vocabalign.losses.continuations import Continuations
from vocabalign.losses.inside_tokens import InsideTokens
from vocabalign.losses.logits import Head
from vocabalign.losses.other_labels import stream_with_other_labels
from vocabalign.losses.pairs import normalise_
from vocabalign.losses.plan import BLOCK_BYTES
from vocabalign.losses.positions import IGNORE, check_finite
from vocabalign.losses.streaming import Side

__all__ = ["EventMixture", "event_mixture_loss"]

# Memory of a member of a node beside that of a logit: its place, its class, its exponential and its gradient.
_PER_MEMBER = 8


class EventMixture(NamedTuple):
    """``loss`` carries the gradient; all else is for the log, in nats, divided by ``num_items``.

    Attributes:
        loss: scalar, weighted.
        cross_entropy: of the labels.
        events: event-KL.
        continuations: their divergence; 0 where there are none.
        lead: what the teacher gives to the text beyond the student, at the same starts and inside the same tokens.
            Below 0 the student has passed its teacher.
    """

    loss: Tensor
    cross_entropy: Tensor
    events: Tensor
    continuations: Tensor
    lead: Tensor


def event_mixture_loss(
    hidden: Tensor,
    head: Head,
    labels: Tensor,
    teacher_hidden: Tensor,
    teacher_head: Head,
    starts: Tensor,
    sums: ClassSums,
    *,
    cross_entropy: float = 1.0,
    events: float = 1.0,
    inside: tuple[Tensor, Continuations] | None = None,
    continuations: float = 1.0,
    num_items: Tensor | float,
    block_bytes: int | None = None,
) -> EventMixture:
    """``(w_ce sum_i CE_i + w_e sum_b KL(P_b || Q_b) + w_c sum_r KL_r) / num_items``.

    Over labels i, aligned starts b, and rows r inside tokens. Equal to the losses apart, at the price of little more
    than the first.

    Args:
        hidden: (N, H) all hidden states of the student.
        head: (V, H) with as many rows as ``sums``; those beyond the vocabulary are left out of the events.
        labels: (N,) int64, -100 for none.
        teacher_hidden: (Nt, Ht) all of the teacher's.
        teacher_head: (Vt, Ht).
        starts: (P, 2) int64 rows of both that predict the same next bytes; each row of the student once at most.
        sums: classes of both vocabularies.
        cross_entropy: w_ce.
        events: w_e.
        inside: the (R, 3) of ``Continuations.rows`` and their trie; entries at rows that are no start are passed over.
        continuations: w_c.
        num_items: divide all by this.
        block_bytes: memory of a block of logits.

    Raises:
        ValueError: NaN in the teacher, a head of another size, labels outside it.
    """
    if head.num_rows != sums.num_rows:
        raise ValueError(f"The student's head has {head.num_rows} rows; expected {sums.num_rows}.")
    at, theirs = starts.unbind(1)
    check_finite(teacher_hidden, teacher_head.weight)
    check_labels(labels, len(hidden), head.num_rows, "student")
    teacher = Side(teacher_hidden[theirs], cut_head(teacher_head, sums.num_tokens[1], "teacher"), trained=False)
    found, block_bytes_at = None, None
    if inside is not None:
        entries, trie = inside
        found = InsideTokens(entries, at, labels[at], teacher_hidden, teacher_head, trie)
        if block_bytes is None:
            share = _PER_MEMBER * found.num_members / max(1, len(at) * head.num_rows)
            block_bytes_at = int(BLOCK_BYTES.get(hidden.device.type, 256 << 20) / (1 + share))
    rows = _MixtureRows(labels[at], sums, found, (cross_entropy, events, continuations))
    together, rest, parts = stream_with_other_labels(
        rows, 5, hidden, head, labels, at, [teacher],
        num_items=num_items, block_bytes=block_bytes, block_bytes_at=block_bytes_at,
    )  # fmt: skip
    return EventMixture(together + cross_entropy * rest, parts[1] + rest.detach(), *parts[2:])


class _MixtureRows:
    """The sum, cross-entropy, event-KL, continuations and lead of a few rows; the logits become the gradient."""

    def __init__(
        self, labels: Tensor, sums: ClassSums, inside: InsideTokens | None, weights: tuple[float, float, float]
    ) -> None:
        self.labels, self.sums, self.inside, self.weights = labels, sums, inside, weights

    def __call__(self, logits: Sequence[Tensor], rows: slice, gradient: bool) -> Tensor:
        z, teacher = logits
        q = torch.softmax(z, -1)
        found = self.sums.student_sums(q)
        if is_out_of_reach(found):
            return in_float64(self, logits, rows, gradient)
        inner = None if self.inside is None else self.inside(z, rows)
        labels = self.labels[rows]
        known = (labels != IGNORE).to(z.dtype)
        index = labels.clamp(min=0)[:, None]
        at_label, largest = z.gather(1, index), z.amax(-1, keepdim=True)
        entropy = (largest - q.amax(-1, keepdim=True).log() - at_label).squeeze(1) * known
        merge = self.sums.merge
        merged, _ = merge.merge(merge.arrange(teacher))
        log_p = merged.index_select(1, merge.rank)
        p = normalise_(log_p)
        found.clamp_(min=torch.finfo(z.dtype).tiny)
        whole = 1.0 / found.sum(-1, keepdim=True)
        above = log_p - (found * whole).log_()
        divergence = (p * above).sum(-1)
        # With a column of zeros for what is in no class.
        lead = pad(above, (0, 1)).gather(1, self.sums.class_of[index]).squeeze(1) * known
        if gradient:
            # dKL/dz_s = q_s (1 / sum of the classes - P_c / Q_c), nothing for those that take no part.
            of_entropy = self.weights[0] * known[:, None]
            factors = pad(whole - p.div_(found), (0, 1)).mul_(self.weights[1]).add_(of_entropy)
            torch.index_select(factors, 1, self.sums.class_of, out=z)
            z.mul_(q).scatter_add_(1, index, -of_entropy)
        total = self.weights[0] * entropy + self.weights[1] * divergence
        if inner is None:
            return torch.stack([total, entropy, divergence, torch.zeros_like(total), lead])
        if gradient:
            z.view(-1).index_add_(0, inner.places, inner.gradient, alpha=self.weights[2])
        total = total + self.weights[2] * inner.values
        return torch.stack([total, entropy, divergence, inner.values, lead + inner.lead])
