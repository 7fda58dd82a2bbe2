"""The row loss behind ``fused_loss``: cross-entropy and any number of divergences from one set of logits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from vocabalign.losses.divergences import Divergence
from vocabalign.losses.kernels import kernel_kind, triton_rows
from vocabalign.losses.logits import NEVER
from vocabalign.losses.pairs import Pair, normalise_
from vocabalign.losses.shaping import standardise_, standardise_back_


@dataclass(frozen=True)
class CrossEntropyRows:
    """``-log q[y]`` of each row, from the student's logits alone.

    Gradient: ``q - onehot(y)``.

    Attributes:
        labels: (N,) int64.
    """

    labels: Tensor

    def __call__(self, logits: Sequence[Tensor], rows: slice, gradient: bool) -> Tensor:
        """(1, C) values."""
        z, labels = logits[0], self.labels[rows, None]
        at_label = z.gather(1, labels)
        if not gradient:
            return (z.logsumexp(-1, keepdim=True) - at_label).T
        largest = z.amax(-1, keepdim=True)
        q = torch.softmax(z, -1)
        values = largest - q.amax(-1, keepdim=True).log() - at_label
        z.copy_(q).scatter_add_(1, labels, z.new_full(labels.shape, -1))
        return values.T


@dataclass(frozen=True)
class MixtureRows:
    """``(1 - w) CE + w T^2 sum_k c_k D_k`` of each row, from the student's logits and the teacher's.

    Values are that, the cross-entropy, the sum of the divergences, and each of them.

    Attributes:
        labels: (N,) int64.
        terms: divergences with their coefficients, a number or (N,).
        weight: w.
        temperature: T of the student.
        teacher_temperature: of the teacher, times T.
        factor: T^2, or 1.
        standardised: z-scores in place of logits, in the divergences.
        shared: the divergences compare this many first rows.
        excluded: ids among them that are left out, where only the teacher's head masks them.
    """

    labels: Tensor
    terms: tuple[tuple[Divergence, Tensor | float], ...]
    weight: float
    temperature: float
    teacher_temperature: float
    factor: float
    standardised: bool
    shared: int
    excluded: Tensor | None

    def __call__(self, logits: Sequence[Tensor], rows: slice, gradient: bool) -> Tensor:
        """(3 + K, C) values; the student's logits become the gradient."""
        z, teacher = logits
        kind = None if self.standardised or self.excluded is not None else kernel_kind(z, self.terms)
        if kind is not None:
            return self.by_kernel(z, teacher, rows, gradient, kind)
        labels = self.labels[rows, None]
        plain = self.temperature == 1 and not self.standardised and self.excluded is None and self.shared == z.shape[1]
        soft = z if plain else z[:, : self.shared].clone()
        back = self._shape(soft, self.temperature, gradient)
        self._shape(teacher, self.temperature * self.teacher_temperature, False)
        pair = Pair.from_logits(soft, teacher, self.labels[rows])
        q = pair.q if plain else normalise_(z)
        entropy = -z.gather(1, labels).squeeze(1)
        values, total = self._divergences(pair, rows)
        mixed = (1 - self.weight) * entropy + self.weight * self.factor * values[0]
        if gradient:
            total *= self.weight * self.factor / self.temperature
            if back is not None:
                standardise_back_(total, *back)
            write_mixture(z, q, total, labels, self.weight)
        return torch.stack([mixed, entropy, *values])

    def by_kernel(
        self, z: Tensor, teacher: Tensor, rows: slice, gradient: bool, kind: tuple[int, float, float]
    ) -> Tensor:
        """The same by one Triton kernel, for a single divergence with a number as coefficient."""
        module = triton_rows()
        assert module is not None  # there is a kind only where there is a module
        coefficient = self.weight * self.factor * float(self.terms[0][1])
        entropy, value = module.mixture_rows(
            z,
            teacher,
            self.labels[rows],
            kind,
            weight=self.weight,
            temperature=self.temperature,
            teacher_temperature=self.teacher_temperature,
            gradient_scale=coefficient / self.temperature,
            gradient=gradient,
        )
        mixed = (1 - self.weight) * entropy + coefficient * value
        return torch.stack([mixed, entropy, value * float(self.terms[0][1]), value])

    def _shape(self, logits: Tensor, temperature: float, keep: bool) -> tuple[Tensor, Tensor] | None:
        """Leave out ids, take z-scores and divide by the temperature, in place; what the way back needs."""
        back = None
        if self.excluded is not None:
            logits.index_fill_(1, self.excluded, NEVER)
        if self.standardised:
            scale = standardise_(logits)
            back = (logits.clone(), scale) if keep else None
        if temperature != 1:
            logits /= temperature
        return back

    def _divergences(self, pair: Pair, rows: slice) -> tuple[list[Tensor], Tensor]:
        """The weighted sum and each value, (C,), and the gradient of the sum, (C, shared)."""
        values = []
        summed = pair.student.new_zeros(pair.student.shape[0])
        total: Tensor | None = None
        for divergence, coefficient in self.terms:
            value, towards = divergence(pair)
            values.append(value)
            if isinstance(coefficient, Tensor) and coefficient.ndim:
                coefficient = coefficient[rows].to(value.dtype)
                towards *= coefficient[:, None]
            elif coefficient != 1:
                towards *= coefficient
            summed = summed + value * coefficient
            total = towards if total is None else total.add_(towards)
        assert total is not None  # a mixture is never empty
        return [summed, *values], total


def write_mixture(z: Tensor, q: Tensor, towards: Tensor, labels: Tensor, weight: float) -> None:
    """``(1 - w)(q - onehot(y)) + towards`` over the logits.

    Args:
        z: (C, V), overwritten.
        q: (C, V) probabilities at temperature 1; not used at weight 1.
        towards: (C, S) gradient of the rest, for the first S columns.
        labels: (C, 1) y.
        weight: w.
    """
    shared = towards.shape[1]
    if weight == 1:
        z[:, shared:] = 0
        z[:, :shared] = towards
        return
    torch.mul(q, 1 - weight, out=z)
    z.scatter_add_(1, labels, z.new_full(labels.shape, weight - 1))
    z[:, :shared] += towards


def softened(z: Tensor, labels: Tensor, temperature: float) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """What losses without a teacher's logits need of the student's, which are overwritten.

    Args:
        z: (C, V) logits.
        labels: (C, 1) y.
        temperature: T.

    Returns:
        (C, V) log q at T; (C, V) q at T, free to be overwritten; (C, V) q at 1; (C,) cross-entropy at 1.
    """
    if temperature == 1:
        q = normalise_(z)
        return z, q.clone(), q, -z.gather(1, labels).squeeze(1)
    soft = z / temperature
    own = normalise_(soft)
    q = normalise_(z)
    return soft, own, q, -z.gather(1, labels).squeeze(1)
