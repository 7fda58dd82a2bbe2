"""Divergences to a mixture m of teacher and student: bounded, whatever the two are."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from vocabalign.losses.kullback_leibler import ForwardKL, ReverseKL
from vocabalign.losses.pairs import Pair, Result, centred

# Ratios beyond e^40 change nothing in float64, and their logarithm stays finite.
LARGEST_GAP = 40.0


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
        return values, centred(excess.div_(_divisor(mixture)).mul_(1 - self.alpha), pair.q)


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
        return values, centred(score, pair.q)


def _log_mixture(pair: Pair, share: float) -> Result:
    """The gap log p - log q, bounded, and log m - log q for m = share p + (1 - share) q, both new (C, K).

    Both are exactly 0 where the gap is. Beyond e^40 either way only the difference of the two counts, and it is
    right: log p - log m tends to -log share.
    """
    gap = pair.gap.clamp(-LARGEST_GAP, LARGEST_GAP)
    return gap, gap.expm1().mul_(share).log1p_()


def _divisor(mixture: Tensor) -> Tensor:
    return mixture.clamp_(min=torch.finfo(mixture.dtype).tiny)


def _check_alpha(alpha: float) -> None:
    if not 0 < alpha < 1:
        raise ValueError(f"The skew alpha is {alpha}: expected a number between 0 and 1; use the plain KL for 0.")
