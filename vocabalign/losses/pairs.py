"""Teacher and student distributions of a few rows, with what several divergences need of them made once."""

from __future__ import annotations

from functools import cached_property
from typing import Protocol

import torch
from torch import Tensor

from vocabalign.losses.logits import NEVER

Result = tuple[Tensor, Tensor]


class Pair:
    """Log-probabilities of both sides over the same events.

    Args:
        student: (C, K) log q. Minus infinity is a probability of 0.
        teacher: (C, K) log p.
        labels: (C,) int64 event that happened; only divergences that treat it apart need it.
    """

    def __init__(self, student: Tensor, teacher: Tensor, labels: Tensor | None = None) -> None:
        if student.shape != teacher.shape:
            raise ValueError(
                f"The student has log-probabilities of shape {tuple(student.shape)} and the teacher "
                f"{tuple(teacher.shape)}: expected the same events on both sides."
            )
        self.student, self.teacher = student.clamp(min=NEVER), teacher.clamp(min=NEVER)
        self.labels = labels

    @classmethod
    def from_logits(cls, student: Tensor, teacher: Tensor, labels: Tensor | None = None) -> Pair:
        """From (C, V) logits, which are overwritten with log-probabilities; one exponential for each."""
        pair = cls.__new__(cls)
        pair.q, pair.p = normalise_(student), normalise_(teacher)
        pair.student, pair.teacher, pair.labels = student, teacher, labels
        return pair

    @classmethod
    def from_target(cls, student: Tensor, p: Tensor) -> Pair:
        """From (C, K) logits, which are overwritten with log-probabilities, and the teacher's probabilities."""
        pair = cls.__new__(cls)
        pair.q, pair.p = normalise_(student), p
        # Of numbers from 0 to the least normal one the logarithm takes ten times as long on many processors.
        log_p = p.clamp(min=torch.finfo(p.dtype).tiny).log_().masked_fill_(p == 0, NEVER)
        pair.student, pair.teacher, pair.labels = student, log_p, None
        return pair

    @cached_property
    def q(self) -> Tensor:
        """(C, K) student's probabilities."""
        return self.student.exp()

    @cached_property
    def p(self) -> Tensor:
        """(C, K) teacher's probabilities."""
        return self.teacher.exp()

    @cached_property
    def gap(self) -> Tensor:
        """(C, K) log p - log q, exactly 0 where the two are equal."""
        return self.teacher - self.student

    def swapped(self) -> Pair:
        """The same with the roles exchanged."""
        other = Pair.__new__(Pair)
        other.student, other.teacher, other.labels = self.teacher, self.student, self.labels
        other.q, other.p = self.p, self.q
        return other


def normalise_(logits: Tensor) -> Tensor:
    """Overwrite (C, V) finite logits with their log-probabilities and return the probabilities."""
    probabilities = torch.softmax(logits, -1)
    # log(sum of exp) without a second pass of exponentials: the largest entry is known in both forms.
    logits -= (logits.amax(-1) - probabilities.amax(-1).log())[:, None]
    return probabilities


def centred(score: Tensor, q: Tensor) -> Tensor:
    """``q (score - <q, score>)``, in place."""
    gradient = score.mul_(q)
    return gradient.addcmul_(q, gradient.sum(-1, keepdim=True), value=-1)


class Divergence(Protocol):
    """``divergence(pair) -> (values (C,), gradient (C, K))``; hashable, so that it can be the key of a mixture."""

    def __call__(self, pair: Pair) -> Result:
        """Values and gradient; the pair is left as it is."""
        ...

    def __hash__(self) -> int: ...
