"""Event-KL: divergences between models of different vocabularies, over classes of tokens that both have."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from vocabalign.losses.checks import both_sides, check_temperature, cut_head
from vocabalign.losses.classes import EventClasses
from vocabalign.losses.divergences import Divergence, named
from vocabalign.losses.logits import Head
from vocabalign.losses.merging import Merge
from vocabalign.losses.pairs import Pair
from vocabalign.losses.streaming import Side, stream

__all__ = ["EventMerge", "class_entropy", "event_loss"]


class EventMerge:
    """Both sides of ``EventClasses`` on a device, made once and used at every step."""

    def __init__(self, classes: EventClasses, device: torch.device | str = "cpu") -> None:
        self.num_tokens = (len(classes.student), len(classes.teacher))
        self.num_classes = classes.num_classes
        self.student = Merge(classes.student, classes.num_classes, device)
        self.teacher = Merge(classes.teacher, classes.num_classes, device)
        aligned = self.teacher.rank[self.student.order]
        # Merged columns are in the student's order; a class beyond the last one keeps its number.
        self.class_of = torch.from_numpy(classes.student).to(device)
        self.rank = torch.cat([self.student.rank, self.student.rank.new_tensor([classes.num_classes])])
        self.other = classes.other
        self._aligned = None if torch.equal(aligned, torch.arange(len(aligned), device=aligned.device)) else aligned

    def teacher_logits(self, logits: Tensor) -> Tensor:
        """(C, Vt) logits -> (C, K) logits of the classes in the student's order."""
        return self.in_order(self.teacher.merge(self.teacher.arrange(logits))[0])

    def in_order(self, merged: Tensor) -> Tensor:
        """The teacher's merged columns in the student's order."""
        return merged if self._aligned is None else merged.index_select(1, self._aligned)


def event_loss(
    hidden: Tensor,
    head: Head,
    teacher_hidden: Tensor,
    teacher_head: Head,
    classes: EventMerge,
    *,
    divergence: str | Divergence = "forward-kl",
    temperature: float = 1.0,
    weights: Tensor | None = None,
    num_items: Tensor | float | None = None,
    block_bytes: int | None = None,
) -> Tensor:
    """``T^2 sum_b w_b D(P_b, Q_b) / num_items`` with ``P(c) = sum of p(t)``, ``Q(c) = sum of q(s)`` over class c.

    The loss to begin with when teacher and student have different vocabularies: all probability takes part, nothing is
    matched by the way it is written, and the loss is at most the true KL of the next bytes. It says nothing about
    which member of a class is right (a long token shares the gradient of its class), so it goes together with
    ``chunk_loss`` or cross-entropy. With one vocabulary on both sides it is the plain divergence, bit for bit.

    Gradient: ``dL/dz_s = w T q_s (g_c - <Q, g>)`` with g = dD/dQ and c the class of s; computed in the forward
    pass. The teacher gets none.

    Args:
        hidden: (N, H) student's hidden states that predict the next token at aligned starts (``aligned_starts``).
        head: (V, H) the student's; rows beyond the vocabulary are left out of the softmax.
        teacher_hidden: (N, Ht) of the teacher at the same places.
        teacher_head: (Vt, Ht).
        classes: from ``common_classes``.
        divergence: a name in ``divergences.DIVERGENCES``, or one with other settings.
        temperature: T of both sides' tokens, before they are summed.
        weights: (N,) w, 1 by default; bytes to the next start, or 0 where the observed classes differ.
        num_items: the sum of the weights by default; over accumulated batches and ranks give the sum of all.
        block_bytes: memory of a block of logits.

    Returns:
        A scalar in nats; 0 with zero gradients where there are no rows.

    Raises:
        ValueError: an unknown divergence, a head with fewer rows than its vocabulary, NaN in the teacher, or
            shapes that do not fit.

    Reference:
        new here; below the true KL by the data-processing inequality.
    """
    rows = _EventRows(classes, named(divergence), check_temperature(temperature))
    sides = both_sides(hidden, head, teacher_hidden, teacher_head, classes.num_tokens)
    return stream(rows, sides, weights=weights, num_items=num_items, block_bytes=block_bytes)[0]


def class_entropy(
    hidden: Tensor,
    head: Head,
    labels: Tensor,
    classes: EventMerge,
    *,
    num_items: Tensor | float | None = None,
    block_bytes: int | None = None,
) -> Tensor:
    """``sum_b -log Q(c(y_b)) / num_items``: what of the cross-entropy is about classes.

    Args:
        hidden: (N, H) student's hidden states.
        head: (V, H); rows beyond the vocabulary are left out of the softmax.
        labels: (N,) int64 ids that are in a class.
        classes: from ``common_classes``.
        num_items: N by default.
        block_bytes: memory of a block of logits.

    Raises:
        ValueError: a head with fewer rows than its vocabulary.
    """
    side = Side(hidden, cut_head(head, classes.num_tokens[0], "student"))
    return stream(_ClassRows(classes, labels), [side], num_items=num_items, block_bytes=block_bytes)[0]


class _ClassRows:
    """Values and gradient of a few rows: those of the forward KL from a teacher that is sure."""

    def __init__(self, classes: EventMerge, labels: Tensor) -> None:
        self.classes = classes
        self.columns = classes.student.rank[classes.class_of[labels]]

    def __call__(self, logits: Sequence[Tensor], rows: slice, gradient: bool) -> Tensor:
        mine, column = logits[0], self.columns[rows, None]
        arranged = self.classes.student.arrange(mine)
        merged, totals = self.classes.student.merge(arranged)
        values = merged.logsumexp(-1, keepdim=True) - merged.gather(1, column)
        if gradient:
            towards = torch.softmax(merged, -1)
            towards.scatter_add_(1, column, towards.new_full(column.shape, -1))
            self.classes.student.spread(towards, totals, arranged, mine)
        return values.T


class _EventRows:
    """Values and gradient of a few rows."""

    def __init__(self, classes: EventMerge, divergence: Divergence, temperature: float) -> None:
        self.classes, self.divergence, self.temperature = classes, divergence, temperature

    def __call__(self, logits: Sequence[Tensor], rows: slice, gradient: bool) -> Tensor:
        mine, theirs = logits
        if self.temperature != 1.0:
            mine /= self.temperature
            theirs /= self.temperature
        arranged = self.classes.student.arrange(mine)
        merged, totals = self.classes.student.merge(arranged)
        values, towards = self.divergence(Pair.from_logits(merged, self.classes.teacher_logits(theirs)))
        if gradient:
            if self.temperature != 1.0:
                towards *= self.temperature
            self.classes.student.spread(towards, totals, arranged, mine)
        return values[None] * self.temperature**2
