"""Logits of tokens become logits of classes of tokens, block by block, and gradients go the way back.

The logit of a class is the log-sum-exp of the logits of its members: the softmax over classes is then the sum of the
softmax over tokens. A class of one member keeps its logit bit for bit, and its gradient too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import Tensor

from vocabalign.losses.logits import NEVER

__all__ = ["Merge"]

# Up to this many members the members lie in runs; beyond, side by side, and there are two groups to an octave.
_EXACT = 3
# Sums of exponentials above this are exact enough in float32, whose smallest normal number is 1e-38.
_REACH = 1e-30


class Merge:
    """Sums of columns by class.

    Columns are brought into an order in which the classes with m members are one group, so that all work is on whole
    groups: one gather of columns before and one after, and no scatter.

    Args:
        classes: (V,) class of each column, -1 for columns that are left out (probability 0, no gradient).
        num_classes: K.
        device: where the blocks are.
    """

    def __init__(self, classes: np.ndarray, num_classes: int, device: torch.device | str = "cpu") -> None:
        counts = np.bincount(classes[classes >= 0], minlength=num_classes)
        self.num_columns, self.num_classes = len(classes), num_classes
        self.identity = len(classes) == num_classes and bool((classes == np.arange(num_classes)).all())
        padded = _group_sizes(counts)
        order: list[np.ndarray] = []
        pads: list[np.ndarray] = []
        ranked: list[np.ndarray] = []
        self.groups: list[tuple[int, int]] = []
        columns = np.argsort(np.where(classes < 0, num_classes, classes), kind="stable")
        starts = np.concatenate([[0], np.cumsum(counts)])
        position = 0
        for size in np.unique(padded[padded > 0]).tolist():
            members = np.flatnonzero(padded == size)
            number = np.arange(size)[:, None]
            missing = number >= counts[members]
            at = np.where(missing, starts[members], starts[members] + number)  # (size, classes)
            if size > _EXACT:
                at, missing = at.T, missing.T
            order.append(columns[at].reshape(-1))
            pads.append(position + np.flatnonzero(missing.reshape(-1)))
            ranked.append(members)
            self.groups.append((size, len(members)))
            position += size * len(members)
        self._alone = self.groups[0][1] if self.groups and self.groups[0][0] == 1 else 0
        arranged = np.concatenate(order) if order else np.zeros(0, dtype=np.int64)
        padding = np.concatenate(pads) if pads else arranged
        places = np.zeros(len(classes), dtype=np.int64)
        kept = np.setdiff1d(np.arange(position), padding, assume_unique=True)
        places[arranged[kept]] = kept
        rank = np.full(num_classes, -1, dtype=np.int64)
        merged = np.concatenate(ranked) if ranked else arranged
        rank[merged] = np.arange(len(merged))
        left_out = np.flatnonzero(classes < 0)
        self.columns, self.padding, self.places, self.left_out = (
            torch.from_numpy(a).to(device) for a in (arranged, padding, places, left_out)
        )
        self._members = _Members(classes, self.places)
        self.order = torch.from_numpy(merged).to(device)
        """(K,) the class of each merged column: they come in the order of their sizes."""
        self.rank = torch.from_numpy(rank).to(device)
        """(K,) the merged column of each class."""

    def arrange(self, logits: Tensor) -> Tensor:
        """(C, V) logits -> (C, M) columns in the order of the groups; a copy, for ``merge`` and ``spread``."""
        if self.identity:
            return logits
        arranged = logits.index_select(1, self.columns)
        return arranged.index_fill_(1, self.padding, NEVER) if len(self.padding) else arranged

    def merge(self, arranged: Tensor) -> tuple[Tensor, Tensor]:
        """(C, M) -> (C, K) logits of the classes, in ``order``, and what ``spread`` needs of them; copies.

        For the K' classes of several members ``arranged`` becomes ``exp(z_s)`` up to a factor for each class; their
        sums, (C, K'), are the second result.
        """
        if self.identity:
            return arranged, arranged[:, :0]
        merged = arranged.new_empty(len(arranged), self.num_classes)
        merged[:, : self._alone] = arranged[:, : self._alone]
        highest, several = merged[:, self._alone :], arranged[:, self._alone :]
        totals = torch.empty_like(highest)
        if not arranged.is_cuda and several.shape[1]:
            # One softmax for the row is enough, unless all of a class is out of its reach; it is also the fastest
            # way to many exponentials. What it divided by is known from the largest entry.
            softmax = torch.softmax(several, 1)
            self._sum(softmax, totals)
            if float(totals.amin()) > _REACH:
                divisor = several.amax(1, keepdim=True) - softmax.amax(1, keepdim=True).log()
                several.copy_(softmax)
                torch.log(totals, out=highest).add_(divisor)
                return merged, totals
        for group, classes, size in self._several(several):
            _over_members(torch.maximum, torch.amax, group, size, highest[:, classes])
            group.sub_(_spread_out(highest[:, classes], size))
        several.exp_()
        self._sum(several, totals)
        highest += totals.log()
        return merged, totals

    def _sum(self, several: Tensor, totals: Tensor) -> None:
        for group, classes, size in self._several(several):
            _over_members(torch.add, torch.sum, group, size, totals[:, classes])

    def spread(self, d_merged: Tensor, totals: Tensor, arranged: Tensor, out: Tensor) -> None:
        """Gradient of the classes' logits -> gradient of the tokens' logits, written to ``out``.

        ``dD/dz_s = dD/du_c exp(z_s - u_c)``: each member has its share of its class.

        Args:
            d_merged: (C, K), in ``order``.
            totals: (C, K') from ``merge``.
            arranged: (C, M) what ``merge`` left; overwritten.
            out: (C, V), whatever it held.
        """
        if self.identity:
            out.copy_(d_merged)
            return
        arranged[:, : self._alone] = d_merged[:, : self._alone]
        towards = d_merged[:, self._alone :] / totals
        for group, classes, size in self._several(arranged[:, self._alone :]):
            group.mul_(_spread_out(towards[:, classes], size))
        torch.index_select(arranged, 1, self.places, out=out)
        if len(self.left_out):
            out.index_fill_(1, self.left_out, 0)

    def _several(self, several: Tensor) -> Iterator[tuple[Tensor, slice, int]]:
        """Views of the groups of more than one member, which of the K' classes they are, and their size.

        Few members lie in runs (C, size, count), many side by side (C, count, size): the long axis is the fast one.
        """
        groups = [(size, count) for size, count in self.groups if size > 1]
        first = 0
        parts = several.split([size * count for size, count in groups], 1)
        for (size, count), part in zip(groups, parts):
            shape = (-1, size, count) if size <= _EXACT else (-1, count, size)
            yield part.view(shape), slice(first, first + count), size
            first += count

    def columns_of(self, number: int) -> Tensor:
        """(m,) the columns of a class."""
        return self._members[number][0]

    def share_of(self, number: int, arranged: Tensor) -> Tensor:
        """(C, m) what ``merge`` left for the members of a class: their distribution within it."""
        columns, places = self._members[number]
        if len(columns) == 1:
            return torch.ones_like(arranged[:, :1])
        part = arranged.index_select(1, places)
        return part / part.sum(1, keepdim=True)


class _Members:
    """Columns of each class and where they were arranged, found when asked for."""

    def __init__(self, classes: np.ndarray, places: Tensor) -> None:
        self.classes, self.places = classes, places
        self.found: dict[int, tuple[Tensor, Tensor]] = {}

    def __getitem__(self, number: int) -> tuple[Tensor, Tensor]:
        if number not in self.found:
            columns = torch.from_numpy(np.flatnonzero(self.classes == number)).to(self.places.device)
            self.found[number] = columns, self.places[columns]
        return self.found[number]


def _over_members(
    pairwise: Callable[..., Tensor], whole: Callable[..., Tensor], group: Tensor, size: int, out: Tensor
) -> None:
    """Reduce a group over its members; few of them one after the other, which runs along the columns."""
    if size > _EXACT:
        whole(group, 2, out=out)
        return
    pairwise(group[:, 0], group[:, 1], out=out)
    for member in range(2, size):
        pairwise(out, group[:, member], out=out)


def _spread_out(values: Tensor, size: int) -> Tensor:
    """(C, count) -> the shape in which it meets all members of each class."""
    return values[:, None] if size <= _EXACT else values[:, :, None]


def _group_sizes(counts: np.ndarray) -> np.ndarray:
    """The number of members that each class is filled up to, so that there are few groups."""
    step = 2 ** np.maximum(0, np.floor(np.log2(np.maximum(counts, 1))).astype(np.int64) - 1)
    return np.where(counts <= _EXACT, counts, -(-counts // step) * step)
