"""Event losses from a few tokens of the teacher: what a cache keeps is enough for a student of any vocabulary."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from vocabalign.losses.checks import check_temperature, cut_head
from vocabalign.losses.divergences import Divergence, named
from vocabalign.losses.events import EventMerge
from vocabalign.losses.logits import NEVER, Head
from vocabalign.losses.pairs import Pair, normalise_
from vocabalign.losses.sparse import SMALLEST_TAIL
from vocabalign.losses.streaming import Side, stream
from vocabalign.losses.targets import SampledTargets, TopTargets, tail_of

__all__ = ["merge_top", "sampled_event_loss", "top_event_loss"]


def merge_top(targets: TopTargets, classes: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """A teacher's likeliest tokens as likeliest classes.

    Tokens of one class are added up; tokens of none are left out, as ``event_loss`` leaves them out, and what remains
    sums to 1 again. What the rest holds of a class that is listed is not known and stays there, so a class has at most
    its probability: less than the tail in all.

    Args:
        targets: (N, k).
        classes: (Vt,) class of each of the teacher's tokens, -1 for none.

    Returns:
        (N, k) classes, each once at a position and -1 for what is left over, (N, k) their log-probabilities, and (N,)
        the logarithm of the rest.
    """
    log_probs = targets.log_probs.float()
    if targets.log_tail is None:
        tail = (-log_probs.logsumexp(-1).clamp(max=0).expm1()).clamp(min=SMALLEST_TAIL).log()
    else:
        tail = targets.log_tail.float()
    order = classes[targets.ids.long()].sort(dim=-1, stable=True)
    numbers, values = order.values, log_probs.gather(1, order.indices)
    first = torch.ones_like(numbers, dtype=torch.bool)
    first[:, 1:] = numbers[:, 1:] != numbers[:, :-1]
    group = first.long().cumsum(1) - 1
    sums = torch.zeros_like(values).scatter_add_(1, group, values.exp())
    named_classes = torch.full_like(numbers, -1).scatter_(1, group, numbers)
    unknown = named_classes < 0
    sums = sums.masked_fill(unknown, 0)
    whole = (sums.sum(1) + tail.exp()).clamp(min=SMALLEST_TAIL).log()
    return named_classes, (sums.log() - whole[:, None]).clamp(min=NEVER), tail - whole


def top_event_loss(
    hidden: Tensor,
    head: Head,
    targets: TopTargets,
    teacher_classes: Tensor,
    classes: EventMerge,
    *,
    divergence: str | Divergence = "forward-kl",
    temperature: float = 1.0,
    weights: Tensor | None = None,
    num_items: Tensor | float | None = None,
    block_bytes: int | None = None,
) -> Tensor:
    """``event_loss`` over the classes of the teacher's k likeliest tokens and everything else as one event.

    Args:
        hidden: (N, H) student's hidden states at aligned starts.
        head: (V, H).
        targets: (N, k) of the teacher there.
        teacher_classes: (Vt,) class of each of the teacher's tokens, on the targets' device.
        classes: of the same ``EventClasses``.
        divergence: a name in ``divergences.DIVERGENCES``, or one with other settings.
        temperature: T of both sides; the targets must come from the same.
        weights: (N,) w, 1 by default.
        num_items: the sum of the weights by default.
        block_bytes: memory of a block of logits.

    Returns:
        A scalar in nats.

    Raises:
        ValueError: targets of another temperature, or shapes that do not fit.
    """
    if targets.temperature != check_temperature(temperature):
        raise ValueError(
            f"The targets were captured at temperature {targets.temperature} but {temperature} is asked for: capture "
            "them again."
        )
    numbers, log_probs, rest = merge_top(targets, teacher_classes)
    rows = _TopEventRows(classes, numbers, torch.cat([log_probs, rest[:, None]], 1), named(divergence), temperature)
    side = Side(hidden, cut_head(head, classes.num_tokens[0], "student"))
    return stream(rows, [side], weights=weights, num_items=num_items, block_bytes=block_bytes)[0]


def sampled_event_loss(
    hidden: Tensor,
    head: Head,
    targets: SampledTargets,
    teacher_classes: Tensor,
    classes: EventMerge,
    *,
    weights: Tensor | None = None,
    num_items: Tensor | float | None = None,
    block_bytes: int | None = None,
) -> Tensor:
    """``-sum_s t_s log Q(class of token s)``: over the draws, the gradient of the full event-KL is its expectation.

    Draws of tokens without a class are left out.

    Args:
        hidden: (N, H) student's hidden states at aligned starts.
        head: (V, H).
        targets: (N, S) of the teacher there; the temperature is theirs.
        teacher_classes: (Vt,) class of each of the teacher's tokens.
        classes: of the same ``EventClasses``.
        weights: (N,) w, 1 by default.
        num_items: the sum of the weights by default.
        block_bytes: memory of a block of logits.
    """
    numbers = teacher_classes[targets.ids.long()]
    values = torch.where(numbers >= 0, targets.weights, torch.zeros_like(targets.weights))
    rows = _SampledEventRows(classes, numbers, values, targets.temperature)
    side = Side(hidden, cut_head(head, classes.num_tokens[0], "student"))
    return stream(rows, [side], weights=weights, num_items=num_items, block_bytes=block_bytes)[0]


class _Rows:
    """The student's classes and the way back to its tokens."""

    def __init__(self, classes: EventMerge, numbers: Tensor, teacher: Tensor, temperature: float) -> None:
        self.merge, self.temperature, self.teacher = classes.student, temperature, teacher
        # Merged columns come in the merge's own order; what has no class points to the first and counts nothing.
        self.known = numbers >= 0
        self.columns = torch.where(self.known, self.merge.rank[numbers.clamp(min=0)], 0)

    def __call__(self, logits: Sequence[Tensor], rows: slice, gradient: bool) -> Tensor:
        mine = logits[0]
        if self.temperature != 1.0:
            mine /= self.temperature
        arranged = self.merge.arrange(mine)
        merged, totals = self.merge.merge(arranged)
        if merged is mine:
            merged = mine.clone()
        values, towards = self.compare(merged, rows)
        if gradient:
            self.merge.spread(towards * self.temperature, totals, arranged, mine)
        return values[None] * self.temperature**2

    def compare(self, merged: Tensor, rows: slice) -> tuple[Tensor, Tensor]:
        raise NotImplementedError


class _TopEventRows(_Rows):
    def __init__(
        self, classes: EventMerge, numbers: Tensor, teacher: Tensor, divergence: Divergence, temperature: float
    ) -> None:
        super().__init__(classes, numbers, teacher, temperature)
        self.divergence = divergence

    def compare(self, merged: Tensor, rows: slice) -> tuple[Tensor, Tensor]:
        """Over the listed classes and the rest."""
        q = normalise_(merged)
        known, columns = self.known[rows], self.columns[rows]
        listed = torch.where(known, merged.gather(1, columns), NEVER)
        # A column of its own takes what has no class, so that it is not taken from the first class.
        ids = torch.where(known, columns, merged.shape[1])
        rest, log_tail = tail_of(torch.cat([q, q.new_zeros(len(q), 1)], 1), ids)
        values, towards = self.divergence(
            Pair(torch.cat([listed, log_tail[:, None]], 1), self.teacher[rows].to(q.dtype))
        )
        rest *= (towards[:, -1] / log_tail.exp())[:, None]
        rest.scatter_(1, ids, towards[:, :-1])
        return values, rest[:, :-1]


class _SampledEventRows(_Rows):
    def compare(self, merged: Tensor, rows: slice) -> tuple[Tensor, Tensor]:
        """Cross-entropy to the draws."""
        q = normalise_(merged)
        columns, numbers = self.columns[rows], self.teacher[rows].to(q.dtype)
        values = -(numbers * merged.gather(1, columns)).sum(-1)
        return values, q.mul_(numbers.sum(-1, keepdim=True)).scatter_add_(1, columns, -numbers)
