"""Whether a row kernel can take the place of eager code."""

from __future__ import annotations

from functools import cache
from types import ModuleType

import torch
from torch import Tensor

from vocabalign.losses.pairs import Divergence


@cache
def triton_rows() -> ModuleType | None:
    """The module of Triton kernels, or None where triton is not installed."""
    try:
        from vocabalign.losses import triton_rows as module
    except ImportError:
        return None
    return module


def kernel_kind(z: Tensor, terms: tuple[tuple[Divergence, Tensor | float], ...]) -> tuple[int, float, float] | None:
    """The kernel's branch for these terms, or None: not on CUDA, no triton, several terms, no branch."""
    if not z.is_cuda or z.dtype != torch.float32 or len(terms) != 1 or isinstance(terms[0][1], Tensor):
        return None
    module = triton_rows()
    found: tuple[int, float, float] | None = None if module is None else module.kind_of(terms[0][0])
    return found
