"""The loop that all losses here run in: blocks of rows, gradient at once, nothing of size rows times vocabulary.

Rows are taken in blocks. A block's logits are made by a matrix product, a row loss turns them into values and
overwrites them with their gradient, two products carry the gradient on to hidden states and head, and the next
block takes the place. Memory beyond inputs and gradients is one block for each side, whatever the number of rows.

On the CPU the row loss sees a block in smaller tiles that stay in the cache: matrix products want many rows, passes
over logits want few.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from vocabalign.losses.gradients import Gradients
from vocabalign.losses.logits import Head, Projection, check_head

# Logits of all sides in one block. A matrix product over few rows is bound by reading the head.
BLOCK_BYTES = {"cpu": 256 << 20, "cuda": 1 << 30}
CPU_BLOCK_ROWS = 256
CPU_TILE_BYTES = 1 << 20


class RowLoss(Protocol):
    """What a loss does with the logits of a few rows."""

    def __call__(self, logits: Sequence[Tensor], rows: slice, gradient: bool) -> Tensor:
        """Values, and gradients written over the logits.

        Args:
            logits: one (C, V_k) tensor for each side, float32 or float64, finite (a masked row of the head has the
                logit ``logits.NEVER``). They may be overwritten and are gone after the call.
            rows: which of the N rows these are, to look up labels, targets or weights.
            gradient: overwrite the logits of every trained side with the gradient of ``values[0]``, each row's
                with respect to that row.

        Returns:
            (P, C): the loss of each row, and P - 1 more numbers for the log. Weights and normalisation are the
            loop's affair.
        """
        ...


@dataclass(frozen=True)
class Side:
    """Hidden states and the head that reads them; all sides of a loss have the same number of rows.

    Attributes:
        hidden: (N, H).
        head: (V, H) and what belongs to it.
        trained: whether gradients go to the hidden states, the weight and the bias; only those that require one
            get one, and a frozen head costs nothing.
    """

    hidden: Tensor
    head: Head
    trained: bool = True


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
    plan = _Plan(row_loss, tuple(sides), block_bytes)
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
    plan = _Plan(row_loss, tuple(sides), block_bytes)
    values: Tensor = _InBackward.apply(plan, *plan.tensors)
    return values


class _Plan:
    """What a run needs beside tensors with gradients."""

    def __init__(self, row_loss: RowLoss, sides: tuple[Side, ...], block_bytes: int | None) -> None:
        if not sides:
            raise ValueError("A streamed loss needs at least one side: hidden states and a head.")
        for side in sides:
            if side.hidden.ndim != 2 or side.hidden.shape[0] != sides[0].hidden.shape[0]:
                shapes = ", ".join(str(tuple(other.hidden.shape)) for other in sides)
                raise ValueError(f"The hidden states have shapes {shapes}: expected (N, H) with the same N.")
            check_head(side.hidden, side.head)
        self.row_loss, self.sides = row_loss, sides
        # Inside an autograd function, inputs say that they need a gradient even under no_grad.
        self.enabled = torch.is_grad_enabled()
        self.count = sides[0].hidden.shape[0]
        self.device = sides[0].hidden.device
        double = any(side.hidden.dtype == torch.float64 for side in sides)
        self.exact = torch.float64 if double else torch.float32
        self.sums = torch.float32 if self.device.type == "mps" else torch.float64
        # Each tensor once, also where sides share a head: one gradient, not one for each side.
        unique: dict[int, Tensor] = {}
        for side in sides:
            for tensor in (side.hidden, side.head.weight, side.head.bias) if side.trained else ():
                if tensor is not None:
                    unique[id(tensor)] = tensor
        self.tensors = tuple(unique.values())
        self.product = self._product_dtype()
        widths = [side.head.num_rows for side in sides]
        allowance = block_bytes or BLOCK_BYTES.get(self.device.type, 256 << 20)
        self.block_rows = max(16, allowance // (sum(widths) * self.exact.itemsize))
        self.tile_rows = self.block_rows
        if self.device.type == "cpu":
            self.block_rows = min(self.block_rows, CPU_BLOCK_ROWS)
            cache = CPU_TILE_BYTES * torch.get_num_threads()
            self.tile_rows = max(1, cache // (max(widths) * self.exact.itemsize))

    def _product_dtype(self) -> torch.dtype:
        # Processors without units for bfloat16 are slower in it than in float32, and lose digits.
        if self.device.type == "cpu" or self.exact == torch.float64:
            return self.exact
        if torch.is_autocast_enabled(self.device.type):
            return torch.get_autocast_dtype(self.device.type)
        return self.sides[0].hidden.dtype

    def run(
        self, needs: Sequence[bool], weights: Tensor | None, inverse: Tensor | float
    ) -> tuple[Tensor, list[Tensor | None]]:
        """Values (P, N), and the gradient of each of ``tensors`` that needs one."""
        wanted = {id(tensor) for tensor, need in zip(self.tensors, needs) if need and self.enabled}
        with torch.no_grad(), torch.autocast(self.device.type, enabled=False):
            sides = [Projection(side.hidden, side.head, self.product, self.exact) for side in self.sides]
            gradients = Gradients(self.tensors, wanted, self.exact, weights, inverse)
            buffers = [self._buffer(side) for side in sides]
            values: list[Tensor] = []
            for block in pieces(0, self.count, self.block_rows):
                raw = [side.raw(block, out) for side, out in zip(sides, buffers)]
                values += self._tiles(sides, raw, block, bool(wanted))
                for side, source, d_logits in zip(sides, self.sides, raw) if wanted else ():
                    if source.trained:
                        gradients.add(source, side, d_logits, block)
            if not values:
                values = [torch.zeros(1, 0, dtype=self.exact, device=self.device)]
            return torch.cat(values, 1), gradients.finish()

    def _buffer(self, side: Projection) -> Tensor | None:
        if self.product != self.exact:
            return None
        return side.matrix.new_empty(min(self.block_rows, self.count), side.matrix.shape[0])

    def _tiles(self, sides: list[Projection], raw: list[Tensor], block: slice, gradient: bool) -> list[Tensor]:
        values = []
        for tile in pieces(0, raw[0].shape[0], self.tile_rows):
            logits = [piece[tile] for piece in raw]
            trained = [gradient and source.trained for source in self.sides]
            slopes = [side.finish(piece, need) for side, piece, need in zip(sides, logits, trained)]
            rows = slice(block.start + tile.start, block.start + tile.stop)
            values.append(self.row_loss(logits, rows, gradient).to(self.exact))
            for side, piece, slope, need in zip(sides, logits, slopes, trained):
                if need:
                    side.back(piece, slope)
        return values


class _InForward(torch.autograd.Function):
    """The gradient is made in ``forward``; ``backward`` only scales it."""

    @staticmethod
    def forward(
        ctx: Any, plan: _Plan, weights: Tensor | None, inverse: Tensor | float, *_: Tensor
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
    def forward(ctx: Any, plan: _Plan, *tensors: Tensor) -> Tensor:
        ctx.plan = plan
        ctx.save_for_backward(*tensors)  # so that a change in place before the backward pass is noticed
        return plan.run([False] * len(tensors), None, 1.0)[0][0]

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
        _ = ctx.saved_tensors
        _, gradients = ctx.plan.run(ctx.needs_input_grad[1:], upstream.to(ctx.plan.exact), 1.0)
        return (None, *gradients)


def pieces(start: int, stop: int, step: int) -> Iterator[slice]:
    """Consecutive slices of at most ``step`` that cover [start, stop)."""
    for at in range(start, stop, step):
        yield slice(at, min(at + step, stop))


def _check_weights(weights: Tensor | None, plan: _Plan) -> Tensor | None:
    if weights is None:
        return None
    if weights.shape != (plan.count,):
        raise ValueError(f"The row weights have shape {tuple(weights.shape)}: expected ({plan.count},), one per row.")
    return weights.detach().to(plan.exact)


def _inverse(num_items: Tensor | float | None, weights: Tensor | None, plan: _Plan) -> Tensor | float:
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
