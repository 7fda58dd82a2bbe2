"""What is done to logits before they are compared."""

from __future__ import annotations

import torch
from torch import Tensor

# Added to the standard deviation, as in the authors' code.
EPSILON = 1e-7


def standardise(logits: Tensor) -> Tensor:
    """``(z - mean z) / (std z + 1e-7)`` over the last dimension: relations of logits, not their scale.

    A small student then need not reach the scale of a large teacher's logits, only the order and the shape. Use it
    on both sides with a temperature above 1 (the paper has 2 to 9). Streamed by ``fused_loss(standardise=True)``;
    this function is the plain form, differentiable by autograd.

    Args:
        logits: (..., V) of finite numbers.

    Returns:
        (..., V) of mean 0 and standard deviation 1 (0 where all are equal).

    Reference:
        Sun et al. (2024), Logit Standardization in Knowledge Distillation, section 4.
    """
    deviation = logits.std(-1, keepdim=True)
    return (logits - logits.mean(-1, keepdim=True)) / (deviation + EPSILON)


def standardise_(logits: Tensor) -> Tensor:
    """The same in place; returns the (C, 1) factor 1 / (std + 1e-7) that ``standardise_back_`` wants."""
    deviation, mean = torch.std_mean(logits, -1, keepdim=True)
    factor = 1 / (deviation + EPSILON)
    logits.sub_(mean).mul_(factor)
    return factor


def standardise_back_(gradient: Tensor, standardised: Tensor, factor: Tensor) -> Tensor:
    """From the gradient of standardised logits to that of the logits, in place.

    ``dz = f (dy - mean dy - y <y, dy> / ((V - 1) s / (s + e)))`` with f = 1 / (s + e), s the standard deviation.

    Args:
        gradient: (C, V) dy.
        standardised: (C, V) y.
        factor: (C, 1) f.
    """
    relative = (1 - EPSILON * factor).clamp_(min=torch.finfo(factor.dtype).eps)  # s / (s + e)
    along = (gradient * standardised).sum(-1, keepdim=True).div_(relative * max(standardised.shape[-1] - 1, 1))
    gradient -= gradient.mean(-1, keepdim=True)
    return gradient.addcmul_(standardised, along, value=-1).mul_(factor)
