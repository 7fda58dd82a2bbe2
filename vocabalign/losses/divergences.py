"""Divergences between teacher and student next-token distributions, with their gradients.

Each takes a ``Pair`` and returns the value of every row, in nats, and the gradient with respect to the student's
logits u, where q = softmax(u): ``dD/du = q (g - <q, g>)`` with g = dD/dq. Nothing is left to autograd, so that the
streamed loss can go on with the gradient at once and forget the block. They work on any events: tokens, the k + 1
events of sparse targets, classes of tokens.

Equal distributions give exactly zero, value and gradient: Adam would blow up even a rounding error. Where the teacher
gives probability to an event that the student excludes (or the other way round, for a reverse divergence), the value
is infinite as it should be, or bounded where the divergence is.

Which to choose:

* ``forward-kl``: the default on given text or the teacher's; the student covers what the teacher finds likely.
* ``reverse-kl``: on the student's own text; it avoids what the teacher finds unlikely, and may drop modes.
* ``jensen-shannon``: bounded, so that positions where the two disagree wildly do not drown the others.
* ``normalised-jensen-shannon``: the same on a scale where beta leads from forward to reverse KL without a jump.
* ``skewed-kl``, ``skewed-reverse-kl``: bounded relatives of the two KL, smoother early in training.
* ``adaptive-kl``: both KL, weighted by where the gap is, in the head of the teacher's distribution or in its tail.
* ``total-variation``: bounded and robust; its gradient does not fade near the optimum, so let the rate decay.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from vocabalign.losses.kullback_leibler import ForwardKL, ReverseKL
from vocabalign.losses.pairs import Divergence, Pair, Result, centred
from vocabalign.losses.skewed import JensenShannon, SkewedKL, SkewedReverseKL

__all__ = [
    "DIVERGENCES",
    "AdaptiveKL",
    "Divergence",
    "ForwardKL",
    "JensenShannon",
    "Pair",
    "ReverseKL",
    "SkewedKL",
    "SkewedReverseKL",
    "TotalVariation",
    "named",
]


@dataclass(frozen=True)
class AdaptiveKL:
    """``(g_h KL(p || q) + g_t KL(q || p)) / (g_h + g_t)``, g the sum of |p - q| over head and tail of p.

    The head is the fewest likeliest tokens with more than ``1 - tail`` of the teacher's probability (ties go in
    together), the tail the others. The weights are constants for the gradient.

    Attributes:
        tail: the teacher's probability that the tail may have.

    Reference:
        Wu et al. (2024), Rethinking Kullback-Leibler Divergence in Knowledge Distillation for LLMs, section 4.
    """

    tail: float = 0.5

    def __post_init__(self) -> None:
        if not 0 < self.tail < 1:
            raise ValueError(f"Adaptive KL's tail is {self.tail}: expected a probability between 0 and 1.")

    def __call__(self, pair: Pair) -> Result:
        """Values (C,) and gradient (C, K)."""
        forward, gradient = ForwardKL()(pair)
        reverse, other = ReverseKL()(pair)
        difference = (pair.p - pair.q).abs_()
        whole = difference.sum(-1)
        in_head = difference.mul_(pair.p >= _nucleus(pair.p, 1 - self.tail)).sum(-1)
        share = torch.where(whole > 0, in_head / whole.clamp(min=torch.finfo(whole.dtype).tiny), 0.5)
        values = share * forward + (1 - share) * reverse
        return values, gradient.mul_(share[:, None]).addcmul_(other, (1 - share)[:, None])


@dataclass(frozen=True)
class TotalVariation:
    """``1/2 sum |p - q|``, between 0 and 1.

    Gradient: ``1/2 q (s - <q, s>)`` with s = sign(q - p), 0 where they are equal.

    Reference:
        Wen et al. (2023), f-Divergence Minimization for Sequence-Level Knowledge Distillation, section 3.
    """

    def __call__(self, pair: Pair) -> Result:
        """Values (C,) and gradient (C, K)."""
        difference = pair.q - pair.p
        values = difference.abs().sum(-1).mul_(0.5)
        return values, centred(difference.sign_().mul_(0.5), pair.q)


def _nucleus(p: Tensor, mass: float) -> Tensor:
    """(C, 1) probability of the last token of the smallest set of likeliest tokens that holds ``mass``."""
    size = 64
    while True:
        likeliest = p.topk(min(size, p.shape[-1]), -1).values
        # The token is in the head where the likelier ones have less than the mass.
        inside = likeliest.cumsum(-1).sub_(likeliest) < mass
        if size >= p.shape[-1] or not bool(inside[:, -1].any()):
            return likeliest.masked_fill_(~inside, 2).amin(-1, keepdim=True)
        size *= 16


DIVERGENCES: dict[str, Divergence] = {
    "forward-kl": ForwardKL(),
    "reverse-kl": ReverseKL(),
    "jensen-shannon": JensenShannon(),
    "normalised-jensen-shannon": JensenShannon(normalised=True),
    "skewed-kl": SkewedKL(),
    "skewed-reverse-kl": SkewedReverseKL(),
    "adaptive-kl": AdaptiveKL(),
    "total-variation": TotalVariation(),
}


def named(divergence: str | Divergence, known: Mapping[str, Divergence] = DIVERGENCES) -> Divergence:
    """The divergence of this name among the known ones, or the object itself.

    Raises:
        ValueError: no such name.
    """
    if not isinstance(divergence, str):
        return divergence
    if divergence not in known:
        raise ValueError(f"Unknown divergence '{divergence}': expected one of {', '.join(known)}.")
    return known[divergence]
