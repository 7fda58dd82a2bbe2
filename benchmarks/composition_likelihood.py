"""Head rows composed so that probabilities come out right, and not rows: the loss that a head is judged by.

A re-cut token competes with all other source tokens, whose rows stay. At each of P places the source says with which
probability it expects the token; the composed row says another. The loss is the binary cross-entropy between the two,
summed over tokens and averaged over places, above the source's own entropy: nats that a place pays for composed rows.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from composition_forms import Predict, from_both, gather
from torch import Tensor

from vocabalign.transplantation.rows import Pieces

PENALTIES = (1e-4, 1e-3, 1e-2)
STEPS = 40
VALIDATION_SHARE = 0.25


@dataclass(frozen=True)
class Places:
    """What the source expects.

    Attributes:
        states: (P, H) final states.
        probability: (P, N) of the N re-cut tokens.
        rest: (P, N) logarithm of the sum of all other tokens' exponentials.
    """

    states: Tensor
    probability: Tensor
    rest: Tensor

    @classmethod
    def of(cls, states: Tensor, head: Tensor, ids: np.ndarray, logit_scale: float) -> Places:
        """From (P, H) states and the (S, H) head."""
        logits = states @ head.T * logit_scale
        total = logits.logsumexp(dim=1, keepdim=True)
        probability = (logits[:, torch.from_numpy(ids)] - total).exp().clamp(max=1 - 1e-6)
        return cls(states * logit_scale, probability, total + torch.log1p(-probability))

    def select(self, chosen: np.ndarray) -> Places:
        """Some of the tokens."""
        columns = torch.from_numpy(chosen)
        return Places(self.states, self.probability[:, columns], self.rest[:, columns])

    def excess(self, rows: Tensor) -> Tensor:
        """Nats a place above the source's own, for (N, H) composed rows."""
        odds = self.states @ rows.T - self.rest
        paid = torch.nn.functional.binary_cross_entropy_with_logits(odds, self.probability, reduction="sum")
        best = torch.nn.functional.binary_cross_entropy(self.probability, self.probability, reduction="sum")
        return (paid - best) / len(self.states)


@dataclass(frozen=True)
class Examples:
    """Tokens with their pieces and count shifts; ``parts`` (K, N, H) of the positions, of the last layer's rows."""

    parts: Tensor
    shift: Tensor

    @classmethod
    def of(cls, pieces: Pieces, rows: np.ndarray, shift: np.ndarray) -> Examples:
        """``shift`` (N,) in units of the row's direction."""
        parts = np.stack([gather(pieces, weights, rows) for weights in from_both(pieces)])
        return cls(torch.from_numpy(parts).float(), torch.from_numpy(shift).float())

    def select(self, chosen: np.ndarray) -> Examples:
        """Some of the tokens."""
        return Examples(self.parts[:, torch.from_numpy(chosen)], self.shift[torch.from_numpy(chosen)])


@dataclass
class Composition:
    """Weights by position, share of the count shift, constant shift, and a map of first piece, last piece and mean.

    It begins as ``auto``: the first piece and the whole count shift.
    """

    direction: Tensor
    weights: Tensor
    shifts: Tensor
    mapping: Tensor

    @classmethod
    def start(cls, direction: Tensor) -> Composition:
        """As ``auto`` makes head rows."""
        size = len(direction)
        weights = torch.tensor([1.0, 0, 0, 0, 0, 0, 0])
        return cls(direction, weights, torch.tensor([1.0, 0.0]), torch.zeros(3 * size, size))

    def parameters(self) -> tuple[Tensor, Tensor, Tensor]:
        """What can be learned."""
        return self.weights, self.shifts, self.mapping

    def rows(self, examples: Examples) -> Tensor:
        """(N, H)."""
        shift = self.shifts[0] * examples.shift + self.shifts[1]
        ends = torch.cat([examples.parts[0], examples.parts[3], examples.parts[6]], dim=1)
        mixed = torch.einsum("k,knh->nh", self.weights, examples.parts)
        return mixed + shift[:, None] * self.direction + ends @ self.mapping

    def fit(self, examples: Examples, places: Places, penalty: float | None, shifts: bool) -> Composition:
        """Improved by L-BFGS: the weights, with a penalty the map, and the shifts where they may change."""
        wanted = (True, shifts, penalty is not None)
        parameters = [p.clone().requires_grad_(w) for p, w in zip(self.parameters(), wanted, strict=True)]
        made, free = Composition(self.direction, *parameters), [p for p in parameters if p.requires_grad]
        optimizer = torch.optim.LBFGS(free, max_iter=STEPS, line_search_fn="strong_wolfe")

        def closure() -> Tensor:
            optimizer.zero_grad()
            loss = places.excess(made.rows(examples))
            if penalty is not None:
                loss = loss + penalty * made.mapping.square().sum()
            loss.backward()
            return loss

        optimizer.step(closure)
        return Composition(self.direction, *(p.detach() for p in parameters))


def learn(examples: Examples, places: Places, direction: Tensor, *, mapped: bool, shifts: bool) -> Composition:
    """The composition that pays least; a map's penalty is chosen on a quarter of the tokens, "no map" among them."""
    simple = Composition.start(direction).fit(examples, places, None, shifts)
    if not mapped:
        return simple
    order = np.random.default_rng(0).permutation(len(examples.shift))
    cut = round(VALIDATION_SHARE * len(order))
    rest, validation = order[cut:], order[:cut]
    part = Composition.start(direction).fit(examples.select(rest), places.select(rest), None, shifts)

    def cost(penalty: float | None) -> float:
        made = part if penalty is None else part.fit(examples.select(rest), places.select(rest), penalty, shifts)
        return float(places.select(validation).excess(made.rows(examples.select(validation))))

    penalty = min((None, *PENALTIES), key=cost)
    return simple if penalty is None else simple.fit(examples, places, penalty, shifts)


def as_rows(predict: Predict, pieces: Pieces, back: np.ndarray, shift: np.ndarray, direction: Tensor) -> Tensor:
    """(N, H) head rows of a form that was learned in another way, with count shifts."""
    return torch.from_numpy(predict(pieces) @ back).float() + torch.from_numpy(shift).float()[:, None] * direction
