"""What a model gives to the text that is there: log-probabilities of observed tokens, streamed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from vocabalign.losses.checks import check_labels
from vocabalign.losses.logits import Head
from vocabalign.losses.streaming import Side, stream, stream_rows
from vocabalign.text.vocabulary import Vocabulary

__all__ = ["Observed", "observed_log_probs", "token_log_probs", "word_starts"]

# The least probability of a word's start that is told from 0.
LEAST = 1e-30


class Observed(NamedTuple):
    """What a model gave to the text that is there; all that a teacher must keep (4 to 8 bytes a token).

    Attributes:
        tokens: (N,) log-probability of each row's label; 0 where there is none.
        word_starts: (N,) log-probability that a word starts next, or None.
    """

    tokens: Tensor
    word_starts: Tensor | None


def word_starts(vocabulary: Vocabulary, num_rows: int | None = None) -> Tensor:
    """(V,) bool: tokens that begin a new word (white space first), and special tokens, which end one.

    Args:
        vocabulary: its tokens.
        num_rows: rows of the head; those beyond the vocabulary are False.
    """
    flags = [
        i in vocabulary.special_ids if token is None else token[:1].isspace()
        for i, token in enumerate(vocabulary.token_bytes)
    ]
    return torch.tensor(flags + [False] * ((num_rows or len(flags)) - len(flags)))


def observed_log_probs(
    hidden: Tensor, head: Head, labels: Tensor, starts: Tensor | None = None, *, block_bytes: int | None = None
) -> Observed:
    """Log-probabilities of the tokens that are there, without gradient and without rows times vocabulary.

    Args:
        hidden: (N, H).
        head: (V, H).
        labels: (N,) int64, -100 for none.
        starts: (V,) bool from ``word_starts``, or None.
        block_bytes: memory of a block of logits.

    Raises:
        ValueError: shapes that do not fit, or a label outside the vocabulary.
    """
    rows = ObservedRows(hidden, head, labels, starts)
    with torch.no_grad():
        stream(rows, [Side(hidden, head, trained=False)], block_bytes=block_bytes)
    return Observed(rows.tokens, rows.starts_found)


def token_log_probs(hidden: Tensor, head: Head, labels: Tensor, *, block_bytes: int | None = None) -> Tensor:
    """(N,) log-probabilities of labels, differentiable; the logits are made again in the backward pass.

    For losses in which the weight of a token is known only when others were read. Gradient: ``onehot - q``.

    Args:
        hidden: (N, H).
        head: (V, H).
        labels: (N,) int64.
        block_bytes: memory of a block of logits.

    Raises:
        ValueError: shapes that do not fit, or a label outside the vocabulary.
    """
    check_labels(labels, hidden.shape[0], head.num_rows, "student")
    return stream_rows(_TokenRows(labels), [Side(hidden, head)], block_bytes=block_bytes)


class _TokenRows:
    """Log-probabilities of labels and their gradient."""

    def __init__(self, labels: Tensor) -> None:
        self.labels = labels

    def __call__(self, logits: Sequence[Tensor], rows: slice, gradient: bool) -> Tensor:
        z, labels = logits[0], self.labels[rows, None]
        values = _log_probs_(z, labels)
        if gradient:
            z.neg_().scatter_add_(1, labels, torch.ones_like(labels, dtype=z.dtype))
        return values[None]


class ObservedRows:
    """Writes down the log-probabilities of the labels and of words' starts."""

    def __init__(self, hidden: Tensor, head: Head, labels: Tensor, starts: Tensor | None) -> None:
        check_labels(labels, hidden.shape[0], head.num_rows, "student or teacher")
        exact = torch.float64 if hidden.dtype == torch.float64 else torch.float32
        self.labels, self.tokens = labels, torch.zeros(len(labels), dtype=exact, device=hidden.device)
        self.mask = self.starts_found = None
        if starts is not None:
            if starts.shape != (head.num_rows,):
                raise ValueError(
                    f"The words' starts have shape {tuple(starts.shape)} but the head {head.num_rows} rows."
                )
            self.mask = starts.to(hidden.device, exact)
            self.starts_found = torch.zeros_like(self.tokens)

    def __call__(self, logits: Sequence[Tensor], rows: slice, gradient: bool) -> Tensor:
        z = logits[0]
        labels = self.labels[rows]
        found = _log_probs_(z, labels.clamp(min=0)[:, None])
        self.tokens[rows] = found.masked_fill_(labels < 0, 0)
        if self.mask is not None and self.starts_found is not None:
            self.starts_found[rows] = (z @ self.mask).clamp_(min=LEAST).log_()
        return found[None]


def _log_probs_(z: Tensor, labels: Tensor) -> Tensor:
    """(C,) log-probabilities of (C, 1) labels; the logits become probabilities."""
    chosen, highest = z.gather(1, labels).squeeze(1), z.amax(1)
    torch.softmax(z, 1, out=z)
    # What the softmax divided by is known from the largest entry.
    return chosen.sub_(highest).add_(z.amax(1).log())
