"""The two Kullback-Leibler divergences."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from vocabalign.losses.pairs import Pair, Result

# Values beyond this come from an excluded event (see ``logits.NEVER``).
INFINITE = 1e20


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


def _infinite(values: Tensor) -> Tensor:
    return values.masked_fill_(values > INFINITE, torch.inf)
