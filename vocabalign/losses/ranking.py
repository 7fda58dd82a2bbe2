"""List-wise distillation: the student learns the order of the teacher's likeliest tokens."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from vocabalign.losses.logits import Head
from vocabalign.losses.pairs import normalise_
from vocabalign.losses.positions import Positions
from vocabalign.losses.sparse import check_targets
from vocabalign.losses.streaming import Side, stream
from vocabalign.losses.targets import TopTargets, tail_of


def plackett_luce_loss(
    hidden: Tensor,
    head: Head,
    labels: Tensor,
    ranking: TopTargets,
    *,
    num_items: Tensor | float | None = None,
    weights: Tensor | None = None,
    block_bytes: int | None = None,
) -> Tensor:
    """``sum_i r_i sum_k w_k (-s_pi(k) + log sum over tokens not among pi(1..k-1) of e^s) / num_items``.

    The likelihood of choosing pi(1) from the vocabulary, pi(2) from what is left, and so on to the k-th; each choice
    weighted by the teacher's probability of it. With the label first (``capture_ranking``) the first choice is a
    weighted cross-entropy, and no other is needed; there is no temperature and no mixing weight to tune. The first k
    choices stand for the full permutation, whose later weights are next to nothing.

    Gradient, in the forward pass: with A_k = w_k / (mass left before choice k), cumulated to B_k,
    ``dz = q_pi(k) B_k - w_k`` on the list and ``q B_K`` on the other tokens.

    Args:
        hidden: (..., H) hidden states.
        head: the student's, (V, H).
        labels: (...) ; only -100, not supervised, counts here.
        ranking: (..., k) ids, first choice first; exp of the log-probabilities are the weights w.
        num_items: as for ``fused_loss``.
        weights: (...) r of positions.
        block_bytes: memory for the logits of a block.

    Returns:
        Scalar. Not 0 at its optimum: it is a likelihood.

    Raises:
        ValueError: as ``top_loss``.

    Reference:
        Bassam, Amini and Sarkar (2025), PLD: A Choice-Theoretic List-Wise Knowledge Distillation, section 4.
    """
    positions = Positions(hidden, labels, weights)
    ids = positions.rows(ranking.ids, "ranking's ids").long()
    exact = torch.float64 if hidden.dtype == torch.float64 else torch.float32
    log_probs = positions.rows(ranking.log_probs, "ranking's log-probabilities").detach().to(exact)
    check_targets(ids, log_probs, head, distinct=True)
    loss, _ = stream(
        PlackettLuceRows(ids, log_probs.exp()),
        [Side(positions.rows(hidden, "hidden states"), head)],
        weights=positions.weights,
        num_items=num_items,
        block_bytes=block_bytes,
    )
    return loss


@dataclass(frozen=True)
class PlackettLuceRows:
    """The row loss of ``plackett_luce_loss``.

    Attributes:
        ids: (N, k).
        weights: (N, k) of the choices.
    """

    ids: Tensor
    weights: Tensor

    def __call__(self, logits: Sequence[Tensor], rows: slice, gradient: bool) -> Tensor:
        """(1, C) values; the logits become the gradient."""
        z, ids, weights = logits[0], self.ids[rows], self.weights[rows]
        q = normalise_(z)
        scores, listed = z.gather(1, ids), q.gather(1, ids)
        rest, log_tail = tail_of(q, ids)
        # From the small end: what is left before each choice.
        left = torch.cat([listed, log_tail.exp()[:, None]], 1).flip(1).cumsum(1).flip(1)[:, :-1]
        left = left.clamp_(min=torch.finfo(left.dtype).tiny)
        values = (weights * (left.log() - scores)).sum(-1)
        if gradient:
            pull = (weights / left).cumsum(1)
            torch.mul(rest, pull[:, -1:], out=z)
            z.scatter_(1, ids, listed * pull - weights)
        return values[None]
