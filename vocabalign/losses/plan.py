"""What a streamed loss runs over, and the loop itself: products, tiles, gradients."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from vocabalign.losses.gradients import Gradients
from vocabalign.losses.logits import Head, Projection, check_head

# Logits of all sides in one block. A matrix product over few rows is bound by reading the head.
BLOCK_BYTES = {"cpu": 256 << 20, "cuda": 1 << 30}
CPU_BLOCK_ROWS = 128
# So that a block stays small beside the logits of a small batch as well.
LEAST_BLOCKS = 4
LEAST_ROWS = 16
# Of a thread: enough work between two barriers, little enough for the cache.
CPU_TILE_BYTES = 4 << 20


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


class Plan:
    """A run over all rows.

    Args:
        row_loss: values and gradient of a few rows.
        sides: hidden states and heads.
        block_bytes: memory for the logits of a block, or None.

    Raises:
        ValueError: sides that do not fit each other or their heads.
    """

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
        self.block_rows = min(allowance // (sum(widths) * self.exact.itemsize), -(-self.count // LEAST_BLOCKS))
        self.block_rows = max(LEAST_ROWS, self.block_rows)
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
            values: Tensor | None = None
            for block in pieces(0, self.count, self.block_rows):
                raw = [side.raw(block, out) for side, out in zip(sides, buffers)]
                values = self._tiles(sides, raw, block, bool(wanted), values)
                for side, source, d_logits in zip(sides, self.sides, raw) if wanted else ():
                    if source.trained:
                        gradients.add(source, side, d_logits, block)
            if values is None:
                values = torch.zeros(1, 0, dtype=self.exact, device=self.device)
            return values, gradients.finish()

    def _buffer(self, side: Projection) -> Tensor | None:
        if self.product != self.exact:
            return None
        return side.matrix.new_empty(min(self.block_rows, self.count), side.matrix.shape[0])

    def _tiles(
        self, sides: list[Projection], raw: list[Tensor], block: slice, gradient: bool, values: Tensor | None
    ) -> Tensor:
        """Logits in place of raw products, then gradients in place of logits; (P, N) values, allocated once."""
        trained = [gradient and source.trained for source in self.sides]
        for tile in pieces(0, raw[0].shape[0], self.tile_rows):
            logits = [piece[tile] for piece in raw]
            slopes = [side.finish(piece, need) for side, piece, need in zip(sides, logits, trained)]
            rows = slice(block.start + tile.start, block.start + tile.stop)
            found = self.row_loss(logits, rows, gradient)
            if values is None:
                values = found.new_empty(found.shape[0], self.count, dtype=self.exact)
            values[:, rows] = found
            for side, piece, slope, need in zip(sides, logits, slopes, trained):
                if need:
                    side.back(piece, slope)
        assert values is not None  # a block is never empty
        return values


def pieces(start: int, stop: int, step: int) -> Iterator[slice]:
    """Consecutive slices of at most ``step`` that cover [start, stop)."""
    for at in range(start, stop, step):
        yield slice(at, min(at + step, stop))
