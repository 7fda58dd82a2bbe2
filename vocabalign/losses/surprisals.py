"""Divergences between what teacher and student are surprised by: one number for a chunk on each side.

a and b are the surprisals (minus log-likelihoods, in nats) of the same bytes. Each function gives value and slope
df/db; both are exactly 0 where a = b. Below ``FLOOR`` both surprisals count as ``FLOOR``, and the value is continued by
its tangent, so that a student that is too sure of a chunk still has a gradient and never an endless one.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

FLOOR = 1e-4


def surprisal_divergence(a: Tensor, b: Tensor, temperature: float = 100.0) -> tuple[Tensor, Tensor]:
    """``τ KL(Bernoulli(e^{-a/τ}) || Bernoulli(e^{-b/τ}))``; for τ = ∞ ``b - a + a log(a / b)``.

    At τ = 1 only the probability that the chunk happens counts, so a long chunk says almost nothing; the larger τ,
    the more the surprisals themselves are compared. The limit is the I-divergence of surprisals, within 6 % of
    τ = 100. Slopes: ``(A - B) / (1 - B)`` with A = e^{-a/τ}, B = e^{-b/τ}, and ``1 - a / b``.

    Args:
        a: (C,) teacher's surprisals, not negative.
        b: (C,) student's.
        temperature: τ, ``math.inf`` for the limit.

    Returns:
        (C,) values and (C,) slopes with respect to b.

    Raises:
        ValueError: τ is not positive.

    Reference:
        Minixhofer, Vulić and Ponti (2025), Approximate Likelihood Matching, section 3; their ε = 1e-6 on the
        probabilities is this floor at τ = 100.
    """
    if not temperature > 0:
        raise ValueError(f"The temperature of surprisals is {temperature}; expected a positive number or infinity.")
    below = (b - FLOOR).clamp(max=0)
    a, b = a.clamp(min=FLOOR), b.clamp(min=FLOOR)
    if math.isinf(temperature):
        slopes = 1 - a / b
        return b - a + a * (a / b).log() + slopes * below, slopes
    gap = (b - a) / temperature
    teacher, student = (-a / temperature).exp(), (-b / temperature).exp()
    slopes = student * torch.expm1(gap) / -torch.expm1(-b / temperature)
    remainder = _log1mexp(a / temperature) - _log1mexp(b / temperature)
    values = temperature * (teacher * gap - torch.expm1(-a / temperature) * remainder)
    return values + slopes * below, slopes


def _log1mexp(x: Tensor) -> Tensor:
    """``log(1 - e^{-x})`` for x > 0."""
    return torch.where(x > math.log(2), torch.log1p(-torch.exp(-x)), torch.log(-torch.expm1(-x)))
