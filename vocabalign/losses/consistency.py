"""Two trained distributions that should agree: two passes with dropout, or two models that learn from each other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from vocabalign.losses.divergences import ForwardKL, ReverseKL
from vocabalign.losses.logits import Head
from vocabalign.losses.pairs import Pair
from vocabalign.losses.positions import Positions
from vocabalign.losses.streaming import Side, stream


def consistency_loss(
    hidden: Tensor,
    head: Head,
    other_hidden: Tensor,
    other_head: Head,
    labels: Tensor,
    *,
    alpha: float = 1.0,
    num_items: Tensor | float | None = None,
    weights: Tensor | None = None,
    block_bytes: int | None = None,
) -> Tensor:
    """``sum_i r_i (CE_1 + CE_2 + alpha / 2 (KL(q1 || q2) + KL(q2 || q1))) / num_items``.

    R-Drop: the same batch twice through a model with dropout, and the same head for both. Gradients go to both sides;
    a shared head gets one gradient. Also for two models in mutual learning. To hold on to a fixed model instead, use
    ``fused_loss``.

    Gradient, in the forward pass: ``dz_1 = q1 - onehot + alpha / 2 (q1 - q2 + q1 (log q1 - log q2 - KL(q1 || q2)))``
    and the same with the sides exchanged.

    Args:
        hidden: (..., H) of the first pass or model.
        head: (V, H) of it.
        other_hidden: (..., H2) of the second.
        other_head: (V, H2) of the second; the same object for R-Drop.
        labels: (...) int64; ``-100`` is not supervised.
        alpha: weight of agreement, 1 to 5 in the paper.
        num_items: as for ``fused_loss``.
        weights: (...) r of positions.
        block_bytes: memory for the logits of a block, both sides together.

    Returns:
        Scalar.

    Raises:
        ValueError: shapes that do not fit, heads with different numbers of rows.

    Reference:
        Liang et al. (2021), R-Drop, section 2.
    """
    if head.num_rows != other_head.num_rows:
        raise ValueError(f"The heads have {head.num_rows} and {other_head.num_rows} rows: expected one vocabulary.")
    positions = Positions(hidden, labels, weights)
    positions.check_labels(head)
    sides = [
        Side(positions.rows(hidden, "hidden states"), head),
        Side(positions.rows(other_hidden, "other hidden states"), other_head),
    ]
    loss, _ = stream(
        ConsistencyRows(positions.labels, alpha),
        sides,
        weights=positions.weights,
        num_items=num_items,
        block_bytes=block_bytes,
    )
    return loss


@dataclass(frozen=True)
class ConsistencyRows:
    """The row loss of ``consistency_loss``: its value, and the mean of both KL.

    Attributes:
        labels: (N,) int64.
        alpha: weight of agreement.
    """

    labels: Tensor
    alpha: float

    def __call__(self, logits: Sequence[Tensor], rows: slice, gradient: bool) -> Tensor:
        """(2, C) values; the logits of both sides become their gradients."""
        labels = self.labels[rows, None]
        pair = Pair.from_logits(logits[0], logits[1])
        entropy = -(pair.student.gather(1, labels) + pair.teacher.gather(1, labels)).squeeze(1)
        # The pair's roles are exchanged for the other side: each is the student once.
        (values, first), (reverse, second) = ForwardKL()(pair), ReverseKL()(pair)
        first.add_(second)
        both = values + reverse
        if gradient:
            swapped = pair.swapped()
            other = ForwardKL()(swapped)[1].add_(ReverseKL()(swapped)[1])
            for z, q, towards in ((logits[0], pair.q, first), (logits[1], pair.p, other)):
                torch.add(q, towards, alpha=self.alpha / 2, out=z)
                z.scatter_add_(1, labels, z.new_full(labels.shape, -1))
        return torch.stack([entropy + self.alpha / 2 * both, both / 2])
