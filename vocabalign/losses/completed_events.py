"""Event-KL completed by the text: classes from the teacher, everything that it does not say from the labels.

Event-KL alone is over aligned starts. There a token of the teacher that could have gone on has ended, always; the
places where it goes on are no starts. A student that hears of the starts alone learns that what begins between them is
rare, and of the tokens of one class it hears nothing. Here every label counts once: at aligned starts the teacher's
distribution over classes stands for the label's class, and the token within the class and all other labels come from
the text. One softmax of the student's logits serves all of it.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import pad

from vocabalign.losses.checks import check_labels, cut_head
from vocabalign.losses.class_sums import ClassSums, in_float64, is_out_of_reach
from vocabalign.losses.logits import NEVER, Head
from vocabalign.losses.other_labels import stream_with_other_labels
from vocabalign.losses.positions import check_finite
from vocabalign.losses.streaming import Side

__all__ = ["completed_event_loss"]


def completed_event_loss(
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
    teacher = Side(teacher_hidden[theirs], cut_head(teacher_head, sums.num_tokens[1], "teacher"), trained=False)
    rows = _Rows(labels[at], sums, cross_entropy, events)
    together, rest, parts = stream_with_other_labels(
        rows, 3, hidden, head, labels, at, [teacher], num_items=num_items, block_bytes=block_bytes
    )
    parts = parts + rest.detach()
    return together + (cross_entropy + events) * rest, parts[1], parts[2]


class _Rows:
    """Values, cross-entropy and D of a few rows; the logits become the gradient."""

    def __init__(self, labels: Tensor, sums: ClassSums, cross_entropy: float, events: float) -> None:
        self.labels, self.sums, self.entropy, self.events = labels, sums, cross_entropy, events

    def __call__(self, logits: Sequence[Tensor], rows: slice, gradient: bool) -> Tensor:
        z, teacher = logits
        q = torch.softmax(z, -1)
        found = self.sums.student_sums(q)
        if is_out_of_reach(found):
            return in_float64(self, logits, rows, gradient)
        index = self.labels[rows, None]
        entropy = (z.amax(-1) - q.amax(-1).log()) - z.gather(1, index).squeeze(1)
        p = self.sums.teacher_sums(torch.softmax(teacher, -1, out=teacher))
        p.div_(p.sum(-1, keepdim=True))
        found.clamp_(min=torch.finfo(z.dtype).tiny)
        log_q = (found / found.sum(-1, keepdim=True)).log_()
        classes = self.sums.class_of[index]
        value = (p * (p.log().clamp_(min=NEVER) - log_q)).sum(-1) + entropy + log_q.gather(1, classes).squeeze(1)
        if gradient:
            # dD/dz_s = q_s (1 + (1[c = c(y)] - P_c) / Q_c) - 1[s = y]; for tokens of no class q_s alone.
            p.scatter_add_(1, classes, p.new_full(classes.shape, -1)).div_(found)
            torch.index_select(pad(p, (0, 1)), 1, self.sums.class_of, out=z)
            z.mul_(-self.events).add_(self.entropy + self.events).mul_(q)
            z.scatter_add_(1, index, z.new_full(index.shape, -self.entropy - self.events))
        return torch.stack([self.entropy * entropy + self.events * value, entropy, value])
