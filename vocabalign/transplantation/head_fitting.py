"""Head rows fitted to what the source expects and the text says: iterative scaling of mean states, no training.

A head is a multinomial logistic regression on hidden states. At its optimum each token is not only expected as often
as it is wanted (iterative scaling; Darroch and Ratcliff 1972), but also behind the same states on average. One round:
for each token the difference of both mean states, solved in the covariance C of all states and shrunk,

    d = (max(n, e) C + prior c I)^-1 (n (m_wanted - m_expected) - prior c (row - start)),    c = trace(C) / H,

with n uses wanted and e expected: a step of Newton's method with the curvature of one token alone, under a normal
prior around the row that it had. As a token that is hardly expected would be moved too far by this, its step is cut
so that its logit at the wanted states moves by at most ``MOST_MOVED``; as all tokens move at once, steps are halved
until the penalised likelihood (which is concave, so nothing else can go wrong) has risen. The prior is strong at first
and then weak; of all rounds the one that is best on documents held out is taken.

Only tokens that follow somewhere in the text take part; the others' share is small once they are scaled by counts.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from vocabalign.transplantation.calibration import constant_direction
from vocabalign.transplantation.expectations import Head
from vocabalign.transplantation.head_wishes import Wishes

# A strong prior first, then a weak one from the best point so far: (imagined uses, steps to try).
PRIORS = ((200.0, 3), (30.0, 9))
MOST_MOVED = 2.0
USES_SMOOTHING = 5.0
# Bits per byte that held-out documents may lose before a prior is given up.
_PATIENCE = 0.01


@dataclass(frozen=True)
class HeadCorrection:
    """What is added to a head.

    Attributes:
        ids: (K,) int64 tokens.
        rows: (K, H) float32 to add to their rows.
        bias: (K,) float32 to add to their biases; None where the head has none.
        share: of this that is added.
    """

    ids: Tensor
    rows: Tensor
    bias: Tensor | None
    share: float = 1.0

    def apply(self, head: Tensor, bias: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """(T, H) rows and (T,) bias with the correction; the given ones are left as they are."""
        head = head.index_copy(0, self.ids, (head[self.ids].float() + self.share * self.rows).to(head.dtype))
        if bias is not None and self.bias is not None:
            bias = bias.index_copy(0, self.ids, (bias[self.ids].float() + self.share * self.bias).to(bias.dtype))
        return head, bias


@dataclass(frozen=True)
class _Point:
    """Rows and biases in logits, with what they expect and how far they are from what is wanted (nats a place)."""

    rows: Tensor
    bias: Tensor
    moved: Tensor
    expected: Tensor
    sums: Tensor
    cost: float


def fit_head(
    head: Head,
    states: Tensor,
    wishes: Wishes,
    held_out: Callable[[Head], float],
    *,
    priors: Sequence[tuple[float, int]] = PRIORS,
) -> HeadCorrection | None:
    """Fit the rows of the tokens that are wanted.

    Args:
        head: of all T tokens, as it is.
        states: (N, H) float32, behind which the wishes were found.
        wishes: of K tokens.
        held_out: bits per byte of a head of these K tokens on documents that were not fitted on.
        priors: imagined uses of each token for which its row is right as it is, and steps to try with that; those
            that are halved count too.

    Returns:
        The correction of the best round; None where none was better than the start.
    """
    fit = _Fit(head, states, wishes)
    best, lowest = fit.start, held_out(fit.head(fit.start))
    for prior, steps in priors:
        point, share = fit.under(prior, best), 1.0
        step, shift = fit.step(point)
        for _ in range(steps):
            tried = fit.moved(point, share * step, share * shift)
            if tried.cost > point.cost:
                share /= 2
                continue
            point, share = tried, min(1.0, 1.4 * share)
            score = held_out(fit.head(point))
            if score < lowest:
                best, lowest = point, score
            elif score > lowest + _PATIENCE:
                break
            step, shift = fit.step(point)
    return None if best is fit.start else fit.correction(best)


class _Fit:
    """The regression: states, what is wanted, and the prior. Rows are in logits: times the model's scale."""

    def __init__(self, head: Head, states: Tensor, wishes: Wishes) -> None:
        self._states, self._wishes, self._device, self._scale = states, wishes, head.device, head.scale
        self._has_bias = head.bias is not None
        centred = states - states.mean(dim=0)
        covariance = (centred.T @ centred / len(states)).double()
        values, self._axes = (part.float() for part in torch.linalg.eigh(covariance))
        self._variances = values.clamp(min=0)
        self._pull = torch.zeros(())
        self._direction = constant_direction(states[:: max(1, len(states) // 10_000)])
        rows = head.rows[wishes.ids].float() * head.scale
        bias = torch.zeros(len(rows)) if head.bias is None else head.bias[wishes.ids].float() * head.scale
        self.start = self._point(rows, bias, torch.zeros_like(rows))

    def under(self, prior: float, point: _Point) -> _Point:
        """The point under another prior, which holds from now on."""
        before, self._pull = self._pull, prior * self._variances.mean()
        return replace(point, cost=point.cost + float((self._pull - before) * point.moved.square().sum()) / 2)

    def head(self, point: _Point) -> Head:
        """The head of the K tokens."""
        return Head(point.rows, point.bias, 1.0, 0.0, self._device)

    def step(self, point: _Point) -> tuple[Tensor, Tensor]:
        """(K, H) how rows should move, and (K,) how much logits should be lifted besides."""
        uses, expected = self._wishes.uses, point.expected
        mean = point.sums / expected.clamp(min=1e-6)[:, None]
        wanted = torch.where(uses[:, None] > 1e-3, self._wishes.sums / uses.clamp(min=1e-3)[:, None], mean)
        force = ((wanted - mean) * uses[:, None]) @ self._axes - self._pull * (point.moved @ self._axes)
        curvature = torch.maximum(uses, expected)[:, None] * self._variances + self._pull
        step = (force / curvature) @ self._axes.T
        lift = (step * (wanted - mean)).sum(dim=1).abs()
        step *= (MOST_MOVED / lift.clamp(min=MOST_MOVED))[:, None]
        # The step lifts logits at the states where the token is expected now; this is taken back.
        logs = torch.log((uses + USES_SMOOTHING) / (expected + USES_SMOOTHING))
        return step, logs - (step * mean).sum(dim=1)

    def moved(self, point: _Point, step: Tensor, shift: Tensor) -> _Point:
        """The point after a step; without biases, logits are lifted along the direction that hardly varies."""
        if self._has_bias:
            return self._point(point.rows + step, point.bias + shift, point.moved + step)
        return self._point(point.rows + step + shift[:, None] * self._direction, point.bias, point.moved + step)

    def _point(self, rows: Tensor, bias: Tensor, moved: Tensor) -> _Point:
        expected, sums, norm = Head(rows, bias, 1.0, 0.0, self._device).moments(self._states)
        said = float((rows * self._wishes.sums).sum() + (bias * self._wishes.uses).sum())
        cost = norm - said + float(self._pull * moved.square().sum()) / 2
        return _Point(rows, bias, moved, expected, sums, cost)

    def correction(self, point: _Point) -> HeadCorrection:
        """What the point adds to the start, before the model scales it."""
        bias = (point.bias - self.start.bias) / self._scale if self._has_bias else None
        return HeadCorrection(self._wishes.ids, (point.rows - self.start.rows) / self._scale, bias)
