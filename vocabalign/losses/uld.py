"""Universal logit distillation: the sorted probabilities of both sides, whatever they belong to. For comparison."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from vocabalign.losses.checks import check_temperature
from vocabalign.losses.logits import Head
from vocabalign.losses.positions import check_finite
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
        ValueError: shapes that do not fit, no tokens to compare, or NaN in the teacher.

    Reference:
        Boizard et al. (2024), Towards Cross-Tokenizer Distillation: the Universal Logit Distillation Loss, section 3.
    """
    if top < 1:
        raise ValueError(f"{top} tokens to compare one by one; expected at least 1.")
    check_finite(teacher_hidden, teacher_head.weight)
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
    top = min(top, width)
    size = max(1, int((width / top) ** 0.5))
    if size == 1:
        columns = _largest(p, top)
    else:
        groups = width // size
        best = _largest(p[:, : groups * size].unflatten(1, (size, groups)).amax(1), top)
        columns = (best[:, None] + groups * torch.arange(size, device=p.device)[:, None]).flatten(1)
        rest = torch.arange(groups * size, width, device=p.device).expand(count, -1)
        columns = torch.cat([columns, rest], 1)
        columns = columns.gather(1, _largest(p.gather(1, columns), top))
    values = p.gather(1, columns)
    order = _descending(values)
    return values.gather(1, order), columns.gather(1, order)


def _largest(values: Tensor, top: int) -> Tensor:
    """(C, top) where the largest entries are, in any order. On the CPU numpy's selection is several times faster."""
    if values.device.type != "cpu":
        return values.topk(top, -1, sorted=False).indices
    return torch.from_numpy(np.argpartition(values.numpy(), values.shape[1] - top, -1)[:, values.shape[1] - top :])


def _descending(values: Tensor) -> Tensor:
    if values.device.type != "cpu":
        return values.argsort(-1, descending=True)
    return torch.from_numpy(np.argsort(values.numpy(), -1)).flip(-1)
