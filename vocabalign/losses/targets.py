"""A teacher's distribution on a few tokens for each position: what a cache holds, and how it is captured."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from vocabalign.losses.logits import Head
from vocabalign.losses.pairs import normalise_
from vocabalign.losses.streaming import Side, stream_rows


@dataclass(frozen=True)
class TopTargets:
    """The k likeliest tokens of each position.

    Attributes:
        ids: (..., k) integers, no id twice at a position.
        log_probs: (..., k) log p of the full distribution, not renormalised; any float dtype.
        log_tail: (...) log of the probability of all other tokens. Without it, it is 1 - sum p, which has seven
            digits at best and none left where the k tokens hold nearly everything.
        temperature: of the softmax that they come from.
    """

    ids: Tensor
    log_probs: Tensor
    log_tail: Tensor | None = None
    temperature: float = 1.0


@dataclass(frozen=True)
class SampledTargets:
    """Tokens drawn from the teacher, with weights whose expectation is its distribution.

    Attributes:
        ids: (..., S) integers; one drawn twice may stand there twice.
        weights: (..., S) t, of expectation ``E[sum over draws of token v] = p_v``.
        temperature: of the softmax that they come from.
    """

    ids: Tensor
    weights: Tensor
    temperature: float = 1.0


@torch.no_grad()
def capture_top(
    hidden: Tensor, head: Head, k: int, *, temperature: float = 1.0, block_bytes: int | None = None
) -> TopTargets:
    """The teacher's k likeliest tokens at every position, streamed. Keep them and the teacher is not needed again.

    The temperature is applied before the k tokens are taken: afterwards it cannot be.

    Args:
        hidden: (..., H) of the teacher.
        head: (V, H) of the teacher; rows that stand for no token of the student cut off by ``rows``.
        k: at most V.
        temperature: T.
        block_bytes: memory for the logits of a block.

    Returns:
        (..., k) ids and log-probabilities, likeliest first, and (...) log of the rest (log of the smallest
        number where there is none).

    Raises:
        ValueError: k outside 1 to V, or a head that does not fit.
    """
    return _capture(_Top, hidden, head, _check_size(k, head, "k"), temperature, block_bytes)


@torch.no_grad()
def capture_ranking(
    hidden: Tensor, head: Head, labels: Tensor, k: int, *, block_bytes: int | None = None
) -> TopTargets:
    """The label first and then the teacher's k - 1 likeliest other tokens, for ``plackett_luce_loss``.

    Args:
        hidden: (..., H) of the teacher.
        head: (V, H) of the teacher.
        labels: (...) ids; negative ones (-100) give the teacher's plain order.
        k: at most V.
        block_bytes: memory for the logits of a block.

    Returns:
        (..., k) ids and log-probabilities in this order.

    Raises:
        ValueError: k outside 1 to V, shapes that do not fit.
    """
    if labels.shape != hidden.shape[:-1]:
        raise ValueError(f"The hidden states have shape {tuple(hidden.shape)} but the labels {tuple(labels.shape)}.")
    return _capture(_Top, hidden, head, _check_size(k, head, "k"), 1.0, block_bytes, labels.reshape(-1))


@torch.no_grad()
def capture_samples(
    hidden: Tensor,
    head: Head,
    draws: int,
    *,
    power: float = 1.0,
    temperature: float = 1.0,
    generator: torch.Generator | None = None,
    block_bytes: int | None = None,
) -> SampledTargets:
    """Draw tokens from ``r`` proportional to p^power, with the weights ``p / (draws r)``, streamed.

    Args:
        hidden: (..., H) of the teacher.
        head: (V, H) of the teacher.
        draws: S, 12 to 50 in the paper.
        power: t; 1 draws from p itself, less sees more of the tail with more noise.
        temperature: T.
        generator: of the draws.
        block_bytes: memory for the logits of a block.

    Returns:
        (..., S) ids and weights.

    Raises:
        ValueError: fewer than one draw, or a head that does not fit.

    Reference:
        Anshumann et al. (2025), Sparse Logit Sampling (RS-KD), section 4.
    """
    if draws < 1:
        raise ValueError(f"{draws} draws are asked for: expected at least 1.")
    found = _Samples(_count(hidden), draws, temperature, hidden, power, generator)
    stream_rows(found, [Side(hidden.reshape(-1, hidden.shape[-1]), head, trained=False)], block_bytes=block_bytes)
    shape = (*hidden.shape[:-1], draws)
    return SampledTargets(found.ids.reshape(shape), found.numbers.reshape(shape), temperature)


class _Found:
    """A row loss without a loss: keeps k ids and numbers of every row."""

    def __init__(self, count: int, k: int, temperature: float, like: Tensor) -> None:
        exact = torch.float64 if like.dtype == torch.float64 else torch.float32
        self.k, self.temperature = k, temperature
        self.ids = torch.zeros(count, k, dtype=torch.int64, device=like.device)
        self.numbers = torch.zeros(count, k, dtype=exact, device=like.device)
        self.tails = torch.zeros(count, dtype=exact, device=like.device)


class _Top(_Found):
    def __init__(self, count: int, k: int, temperature: float, like: Tensor, labels: Tensor | None = None) -> None:
        super().__init__(count, k, temperature, like)
        self.labels = labels

    def __call__(self, logits: Sequence[Tensor], rows: slice, gradient: bool) -> Tensor:
        z = logits[0].div_(self.temperature)
        p = normalise_(z)
        order = z
        if self.labels is not None:
            labels = self.labels[rows, None]
            first = torch.where(labels < 0, z.argmax(-1, keepdim=True), labels)
            order = z.scatter(1, first, torch.inf)
        ids = order.topk(self.k, -1).indices
        self.ids[rows], self.numbers[rows] = ids, z.gather(1, ids)
        self.tails[rows] = tail_of(p, ids)[1]
        return self.tails[None, rows]


class _Samples(_Found):
    def __init__(
        self, count: int, k: int, temperature: float, like: Tensor, power: float, generator: torch.Generator | None
    ) -> None:
        super().__init__(count, k, temperature, like)
        self.power, self.generator = power, generator

    def __call__(self, logits: Sequence[Tensor], rows: slice, gradient: bool) -> Tensor:
        p = torch.softmax(logits[0].div_(self.temperature), -1)
        r = p if self.power == 1 else torch.softmax(logits[0].mul_(self.power), -1)
        ids = torch.multinomial(r, self.k, replacement=True, generator=self.generator)
        self.ids[rows] = ids
        self.numbers[rows] = p.gather(1, ids) / (self.k * r.gather(1, ids))
        return self.tails[None, rows]


def tail_of(probabilities: Tensor, ids: Tensor) -> tuple[Tensor, Tensor]:
    """Probabilities with those of ``ids`` set to 0, in place, and the logarithm of what is left.

    Summed over the rest rather than taken from 1: that keeps all digits of a small tail.

    Args:
        probabilities: (C, V), overwritten.
        ids: (C, k).

    Returns:
        (C, V) and (C,).
    """
    rest = probabilities.scatter_(1, ids, 0)
    return rest, rest.sum(-1).clamp_(min=torch.finfo(rest.dtype).tiny).log_()


def _capture(
    kind: type[_Top],
    hidden: Tensor,
    head: Head,
    k: int,
    temperature: float,
    block_bytes: int | None,
    labels: Tensor | None = None,
) -> TopTargets:
    found = kind(_count(hidden), k, temperature, hidden, labels)
    stream_rows(found, [Side(hidden.reshape(-1, hidden.shape[-1]), head, trained=False)], block_bytes=block_bytes)
    shape = hidden.shape[:-1]
    return TopTargets(
        found.ids.reshape(*shape, k), found.numbers.reshape(*shape, k), found.tails.reshape(shape), temperature
    )


def _count(hidden: Tensor) -> int:
    return hidden.shape[:-1].numel()


def _check_size(k: int, head: Head, name: str) -> int:
    if not 1 <= k <= head.num_rows:
        raise ValueError(f"{name} is {k}: expected 1 to {head.num_rows}, the rows of the head.")
    return k
