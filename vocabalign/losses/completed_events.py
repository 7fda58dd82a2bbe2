"""Event-KL completed by the text: classes from the teacher, everything that it does not say from the labels.

Event-KL alone is over aligned starts. There a token of the teacher that could have gone on has ended, always; the
places where it goes on are no starts. A student that hears of the starts alone learns that what begins between them is
rare, and of the tokens of one class it hears nothing. Here every label counts once: at aligned starts the teacher's
distribution over classes stands for the label's class, and the token within the class and all other labels come from
the text. One softmax of the student's logits serves all of it.
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
from vocabalign.losses.logits import NEVER, Head
from vocabalign.losses.positions import IGNORE, check_finite
from vocabalign.losses.sparse_products import times, to_tensor
from vocabalign.losses.streaming import Side, stream

__all__ = ["SummedClasses", "completed_event_loss"]

# Sums of probabilities below this are taken once more in float64.
_REACH = 1e-30


class SummedClasses:
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
        self.num_rows, self.num_tokens = num_rows, (len(classes.student), len(classes.teacher))
        self.student, self.teacher = (_matrices(s, classes.num_classes, device) for s in (student, classes.teacher))
        self.class_of = torch.from_numpy(np.maximum(student, 0)).to(device)
        self.taking_part = torch.from_numpy(student >= 0).to(device)
        self.left_out = torch.from_numpy(np.flatnonzero(student < 0)).to(device)

    def has_class(self, labels: Tensor) -> Tensor:
        """(P,) bool: whether a label (-100 for none) is in a class."""
        return (labels >= 0) & self.taking_part[labels.clamp(min=0)]


def _matrices(classes: np.ndarray, num_classes: int, device: torch.device | str) -> dict[torch.dtype, Tensor]:
    """(K, V) of zeros and ones: which tokens a class is the sum of."""
    taking_part = np.flatnonzero(classes >= 0)
    matrix = sparse.csr_matrix(
        (np.ones(len(taking_part)), (classes[taking_part], taking_part)), shape=(num_classes, len(classes))
    )
    return {dtype: to_tensor(matrix, dtype, device) for dtype in (torch.float32, torch.float64)}


def completed_event_loss(
    hidden: Tensor,
    head: Head,
    labels: Tensor,
    teacher_hidden: Tensor,
    teacher_head: Head,
    starts: Tensor,
    sums: SummedClasses,
    *,
    cross_entropy: float = 1.0,
    events: float = 1.0,
    num_items: Tensor | float,
    block_bytes: int | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """``sum over labels i of (w_ce CE_i + w_e D_i) / num_items``.

    D is ``KL(P || Q) - log q(y) + log Q(c(y))`` at aligned starts whose label y is in a class c, and the cross-entropy
    at all other labels.

    Args:
        hidden: (N, H) all hidden states of the student.
        head: (V, H) with as many rows as ``sums``; those beyond the vocabulary are left out of the events.
        labels: (N,) int64, -100 for none.
        teacher_hidden: (Nt, Ht) all of the teacher's.
        teacher_head: (Vt, Ht).
        starts: (P, 2) int64 rows of both that predict the same next bytes; each row of the student once at most.
            Those without a label are passed over.
        sums: classes of both vocabularies.
        cross_entropy: w_ce.
        events: w_e.
        num_items: divide both by this.
        block_bytes: memory of a block of logits.

    Returns:
        The loss, which carries the gradient; cross-entropy and the sum of D, each divided by ``num_items``.

    Raises:
        ValueError: NaN in the teacher, a head of another size, labels outside it.
    """
    if head.num_rows != sums.num_rows:
        raise ValueError(f"The student's head has {head.num_rows} rows; expected {sums.num_rows}.")
    check_finite(teacher_hidden, teacher_head.weight)
    check_labels(labels, len(hidden), head.num_rows, "student")
    at, theirs = starts[sums.has_class(labels[starts[:, 0]])].unbind(1)
    others = labels != IGNORE
    others[at] = False
    teacher = Side(teacher_hidden[theirs], cut_head(teacher_head, sums.num_tokens[1], "teacher"), trained=False)
    rows = _Rows(labels[at], sums, cross_entropy, events)
    together, parts = stream(rows, [Side(hidden[at], head), teacher], num_items=num_items, block_bytes=block_bytes)
    rest = fused_loss(hidden[others], head, labels[others], num_items=num_items, block_bytes=block_bytes).loss
    if not len(at):
        parts = parts.new_zeros(3)
    parts = parts.to(rest.dtype) + rest.detach()
    return together + (cross_entropy + events) * rest, parts[1], parts[2]


class _Rows:
    """Values, cross-entropy and D of a few rows; the logits become the gradient."""

    def __init__(self, labels: Tensor, sums: SummedClasses, cross_entropy: float, events: float) -> None:
        self.labels, self.sums, self.entropy, self.events = labels, sums, cross_entropy, events

    def __call__(self, logits: Sequence[Tensor], rows: slice, gradient: bool) -> Tensor:
        z, teacher = logits
        q = torch.softmax(z, -1)
        found = times(self.sums.student[z.dtype], q)
        if z.dtype == torch.float32 and found.numel() and float(found.amin()) < _REACH:
            # A class is out of reach of float32: these rows once more in float64.
            wide = z.double()
            values = self([wide, teacher.double()], rows, gradient).to(z.dtype)
            z.copy_(wide)
            return values
        index = self.labels[rows, None]
        entropy = (z.amax(-1) - q.amax(-1).log()) - z.gather(1, index).squeeze(1)
        p = times(self.sums.teacher[z.dtype], torch.softmax(teacher, -1, out=teacher))
        p.div_(p.sum(-1, keepdim=True))
        found.clamp_(min=torch.finfo(z.dtype).tiny)
        log_q = (found / found.sum(-1, keepdim=True)).log_()
        classes = self.sums.class_of[index]
        value = (p * (p.log().clamp_(min=NEVER) - log_q)).sum(-1) + entropy + log_q.gather(1, classes).squeeze(1)
        if gradient:
            # dD/dz_s = q_s (1 + (1[c = c(y)] - P_c) / Q_c) - 1[s = y]; for tokens of no class q_s alone.
            p.scatter_add_(1, classes, p.new_full(classes.shape, -1)).div_(found)
            torch.index_select(p, 1, self.sums.class_of, out=z)
            if len(self.sums.left_out):
                z.index_fill_(1, self.sums.left_out, 0)
            z.mul_(-self.events).add_(self.entropy + self.events).mul_(q)
            z.scatter_add_(1, index, z.new_full(index.shape, -self.entropy - self.events))
        return torch.stack([self.entropy * entropy + self.events * value, entropy, value])
