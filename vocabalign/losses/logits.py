"""How a block of hidden states becomes logits: the head, the teacher's rows, and the way back."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Head:
    """How logits come from hidden states: ``z = cap(scale * (x W^T + bias))``, cap(u) = c tanh(u / c).

    Attributes:
        weight: (V, H) rows; all of them are in the softmax.
        bias: (V,) or None.
        scale: ``logit_scale`` of Cohere, 1 / ``logits_scaling`` of Granite.
        softcap: ``final_logit_softcapping`` of Gemma.
    """

    weight: Tensor
    bias: Tensor | None = None
    scale: float = 1.0
    softcap: float | None = None


def block_logits(
    x: Tensor, matrix: Tensor, bias: Tensor | None, scale: float, softcap: float | None, exact: torch.dtype, slope: bool
) -> tuple[Tensor, Tensor | None]:
    """Logits of a block, and the slope of the soft cap where there is one."""
    logits = (x @ matrix.T).to(exact)
    if bias is not None:
        logits += bias.detach()
    if scale != 1.0:
        logits *= scale
    if softcap is None:
        return logits, None
    bounded = logits.div_(softcap).tanh_()
    return bounded * softcap, (1 - bounded * bounded) if slope else None


class TeacherRows:
    """The teacher's hidden states, cut into the same blocks as the student's.

    Args:
        rows: (N, Ht) hidden states of the supervised positions.
        head: (Vt, Ht) and what belongs to it.
        shared: rows of the head to compare.
        temperature: T.
        dtype: of the matrix product.
        exact: of everything after it.
    """

    def __init__(
        self, rows: Tensor, head: Head, shared: int, temperature: float, dtype: torch.dtype, exact: torch.dtype
    ) -> None:
        self.rows, self.head, self.temperature, self.exact = rows, head, temperature, exact
        self.matrix = head.weight.detach()[:shared].to(dtype)
        self.bias = None if head.bias is None else head.bias.detach()[:shared]

    def log_probs(self, block: slice) -> Tensor:
        """(C, shared) log-probabilities at the temperature."""
        x = self.rows[block].to(self.matrix.dtype)
        logits, _ = block_logits(x, self.matrix, self.bias, self.head.scale, self.head.softcap, self.exact, False)
        if self.temperature != 1.0:
            logits /= self.temperature
        return torch.log_softmax(logits, -1)


def add_product(total: Tensor, d_logits: Tensor, x: Tensor) -> None:
    """``total += d_logits^T x`` with the sum over blocks in ``total``'s dtype."""
    if d_logits.dtype == total.dtype:
        total.addmm_(d_logits.T, x)
    elif total.is_cuda:
        total += torch.mm(d_logits.T, x, out_dtype=total.dtype)
    else:
        total += d_logits.T @ x
