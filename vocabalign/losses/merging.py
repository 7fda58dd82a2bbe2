"""Logits of tokens become logits of classes of tokens, block by block, and gradients go the way back.

The logit of a class is the log-sum-exp of the logits of its members: the softmax over classes is then the sum of the
softmax over tokens. A class of one member keeps its logit bit for bit, and its gradient too.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from vocabalign.losses.logits import NEVER

__all__ = ["Merge"]

# Up to this many members each number of members is a group of its own; beyond, four groups to an octave.
_EXACT = 8


class Merge:
    """Sums of columns by class.

    Columns are brought into an order in which the classes of m members lie as m runs side by side, so that all work is
    on whole runs: one gather of columns before and one after, and no scatter.

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
            at = starts[members] + np.arange(size)[:, None]  # (size, classes)
            missing = np.arange(size)[:, None] >= counts[members]
            order.append(columns[np.where(missing, starts[members], at)].reshape(-1))
            pads.append(position + np.flatnonzero(missing.reshape(-1)))
            ranked.append(members)
            self.groups.append((size, len(members)))
            position += size * len(members)
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

    def merge(self, arranged: Tensor) -> Tensor:
        """(C, M) -> (C, K) logits of the classes, in ``order``; a copy.

        ``arranged`` becomes the share of each member in its class, ``exp(z_s - u_c)``, which ``spread`` needs.
        """
        if self.identity:
            return arranged
        parts, position = [], 0
        for size, count in self.groups:
            group = arranged[:, position : position + size * count]
            parts.append(group if size == 1 else _log_sum_exp(group.view(-1, size, count)))
            position += size * count
        return torch.cat(parts, 1)

    def spread(self, d_merged: Tensor, shares: Tensor, out: Tensor) -> None:
        """Gradient of the classes' logits -> gradient of the tokens' logits, written to ``out``.

        ``dD/dz_s = dD/du_c exp(z_s - u_c)``: each member has its share of its class.

        Args:
            d_merged: (C, K), in ``order``.
            shares: (C, M) what ``merge`` left; overwritten.
            out: (C, V), whatever it held.
        """
        if self.identity:
            out.copy_(d_merged)
            return
        position = first = 0
        for size, count in self.groups:
            group = shares[:, position : position + size * count]
            towards = d_merged[:, first : first + count]
            if size == 1:
                group.copy_(towards)
            else:
                group.view(-1, size, count).mul_(towards[:, None])
            position, first = position + size * count, first + count
        torch.index_select(shares, 1, self.places, out=out)
        if len(self.left_out):
            out.index_fill_(1, self.left_out, 0)

    def columns_of(self, number: int) -> Tensor:
        """(m,) the columns of a class."""
        return self._members[number][0]

    def share_of(self, number: int, shares: Tensor) -> Tensor:
        """(C, m) what ``merge`` left for the members of a class: their distribution within it."""
        columns, places = self._members[number]
        if len(columns) == 1:
            return torch.ones_like(shares[:, :1])
        return shares.index_select(1, places)


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


def _log_sum_exp(group: Tensor) -> Tensor:
    """(C, size, count) -> (C, count); the group becomes its softmax over ``size``."""
    highest = group.amax(1)
    total = group.sub_(highest[:, None]).exp_().sum(1)
    group.div_(total[:, None])
    return highest.add_(total.log_())


def _group_sizes(counts: np.ndarray) -> np.ndarray:
    """The number of members that each class is filled up to, so that there are few groups."""
    step = 2 ** np.maximum(0, np.floor(np.log2(np.maximum(counts, 1))).astype(np.int64) - 2)
    return np.where(counts <= _EXACT, counts, -(-counts // step) * step)
