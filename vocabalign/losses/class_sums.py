"""Probabilities of tokens summed to probabilities of classes, where cross-entropy wants the softmax over tokens anyway.

One softmax of the student's logits serves both: the probability of a class is a sum, made by a product with a sparse
matrix, and not the logarithm of a sum as in ``merging``.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from vocabalign.losses.classes import EXCLUDED, EventClasses
from vocabalign.losses.merging import Merge
from vocabalign.losses.sparse_products import sum_matrices, times
from vocabalign.losses.streaming import RowLoss

__all__ = ["ClassSums", "in_float64", "is_out_of_reach"]

# Sums of probabilities below this are taken once more in float64.
_REACH = 1e-30


class ClassSums:
    """Sums of both sides' probabilities by class; made once for a run.

    Args:
        classes: of both vocabularies; K.
        num_rows: rows of the student's head; those that only pad it are in the softmax of the cross-entropy and in
            no class.
        device: where the loss runs.

    Attributes:
        class_of: (V,) class of each row of the head, K for those in none.
    """

    def __init__(self, classes: EventClasses, num_rows: int, device: torch.device | str = "cpu") -> None:
        student = np.full(num_rows, EXCLUDED, dtype=np.int64)
        student[: len(classes.student)] = classes.student
        self.classes, self.device = classes, device
        self.num_rows, self.num_tokens = num_rows, (len(classes.student), len(classes.teacher))
        self.class_of = torch.from_numpy(np.where(student < 0, classes.num_classes, student)).to(device)
        self._student = sum_matrices(student, classes.num_classes, device)

    @cached_property
    def merge(self) -> Merge:
        """The teacher's classes from logits: exact also where a class is out of reach of sums."""
        return Merge(self.classes.teacher, self.classes.num_classes, self.device)

    @cached_property
    def _teacher(self) -> dict[torch.dtype, Tensor]:
        return sum_matrices(self.classes.teacher, self.classes.num_classes, self.device)

    def student_sums(self, q: Tensor) -> Tensor:
        """(C, V) -> (C, K)."""
        return times(self._student[q.dtype], q)

    def teacher_sums(self, p: Tensor) -> Tensor:
        """(C, Vt) -> (C, K)."""
        return times(self._teacher[p.dtype], p)

    def has_class(self, labels: Tensor) -> Tensor:
        """(P,) bool: whether a label (-100 for none) is in a class."""
        return (labels >= 0) & (self.class_of[labels.clamp(min=0)] < self.classes.num_classes)


def is_out_of_reach(sums: Tensor) -> bool:
    """Whether a class is so unlikely that float32 does not tell how unlikely."""
    return sums.dtype == torch.float32 and sums.numel() > 0 and float(sums.amin()) < _REACH


def in_float64(row_loss: RowLoss, logits: Sequence[Tensor], rows: slice, gradient: bool) -> Tensor:
    """Values of the same rows in float64, in the logits' dtype; the first logits become the gradient."""
    wide = [each.double() for each in logits]
    values = row_loss(wide, rows, gradient).to(logits[0].dtype)
    logits[0].copy_(wide[0])
    return values
