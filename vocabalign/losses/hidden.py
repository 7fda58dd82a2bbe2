"""Hidden-state matching: where both models have read the same bytes, they should have the same in mind."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

__all__ = ["MEASURES", "cosine_distance", "hidden_loss", "relative_squared_error"]


def relative_squared_error(student: Tensor, teacher: Tensor) -> Tensor:
    """(N,) ``|h - h'|^2 / mean |h'|^2``: 1 is the error of a student that says nothing."""
    scale = teacher.square().sum(-1).mean().clamp(min=torch.finfo(teacher.dtype).tiny)
    return (student - teacher).square().sum(-1) / scale


def cosine_distance(student: Tensor, teacher: Tensor) -> Tensor:
    """(N,) ``1 - cos(h, h')`` as half the squared distance of unit vectors: exactly 0 where they are equal."""
    return 0.5 * (_unit(student) - _unit(teacher)).square().sum(-1)


def hidden_loss(
    student: Tensor,
    teacher: Tensor,
    *,
    measure: str = "relative-squared-error",
    projector: Tensor | None = None,
    weights: Tensor | None = None,
    num_items: Tensor | float | None = None,
) -> Tensor:
    """``sum_i w_i D(h_i P, h'_i) / num_items`` over places at which tokens of both sides end.

    Needs neither heads nor a common vocabulary, and costs nothing beside them. Choose the squared error where the
    body of both models is the same (the untouched model teaches its own successor), the cosine where only the
    direction is comparable; for other sizes of hidden states add a projector that is trained with the student. It
    does not train the student's head: combine it with a loss that does.

    Gradient: by autograd, to the student's hidden states and the projector; the teacher is constant. Everything is of
    size N times H.

    Args:
        student: (N, H) at ``aligned_ends(...)[:, 0]``.
        teacher: (N, Ht) at ``aligned_ends(...)[:, 1]``.
        measure: a name in ``MEASURES``.
        projector: (H, Ht) P; needed where H and Ht differ.
        weights: (N,) w, 1 by default.
        num_items: the sum of the weights by default; over accumulated batches and ranks give the sum of all.

    Returns:
        A scalar, float32 or float64; 0 with zero gradients where there are no places.

    Raises:
        ValueError: an unknown measure, shapes that do not fit, or NaN in the teacher.

    Reference:
        relative error as in this project's self-distillation; cosine as the latent loss of Minixhofer et al. (2025).
    """
    if measure not in MEASURES:
        raise ValueError(f"Unknown measure '{measure}': expected one of {', '.join(MEASURES)}.")
    _check(student, teacher, projector, weights)
    exact = torch.float64 if student.dtype == torch.float64 else torch.float32
    target = teacher.detach().to(exact)
    if not bool(target.isfinite().all()):
        raise ValueError("The teacher's hidden states hold NaN or infinity.")
    mine = student.to(exact) if projector is None else student.to(exact) @ projector.to(exact)
    if not len(student):
        return mine.sum() * 0.0
    distances = MEASURES[measure](mine, target)
    if weights is not None:
        distances = distances * weights.to(distances)
    divisor = (len(student) if weights is None else weights.double().sum()) if num_items is None else num_items
    if not isinstance(divisor, Tensor):
        return distances.sum() * (1.0 / divisor if divisor else 0.0)
    inverse = torch.where(divisor == 0, 0.0, 1.0 / divisor.detach().double())
    return distances.sum() * inverse.to(distances)


def _check(student: Tensor, teacher: Tensor, projector: Tensor | None, weights: Tensor | None) -> None:
    if student.ndim != 2 or teacher.ndim != 2 or len(student) != len(teacher):
        raise ValueError(
            f"The student's hidden states have shape {tuple(student.shape)} and the teacher's {tuple(teacher.shape)}; "
            "expected (N, H) and (N, Ht)."
        )
    if projector is None and student.shape[1] != teacher.shape[1]:
        raise ValueError(
            f"The hidden states have sizes {student.shape[1]} and {teacher.shape[1]}: give a projector of that shape."
        )
    if projector is not None and projector.shape != (student.shape[1], teacher.shape[1]):
        raise ValueError(
            f"The projector has shape {tuple(projector.shape)}; expected {(student.shape[1], teacher.shape[1])}."
        )
    if weights is not None and weights.shape != (len(student),):
        raise ValueError(f"The weights have shape {tuple(weights.shape)} but there are {len(student)} places.")


def _unit(vectors: Tensor) -> Tensor:
    return vectors / vectors.norm(dim=-1, keepdim=True).clamp(min=1e-12)


MEASURES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "relative-squared-error": relative_squared_error,
    "cosine": cosine_distance,
}
