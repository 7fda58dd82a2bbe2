"""Cross-entropy and distillation from hidden states and heads, without a tensor of positions times vocabulary."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from vocabalign.losses.decoupled import LABELLED
from vocabalign.losses.divergences import DIVERGENCES, Divergence, named
from vocabalign.losses.logits import Head
from vocabalign.losses.mixture import CrossEntropyRows, MixtureRows
from vocabalign.losses.positions import IGNORE, Positions, check_finite
from vocabalign.losses.streaming import Side, stream

__all__ = ["IGNORE", "FusedLoss", "Head", "Mixture", "fused_loss"]

# Divergences by name or as objects, with their coefficients: one number, or one for each position.
Mixture = Mapping[str | Divergence, float | Tensor]


class FusedLoss(NamedTuple):
    """``loss`` carries the gradient; the parts (means per item, in nats) are for the log.

    Attributes:
        loss: scalar.
        cross_entropy: its mean.
        divergence: mean of the mixture of divergences, without T^2.
        terms: (K,) means of the single divergences, in the order of the mixture.
    """

    loss: Tensor
    cross_entropy: Tensor
    divergence: Tensor
    terms: Tensor


def fused_loss(
    hidden: Tensor,
    head: Head,
    labels: Tensor,
    *,
    num_items: Tensor | float | None = None,
    weights: Tensor | None = None,
    teacher_hidden: Tensor | None = None,
    teacher_head: Head | None = None,
    divergence: str | Divergence | Mixture = "forward-kl",
    weight: float = 0.0,
    temperature: float = 1.0,
    teacher_temperature: float = 1.0,
    squared_temperature: bool = True,
    standardise: bool = False,
    shared_rows: int | None = None,
    block_bytes: int | None = None,
) -> FusedLoss:
    """``sum_i r_i ((1 - w) CE_i + w T^2 sum_k c_k D_k,i) / num_items`` over supervised positions i.

    Cross-entropy is over all rows of the student's head. The divergences compare the first ``shared_rows`` rows of
    both heads, q = softmax(z / T) with p = softmax(z_t / (T T_t)): rows that only pad a head, or that one of the
    heads masks, are left out on both sides, never zero-filled. A mixture costs one set of logits.

    Gradient, made in the forward pass: ``dz = (1 - w)(q - onehot) + w T sum_k c_k dD_k/du`` per block,
    ``dx = dz W``, ``dW = dz^T x``. A head that needs no gradient costs none. The teacher gets none. Arithmetic is
    float32 (float64 for float64 inputs) after matrix products that, on a GPU, take the inputs' dtype or autocast's
    and sum in float32.

    ``w = 0.5`` with forward KL is the usual start. With forward KL the mixture is also the cross-entropy to the soft
    target ``(1 - w) onehot + w p``, but for a constant: label smoothing by a previous self (PS-KD) is that, with w
    growing over epochs.

    Args:
        hidden: (..., H) hidden states, position i predicts ``labels[i]``.
        head: the student's head, (V, H).
        labels: (...) int64; ``-100`` is not supervised.
        num_items: divide by this; the sum of the supervised positions' weights by default. Give that sum (the count,
            where there are no weights) over all accumulated batches and ranks, and the gradients add up to exactly
            that of one big batch. (Data-parallel training that averages over ranks wants it divided by their number.)
        weights: (...) r, constant; 1 by default.
        teacher_hidden: (..., Ht), needed where ``weight`` > 0; no gradient.
        teacher_head: (Vt, Ht); no gradient.
        divergence: a name in ``divergences.DIVERGENCES`` or ``decoupled.LABELLED``, an object such as
            ``SkewedKL(0.2)``, or several with their coefficients, numbers or (...) tensors:
            ``{"forward-kl": 0.5, JensenShannon(0.1): 0.5}``.
        weight: w, the share of the divergences, in [0, 1].
        temperature: T, softens both distributions.
        teacher_temperature: T_t, softens the teacher's alone: a correction for one that is too sure.
        squared_temperature: multiply by T^2, so that the gradient's size does not depend on T.
        standardise: compare z-scores of the logits (see ``shaping.standardise``).
        shared_rows: ids that both vocabularies have; by default the smaller number of rows.
        block_bytes: memory for the logits of a block.

    Returns:
        The loss and its parts; 0 with zero gradients where nothing is supervised.

    Raises:
        ValueError: shapes that do not fit, a missing teacher, a teacher with NaN or infinity, an unknown divergence,
            labels outside the head, numbers out of range.

    Reference:
        distillation: Hinton et al. (2015); the gradient in the forward pass: Hsu et al. (2024), Liger-Kernel.
    """
    positions = Positions(hidden, labels, weights)
    mine = Side(positions.rows(hidden, "hidden states"), head)
    run = partial(stream, weights=positions.weights, num_items=num_items, block_bytes=block_bytes)
    terms = tuple(
        (named(key, DIVERGENCES | LABELLED), coefficient) for key, coefficient in _mixture(divergence).items()
    )
    if not weight:
        positions.check_labels(head)
        loss, parts = run(CrossEntropyRows(positions.labels), [mine])
        nothing = parts.new_zeros(1 + len(terms)).to(loss.dtype)
        return FusedLoss(loss, parts[0].to(loss.dtype), nothing[0], nothing[1:])
    if teacher_hidden is None or teacher_head is None:
        raise ValueError("A divergence with weight > 0 needs the teacher's hidden states and head.")
    _check_numbers(weight, temperature, teacher_temperature)
    shared = min(head.num_rows, teacher_head.num_rows, shared_rows or head.num_rows)
    mask, excluded = _masks(head, teacher_head, shared)
    if standardise and mask is not None:
        raise ValueError("Standardised logits with masked rows: cut the rows off with `rows` or `shared_rows` instead.")
    positions.check_labels(head, shared if any(getattr(term, "needs_labels", False) for term, _ in terms) else None)
    theirs = Side(
        positions.rows(teacher_hidden, "teacher's hidden states").detach(),
        replace(teacher_head, rows=shared, masked=mask),
        trained=False,
    )
    check_finite(theirs.hidden, teacher_head.weight)
    row_loss = MixtureRows(
        labels=positions.labels,
        terms=tuple((term, positions.coefficients(coefficient)) for term, coefficient in terms),
        weight=weight,
        temperature=temperature,
        teacher_temperature=teacher_temperature,
        factor=temperature**2 if squared_temperature else 1.0,
        standardised=standardise,
        shared=shared,
        excluded=excluded,
    )
    loss, parts = run(row_loss, [mine, theirs])
    parts = parts.to(loss.dtype)
    if positions.count == 0:
        parts = parts.new_zeros(3 + len(terms))
    return FusedLoss(loss, parts[1], parts[2], parts[3:])


def _mixture(divergence: str | Divergence | Mixture) -> Mixture:
    if isinstance(divergence, Mapping):
        if not divergence:
            raise ValueError("The mixture of divergences is empty: name at least one, with its coefficient.")
        return divergence
    return {divergence: 1.0}


def _masks(head: Head, teacher_head: Head, shared: int) -> tuple[Tensor | None, Tensor | None]:
    """Ids that either head masks, and those of them that the student's does not."""
    mine, theirs = (None if h.masked is None else h.masked[h.masked < shared] for h in (head, teacher_head))
    if theirs is None or not theirs.numel():
        return mine, None
    if mine is None or not mine.numel():
        return theirs, theirs
    both = torch.cat([mine, theirs.to(mine.device)]).unique()
    return both, both if both.numel() > mine.unique().numel() else None


def _check_numbers(weight: float, temperature: float, teacher_temperature: float) -> None:
    if not 0 <= weight <= 1:
        raise ValueError(f"The share of the divergence is {weight}: expected a number between 0 and 1.")
    for name, value in (("temperature", temperature), ("teacher's temperature", teacher_temperature)):
        if not 0 < value < float("inf"):
            raise ValueError(f"The {name} is {value}: expected a positive number.")
