"""Sums of gradients over blocks: of hidden states, head rows and biases."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from vocabalign.losses.logits import Projection, add_product

if TYPE_CHECKING:
    from vocabalign.losses.plan import Side


class Gradients:
    """Where the gradients of all trained sides add up.

    The weight of a row and the normalisation are applied to things of the hidden width, never to logits. Sums over
    blocks are in ``exact`` whatever the dtype of the tensors.

    Args:
        tensors: that may get a gradient.
        wanted: ids of those that do.
        exact: dtype of the sums.
        weights: (N,) of the rows, or None for 1.
        inverse: of the number of items.
    """

    def __init__(
        self,
        tensors: Sequence[Tensor],
        wanted: set[int],
        exact: torch.dtype,
        weights: Tensor | None,
        inverse: Tensor | float,
    ) -> None:
        self.tensors, self.weights = tensors, weights
        self.inverse = inverse.to(exact) if isinstance(inverse, Tensor) else inverse
        self.sums = {
            id(tensor): torch.zeros(tensor.shape, dtype=exact, device=tensor.device)
            for tensor in tensors
            if id(tensor) in wanted
        }

    def add(self, source: Side, side: Projection, d_logits: Tensor, block: slice) -> None:
        """Carry a block's gradient, (C, V), to the tensors of its side."""
        head = source.head
        d_hidden, d_weight = self.sums.get(id(source.hidden)), self.sums.get(id(head.weight))
        d_bias = None if head.bias is None else self.sums.get(id(head.bias))
        weights = None if self.weights is None else self.weights[block, None]
        if d_bias is not None:
            total = d_logits.sum(0) if weights is None else (d_logits.T @ weights).squeeze(1)
            d_bias[: head.num_rows].add_(total, alpha=head.scale)
        d_product = d_logits.to(side.product)
        if d_hidden is not None:
            towards = (d_product @ side.matrix).to(d_hidden.dtype).mul_(head.scale)
            d_hidden[block] += towards if weights is None else towards.mul_(weights)
        if d_weight is not None:
            x = side.hidden[block]
            if weights is not None or head.scale != 1.0:
                x = x.to(d_weight.dtype) * (head.scale if weights is None else weights * head.scale)
            add_product(d_weight[: head.num_rows], d_product, x.to(side.product))

    def finish(self) -> list[Tensor | None]:
        """Gradients in the tensors' own dtypes, None where none is wanted; the sums are used up."""
        finished: list[Tensor | None] = []
        for tensor in self.tensors:
            total = self.sums.pop(id(tensor), None)
            finished.append(None if total is None else total.mul_(self.inverse).to(tensor.dtype))
        return finished
