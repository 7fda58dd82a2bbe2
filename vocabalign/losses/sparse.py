"""Distillation from a few tokens of each position: no teacher at hand, no teacher's head in memory."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor

from vocabalign.losses.divergences import Divergence, named
from vocabalign.losses.fused import FusedLoss
from vocabalign.losses.logits import Head
from vocabalign.losses.positions import Positions
from vocabalign.losses.sparse_rows import TAILS, SampledRows, TopRows
from vocabalign.losses.streaming import RowLoss, Side, stream
from vocabalign.losses.targets import SampledTargets, TopTargets

# Of a teacher's tail that is known as 1 - sum p alone.
SMALLEST_TAIL = 1e-12


def top_loss(
    hidden: Tensor,
    head: Head,
    labels: Tensor,
    targets: TopTargets,
    *,
    divergence: str | Divergence = "forward-kl",
    tail: str = "bucket",
    weight: float = 1.0,
    temperature: float = 1.0,
    approximate_temperature: bool = False,
    squared_temperature: bool = True,
    num_items: Tensor | float | None = None,
    weights: Tensor | None = None,
    block_bytes: int | None = None,
) -> FusedLoss:
    """``sum_i r_i ((1 - w) CE_i + w T^2 D_i) / num_items``, D over the k tokens of the teacher and the rest as one.

    With ``tail="bucket"`` D compares k + 1 events, the last of which is "any other token": a divergence, at most that
    of the full distributions, growing with nested k and equal to it at k = V. Gradient for forward KL:
    ``dz = q - p`` on the k tokens and ``q (1 - p_tail / q_tail)`` on the others; in general the event's gradient,
    shared among its tokens in proportion to q.

    With ``tail="renormalised"`` both sides are renormalised over the k tokens: the student is free to give any
    probability to the others. Only for comparison with systems that do so; it says nothing at k = 1.

    Choose k 50 to 100 for text; the bucket keeps even k = 1 meaningful. Where targets are drawn rather than taken
    from the top, see ``sampled_loss``.

    Args:
        hidden: (..., H) hidden states.
        head: the student's, (V, H).
        labels: (...) int64; ``-100`` is not supervised.
        targets: (..., k), as from ``capture_top`` or a cache.
        divergence: a name in ``DIVERGENCES`` or an object.
        tail: a name in ``TAILS``.
        weight: w.
        temperature: T of the student. The targets must come from the same: a distribution cannot be softened once
            its tail is a single number.
        approximate_temperature: soften the k + 1 events nevertheless, as if the tail were one token.
        squared_temperature: multiply by T^2.
        num_items: as for ``fused_loss``.
        weights: (...) r of positions.
        block_bytes: memory for the logits of a block.

    Returns:
        The loss and its parts.

    Raises:
        ValueError: shapes that do not fit, ids outside the head or twice at a position, log-probabilities that are
            no such (NaN, or of a sum above 1), targets of another temperature, one renormalised token.

    Reference:
        tail as one event: Anshumann et al. (2025), section 3; Megatron-LM's "ghost token".
    """
    if tail not in TAILS:
        raise ValueError(f"Unknown tail '{tail}': expected one of {', '.join(TAILS)}.")
    positions = Positions(hidden, labels, weights)
    positions.check_labels(head)
    mine = Side(positions.rows(hidden, "hidden states"), head)
    ids = positions.rows(targets.ids, "targets' ids").long()
    exact = torch.float64 if hidden.dtype == torch.float64 else torch.float32
    log_probs = positions.rows(targets.log_probs, "targets' log-probabilities").detach().to(exact)
    log_tail = targets.log_tail
    if log_tail is not None:
        log_tail = positions.rows(log_tail[..., None], "targets' tails").squeeze(1).detach().to(exact)
    check_targets(ids, log_probs, head, distinct=True)
    if tail == "renormalised" and ids.shape[1] < 2:
        raise ValueError("One renormalised token has probability 1 on both sides: take more tokens, or the bucket.")
    teacher = _teacher_events(log_probs, log_tail, tail, ids.shape[1] == head.num_rows)
    if targets.temperature != temperature:
        teacher = _softened(teacher, targets.temperature / temperature, approximate_temperature)
    row_loss = TopRows(
        positions.labels,
        ids,
        teacher,
        named(divergence),
        weight,
        temperature,
        temperature**2 if squared_temperature else 1.0,
        tail,
    )
    return _finish(row_loss, mine, positions, num_items, block_bytes)


def sampled_loss(
    hidden: Tensor,
    head: Head,
    labels: Tensor,
    targets: SampledTargets,
    *,
    weight: float = 1.0,
    squared_temperature: bool = True,
    num_items: Tensor | float | None = None,
    weights: Tensor | None = None,
    block_bytes: int | None = None,
) -> FusedLoss:
    """``sum_i r_i ((1 - w) CE_i - w T^2 sum_s t_s log q[id_s]) / num_items``: unbiased for full distillation.

    Over the draws, the expectation of the gradient ``dz = q sum_s t_s - t`` is that of forward KL, q - p, with a few
    dozen numbers for each position. (Top-k with renormalised targets has another optimum than the teacher.) The value
    is a cross-entropy: at q = p it is the entropy of p and not 0, and a single batch's gradient is not 0 either.

    Args:
        hidden: (..., H) hidden states.
        head: the student's, (V, H).
        labels: (...) int64; ``-100`` is not supervised.
        targets: (..., S) as from ``capture_samples``; the student's temperature is theirs.
        weight: w.
        squared_temperature: multiply by T^2.
        num_items: as for ``fused_loss``.
        weights: (...) r of positions.
        block_bytes: memory for the logits of a block.

    Returns:
        The loss and its parts; ``divergence`` is the cross-entropy to the draws.

    Raises:
        ValueError: shapes that do not fit, ids outside the head, weights that are NaN or infinite.

    Reference:
        Anshumann et al. (2025), Sparse Logit Sampling (RS-KD), section 4.
    """
    positions = Positions(hidden, labels, weights)
    positions.check_labels(head)
    mine = Side(positions.rows(hidden, "hidden states"), head)
    exact = torch.float64 if hidden.dtype == torch.float64 else torch.float32
    ids = positions.rows(targets.ids, "targets' ids").long()
    numbers = positions.rows(targets.weights, "targets' weights").detach().to(exact)
    check_targets(ids, numbers, head, distinct=False)
    factor = targets.temperature**2 if squared_temperature else 1.0
    row_loss = SampledRows(positions.labels, ids, numbers, weight, targets.temperature, factor)
    return _finish(row_loss, mine, positions, num_items, block_bytes)


def _teacher_events(log_probs: Tensor, log_tail: Tensor | None, tail: str, complete: bool) -> Tensor:
    """(N, k + 1) log-probabilities of the events, or (N, k) where no token is left for a tail."""
    if tail == "renormalised":
        return log_probs.log_softmax(-1)
    if complete:
        return log_probs
    if log_tail is None:
        log_tail = (-log_probs.logsumexp(-1).clamp(max=0).expm1()).clamp(min=SMALLEST_TAIL).log()
    return torch.cat([log_probs, log_tail[:, None]], 1)


def _softened(teacher: Tensor, factor: float, approximate: bool) -> Tensor:
    if not approximate:
        raise ValueError(
            "The targets were captured at another temperature than the student's, and a distribution cut to its "
            "likeliest tokens cannot be softened: capture them at this temperature, or set approximate_temperature."
        )
    return (teacher * factor).log_softmax(-1)


def check_targets(ids: Tensor, numbers: Tensor, head: Head, distinct: bool) -> None:
    """All checks with one wait for the device."""
    if ids.shape != numbers.shape:
        raise ValueError(f"The targets have {tuple(ids.shape)} ids but {tuple(numbers.shape)} numbers.")
    if not ids.numel():
        return
    twice, excess = ids.new_zeros(()), numbers.new_zeros(())
    if distinct:
        twice = (ids.sort(-1).values.diff(dim=-1) == 0).sum()
        excess = numbers.logsumexp(-1).max()
    found = torch.stack([x.double() for x in (ids.min(), ids.max(), twice, excess, numbers.sum())]).tolist()
    if found[0] < 0 or found[1] >= head.num_rows:
        raise ValueError(f"A target is outside the head: ids {found[0]:.0f} to {found[1]:.0f}, {head.num_rows} rows.")
    if found[2]:
        raise ValueError("A token stands twice among the targets of a position: expected distinct ids.")
    if found[4] != found[4] or (not distinct and abs(found[4]) == float("inf")):
        raise ValueError("The targets hold NaN or infinity: check the teacher that they were captured from.")
    if found[3] > 0.01:
        raise ValueError("The targets' probabilities sum to more than 1: expected logarithms of probabilities.")


def _finish(
    row_loss: RowLoss, mine: Side, positions: Positions, num_items: Tensor | float | None, block_bytes: int | None
) -> FusedLoss:
    run = partial(stream, weights=positions.weights, num_items=num_items, block_bytes=block_bytes)
    loss, parts = run(row_loss, [mine])
    parts = parts.to(loss.dtype) if positions.count else loss.new_zeros(3)
    return FusedLoss(loss, parts[1], parts[2], parts[2:])
