"""Cross-entropy and distillation from hidden states and heads, without a tensor of positions times vocabulary.

Rows are taken in blocks; the gradient of a block is computed while its logits are at hand (in the
*forward* pass), carried back to the hidden states and the head, and the block is overwritten by the
next one. Memory beyond inputs and gradients is one block, whatever the number of positions.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from vocabalign.losses.divergences import DIVERGENCES
from vocabalign.losses.logits import Head, TeacherRows, add_product, block_logits

__all__ = ["IGNORE", "FusedLoss", "Head", "fused_loss"]

IGNORE = -100
# On the CPU a block should stay in the cache; on a GPU it should fill the machine.
BLOCK_BYTES = {"cpu": 8 << 20, "cuda": 256 << 20}


class FusedLoss(NamedTuple):
    """``loss`` carries the gradient; the two parts (means per item, in nats) are for the log."""

    loss: Tensor
    cross_entropy: Tensor
    divergence: Tensor


def fused_loss(
    hidden: Tensor,
    head: Head,
    labels: Tensor,
    *,
    num_items: Tensor | float | None = None,
    teacher_hidden: Tensor | None = None,
    teacher_head: Head | None = None,
    divergence: str = "forward-kl",
    weight: float = 0.0,
    temperature: float = 1.0,
    shared_rows: int | None = None,
    block_bytes: int | None = None,
) -> FusedLoss:
    """``((1 - w) CE + w T^2 D(teacher, student)) / num_items``, summed over supervised positions.

    Cross-entropy is over all rows of the student's head. The divergence compares the first
    ``shared_rows`` rows of both heads: rows that only pad a head are left out, never zero-filled.
    Gradient: ``dz = (1 - w)(q - onehot) + w T dD/du`` per block, ``dx = dz W``, ``dW = dz^T x``; a head
    that needs no gradient costs none. Arithmetic is float32 (float64 for float64 inputs) after
    matrix products in the inputs' dtype, or in autocast's dtype where that is on.

    Args:
        hidden: (..., H) hidden states, position i predicts ``labels[i]``.
        head: the student's head, (V, H).
        labels: (...) int64; ``-100`` is not supervised.
        num_items: divide by this; the number of supervised positions by default. Give the count over
            all accumulated batches and ranks, and the gradient is exactly that of one big batch.
        teacher_hidden: (..., Ht), needed where ``weight`` > 0; no gradient.
        teacher_head: (Vt, Ht); no gradient.
        divergence: a name in ``divergences.DIVERGENCES``.
        weight: w, the share of the divergence.
        temperature: T, softens both distributions.
        shared_rows: ids that both vocabularies have; by default the smaller number of rows.
        block_bytes: memory of one block of logits.

    Returns:
        The loss and its two parts; 0 with zero gradients where nothing is supervised.

    Raises:
        ValueError: shapes that do not fit, a missing teacher, or an unknown divergence.

    Reference:
        distillation in one pass with the gradient in forward: Hsu et al. (2024), Liger-Kernel.
    """
    _check_shapes(hidden, head, labels, "hidden states")
    if weight and (teacher_hidden is None or teacher_head is None):
        raise ValueError("A divergence with weight > 0 needs the teacher's hidden states and head.")
    if divergence not in DIVERGENCES:
        raise ValueError(f"Unknown divergence '{divergence}': expected one of {', '.join(DIVERGENCES)}.")
    flat = labels.reshape(-1)
    rows = hidden.reshape(-1, hidden.shape[-1])
    teacher_rows = None
    if weight:
        _check_shapes(teacher_hidden, teacher_head, labels, "teacher's hidden states")
        teacher_rows = teacher_hidden.detach().reshape(-1, teacher_hidden.shape[-1])
        shared = min(head.weight.shape[0], teacher_head.weight.shape[0], shared_rows or 1 << 62)
    else:
        shared = 0
    supervised = flat != IGNORE
    count = int(supervised.sum())
    if count < flat.numel():
        positions = supervised.nonzero().squeeze(1)
        flat, rows = flat[positions], rows[positions]
        teacher_rows = None if teacher_rows is None else teacher_rows[positions]
    _check_labels(flat, head.weight.shape[0])
    settings = _Settings(
        head.scale, head.softcap, teacher_rows, teacher_head, divergence, weight, temperature, shared, block_bytes
    )
    divisor = max(count, 1) if num_items is None else num_items
    return FusedLoss(*_Fused.apply(rows, head.weight, head.bias, flat, divisor, settings))


def _check_shapes(hidden: Tensor, head: Head, labels: Tensor, name: str) -> None:
    if hidden.shape[:-1] != labels.shape:
        raise ValueError(f"The {name} have shape {tuple(hidden.shape)} but the labels {tuple(labels.shape)}.")
    if hidden.shape[-1] != head.weight.shape[1]:
        raise ValueError(f"The {name} have size {hidden.shape[-1]} but the head's rows {head.weight.shape[1]}.")


def _check_labels(labels: Tensor, num_rows: int) -> None:
    # On a GPU this would wait for the device at every step; gather fails there by itself.
    if labels.device.type == "cpu" and labels.numel() and (int(labels.max()) >= num_rows or int(labels.min()) < 0):
        raise ValueError(f"A label is outside the vocabulary: ids to {int(labels.max())}, {num_rows} rows.")


@dataclass(frozen=True)
class _Settings:
    scale: float
    softcap: float | None
    teacher_rows: Tensor | None
    teacher_head: Head | None
    divergence: str
    weight: float
    temperature: float
    shared: int
    block_bytes: int | None

    def teacher_rows_for(self, dtype: torch.dtype, exact: torch.dtype) -> TeacherRows | None:
        if self.teacher_rows is None or self.teacher_head is None:
            return None
        return TeacherRows(self.teacher_rows, self.teacher_head, self.shared, self.temperature, dtype, exact)


class _Fused(torch.autograd.Function):
    """The gradient is made in ``forward``; ``backward`` only scales it."""

    @staticmethod
    def forward(
        ctx: Any, rows: Tensor, weight: Tensor, bias: Tensor | None, labels: Tensor, divisor: Any, settings: _Settings
    ) -> tuple[Tensor, Tensor, Tensor]:
        device = rows.device.type
        product_dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else rows.dtype
        needs = ctx.needs_input_grad[:3]
        with torch.autocast(device, enabled=False):
            totals, gradients = _stream(rows, weight, bias, labels, divisor, settings, product_dtype, needs)
        ctx.save_for_backward(*gradients)
        ctx.mark_non_differentiable(totals[1], totals[2])
        return totals

    @staticmethod
    def backward(ctx: Any, upstream: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:
        scaled = [None if grad is None else grad * upstream.to(grad.dtype) for grad in ctx.saved_tensors]
        return (*scaled, None, None, None)


def _stream(
    rows: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    labels: Tensor,
    divisor: Any,
    settings: _Settings,
    product_dtype: torch.dtype,
    needs: tuple[bool, ...],
) -> tuple[tuple[Tensor, Tensor, Tensor], list[Tensor | None]]:
    """Go through the rows block by block: totals, and gradients of rows, weight and bias."""
    count, num_rows = rows.shape[0], weight.shape[0]
    exact = torch.float64 if rows.dtype == torch.float64 else torch.float32
    matrix = weight.detach().to(product_dtype)
    d_rows = torch.empty_like(rows) if needs[0] else None
    d_weight = torch.zeros(weight.shape, dtype=exact, device=weight.device) if needs[1] else None
    d_bias = torch.zeros(bias.shape, dtype=exact, device=bias.device) if bias is not None and needs[2] else None
    sums = torch.zeros(2, dtype=torch.float64 if rows.device.type != "mps" else exact, device=rows.device)
    teacher = settings.teacher_rows_for(product_dtype, exact)
    allowance = settings.block_bytes or BLOCK_BYTES.get(rows.device.type, 64 << 20)
    step = max(16, allowance // (num_rows * exact.itemsize))
    inverse = 1.0 / divisor
    for start in range(0, count, step):
        block = slice(start, start + step)
        x = rows[block].detach().to(product_dtype)
        logits, slope = block_logits(x, matrix, bias, settings.scale, settings.softcap, exact, any(needs))
        d_logits = _block_gradient(logits, labels[block], teacher, block, settings, sums)
        if not any(needs):
            continue
        if slope is not None:
            d_logits.mul_(slope)
        d_logits.mul_(inverse if isinstance(inverse, float) else inverse.to(exact))
        if d_bias is not None:
            d_bias += d_logits.sum(0).mul_(settings.scale)
        if settings.scale != 1.0:
            d_logits.mul_(settings.scale)
        d_logits = d_logits.to(product_dtype)
        if d_rows is not None:
            d_rows[block] = d_logits @ matrix
        if d_weight is not None:
            add_product(d_weight, d_logits, x)
    means = sums * inverse
    loss = (1 - settings.weight) * means[0] + settings.weight * settings.temperature**2 * means[1]
    gradients = [d_rows, None if d_weight is None else d_weight.to(weight.dtype), d_bias]
    if d_bias is not None:
        gradients[2] = d_bias.to(bias.dtype)
    return (loss.to(exact), means[0].to(exact), means[1].to(exact)), gradients


def _block_gradient(
    logits: Tensor, labels: Tensor, teacher: TeacherRows | None, block: slice, settings: _Settings, sums: Tensor
) -> Tensor:
    """Add the block's losses to ``sums``; the gradient of the mixture with respect to its logits."""
    log_probs = torch.log_softmax(logits, -1)
    sums[0] -= log_probs.gather(1, labels[:, None]).sum()
    if teacher is None:
        gradient = log_probs.exp_()
        return gradient.scatter_add_(1, labels[:, None], -torch.ones_like(labels, dtype=gradient.dtype)[:, None])
    softened = log_probs
    if settings.temperature != 1.0 or settings.shared < logits.shape[1]:
        softened = torch.log_softmax(logits[:, : settings.shared] / settings.temperature, -1)
    values, towards = DIVERGENCES[settings.divergence](softened, teacher.log_probs(block))
    sums[1] += values.sum()
    gradient = log_probs.exp_().mul_(1 - settings.weight)
    minus = gradient.new_full((labels.shape[0], 1), settings.weight - 1)
    gradient.scatter_add_(1, labels[:, None], minus)
    gradient[:, : settings.shared].add_(towards, alpha=settings.weight * settings.temperature)
    return gradient
