"""Rows fitted to the source model's own hidden states and expectations: forward passes, means and counts, no gradient.

Three corrections that need the model to be run:

*Input rows.* Where a target token and a source token end at the same byte, both models have read the same text, so
they should be in the same state. What the state behind an early block lacks, on average over all places where a token
ends, is added to the token's row: the residual stream carries it there as it was added. The mean is shrunk by
``INPUT_PRIOR`` imagined places that lack nothing, and after the first correction the rest is corrected once more.

*Head shifts.* With its new rows in place the model says how often it expects each token. The logarithm of how often
the token is really used over how often it is expected goes on top of the count shift: one step of iterative
scaling (Darroch and Ratcliff 1972) of one factor a token.

*Head rows.* The rows of all tokens that the text uses, copies too (a copy may be used where the source never uses it,
as ` L` of ` Lily`), are fitted to what the source expects and the text says: ``head_fitting`` and ``head_wishes``.

Whether a correction is taken is decided by bits per byte on documents of the corpus that neither has seen.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import NamedTuple, cast

import numpy as np
import torch
from torch import Tensor

from vocabalign.transplantation.expectations import Head
from vocabalign.transplantation.head_fitting import HeadCorrection, fit_head
from vocabalign.transplantation.head_wishes import find_wishes
from vocabalign.transplantation.running import Body, Document, States

logger = logging.getLogger("vocabalign")

INPUT_PRIOR = 5.0
INPUT_ROUNDS = 2
COUNT_SMOOTHING = 5.0
# Shares of a fitted head that a tied matrix is tried with.
TIED_SHARES = (1.0, 0.5, 0.25)


class Made(NamedTuple):
    """Matrices to try: embedding (T, H), head (T, H) and bias (T,) or None."""

    embedding: Tensor
    head: Tensor
    bias: Tensor | None


# (correction of embedding rows, of head logits, of head rows) -> the matrices with all three.
Make = Callable[[Tensor | None, np.ndarray | None, HeadCorrection | None], Made]


@dataclass(frozen=True)
class Fitted:
    """What fitting found.

    Attributes:
        inputs: (T, H) float32 to add to embedding rows; None where it did not help.
        shift: (T,) float32 to add to head logits, before the model scales them; None where it did not help.
        heads: what to add to head rows; None where it did not help.
        bits_per_byte: "plain", "inputs", "expectation" (with what was kept of inputs), "heads" (with what was kept of
            both) -> on held-out documents of the corpus.
        num_tokens: target tokens that were read.
        tying_cost: bits per byte of the held-out documents that one matrix costs above two, fitted in the same ways;
            None where there are two.
    """

    inputs: Tensor | None
    shift: np.ndarray | None
    heads: HeadCorrection | None = None
    bits_per_byte: dict[str, float] = field(default_factory=dict)
    num_tokens: int = 0
    tying_cost: float | None = None


@dataclass(frozen=True)
class Fitter:
    """A model and documents to fit rows on.

    Attributes:
        body: the source model.
        learned: documents to fit on.
        held_out: documents to choose by.
        logit_scale: what the model multiplies its head's products by.
        num_counted: so many of the learned ones show how often the whole vocabulary is expected.
    """

    body: Body
    learned: Sequence[Document]
    held_out: Sequence[Document]
    logit_scale: float
    num_counted: int | None = None

    def fit(
        self, make: Make, wanted: np.ndarray, *, shifts: bool = True, heads: bool = True, apart: Make | None = None
    ) -> Fitted:
        """Find the corrections and keep those that help on held-out documents.

        Args:
            make: the corrections -> matrices.
            wanted: (T,) bool, tokens whose input rows may change: those that are no copies.
            shifts: whether head logits may be corrected.
            heads: whether head rows may be.
            apart: where ``make`` joins both matrices into one, the matrices before that. An input row in a joined one
                is left alone (what tying spoils would be corrected over and over), and of the corrections of head
                rows as much is taken as the input can bear.
        """
        if apart is None:
            fitted, _ = self._fit_apart(make, wanted, shifts, heads)
            logger.info("bits per byte of documents not fitted on: %s", fitted.bits_per_byte)
            return fitted
        found = {"plain": self.score(make(None, None, None))}
        shift, best = self._shift(make, None, found) if shifts else (None, found["plain"])
        taken = None
        if shifts and heads and (correction := self.head_correction(make(None, shift, None))) is not None:
            shares = [replace(correction, share=share) for share in TIED_SHARES]
            scores = [self.score(make(None, shift, tried)) for tried in shares]
            found["heads"] = min(scores)
            if found["heads"] < best:
                taken, best = shares[scores.index(found["heads"])], found["heads"]
        _, untied = self._fit_apart(apart, wanted, shifts, heads)
        logger.info("bits per byte of documents not fitted on: %s; with two matrices %.4f", found, untied)
        return self._fitted(None, shift, taken, found, round(best - untied, 4))

    def _fit_apart(self, make: Make, wanted: np.ndarray, shifts: bool, heads: bool) -> tuple[Fitted, float]:
        """Corrections of two matrices, and bits per byte with those that are kept."""
        found = {"plain": self.score(make(None, None, None))}
        inputs, shift, taken, best = None, None, None, found["plain"]
        if wanted.any() and self.body.compares:
            lacking = self.input_corrections(make, wanted)
            found["inputs"] = self.score(make(lacking, None, None))
            inputs, best = (lacking, found["inputs"]) if found["inputs"] < best else (None, best)
        if shifts:
            shift, best = self._shift(make, inputs, found)
        if shifts and heads and (correction := self.head_correction(make(inputs, shift, None))) is not None:
            found["heads"] = self.score(make(inputs, shift, correction))
            taken, best = (correction, found["heads"]) if found["heads"] < best else (None, best)
        return self._fitted(inputs, shift, taken, found, None), best

    def _shift(
        self, make: Make, inputs: Tensor | None, found: dict[str, float]
    ) -> tuple[np.ndarray | None, float]:  # fmt: skip
        """The correction of head logits where it helps, and the best score so far."""
        best = min(found.values())
        shift = self.expectation_shift(make(inputs, None, None))
        found["expectation"] = self.score(make(inputs, shift, None))
        return (shift, found["expectation"]) if found["expectation"] < best else (None, best)

    def _fitted(
        self, inputs: Tensor | None, shift: np.ndarray | None, heads: HeadCorrection | None, found: dict[str, float],
        cost: float | None,
    ) -> Fitted:  # fmt: skip
        rounded = {name: round(value, 4) for name, value in found.items()}
        num_tokens = sum(len(document.target) for document in self.learned)
        return Fitted(inputs, shift, heads, rounded, num_tokens, cost)

    @cached_property
    def _source_states(self) -> list[States]:
        """Of the untouched source on its own cut of the learned documents."""
        return self.body.read([document.source for document in self.learned])

    def head_correction(self, made: Made) -> HeadCorrection | None:
        """What head rows lack; None where nothing helps the tokens in question on held-out documents."""
        states = [read.final for read in self.body.read([document.target for document in self.learned], made.embedding)]
        of_source = [read.final for read in self._source_states]
        wishes = find_wishes(self.learned, states, of_source, self._source_head())
        behind, followers = self._places(self.held_out, made)
        place = torch.full((len(made.head),), -1)
        place[wishes.ids] = torch.arange(len(wishes.ids))
        known = place[followers] >= 0
        behind, followers = behind[known], place[followers[known]]

        def held_out(head: Head) -> float:
            return self._bits_per_byte(head.nats(behind, followers))

        return fit_head(self._head(made), torch.cat([rows[:-1] for rows in states]), wishes, held_out)

    def input_corrections(self, make: Make, wanted: np.ndarray) -> Tensor:
        """(T, H) float32: what embedding rows lack for the target's cut to leave the model as the source's does."""
        wished = [states.middle for states in self._source_states]
        ids = [document.target for document in self.learned]
        tokens = torch.from_numpy(np.concatenate([d.target[d.target_ends] for d in self.learned]))
        correction: Tensor | None = None
        for _ in range(INPUT_ROUNDS):
            embedding = make(correction, None, None).embedding
            read = self.body.read(ids, embedding)
            gain = _gain([states.entry for states in read], embedding, ids)
            lacking = torch.zeros(embedding.shape, dtype=torch.float32)
            for document, wish, states in zip(self.learned, wished, read, strict=True):
                ends = torch.from_numpy(document.target_ends)
                difference = wish[torch.from_numpy(document.source_ends)] - states.middle[ends]
                lacking.index_add_(0, torch.from_numpy(document.target[document.target_ends]), difference)
            places = torch.bincount(tokens, minlength=len(embedding)).float()
            step = lacking / (places + INPUT_PRIOR)[:, None] / gain
            step[torch.from_numpy(~wanted)] = 0
            correction = step if correction is None else correction + step
        assert correction is not None
        return correction

    def expectation_shift(self, made: Made) -> np.ndarray:
        """(T,) float32 to add to head logits, before they are scaled, so that tokens are expected as often as used."""
        states, followers = self._places(self.learned[: self.num_counted], made)
        expected = self._head(made).expect(states)
        uses = torch.bincount(followers, minlength=len(expected))
        logs = torch.log((uses + COUNT_SMOOTHING) / (expected + COUNT_SMOOTHING))
        return (logs / self.logit_scale).float().numpy()

    def score(self, made: Made) -> float:
        """Bits per byte on the held-out documents."""
        states, followers = self._places(self.held_out, made)
        return self._bits_per_byte(self._head(made).nats(states, followers))

    def _bits_per_byte(self, nats: float) -> float:
        return nats / math.log(2) / max(1, sum(document.num_bytes for document in self.held_out))

    def _head(self, made: Made) -> Head:
        return Head(made.head, made.bias, self.logit_scale, self.body.soft_cap, self.body.device)

    def _source_head(self) -> Head:
        module = cast(torch.nn.Linear, self.body.model.get_output_embeddings())
        return Head(module.weight, module.bias, self.logit_scale, self.body.soft_cap, self.body.device)

    def _places(self, documents: Sequence[Document], made: Made) -> tuple[Tensor, Tensor]:
        """(N, H) states that the head reads, and (N,) the tokens that follow."""
        read = self.body.read([document.target for document in documents], made.embedding)
        followers = [torch.from_numpy(document.target[1:]) for document in documents]
        return torch.cat([states.final[:-1] for states in read]), torch.cat(followers)


def _gain(entries: Sequence[Tensor], embedding: Tensor, ids: Sequence[np.ndarray]) -> float:
    """By how much the model multiplies embedding rows before its first block (Gemma: the root of H); least squares."""
    product = square = 0.0
    for entry, row in zip(entries, ids, strict=True):
        rows = embedding[torch.from_numpy(row)].float()
        product += float((entry * rows).sum())
        square += float(rows.square().sum())
    return product / square if product > 0 and square > 0 else 1.0
