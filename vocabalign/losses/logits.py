"""How a block of hidden states becomes logits, and how the gradient of the logits goes back."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor

# Stands for minus infinity: its exponential is 0 and, unlike infinity, it can be subtracted from itself.
NEVER = -1e30


@dataclass(frozen=True)
class Head:
    """How logits come from hidden states: ``z = cap(scale * (x W^T + bias))``, cap(u) = c tanh(u / c).

    Rows that only pad the head (their number rounded up to a multiple of 64 or 128) do not stand for a token:
    cut them off with ``rows`` where they are at the end, name them in ``masked`` elsewhere. Both leave them out
    of the softmax; a row of zeros would instead have the logit 0 and take probability from the tokens.

    Attributes:
        weight: (V, H) rows. May be the input embeddings themselves (tied): the gradient is added there.
        bias: (V,) or None.
        scale: ``logit_scale`` of Cohere, 1 / ``logits_scaling`` of Granite.
        softcap: ``final_logit_softcapping`` of Gemma.
        rows: how many of the first rows are in the softmax; all by default.
        masked: (M,) int64 ids below ``rows`` whose logit is minus infinity, after the cap.
    """

    weight: Tensor
    bias: Tensor | None = None
    scale: float = 1.0
    softcap: float | None = None
    rows: int | None = None
    masked: Tensor | None = None

    @property
    def num_rows(self) -> int:
        """Rows in the softmax."""
        return self.weight.shape[0] if self.rows is None else self.rows


def check_head(hidden: Tensor, head: Head, name: str = "hidden states") -> None:
    """Refuse a head that does not fit the hidden states.

    Raises:
        ValueError: another width, a bias of another length, ``rows`` or ``masked`` outside the head, a soft cap
            that is not positive.
    """
    if head.weight.ndim != 2:
        raise ValueError(f"The head's weight has shape {tuple(head.weight.shape)}: expected (V, H).")
    total, width = head.weight.shape
    if hidden.shape[-1] != width:
        raise ValueError(f"The {name} have size {hidden.shape[-1]} but the head's rows {width}.")
    if head.bias is not None and head.bias.shape != (total,):
        raise ValueError(f"The head's bias has shape {tuple(head.bias.shape)} but the head {total} rows.")
    if not 0 < head.num_rows <= total:
        raise ValueError(f"The first {head.num_rows} rows are asked for but the head has {total}.")
    if head.softcap is not None and not head.softcap > 0:
        raise ValueError(f"The soft cap is {head.softcap}: expected a positive number, or None for no cap.")
    if head.masked is not None and head.masked.numel():
        lowest, highest = head.masked.aminmax()
        if int(lowest) < 0 or int(highest) >= head.num_rows:
            raise ValueError(f"A masked row is outside the head: ids to {int(highest)}, {head.num_rows} rows.")


class Projection:
    """One side of a loss: blocks of logits from its hidden states, and gradients back.

    Args:
        hidden: (N, H).
        head: of this side.
        product: dtype of the matrix products.
        exact: dtype of everything else, float32 or float64.
    """

    def __init__(self, hidden: Tensor, head: Head, product: torch.dtype, exact: torch.dtype) -> None:
        self.hidden, self.head, self.product, self.exact = hidden.detach(), head, product, exact
        self.matrix = head.weight.detach()[: head.num_rows].to(product)
        self.bias = None
        if head.bias is not None:
            self.bias = head.bias.detach()[: head.num_rows].to(exact).clamp(min=NEVER)

    def inputs(self, block: slice) -> Tensor:
        """(C, H) hidden states in the product's dtype."""
        return self.hidden[block].to(self.product)

    def raw(self, block: slice, out: Tensor | None) -> Tensor:
        """(C, V) products ``x W^T`` in ``exact``, into ``out`` where that is given."""
        x = self.inputs(block)
        if self.product == self.exact and out is not None:
            return torch.mm(x, self.matrix.T, out=out[: x.shape[0]])
        return product(x, self.matrix.T, self.exact)

    def finish(self, logits: Tensor, slope: bool) -> Tensor | None:
        """Make raw products into logits in place; the slope of the soft cap where there is one and it is wanted."""
        if self.bias is not None:
            logits += self.bias
        if self.head.scale != 1.0:
            logits *= self.head.scale
        found = None
        if self.head.softcap is not None:
            bounded = logits.div_(self.head.softcap).tanh_()
            found = bounded.square().neg_().add_(1) if slope else None
            bounded *= self.head.softcap
        if self.head.masked is not None:
            logits.index_fill_(1, self.head.masked, NEVER)
        return found

    def back(self, d_logits: Tensor, slope: Tensor | None) -> None:
        """From the gradient of the logits to that of the raw products, but for the scale, in place."""
        if slope is not None:
            d_logits *= slope
        if self.head.masked is not None:
            d_logits.index_fill_(1, self.head.masked, 0)


def product(a: Tensor, b: Tensor, exact: torch.dtype) -> Tensor:
    """``a @ b`` in ``exact``, without rounding to the inputs' dtype where the device can do that."""
    if a.dtype == exact:
        return a @ b
    if a.is_cuda and "dtype" in torch.ops.aten.mm.overloads():
        return torch.mm(a, b, out_dtype=exact)
    return (a @ b).to(exact)


def add_product(total: Tensor, d_logits: Tensor, x: Tensor) -> None:
    """``total += d_logits^T x`` with the sum over blocks in ``total``'s dtype."""
    if d_logits.dtype == total.dtype:
        total.addmm_(d_logits.T, x)
    elif total.is_cuda and _accumulates(d_logits.dtype, total.dtype):
        torch.addmm(total, d_logits.T, x, out_dtype=total.dtype, out=total)
    else:
        total += product(d_logits.T, x, total.dtype)


@cache
def _accumulates(dtype: torch.dtype, exact: torch.dtype) -> bool:
    """Whether this torch adds products of ``dtype`` to a sum in ``exact`` in place; tried once, on small ones.

    It saves a second tensor of the head's size, written and read for every block.
    """
    total = torch.ones(16, 16, dtype=exact, device="cuda")
    ones = torch.ones(16, 16, dtype=dtype, device="cuda")
    try:
        torch.addmm(total, ones.T, ones, out_dtype=exact, out=total)
    except (RuntimeError, TypeError):
        return False
    return bool((total == 17).all())
