"""Chunk likelihood: teacher and student give the same bytes the same probability, whatever tokens they are cut into."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from vocabalign.losses.aligned import AlignedChunks, ChunkRows
from vocabalign.losses.checks import check_numbers
from vocabalign.losses.likelihood import LEAST, Observed, ObservedRows
from vocabalign.losses.logits import Head
from vocabalign.losses.ragged import members_between
from vocabalign.losses.streaming import Side, stream
from vocabalign.losses.surprisals import surprisal_divergence

__all__ = ["chunk_loss", "chunk_surprisals"]


def chunk_surprisals(log_probs: Tensor, rows: ChunkRows) -> Tensor:
    """(C,) float64, minus the sum of the log-probabilities of the tokens of each chunk; segment sums, no matrix.

    Args:
        log_probs: (N,) of the side's rows.
        rows: which of them belong to which chunk.
    """
    owner, at = members_between(rows.starts, rows.stops)
    total = torch.zeros(len(rows.starts), dtype=_sums(log_probs), device=log_probs.device)
    return total.index_add_(0, owner, -log_probs[at].to(total.dtype))


def chunk_loss(
    hidden: Tensor,
    head: Head,
    chunks: AlignedChunks,
    teacher: Observed,
    *,
    starts: Tensor | None = None,
    merge_below: float | None = 0.1,
    temperature: float = 100.0,
    weights: str | Tensor = "bytes",
    num_items: Tensor | float | None = None,
    block_bytes: int | None = None,
) -> Tensor:
    """``sum_c w_c f(a_c, b_c) / num_items`` with a_c, b_c the teacher's and student's surprisals of chunk c.

    Needs nothing of the teacher but what it gave to the text, so it works with cached teachers and with those that
    only tell log-probabilities; for any two tokenizers. It says nothing about what could have followed instead:
    ``event_loss`` does, where the teacher's logits are at hand. With one vocabulary on both sides it is the binary
    divergence of each token.

    A tokenizer tells something about the next byte by ending a token ("tokenisation bias"). With ``starts`` both
    remedies are applied: chunks are merged until the teacher thinks that a new word may follow (P >
    ``merge_below``), and ``-log P(a word starts next)`` is added to both surprisals.

    Gradient: ``dL/dz = w_c f'(a_c, b_c) (q - onehot)`` for each token of the chunk, and ``w_c f' (q - q_S)`` with q_S
    the distribution over words' starts for the row behind it. The slope f' is known only when the whole chunk was
    read, so the student's logits are made twice: first the log-probabilities, then the gradient.

    Args:
        hidden: (N, H) student's hidden states at ``chunks.student.positions``.
        head: (V, H).
        chunks: from ``aligned_chunks``; C chunks.
        teacher: of the rows at ``chunks.teacher.positions``, from ``observed_log_probs``; no gradient.
        starts: (V,) bool, the student's ``word_starts``; None for no remedy against tokenisation bias.
        merge_below: merge while the teacher's probability of a word's start is at most this; None never merges.
        temperature: τ of the divergence f, see ``surprisal_divergence``.
        weights: "bytes" (default) or "tokens" of each chunk, or a (C,) tensor for the given chunks: weights of
            merged chunks are added.
        num_items: the sum of the weights by default; over accumulated batches and ranks give the sum of all.
        block_bytes: memory of a block of logits.

    Returns:
        A scalar in nats; 0 with zero gradients where there are no chunks.

    Raises:
        ValueError: shapes that do not fit, labels outside the vocabulary, NaN in the teacher, or ``starts`` without
            the teacher's probabilities of words' starts.

    Reference:
        Minixhofer, Vulić and Ponti (2025), Cross-Tokenizer Distillation via Approximate Likelihood Matching; the
        remedies as in their implementation (merge_by_space_prob, append_space).
    """
    chunks, given = merge_chunks(chunks, teacher, weights, starts, merge_below)
    student = ObservedRows(hidden, head, chunks.student.labels, starts)
    with torch.no_grad():
        stream(student, [Side(hidden, head, trained=False)], block_bytes=block_bytes)
    found = compare_chunks(Observed(student.tokens, student.starts_found), teacher, chunks, given, temperature)
    gradient = SlopeRows(student.labels, found.values, found.of_token, found.of_start, student.mask)
    total = given.sum() if num_items is None else num_items
    return stream(gradient, [Side(hidden, head)], num_items=total, block_bytes=block_bytes)[0]


class Compared(NamedTuple):
    """What chunks are worth, at the rows of the student that their loss depends on.

    Attributes:
        values: (N,) w_c f, written at the first row of each chunk.
        of_token: (N,) slope of the log-probability of each row's label, with the sign of a surprisal's.
        of_start: (N,) the same of a word's start behind a chunk, or None.
    """

    values: Tensor
    of_token: Tensor
    of_start: Tensor | None


def merge_chunks(
    chunks: AlignedChunks,
    teacher: Observed,
    weights: str | Tensor,
    starts: Tensor | None,
    merge_below: float | None,
) -> tuple[AlignedChunks, Tensor]:
    """Chunks that end where the teacher thinks that a word may follow, and their (C,) weights; see ``chunk_loss``."""
    _check_teacher(teacher, chunks, starts)
    given = chunks.weights(weights) if isinstance(weights, str) else weights
    if given.shape != (len(chunks),):
        raise ValueError(f"The weights have shape {tuple(given.shape)} but there are {len(chunks)} chunks.")
    if starts is None or merge_below is None:
        return chunks, given
    assert teacher.word_starts is not None
    after = chunks.teacher.after
    ends = (after < 0) | (teacher.word_starts[after.clamp(min=0)].exp() > merge_below)
    merged = chunks.merged(ends)
    owner = torch.searchsorted(merged.student.stops, chunks.student.stops)
    total = torch.zeros(len(merged), dtype=given.dtype, device=given.device)
    return merged, total.index_add_(0, owner.to(given.device), given)


def compare_chunks(
    student: Observed, teacher: Observed, chunks: AlignedChunks, weights: Tensor, temperature: float
) -> Compared:
    """Values and slopes of ``chunk_loss`` from what both sides gave to the text.

    Args:
        student: of the rows at ``chunks.student.positions``.
        teacher: of the rows at ``chunks.teacher.positions``.
        chunks: C chunks.
        weights: (C,) w.
        temperature: τ.
    """
    rows = chunks.student
    a, b = chunk_surprisals(teacher.tokens, chunks.teacher), chunk_surprisals(student.tokens, rows)
    appended = None
    if teacher.word_starts is not None and student.word_starts is not None:
        appended = (chunks.teacher.after >= 0) & (rows.after >= 0)
        a = a - _behind(teacher.word_starts, chunks.teacher, appended).to(a.dtype)
        b = b - _behind(student.word_starts, rows, appended).to(b.dtype)
    values, slopes = surprisal_divergence(a, b, temperature)
    weights = weights.to(values.device, values.dtype)
    values, slopes = weights * values, weights * slopes
    tokens = student.tokens
    # What a chunk is worth is written at its first row; the loop adds rows up.
    at_first = torch.zeros_like(tokens, dtype=values.dtype).index_add_(0, rows.starts, values).to(tokens.dtype)
    owner, at = members_between(rows.starts, rows.stops)
    of_token = torch.zeros_like(tokens).index_add_(0, at, slopes[owner].to(tokens.dtype))
    of_start = None
    if appended is not None:
        kept = slopes[appended].to(tokens.dtype)
        of_start = torch.zeros_like(tokens).index_add_(0, rows.after[appended], kept)
    return Compared(at_first, of_token, of_start)


def _check_teacher(teacher: Observed, chunks: AlignedChunks, starts: Tensor | None) -> None:
    count = len(chunks.teacher.positions)
    for name, values in (("tokens", teacher.tokens), ("words' starts", teacher.word_starts)):
        if values is not None:
            if values.shape != (count,):
                raise ValueError(
                    f"The teacher's log-probabilities of {name} have shape {tuple(values.shape)} but its chunks "
                    f"{count} rows."
                )
            check_numbers(values, f"teacher's log-probabilities of {name}")
    if starts is not None and teacher.word_starts is None:
        raise ValueError(
            "The student's words' starts are given but not the teacher's probabilities of them: "
            "give its mask to observed_log_probs."
        )


def _behind(log_probs: Tensor, rows: ChunkRows, kept: Tensor) -> Tensor:
    """(C,) what the row behind each chunk gives, 0 where it is not kept."""
    found = log_probs[rows.after.clamp(min=0)]
    return torch.where(kept, found, torch.zeros_like(found))


def _sums(tensor: Tensor) -> torch.dtype:
    return torch.float32 if tensor.device.type == "mps" else torch.float64


class SlopeRows:
    """Spreads slopes of the log-probabilities of labels, and of words' starts, over the logits.

    Args:
        labels: (N,) int64, below 0 for none.
        values: (P, N) or (N,) what the rows are worth.
        of_token: (N,) slopes of the surprisal of each label; 0 where there is none.
        of_start: (N,) slopes of the surprisal of a word's start, or None.
        mask: (V,) 1 for tokens that start a word, or None.
    """

    def __init__(
        self, labels: Tensor, values: Tensor, of_token: Tensor, of_start: Tensor | None, mask: Tensor | None
    ) -> None:
        self.labels, self.values = labels, values if values.ndim > 1 else values[None]
        self.of_token, self.of_start, self.mask = of_token, of_start, mask

    def __call__(self, logits: Sequence[Tensor], rows: slice, gradient: bool) -> Tensor:
        """(P, C) values; the logits become the gradient."""
        if gradient:
            z, slopes = logits[0], self.of_token[rows, None]
            q = torch.softmax(z, -1)
            if self.of_start is None or self.mask is None:
                torch.mul(q, slopes, out=z)
            else:
                behind = self.of_start[rows, None]
                share = (q @ self.mask).clamp_(min=LEAST)[:, None]
                torch.outer(-(behind / share).squeeze(1), self.mask, out=z)
                z.add_(slopes + behind).mul_(q)
            z.scatter_add_(1, self.labels[rows].clamp(min=0)[:, None], -slopes)
        return self.values[:, rows]
