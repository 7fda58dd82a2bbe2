"""Universal logit distillation: the sorted probabilities of both sides, whatever they belong to. For comparison."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from vocabalign.losses.checks import check_temperature
from vocabalign.losses.logits import Head
from vocabalign.losses.streaming import Side, stream

__all__ = ["likeliest", "sorted_distance", "uld_loss"]


def uld_loss(
    hidden: Tensor,
    head: Head,
    teacher_hidden: Tensor,
    teacher_head: Head,
    *,
    top: int = 1024,
    temperature: float = 1.0,
    weights: Tensor | None = None,
    num_items: Tensor | float | None = None,
    block_bytes: int | None = None,
) -> Tensor:
    """``sum_i w_i (sum_r |p_(r) - q_(r)| + |tail p - tail q|) / num_items`` with probabilities sorted by size.

    It needs no vocabulary at all and therefore sees none: a student that gives every probability to the wrong token
    has no loss. It is here to compare with; ``event_loss`` compares the right tokens at the same price. Between 0 and
    twice the total variation; a vocabulary with fewer than ``top`` tokens is filled up with zeros.

    Gradient: ``dL/dz_s = w / T q_s (g_s - <q, g>)``, g_s the sign of ``q_(r) - p_(r)`` at the rank r of s, for all
    tokens behind the first ``top`` that of the tails.

    Args:
        hidden: (N, H) student's hidden states at paired places, at best ``aligned_starts``.
        head: (V, H).
        teacher_hidden: (N, Ht).
        teacher_head: (Vt, Ht).
        top: R, how many are compared one by one.
        temperature: T of both sides.
        weights: (N,) w, 1 by default.
        num_items: the sum of the weights by default; over accumulated batches and ranks give the sum of all.
        block_bytes: memory of a block of logits.

    Returns:
        A scalar; 0 with zero gradients where there are no rows.

    Raises:
        ValueError: shapes that do not fit, or no tokens to compare.

    Reference:
        Boizard et al. (2024), Towards Cross-Tokenizer Distillation: the Universal Logit Distillation Loss, section 3.
    """
    if top < 1:
        raise ValueError(f"{top} tokens to compare one by one; expected at least 1.")
    sides = (Side(hidden, head), Side(teacher_hidden, teacher_head, trained=False))
    rows = _SortedRows(top, check_temperature(temperature))
    return stream(rows, sides, weights=weights, num_items=num_items, block_bytes=block_bytes)[0]


class _SortedRows:
    """Values and gradient of a few rows."""

    def __init__(self, top: int, temperature: float) -> None:
        self.top, self.temperature = top, temperature

    def __call__(self, logits: Sequence[Tensor], rows: slice, gradient: bool) -> Tensor:
        mine, theirs = logits
        if self.temperature != 1.0:
            mine /= self.temperature
            theirs /= self.temperature
        q, p = torch.softmax(mine, -1), torch.softmax(theirs, -1)
        values, towards = sorted_distance(q, p, self.top, out=mine)
        if gradient and self.temperature != 1.0:
            towards /= self.temperature
        return values[None]


def sorted_distance(q: Tensor, p: Tensor, top: int, out: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """ULD of probabilities, (C, V) and (C, Vt), and its gradient with respect to q's logits.

    Args:
        q: student's.
        p: teacher's.
        top: how many are compared one by one.
        out: (C, V) for the gradient.

    Returns:
        (C,) values and (C, V) gradient ``q (g - <q, g>)``.
    """
    mine, at = likeliest(q, top)
    theirs, _ = likeliest(p, top)
    width = max(mine.shape[1], theirs.shape[1])
    tails = [
        1 - side.sum(-1) if side.shape[1] < whole.shape[1] else torch.zeros_like(side[:, 0])
        for side, whole in ((mine, q), (theirs, p))
    ]
    difference = torch.nn.functional.pad(mine, (0, width - mine.shape[1]))
    difference[:, : theirs.shape[1]] -= theirs
    tail = tails[0] - tails[1]
    values = difference.abs().sum(-1) + tail.abs()
    signs = difference[:, : mine.shape[1]].sign_()
    out = torch.empty_like(q) if out is None else out
    out.copy_(tail.sign()[:, None].expand_as(out))
    out.scatter_(1, at, signs)
    # <q, g> from the few that differ from the tail.
    centre = (mine * signs).sum(-1) + tails[0] * tail.sign()
    return values, out.sub_(centre[:, None]).mul_(q)


def likeliest(p: Tensor, top: int) -> tuple[Tensor, Tensor]:
    """The ``top`` largest entries of every row in descending order, and where they are.

    A selection from all columns is the slowest part of the loss, so it is made in two steps: the largest ``top``
    entries lie in the ``top`` groups of columns with the largest maxima.
    """
    count, width = p.shape
    if top >= width:
        everything = p.sort(-1, descending=True)
        return everything.values, everything.indices
    size = int((width / top) ** 0.5)
    if size < 2:
        first = p.topk(top, -1)
        return first.values, first.indices
    groups = width // size
    whole = p[:, : groups * size].unflatten(1, (size, groups))
    best = whole.amax(1).topk(top, -1, sorted=False).indices
    columns = (best[:, None] + groups * torch.arange(size, device=p.device)[:, None]).flatten(1)
    rest = torch.arange(groups * size, width, device=p.device).expand(count, -1)
    columns = torch.cat([columns, rest], 1)
    found = p.gather(1, columns).topk(top, -1)
    return found.values, columns.gather(1, found.indices)
