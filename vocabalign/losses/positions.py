"""Which positions count: labels, masks and weights brought to rows, and checks of what comes in."""

from __future__ import annotations

import torch
from torch import Tensor

from vocabalign.losses.logits import Head

IGNORE = -100


class Positions:
    """The supervised positions of a batch, as rows.

    Args:
        hidden: (..., H), for its shape.
        labels: (...) int64, -100 where nothing is supervised.
        weights: (...) or None. Positions of weight 0 are left out as well.

    Raises:
        ValueError: shapes that do not fit; weights that are negative, infinite or NaN.
    """

    def __init__(self, hidden: Tensor, labels: Tensor, weights: Tensor | None = None) -> None:
        if hidden.shape[:-1] != labels.shape:
            raise ValueError(
                f"The hidden states have shape {tuple(hidden.shape)} but the labels {tuple(labels.shape)}."
            )
        if labels.is_floating_point() or labels.dtype == torch.bool:
            raise ValueError(f"The labels are {labels.dtype}: expected integer ids, {IGNORE} where not supervised.")
        self.shape = labels.shape
        flat = labels.reshape(-1)
        supervised = flat != IGNORE
        self.weights = None
        if weights is not None:
            self.weights = self._flat_weights(weights)
            supervised &= self.weights != 0
        self._chosen: Tensor | None = supervised.nonzero().squeeze(1)
        self.count = self._chosen.numel()
        if self.count == flat.numel():
            self._chosen = None
        self.labels = self._take(flat).long()
        self.weights = None if self.weights is None else self._take(self.weights)

    def _flat_weights(self, weights: Tensor) -> Tensor:
        if weights.shape != self.shape:
            raise ValueError(
                f"The weights have shape {tuple(weights.shape)} but the labels {tuple(self.shape)}: "
                "expected one for each position."
            )
        flat = weights.detach().reshape(-1)
        if not bool(((flat >= 0) & (flat < torch.inf)).all()):
            raise ValueError("The positions' weights hold a negative number, infinity or NaN: expected numbers >= 0.")
        return flat

    def _take(self, flat: Tensor) -> Tensor:
        return flat if self._chosen is None else flat[self._chosen]

    def rows(self, values: Tensor, name: str) -> Tensor:
        """The supervised rows, (N, ...), of something with the labels' shape in front and one dimension more."""
        if values.shape[:-1] != self.shape:
            raise ValueError(f"The {name} have shape {tuple(values.shape)} but the labels {tuple(self.shape)}.")
        return self._take(values.reshape(-1, values.shape[-1]))

    def coefficients(self, value: Tensor | float) -> Tensor | float:
        """A number, or (N,) from one number for each position."""
        if not isinstance(value, Tensor) or value.ndim == 0:
            return value
        return self.rows(value[..., None], "coefficients").squeeze(1).detach()

    def check_labels(self, head: Head, shared: int | None = None) -> None:
        """Refuse labels that no row of the head stands for.

        On a GPU this would wait for the device at every step; gather fails there by itself.

        Args:
            head: of the student.
            shared: where a divergence treats the label apart, the number of rows that it compares.

        Raises:
            ValueError: a label outside the head or masked in it.
        """
        if self.labels.device.type != "cpu" or not self.count:
            return
        limit = head.num_rows if shared is None else shared
        lowest, highest = int(self.labels.min()), int(self.labels.max())
        if highest >= limit or lowest < 0:
            raise ValueError(f"A label is outside the vocabulary: ids from {lowest} to {highest}, {limit} rows.")
        if head.masked is not None and bool(torch.isin(self.labels, head.masked).any()):
            raise ValueError("A label is masked in the head: that token can never be predicted.")


def check_finite(teacher_hidden: Tensor, teacher_weight: Tensor) -> None:
    """Refuse a teacher with NaN or infinity, which would reach every parameter of the student.

    One pass over either, against the rows times as many of the loss.

    Raises:
        ValueError: such a number.
    """
    sums = torch.stack([x.detach().sum(dtype=torch.float32) for x in (teacher_hidden, teacher_weight)])
    for value, name in zip(sums.tolist(), ("hidden states", "head")):
        if value != value or abs(value) == float("inf"):
            raise ValueError(f"The teacher's {name} hold NaN or infinity: check its weights and the dtype it runs in.")
