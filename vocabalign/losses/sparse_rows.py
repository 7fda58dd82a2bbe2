"""Row losses on a few tokens of each position."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from vocabalign.losses.mixture import softened, write_mixture
from vocabalign.losses.pairs import Divergence, Pair
from vocabalign.losses.targets import tail_of


@dataclass(frozen=True)
class TopRows:
    """The row loss of ``top_loss``: its value, the cross-entropy, the divergence."""

    labels: Tensor
    ids: Tensor
    teacher: Tensor
    divergence: Divergence
    weight: float
    temperature: float
    factor: float
    tail: str

    def __call__(self, logits: Sequence[Tensor], rows: slice, gradient: bool) -> Tensor:
        """(3, C) values; the logits become the gradient."""
        z, labels, ids = logits[0], self.labels[rows, None], self.ids[rows]
        soft, own, q, entropy = softened(z, labels, self.temperature)
        values, towards = TAILS[self.tail](soft.gather(1, ids), own, ids, self.teacher[rows], self.divergence)
        if gradient:
            towards *= self.weight * self.factor / self.temperature
            write_mixture(z, q, towards, labels, self.weight)
        return torch.stack([(1 - self.weight) * entropy + self.weight * self.factor * values, entropy, values])


@dataclass(frozen=True)
class SampledRows:
    """The row loss of ``sampled_loss``: its value, the cross-entropy, that to the draws."""

    labels: Tensor
    ids: Tensor
    numbers: Tensor
    weight: float
    temperature: float
    factor: float

    def __call__(self, logits: Sequence[Tensor], rows: slice, gradient: bool) -> Tensor:
        """(3, C) values; the logits become the gradient."""
        z, labels, ids, numbers = logits[0], self.labels[rows, None], self.ids[rows], self.numbers[rows]
        soft, towards, q, entropy = softened(z, labels, self.temperature)
        values = -(numbers * soft.gather(1, ids)).sum(-1)
        if gradient:
            towards.mul_(numbers.sum(-1, keepdim=True)).scatter_add_(1, ids, -numbers)
            towards *= self.weight * self.factor / self.temperature
            write_mixture(z, q, towards, labels, self.weight)
        return torch.stack([(1 - self.weight) * entropy + self.weight * self.factor * values, entropy, values])


def _with_bucket(at: Tensor, q: Tensor, ids: Tensor, teacher: Tensor, divergence: Divergence) -> tuple[Tensor, Tensor]:
    if teacher.shape[1] == ids.shape[1]:  # all tokens are there
        values, towards = divergence(Pair(at, teacher))
        return values, q.scatter_(1, ids, towards)
    rest, log_tail = tail_of(q, ids)
    values, towards = divergence(Pair(torch.cat([at, log_tail[:, None]], 1), teacher))
    rest *= (towards[:, -1] / log_tail.exp())[:, None]
    return values, rest.scatter_(1, ids, towards[:, :-1])


def _renormalised(at: Tensor, q: Tensor, ids: Tensor, teacher: Tensor, divergence: Divergence) -> tuple[Tensor, Tensor]:
    values, towards = divergence(Pair(at.log_softmax(-1), teacher))
    return values, q.zero_().scatter_(1, ids, towards)


# How the k tokens become events: (log q at ids, q, ids, log p of the events, divergence) -> values, gradient.
TAILS: dict[str, Callable[[Tensor, Tensor, Tensor, Tensor, Divergence], tuple[Tensor, Tensor]]] = {
    "bucket": _with_bucket,
    "renormalised": _renormalised,
}
