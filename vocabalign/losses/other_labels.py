"""A loss at some of the student's rows, and the cross-entropy of the labels at all others."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from vocabalign.losses.fused import fused_loss
from vocabalign.losses.logits import Head
from vocabalign.losses.positions import IGNORE
from vocabalign.losses.streaming import RowLoss, Side, stream

__all__ = ["stream_with_other_labels"]


def stream_with_other_labels(
    row_loss: RowLoss,
    num_values: int,
    hidden: Tensor,
    head: Head,
    labels: Tensor,
    at: Tensor,
    others: Sequence[Side] = (),
    *,
    num_items: Tensor | float,
    block_bytes: int | None = None,
    block_bytes_at: int | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """``stream`` at the rows ``at``, and ``fused_loss`` of the labels elsewhere, both divided by ``num_items``.

    Args:
        row_loss: values of the rows ``at``; the student is its first side.
        num_values: that it gives for each row.
        hidden: (N, H) all hidden states of the student.
        head: (V, H).
        labels: (N,) int64, -100 for none.
        at: (P,) int64 rows, each once.
        others: further sides of ``row_loss``, of P rows.
        num_items: divide by this.
        block_bytes: memory of a block of logits.
        block_bytes_at: the same at the rows ``at``, where it is another.

    Returns:
        The loss at ``at`` and the cross-entropy of the other labels, which carry the gradient; (num_values,) sums of
        all values at ``at``.
    """
    elsewhere = labels != IGNORE
    elsewhere[at] = False
    sides = [Side(hidden[at], head), *others]
    together, parts = stream(row_loss, sides, num_items=num_items, block_bytes=block_bytes_at or block_bytes)
    left = hidden[elsewhere], head, labels[elsewhere]
    rest = fused_loss(*left, num_items=num_items, block_bytes=block_bytes).loss
    if not len(at):  # of no rows it is not known how many values they would have
        parts = parts.new_zeros(num_values)
    return together, rest, parts.to(rest.dtype)
