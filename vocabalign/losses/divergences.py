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

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from vocabalign.losses.pairs import Pair

Result = tuple[Tensor, Tensor]
# Ratios beyond e^40 change nothing in float64, and their logarithm stays finite.
LARGEST_GAP = 40.0
# Values beyond this come from an excluded event (see ``logits.NEVER``).
INFINITE = 1e20


class Divergence(Protocol):
    """``divergence(pair) -> (values (C,), gradient (C, K))``; hashable, so that it can be the key of a mixture."""

    def __call__(self, pair: Pair) -> Result:
        """Values and gradient; the pair is left as it is."""
        ...

    def __hash__(self) -> int: ...


@dataclass(frozen=True)
class ForwardKL:
    """KL(p || q) = sum p (log p - log q).

    Gradient: ``q - p``.

    Reference:
        Hinton, Vinyals and Dean (2015), section 2.
    """

    def __call__(self, pair: Pair) -> Result:
        """Values (C,) and gradient (C, K)."""
        gradient = pair.q - pair.p
        # q - p sums to 0, and makes every term positive: no cancellation near the optimum.
        return _infinite((pair.p * pair.gap).add_(gradient).sum(-1)), gradient


@dataclass(frozen=True)
class ReverseKL:
    """KL(q || p) = sum q (log q - log p).

    Gradient: ``q (log q - log p - D)``.

    Reference:
        Gu et al. (2023), MiniLLM, section 2.
    """

    def __call__(self, pair: Pair) -> Result:
        """Values (C,) and gradient (C, K)."""
        gradient = pair.q * pair.gap
        # p - q sums to 0, as in forward KL.
        values = (pair.p - pair.q).sub_(gradient).sum(-1)
        gradient.addcmul_(pair.q, values[:, None]).neg_()
        return _infinite(values), gradient


@dataclass(frozen=True)
class JensenShannon:
    """``beta KL(p || m) + (1 - beta) KL(q || m)`` with m = beta p + (1 - beta) q, as in TRL's GKD.

    As there, beta 0 is forward KL and beta 1 reverse KL although the formula tends to 0 at both: a jump. With
    ``normalised`` it is divided by beta (1 - beta), and those two are its limits. At most
    ``-beta log beta - (1 - beta) log(1 - beta)``, log 2 at beta 0.5.

    Gradient: ``(1 - beta) q (log q - log m - KL(q || m))``.

    Attributes:
        beta: weight of the teacher in the mixture, in [0, 1].
        normalised: divide by beta (1 - beta).

    Reference:
        Agarwal et al. (2023), On-Policy Distillation (GKD), equation 1.
    """

    beta: float = 0.5
    normalised: bool = False

    def __post_init__(self) -> None:
        if not 0 <= self.beta <= 1:
            raise ValueError(f"Jensen-Shannon's beta is {self.beta}: expected a number between 0 and 1.")

    def __call__(self, pair: Pair) -> Result:
        """Values (C,) and gradient (C, K)."""
        if self.beta in (0.0, 1.0):
            return (ForwardKL() if self.beta == 0 else ReverseKL())(pair)
        gap, above = _log_mixture(pair, self.beta)
        from_teacher = gap.sub_(above).mul_(pair.p).sum(-1)
        gradient = above.mul_(pair.q)
        from_student = gradient.sum(-1).neg_()
        values = from_teacher.mul_(self.beta).add_(from_student, alpha=1 - self.beta)
        gradient.addcmul_(pair.q, from_student[:, None]).mul_(self.beta - 1)
        if self.normalised:
            scale = 1 / (self.beta * (1 - self.beta))
            values, gradient = values.mul_(scale), gradient.mul_(scale)
        return values, gradient


@dataclass(frozen=True)
class SkewedKL:
    """KL(p || m) with m = alpha p + (1 - alpha) q; at most -log alpha.

    Gradient: ``q (h - <q, h>)``, h = (1 - alpha)(1 - p / m).

    Attributes:
        alpha: in (0, 1); the smaller, the nearer to forward KL.

    Reference:
        Ko et al. (2024), DistiLLM, section 3.1.
    """

    alpha: float = 0.1

    def __post_init__(self) -> None:
        _check_alpha(self.alpha)

    def __call__(self, pair: Pair) -> Result:
        """Values (C,) and gradient (C, K)."""
        gap, above = _log_mixture(pair, self.alpha)
        # The terms m - p sum to 0 but for the rounding of p and q, and make every term positive.
        values = gap.sub_(above).mul_(pair.p)
        mixture = torch.lerp(pair.q, pair.p, self.alpha)
        excess = mixture - pair.p
        values = values.add_(excess).sum(-1)
        return values, _centred(excess.div_(_divisor(mixture)).mul_(1 - self.alpha), pair.q)


@dataclass(frozen=True)
class SkewedReverseKL:
    """KL(q || m) with m = (1 - alpha) p + alpha q; at most -log alpha.

    Gradient: ``q (h - <q, h>)``, h = log q - log m + alpha (1 - q / m).

    Attributes:
        alpha: in (0, 1); the smaller, the nearer to reverse KL.

    Reference:
        Ko et al. (2024), DistiLLM, section 3.1.
    """

    alpha: float = 0.1

    def __post_init__(self) -> None:
        _check_alpha(self.alpha)

    def __call__(self, pair: Pair) -> Result:
        """Values (C,) and gradient (C, K)."""
        _, above = _log_mixture(pair, 1 - self.alpha)
        mixture = torch.lerp(pair.q, pair.p, 1 - self.alpha)
        excess = mixture - pair.q
        values = torch.addcmul(excess, above, pair.q, value=-1).sum(-1)
        score = excess.div_(_divisor(mixture)).mul_(self.alpha).sub_(above)
        return values, _centred(score, pair.q)


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
        return values, _centred(difference.sign_().mul_(0.5), pair.q)


def _log_mixture(pair: Pair, share: float) -> Result:
    """The gap log p - log q, bounded, and log m - log q for m = share p + (1 - share) q, both new (C, K).

    Both are exactly 0 where the gap is. Beyond e^40 either way only the difference of the two counts, and it is
    right: log p - log m tends to -log share.
    """
    gap = pair.gap.clamp(-LARGEST_GAP, LARGEST_GAP)
    return gap, gap.expm1().mul_(share).log1p_()


def _centred(score: Tensor, q: Tensor) -> Tensor:
    """``q (score - <q, score>)``, in place."""
    gradient = score.mul_(q)
    return gradient.addcmul_(q, gradient.sum(-1, keepdim=True), value=-1)


def _divisor(mixture: Tensor) -> Tensor:
    return mixture.clamp_(min=torch.finfo(mixture.dtype).tiny)


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


def _infinite(values: Tensor) -> Tensor:
    return values.masked_fill_(values > INFINITE, torch.inf)


def _check_alpha(alpha: float) -> None:
    if not 0 < alpha < 1:
        raise ValueError(f"The skew alpha is {alpha}: expected a number between 0 and 1; use the plain KL for 0.")


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


def named(divergence: str | Divergence) -> Divergence:
    """The divergence of this name, or the object itself.

    Raises:
        ValueError: no such name.
    """
    if not isinstance(divergence, str):
        return divergence
    if divergence not in DIVERGENCES:
        raise ValueError(f"Unknown divergence '{divergence}': expected one of {', '.join(DIVERGENCES)}.")
    return DIVERGENCES[divergence]
