"""Cross-entropy and the chunk likelihood from the same two passes over the student's logits.

Both depend on nothing but the log-probabilities of the tokens that are there (and of words' starts), so their gradients
are one: ``slope (q - onehot)`` with the sum of both slopes.
"""

from __future__ import annotations

import torch
from torch import Tensor

from vocabalign.losses.aligned import AlignedChunks
from vocabalign.losses.checks import check_labels
from vocabalign.losses.chunks import SlopeRows, compare_chunks, merge_chunks
from vocabalign.losses.likelihood import Observed, ObservedRows
from vocabalign.losses.logits import Head
from vocabalign.losses.positions import IGNORE
from vocabalign.losses.streaming import Side, stream

__all__ = ["chunk_mixture_loss"]


def chunk_mixture_loss(
    hidden: Tensor,
    head: Head,
    labels: Tensor,
    chunks: AlignedChunks,
    teacher: Observed,
    *,
    starts: Tensor | None = None,
    merge_below: float | None = 0.1,
    temperature: float = 100.0,
    weights: str | Tensor = "bytes",
    cross_entropy: float = 1.0,
    chunk: float = 1.0,
    num_items: Tensor | float,
    num_chunk_items: Tensor | float,
    block_bytes: int | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """``w_ce sum_i CE_i / num_items + w_c sum_c w_c f(a_c, b_c) / num_chunk_items``: the sum of the two losses.

    Args:
        hidden: (N, H) all hidden states of the student.
        head: (V, H).
        labels: (N,) int64, -100 for none.
        chunks: from ``aligned_chunks``, each row of the student once at most; where a row has a label in both, it is
            the same one.
        teacher: as for ``chunk_loss``; also ``starts``, ``merge_below``, ``temperature`` and ``weights``.
        cross_entropy: w_ce.
        chunk: w_c.
        num_items: the cross-entropy is divided by this.
        num_chunk_items: the chunks' part is divided by this.
        block_bytes: memory of a block of logits.

    Returns:
        The loss, which carries the gradient; cross-entropy and the chunks' part, each divided by its items.

    Raises:
        ValueError: as ``chunk_loss``; labels outside the head.
    """
    check_labels(labels, len(hidden), head.num_rows, "student")
    chunks, given = merge_chunks(chunks, teacher, weights, starts, merge_below)
    at, known = chunks.student.positions, labels != IGNORE
    # A row may be predicted in a chunk and have no label in the text, or the other way round.
    predicted = labels.clone()
    inside = chunks.student.labels >= 0
    predicted[at[inside]] = chunks.student.labels[inside]
    student = ObservedRows(hidden, head, predicted, starts)
    with torch.no_grad():
        stream(student, [Side(hidden, head, trained=False)], block_bytes=block_bytes)
    word_starts = None if student.starts_found is None else student.starts_found[at]
    tokens = student.tokens[at].masked_fill(~inside, 0)
    found = compare_chunks(Observed(tokens, word_starts), teacher, chunks, given, temperature)
    exact, sums = student.tokens.dtype, found.values.new_zeros(0).dtype
    to_entropy, to_chunks = _inverse(num_items), _inverse(num_chunk_items)
    entropy = (-student.tokens * known).to(sums) * to_entropy
    worth = torch.zeros_like(entropy).index_add_(0, at, found.values * to_chunks)
    of_token = known.to(exact) * (cross_entropy * to_entropy)
    of_token = of_token.index_add(0, at, (found.of_token * (chunk * to_chunks)).to(exact))
    of_start = None
    if found.of_start is not None:
        of_start = torch.zeros_like(of_token).index_add_(0, at, (found.of_start * (chunk * to_chunks)).to(exact))
    values = torch.stack([cross_entropy * entropy + chunk * worth, entropy, worth])
    rows = SlopeRows(predicted, values, of_token, of_start, student.mask)
    loss, parts = stream(rows, [Side(hidden, head)], num_items=1.0, block_bytes=block_bytes)
    return loss, parts[1], parts[2]


def _inverse(items: Tensor | float) -> Tensor | float:
    """1 / items, 0 where there are none."""
    if isinstance(items, Tensor):
        return torch.where(items == 0, torch.zeros_like(items), 1 / items).double()
    return 1 / items if items else 0.0
