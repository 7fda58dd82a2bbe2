"""Cross-entropy and event-KL from one set of logits: what self-distillation pays at every start of a token.

``fused_loss`` and ``event_loss`` each make the student's logits, and event-KL works on their logarithms class by class.
Where both are wanted with forward KL, one softmax serves both: the probability of a class is a sum of probabilities,
and the gradient of both together is ``q`` times one factor for each class.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from scipy import sparse
from torch import Tensor

from vocabalign.losses.checks import check_labels, cut_head
from vocabalign.losses.classes import EXCLUDED, EventClasses
from vocabalign.losses.fused import fused_loss
from vocabalign.losses.logits import Head
from vocabalign.losses.merging import Merge
from vocabalign.losses.pairs import normalise_
from vocabalign.losses.positions import IGNORE, check_finite
from vocabalign.losses.sparse_products import times, to_tensor
from vocabalign.losses.streaming import Side, stream

__all__ = ["ClassSums", "event_mixture_loss"]

# Sums of probabilities below this are taken from logarithms instead.
_REACH = 1e-30


class ClassSums:
    """Sums of both sides' probabilities by class; made once for a run.

    Args:
        classes: of both vocabularies.
        num_rows: rows of the student's head; those that only pad it are in the softmax of the cross-entropy and in
            no class.
        device: where the loss runs.
    """

    def __init__(self, classes: EventClasses, num_rows: int, device: torch.device | str = "cpu") -> None:
        student = np.full(num_rows, EXCLUDED, dtype=np.int64)
        student[: len(classes.student)] = classes.student
        taking_part = np.flatnonzero(student >= 0)
        matrix = sparse.csr_matrix(
            (np.ones(len(taking_part)), (student[taking_part], taking_part)), shape=(classes.num_classes, num_rows)
        )
        self.num_rows, self.num_tokens = num_rows, (len(classes.student), len(classes.teacher))
        self.matrices = {dtype: to_tensor(matrix, dtype, device) for dtype in (torch.float32, torch.float64)}
        self.teacher = Merge(classes.teacher, classes.num_classes, device)
        self.class_of = torch.from_numpy(np.maximum(student, 0)).to(device)
        self.left_out = torch.from_numpy(np.flatnonzero(student < 0)).to(device)

    def sums(self, q: Tensor) -> Tensor:
        """(C, V) -> (C, K)."""
        return times(self.matrices[q.dtype], q)


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
    num_items: Tensor | float,
    block_bytes: int | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """``(w_ce sum_i CE_i + w_e sum_b KL(P_b || Q_b)) / num_items``, over labels i and aligned starts b.

    Equal to the two losses apart, at the price of little more than the first.

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
        num_items: divide both by this.
        block_bytes: memory of a block of logits.

    Returns:
        The loss, which carries the gradient; cross-entropy and event-KL, each divided by ``num_items``, for the log.

    Raises:
        ValueError: NaN in the teacher, a head of another size, labels outside it.
    """
    if head.num_rows != sums.num_rows:
        raise ValueError(f"The student's head has {head.num_rows} rows; expected {sums.num_rows}.")
    at, theirs = starts.unbind(1)
    others = torch.ones(len(hidden), dtype=torch.bool, device=hidden.device)
    others[at] = False
    others &= labels != IGNORE
    check_finite(teacher_hidden, teacher_head.weight)
    check_labels(labels, len(hidden), head.num_rows, "student")
    teacher = Side(teacher_hidden[theirs], cut_head(teacher_head, sums.num_tokens[1], "teacher"), trained=False)
    sides = [Side(hidden[at], head), teacher]
    rows = _MixtureRows(labels[at], sums, cross_entropy, events)
    together, parts = stream(rows, sides, num_items=num_items, block_bytes=block_bytes)
    rest = fused_loss(hidden[others], head, labels[others], num_items=num_items, block_bytes=block_bytes).loss
    if not len(at):
        parts = parts.new_zeros(3)
    entropy = parts[1].to(rest.dtype) + rest.detach()
    return together + cross_entropy * rest, entropy, parts[2].to(rest.dtype)


class _MixtureRows:
    """Values, cross-entropy and event-KL of a few rows; the logits become the gradient."""

    def __init__(self, labels: Tensor, sums: ClassSums, cross_entropy: float, events: float) -> None:
        self.labels, self.sums, self.entropy, self.events = labels, sums, cross_entropy, events

    def __call__(self, logits: Sequence[Tensor], rows: slice, gradient: bool) -> Tensor:
        z, teacher = logits
        q = torch.softmax(z, -1)
        found = self.sums.sums(q)
        if z.dtype == torch.float32 and found.numel() and float(found.amin()) < _REACH:
            # A class is out of reach of float32: these rows once more in float64.
            wide = z.double()
            values = self([wide, teacher.double()], rows, gradient).to(z.dtype)
            z.copy_(wide)
            return values
        labels = self.labels[rows]
        known = (labels != IGNORE).to(z.dtype)
        index = labels.clamp(min=0)[:, None]
        at_label, largest = z.gather(1, index), z.amax(-1, keepdim=True)
        entropy = (largest - q.amax(-1, keepdim=True).log() - at_label).squeeze(1) * known
        merged, _ = self.sums.teacher.merge(self.sums.teacher.arrange(teacher))
        log_p = merged.index_select(1, self.sums.teacher.rank)
        p = normalise_(log_p)
        found.clamp_(min=torch.finfo(z.dtype).tiny)
        whole = 1.0 / found.sum(-1, keepdim=True)
        divergence = (p * (log_p - (found * whole).log())).sum(-1)
        if gradient:
            # dKL/dz_s = q_s (1 / sum of the classes - P_c / Q_c), nothing for those that take no part.
            torch.index_select(p.div_(found), 1, self.sums.class_of, out=z)
            z.neg_().add_(whole)
            if len(self.sums.left_out):
                z.index_fill_(1, self.sums.left_out, 0)
            z.mul_(self.events).add_(self.entropy * known[:, None]).mul_(q)
            z.scatter_add_(1, index, -self.entropy * known[:, None])
        return torch.stack([self.entropy * entropy + self.events * divergence, entropy, divergence])
