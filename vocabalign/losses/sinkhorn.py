"""Entropic optimal transport between two sets, for distances that need no shared support."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def sinkhorn_distance(
    cost: Tensor,
    *,
    epsilon: float = 0.1,
    source: Tensor | None = None,
    target: Tensor | None = None,
    iterations: int = 100,
) -> Tensor:
    """``min_P <P, D> - epsilon H(P)`` over plans P with the given marginals, H(P) = -sum P log P.

    In logarithms, so that a small epsilon does not underflow. The gradient with respect to D is the plan P (that is
    exact at convergence; nothing of the iterations is kept for the backward pass). Small epsilon: nearer to plain
    transport, more iterations.

    Not streamed: an (n, m) matrix of costs is its input. Between tokens of one position take the k likeliest and the
    distances of their embeddings; between the positions of a batch (as SinKD) take distances of hidden states. A cost
    between full distributions of all pairs of positions takes n m V operations: there ``fused_loss`` is the better
    buy.

    Args:
        cost: (..., n, m) D, float32 or float64.
        epsilon: strength of the entropy, in the unit of the cost.
        source: (..., n) marginal, positive, of sum 1; uniform by default.
        target: (..., m) marginal.
        iterations: of alternating scaling.

    Returns:
        (...) values.

    Raises:
        ValueError: a cost that is no matrix or holds NaN, marginals that do not fit, epsilon not positive.

    Reference:
        Cuturi (2013), Sinkhorn Distances; in distillation, Cui et al. (2024), SinKD.
    """
    if cost.ndim < 2 or not cost.is_floating_point():
        raise ValueError(f"The cost has shape {tuple(cost.shape)} and dtype {cost.dtype}: expected (..., n, m) floats.")
    if not epsilon > 0:
        raise ValueError(f"epsilon is {epsilon}: expected a positive number.")
    if not bool(cost.detach().isfinite().all()):
        raise ValueError("The cost holds NaN or infinity: expected finite distances.")
    log_source = _log_marginal(source, cost.detach()[..., 0])
    log_target = _log_marginal(target, cost.detach()[..., 0, :])
    with torch.no_grad():
        kernel = -cost / epsilon
        v = torch.zeros_like(log_target)
        for _ in range(iterations):
            u = log_source - (kernel + v[..., None, :]).logsumexp(-1)
            v = log_target - (kernel + u[..., :, None]).logsumexp(-2)
        log_plan = kernel + u[..., :, None] + v[..., None, :]
        plan = log_plan.exp()
        entropy = -(plan * log_plan).sum((-2, -1))
    value: Tensor = (plan * cost).sum((-2, -1)) - epsilon * entropy
    return value


def _log_marginal(marginal: Tensor | None, like: Tensor) -> Tensor:
    if marginal is None:
        return torch.full_like(like, -math.log(like.shape[-1]))
    if marginal.shape[-1] != like.shape[-1]:
        raise ValueError(f"A marginal has {marginal.shape[-1]} entries but the cost {like.shape[-1]} there.")
    if not bool((marginal > 0).all()) or not bool(((marginal.sum(-1) - 1).abs() < 1e-3).all()):
        raise ValueError("A marginal is not a distribution: expected positive numbers of sum 1.")
    return marginal.detach().to(like.dtype).log().expand_as(like)
