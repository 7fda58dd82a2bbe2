"""Divergences between teacher and student next-token distributions, with their gradients.

Each function takes a block of float log-probabilities and returns the value of every row and the
gradient with respect to the student's (temperature-scaled) logits u, where q = softmax(u):
``dD/du = q * (g - <q, g>)`` with g = dD/dq. Nothing is left to autograd, so that the fused loss can
go on with the gradient at once and forget the block.

Written so that equal distributions give exactly zero: Adam would blow up even a rounding error.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

# (student log-probs (C, V), teacher log-probs (C, V)) -> (values (C,), gradient (C, V))
Divergence = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]


def forward_kl(student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor]:
    """KL(p || q) = sum p (log p - log q): the student covers everything that the teacher finds likely.

    Args:
        student: (C, V) log q.
        teacher: (C, V) log p.

    Returns:
        (C,) values in nats and (C, V) gradient ``q - p``.

    Reference:
        Hinton, Vinyals and Dean (2015).
    """
    p = teacher.exp()
    values = (teacher - student).mul_(p).sum(-1)
    return values, student.exp().sub_(p)


def reverse_kl(student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor]:
    """KL(q || p) = sum q (log q - log p): the student avoids what the teacher finds unlikely.

    Args:
        student: (C, V) log q.
        teacher: (C, V) log p.

    Returns:
        (C,) values D in nats and (C, V) gradient ``q * (log q - log p - D)``.

    Reference:
        Gu et al. (2023), MiniLLM.
    """
    q = student.exp()
    gap = student - teacher
    values = (q * gap).sum(-1)
    return values, gap.sub_(values[:, None]).mul_(q)


def jensen_shannon(student: Tensor, teacher: Tensor, beta: float = 0.5) -> tuple[Tensor, Tensor]:
    """``beta KL(p || m) + (1 - beta) KL(q || m)`` with m = beta p + (1 - beta) q, as in TRL's GKD.

    Bounded by log 2, so that positions where the two disagree wildly do not drown the others.

    Args:
        student: (C, V) log q.
        teacher: (C, V) log p.
        beta: weight of the teacher in the mixture, between 0 and 1 exclusive.

    Returns:
        (C,) values in nats and (C, V) gradient ``(1 - beta) q * (log q - log m - KL(q || m))``.

    Reference:
        Agarwal et al. (2023), On-Policy Distillation (GKD).
    """
    gap = teacher - student
    # log m - log q without overflow, and exactly 0 where the gap is 0.
    shrunk = gap.abs().neg_().expm1_()
    above = torch.where(gap > 0, gap + (shrunk * (1 - beta)).log1p_(), (shrunk * beta).log1p_())
    q = student.exp()
    from_student = (q * above).sum(-1).neg_()
    from_teacher = (gap.sub_(above)).mul_(teacher.exp()).sum(-1)
    gradient = above.neg_().sub_(from_student[:, None]).mul_(q).mul_(1 - beta)
    return beta * from_teacher + (1 - beta) * from_student, gradient


DIVERGENCES: dict[str, Divergence] = {
    "forward-kl": forward_kl,
    "reverse-kl": reverse_kl,
    "jensen-shannon": jensen_shannon,
}
