"""Lists of many lengths end to end in one tensor."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["members_between", "members_of"]


def members_of(offsets: Tensor, groups: Tensor) -> tuple[Tensor, Tensor]:
    """Everything that some groups hold, group after group: group g holds ``offsets[g]:offsets[g + 1]``.

    Args:
        offsets: (G + 1,) int64, where each group begins.
        groups: (R,) int64, in any order and more than once.

    Returns:
        (E,) int64 which of the R each member is of, and (E,) int64 its place.
    """
    return members_between(offsets[groups], offsets[groups + 1])


def members_between(starts: Tensor, stops: Tensor) -> tuple[Tensor, Tensor]:
    """The places in ``starts[r]:stops[r]`` for each of R: (E,) int64 the r, and (E,) int64 the place."""
    sizes = stops - starts
    owner = torch.repeat_interleave(torch.arange(len(sizes), device=sizes.device), sizes)
    before = torch.cumsum(sizes, 0) - sizes
    return owner, torch.arange(len(owner), device=sizes.device) + (starts - before)[owner]
