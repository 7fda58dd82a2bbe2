"""The loop that all losses here run in: blocks of rows, gradient at once, nothing of size rows times vocabulary.

Rows are taken in blocks. A block's logits are made by a matrix product, a row loss turns them into values and
overwrites them with their gradient, two products carry the gradient on to hidden states and head, and the next
block takes the place. Memory beyond inputs and gradients is one block for each side, whatever the number of rows.

On the CPU the row loss sees a block in smaller tiles that stay in the cache: matrix products want many rows, passes
over logits want few.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from vocabalign.losses.plan import Plan, RowLoss, Side, pieces

__all__ = ["RowLoss", "Side", "pieces", "stream", "stream_rows"]


def stream(
    row_loss: RowLoss,
    sides: Sequence[Side],
    *,
    weights: Tensor | None = None,
    num_items: Tensor | float | None = None,
    block_bytes: int | None = None,
) -> tuple[Tensor, Tensor]:
    """``sum_i w_i values[0, i] / num_items``, its gradient computed in the forward pass.

    Args:
        row_loss: values and gradient of a few rows.
        sides: hidden states and heads; their logits are given to ``row_loss`` in this order.
        weights: (N,) w, constant; 1 by default.
        num_items: the sum of the weights by default. Over accumulated batches and ranks give the sum over all of
            them: then the gradients add up to exactly that of one big batch. Used in float64.
        block_bytes: memory for the logits of a block, all sides together.

    Returns:
        The loss, a scalar that carries the gradient, and (P,) float64 means of all values, which carry none.
        With no rows, or ``num_items`` 0, the loss is 0 and so are its gradients.

    Raises:
        ValueError: sides that do not fit each other or their heads; weights or ``num_items`` that make no sense.
    """
    plan = Plan(row_loss, tuple(sides), block_bytes)
    weights = _check_weights(weights, plan)
    inverse = _inverse(num_items, weights, plan)
    loss, parts = _InForward.apply(plan, weights, inverse, *plan.tensors)
    return loss, parts


def stream_rows(row_loss: RowLoss, sides: Sequence[Side], *, block_bytes: int | None = None) -> Tensor:
    """``values[0]`` of every row, (N,), differentiable; the logits are made again in the backward pass.

    For losses that are not a sum over rows, such as those of whole chunks. One matrix product per side more than
    ``stream``, and the same memory.

    Args:
        row_loss: values and gradient of a few rows; called twice for each row.
        sides: hidden states and heads.
        block_bytes: memory for the logits of a block.

    Returns:
        (N,) float32 (float64 for float64 inputs).

    Raises:
        ValueError: sides that do not fit each other or their heads.
    """
    plan = Plan(row_loss, tuple(sides), block_bytes)
    values: Tensor = _InBackward.apply(plan, *plan.tensors)
    return values


class _InForward(torch.autograd.Function):
    """The gradient is made in ``forward``; ``backward`` only scales it."""

    @staticmethod
    def forward(
        ctx: Any, plan: Plan, weights: Tensor | None, inverse: Tensor | float, *_: Tensor
    ) -> tuple[Tensor, Tensor]:
        values, gradients = plan.run(ctx.needs_input_grad[3:], weights, inverse)
        total = values.to(plan.sums)
        parts = (total if weights is None else total * weights).sum(1) * inverse
        ctx.save_for_backward(*gradients)
        ctx.mark_non_differentiable(parts)
        return parts[0].to(plan.exact), parts

    @staticmethod
    def backward(ctx: Any, upstream: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
        gradients = ctx.saved_tensors
        # Reading one number is free on the CPU; elsewhere it would wait for the device.
        if upstream.device.type != "cpu" or upstream != 1:
            gradients = [None if gradient is None else gradient * upstream.to(gradient.dtype) for gradient in gradients]
        return (None, None, None, *gradients)


class _InBackward(torch.autograd.Function):
    """Values in ``forward``; ``backward`` makes the logits again and knows the weight of each row."""

    @staticmethod
    def forward(ctx: Any, plan: Plan, *tensors: Tensor) -> Tensor:
        ctx.plan = plan
        ctx.save_for_backward(*tensors)  # so that a change in place before the backward pass is noticed
        return plan.run([False] * len(tensors), None, 1.0)[0][0]

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
        _ = ctx.saved_tensors
        _, gradients = ctx.plan.run(ctx.needs_input_grad[1:], upstream.to(ctx.plan.exact), 1.0)
        return (None, *gradients)


def _check_weights(weights: Tensor | None, plan: Plan) -> Tensor | None:
    if weights is None:
        return None
    if weights.shape != (plan.count,):
        raise ValueError(f"The row weights have shape {tuple(weights.shape)}: expected ({plan.count},), one per row.")
    return weights.detach().to(plan.exact)


def _inverse(num_items: Tensor | float | None, weights: Tensor | None, plan: Plan) -> Tensor | float:
    """1 / num_items, in float64: an integer tensor as divisor would be taken as float32."""
    if num_items is None:
        num_items = float(plan.count) if weights is None else weights.to(plan.sums).sum()
    if isinstance(num_items, Tensor):
        if num_items.numel() != 1:
            raise ValueError(f"num_items has shape {tuple(num_items.shape)}: expected one number.")
        divisor = num_items.detach().reshape(()).to(plan.device, plan.sums)
        return torch.where(divisor == 0, torch.zeros_like(divisor), 1 / divisor)
    if not 0 <= num_items < float("inf"):
        raise ValueError(f"num_items is {num_items}: expected the number of supervised positions, or a positive sum.")
    return 1.0 / num_items if num_items else 0.0
