"""The row loss of ``fused_loss`` as one kernel, a program for each row.

Eager code reads and writes a block's logits some twenty times; this reads them three times (for sums of exponentials,
values, gradients; once more where a temperature is not 1) and writes them once. It was checked against the eager code
in Triton's interpreter and compiled for sm_80 and sm_90, but has not been run on a GPU yet. ``fused_loss`` takes it on
CUDA where triton is installed, and the eager code elsewhere.
"""

from __future__ import annotations

import torch
import triton  # type: ignore[import-not-found,import-untyped,unused-ignore]
import triton.language as tl  # type: ignore[import-not-found,import-untyped,unused-ignore]
from torch import Tensor

from vocabalign.losses.divergences import ForwardKL, JensenShannon, ReverseKL, SkewedKL, SkewedReverseKL, TotalVariation
from vocabalign.losses.pairs import Divergence

BLOCK = 4096
WARPS = 8
FORWARD, REVERSE, JENSEN_SHANNON, SKEWED, SKEWED_REVERSE, VARIATION = range(6)


def kind_of(divergence: Divergence) -> tuple[int, float, float] | None:
    """Number of the kernel's branch, the teacher's share of the mixture, and a factor; None where it has no branch."""
    if isinstance(divergence, JensenShannon):
        if divergence.beta in (0.0, 1.0):
            return (FORWARD if divergence.beta == 0 else REVERSE), 0.5, 1.0
        share = divergence.beta
        return JENSEN_SHANNON, share, 1 / (share * (1 - share)) if divergence.normalised else 1.0
    if isinstance(divergence, SkewedKL):
        return SKEWED, divergence.alpha, 1.0
    if isinstance(divergence, SkewedReverseKL):
        return SKEWED_REVERSE, 1 - divergence.alpha, 1.0
    plain: dict[type, int] = {ForwardKL: FORWARD, ReverseKL: REVERSE, TotalVariation: VARIATION}
    return (plain[type(divergence)], 0.5, 1.0) if type(divergence) in plain else None


def mixture_rows(
    z: Tensor,
    teacher: Tensor,
    labels: Tensor,
    kind: tuple[int, float, float],
    *,
    weight: float,
    temperature: float,
    teacher_temperature: float,
    gradient_scale: float,
    gradient: bool,
) -> tuple[Tensor, Tensor]:
    """Cross-entropy and divergence of each row; the student's logits become the gradient of their mixture.

    Args:
        z: (C, V) float32 logits, contiguous; with ``gradient`` overwritten with
            ``(1 - w)(q - onehot) + gradient_scale dD/du``.
        teacher: (C, S) float32 logits, S at most V.
        labels: (C,) int64.
        kind: from ``kind_of``.
        weight: w.
        temperature: T of the student.
        teacher_temperature: of the teacher, times T.
        gradient_scale: of the divergence's gradient with respect to u = z / T.
        gradient: whether to write it.

    Returns:
        (C,) cross-entropy and (C,) divergence.
    """
    count, width = z.shape
    entropy, value = (torch.empty(count, dtype=torch.float32, device=z.device) for _ in range(2))
    branch, share, factor = kind
    _rows[(count,)](
        z,
        teacher,
        labels,
        entropy,
        value,
        z.stride(0),
        teacher.stride(0),
        width,
        teacher.shape[1],
        1 / temperature,
        1 / (temperature * teacher_temperature),
        1 - weight,
        gradient_scale,
        share,
        factor,
        KIND=branch,
        GRADIENT=gradient,
        SAME=temperature == 1 and teacher.shape[1] == width,
        BLOCK=BLOCK,
        num_warps=WARPS,
    )
    return entropy, value


@triton.jit
def _log1p(x):  # type: ignore[no-untyped-def] # noqa: ANN001, ANN202
    # Exact to rounding, and 0 at 0 (Kahan).
    u = 1.0 + x
    return tl.where(u == 1.0, x, tl.log(u) * x / tl.where(u == 1.0, 1.0, u - 1.0))


@triton.jit
def _expm1(x):  # type: ignore[no-untyped-def] # noqa: ANN001, ANN202
    u = tl.exp(x)
    ratio = (u - 1.0) * x / tl.where(u == 1.0, 1.0, tl.log(tl.maximum(u, 1e-37)))
    return tl.where(u == 1.0, x, tl.where(u - 1.0 == -1.0, -1.0, ratio))


@triton.jit
def _terms(log_q, log_p, q, p, share, KIND: tl.constexpr):  # type: ignore[no-untyped-def] # noqa: ANN001, ANN202
    """Each token's part of the value, and its score g, from which the gradient is q (g - <q, g>)."""
    gap = log_p - log_q
    if KIND == 0:  # forward KL; its gradient q - p needs no score
        return p * gap + (q - p), gap
    elif KIND == 1:  # reverse KL
        return -q * gap + (p - q), -gap
    elif KIND == 5:  # total variation
        return 0.5 * tl.abs(q - p), tl.where(q > p, 0.5, tl.where(q < p, -0.5, 0.0))
    else:
        gap = tl.minimum(tl.maximum(gap, -40.0), 40.0)
        above = _log1p(share * _expm1(gap))  # log m - log q
        mixture = tl.maximum(q + share * (p - q), 1.2e-38)
        if KIND == 2:  # Jensen-Shannon
            return share * p * (gap - above) - (1.0 - share) * q * above, (share - 1.0) * above
        elif KIND == 3:  # skewed KL
            excess = (1.0 - share) * (q - p)
            return p * (gap - above) + excess, (1.0 - share) * excess / mixture
        else:  # skewed reverse KL, share = 1 - alpha
            excess = share * (p - q)
            return -q * above + excess, (1.0 - share) * excess / mixture - above


@triton.jit
def _log_sum(pointer, width, inverse, BLOCK: tl.constexpr):  # type: ignore[no-untyped-def] # noqa: ANN001, ANN202
    """The largest inverse x of a row, and log sum exp(inverse x) beyond it; lane by lane in one pass.

    Two numbers: large logits less their common rounding would give probabilities that do not sum to 1.
    """
    largest = tl.full((BLOCK,), -1e38, tl.float32)
    total = tl.zeros((BLOCK,), tl.float32)
    for start in range(0, width, BLOCK):
        columns = start + tl.arange(0, BLOCK)
        x = tl.load(pointer + columns, mask=columns < width, other=-1e30) * inverse
        higher = tl.maximum(largest, x)
        total = total * tl.exp(largest - higher) + tl.where(columns < width, tl.exp(x - higher), 0.0)
        largest = higher
    top = tl.max(largest, 0)
    return top, tl.log(tl.sum(total * tl.exp(largest - top), 0))


@triton.jit
def _rows(  # type: ignore[no-untyped-def] # noqa: ANN202
    z_pointer,  # noqa: ANN001
    teacher_pointer,  # noqa: ANN001
    labels_pointer,  # noqa: ANN001
    entropy_pointer,  # noqa: ANN001
    value_pointer,  # noqa: ANN001
    z_stride,  # noqa: ANN001
    teacher_stride,  # noqa: ANN001
    width,  # noqa: ANN001
    shared,  # noqa: ANN001
    inverse,  # noqa: ANN001
    teacher_inverse,  # noqa: ANN001
    hard,  # noqa: ANN001
    soft,  # noqa: ANN001
    share,  # noqa: ANN001
    factor,  # noqa: ANN001
    KIND: tl.constexpr,
    GRADIENT: tl.constexpr,
    SAME: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """One program for each row: sums of exponentials, then the value and <q, g>, then the gradient."""
    row = tl.program_id(0).to(tl.int64)
    z_row, teacher_row = z_pointer + row * z_stride, teacher_pointer + row * teacher_stride
    label = tl.load(labels_pointer + row)
    top, log_sum = _log_sum(z_row, width, 1.0, BLOCK)
    # A label outside the vocabulary must not read another row: its loss is no number.
    at_label = tl.load(z_row + label, mask=(label >= 0) & (label < width), other=float("nan"))
    tl.store(entropy_pointer + row, log_sum - (at_label - top))
    if SAME:
        student_top, student_sum = top, log_sum
    else:
        student_top, student_sum = _log_sum(z_row, shared, inverse, BLOCK)
    teacher_top, teacher_sum = _log_sum(teacher_row, shared, teacher_inverse, BLOCK)
    values = tl.zeros((BLOCK,), tl.float32)
    scores = tl.zeros((BLOCK,), tl.float32)
    for start in range(0, shared, BLOCK):
        columns = start + tl.arange(0, BLOCK)
        inside = columns < shared
        z = tl.load(z_row + columns, mask=inside, other=-1e30)
        t = tl.load(teacher_row + columns, mask=inside, other=-1e30)
        log_q = z * inverse - student_top - student_sum
        log_p = t * teacher_inverse - teacher_top - teacher_sum
        q, p = tl.exp(log_q), tl.exp(log_p)
        value, score = _terms(log_q, log_p, q, p, share, KIND)
        values += tl.where(inside, value, 0.0)
        scores += tl.where(inside, q * score, 0.0)
    tl.store(value_pointer + row, tl.sum(values, 0) * factor)
    centre = tl.sum(scores, 0)
    if GRADIENT:
        for start in range(0, width, BLOCK):
            columns = start + tl.arange(0, BLOCK)
            inside = columns < shared
            z = tl.load(z_row + columns, mask=columns < width, other=-1e30)
            t = tl.load(teacher_row + columns, mask=inside, other=-1e30)
            log_q = z * inverse - student_top - student_sum
            log_p = t * teacher_inverse - teacher_top - teacher_sum
            q, p = tl.exp(log_q), tl.exp(log_p)
            value, score = _terms(log_q, log_p, q, p, share, KIND)
            towards = q - p if KIND == 0 else q * (score - centre)
            gradient = hard * (tl.exp(z - top - log_sum) - tl.where(columns == label, 1.0, 0.0))
            gradient += tl.where(inside, soft * factor * towards, 0.0)
            tl.store(z_row + columns, gradient, mask=columns < width)
