"""Divergences that treat the label apart from all other tokens. They need ``Pair.labels``.

With y the label, ``p~ = p / (1 - p_y)`` over the other tokens, and the same for q:
``KL(p || q) = KL([p_y, 1 - p_y] || [q_y, 1 - q_y]) + (1 - p_y) KL(p~ || q~)``. A sure teacher hides what it knows of
the other tokens behind the small factor; the losses here weigh the two parts anew.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from vocabalign.losses.pairs import Divergence, Pair, Result


@dataclass(frozen=True)
class Decoupled:
    """``a KL_binary + b c KL(p~ || q~)``, c = 1, or 1 - p_y with ``scaled``.

    Scaled with a = b = 1 it is forward KL. Unscaled it is DKD, with b 2 to 8 in the paper. For emphasis that differs
    from token to token (ATKD's easy and hard tokens) give the halves separately to a mixture, with a coefficient for
    each position: ``{Decoupled(1, 0): easy, Decoupled(0, 1): hard}``.

    Gradient: ``a (q_y - p_y)`` on the label; ``a q~ (p_y - q_y) + b c (q~ - p~)`` on the others.

    Attributes:
        target: a.
        rest: b.
        scaled: keep the factor 1 - p_y.

    Reference:
        Zhao et al. (2022), Decoupled Knowledge Distillation, section 3; Zhong et al. (2024), ATKD, section 3.
    """

    target: float = 1.0
    rest: float = 1.0
    scaled: bool = False
    needs_labels = True

    def __call__(self, pair: Pair) -> Result:
        """Values (C,) and gradient (C, K)."""
        split = _Split(pair)
        binary = split.p_y * split.gap_y + split.p_rest * split.gap_rest
        others = (split.p_others * (pair.gap - split.gap_rest)).sum(-1, keepdim=True)
        factor = self.rest * split.p_rest if self.scaled else self.rest
        values = (self.target * binary + factor * others).squeeze(1)
        excess = split.p_y - split.q_y
        gradient = (split.q_others - split.p_others).mul_(factor).add_(split.q_others * (self.target * excess))
        return values, gradient.scatter_(1, split.labels, -self.target * excess)


@dataclass(frozen=True)
class NormalisedKD:
    """``p_y log(p_y / q_y) + gamma KL(p~ || q~)``: the parts normalised each for itself.

    The paper's ``-p_y log q_y - gamma sum p~ log q~`` but for constants. The first part is a cross-entropy weighted
    by the teacher's certainty and pulls on also where q = p: this is no divergence, and not 0 in its optimum.

    Gradient: ``p_y (q - onehot(y)) + gamma (q~ - p~)``, the latter on the other tokens.

    Attributes:
        gamma: weight of the other tokens, 1.5 in the paper.

    Reference:
        Yang et al. (2023), From Knowledge Distillation to Self-Knowledge Distillation (NKD), section 3.
    """

    gamma: float = 1.5
    needs_labels = True

    def __call__(self, pair: Pair) -> Result:
        """Values (C,) and gradient (C, K)."""
        split = _Split(pair)
        others = (split.p_others * (pair.gap - split.gap_rest)).sum(-1)
        values = (split.p_y * split.gap_y).squeeze(1) + self.gamma * others
        gradient = (split.q_others - split.p_others).mul_(self.gamma).addcmul_(pair.q, split.p_y)
        return values, gradient.scatter_add_(1, split.labels, -split.p_y)


class _Split:
    """Both distributions as the label's probability and a distribution over the others."""

    def __init__(self, pair: Pair) -> None:
        if pair.labels is None:
            raise ValueError("This divergence treats the label apart: it needs labels among its events.")
        self.labels = pair.labels[:, None]
        self.p_y, self.q_y = pair.p.gather(1, self.labels), pair.q.gather(1, self.labels)
        self.gap_y = pair.gap.gather(1, self.labels)
        self.p_others, self.p_rest = _others(pair.p, self.labels)
        self.q_others, q_rest = _others(pair.q, self.labels)
        self.gap_rest = self.p_rest.log() - q_rest.log()


def _others(probabilities: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """(C, K) renormalised without the label, 0 there, and (C, 1) their sum before; it is not taken from 1."""
    others = probabilities.scatter(1, labels, 0)
    total = others.sum(-1, keepdim=True).clamp_(min=torch.finfo(others.dtype).tiny)
    return others.div_(total), total


LABELLED: dict[str, Divergence] = {
    "decoupled": Decoupled(),
    "normalised-kd": NormalisedKD(),
}
