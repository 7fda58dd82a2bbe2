"""A pair's matrices, the re-cut tokens of its source as solved examples, and transplants with rows made otherwise."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import rival_rows
import torch
from composition_forms import FORMS, Predict, decay, select
from composition_likelihood import Examples, Places, learn
from recut_tokens import is_held_out, recut
from row_cells import Pair, documents_of, score_matrices

from vocabalign.evaluation.bits_per_byte import score_documents, start_token
from vocabalign.models import resolve
from vocabalign.text.compression import encode_documents
from vocabalign.transplantation.calibration import CorpusCounts, constant_direction, count_corpus, count_shift
from vocabalign.transplantation.checkpoint import open_checkpoint
from vocabalign.transplantation.fitting import Made
from vocabalign.transplantation.head_fitting import HeadCorrection
from vocabalign.transplantation.row_plans import Spaces, plan_rows
from vocabalign.transplantation.rows import Pieces, Side, make_rows
from vocabalign.transplantation.source_states import find_source_states
from vocabalign.transplantation.sources import TokenClass

# With as many uses a row is believed half: rows that were hardly ever trained say nothing.
HALF_TRUST = 20.0
# Places at which probabilities are compared.
PLACES = 1500
# Head rows by the head's own loss: whether with a map, and whether counts may weigh more or less.
LIKELIHOOD: dict[str, dict[str, bool]] = {
    "likelihood: weights": {"mapped": False, "shifts": False},
    "likelihood: weights, shifts": {"mapped": False, "shifts": True},
    "likelihood: weights, map": {"mapped": True, "shifts": False},
    "likelihood: weights, shifts, map": {"mapped": True, "shifts": True},
}
# Text and decays of input rows that the source is tried with.
READ_BYTES = 20_000
READ_FACTORS = (0.0, 0.15, 0.3, 0.5, 0.7, 1.0)
CPU = torch.device("cpu")


@dataclass(frozen=True)
class View:
    """A matrix to learn rows of.

    Attributes:
        side: where pieces matter most.
        rows: (S, H) rows that are put together.
        truth: (N, H) rows that the re-cut tokens have.
        back: (H, H) from predictions to rows of the model.
    """

    side: Side
    rows: np.ndarray
    truth: np.ndarray
    back: np.ndarray


class Study:
    """A pair's matrices, its solved examples, and the starts that are made with them."""

    def __init__(self, name: str, fit_bytes: int) -> None:
        pair = Pair(name)
        self.seen = rival_rows.Pair(str(resolve(pair.source)), pair.target)
        self.checkpoint = open_checkpoint(self.seen.source)
        self.source, self.target = self.seen.vocabularies
        self.sources = self.seen.by_bytes
        self.counts = count_corpus(self.source, self.target, documents_of(pair.text("train")))
        self.counts = replace(self.counts, fitting=first_bytes(self.counts.fitting, fit_bytes))
        hidden = find_source_states(self.checkpoint, self.source, self.counts, CPU, torch.float32)
        assert hidden is not None
        self.states = hidden.text
        self.direction = constant_direction(self.states)
        self.matrices: dict[Side, torch.Tensor] = {"input": self.seen.matrix("input"), "head": self.seen.matrix("head")}
        self.ids, self.pieces = recut(self.source, len(self.matrices["input"]))
        self.uses = self.counts.source[self.ids]
        classes = self.sources.classes
        self.new = np.flatnonzero((classes == TokenClass.SEGMENTATION) & (self.sources.pieces.lengths > 1))
        self.new_pieces = select(self.sources.pieces, self.new)
        plan = plan_rows("auto", "head", self.sources, Spaces(), self.matrices["head"])
        assert plan.pieces is not None
        self.shift = count_shift(plan.pieces, self.counts) / np.float32(self.checkpoint.logit_scale)

    def views(self) -> dict[str, View]:
        """Input rows, head rows, head rows by their logits, and these beside what counting explains."""
        inputs, heads = (self.matrices[side].double().numpy() for side in ("input", "head"))
        states = self.states.double().numpy()
        moment = states.T @ states / len(states)
        metric = np.linalg.cholesky(moment + 1e-4 * np.trace(moment) / len(moment) * np.eye(len(moment)))
        same, back = np.eye(len(metric)), np.linalg.inv(metric)
        counted = self.recut_shift()[:, None] * self.direction.double().numpy()
        return {
            "input rows": View("input", inputs, inputs[self.ids], same),
            "head rows": View("head", heads, heads[self.ids], same),
            "head logits": View("head", heads @ metric, heads[self.ids] @ metric, back),
            "head logits − counts": View("head", heads @ metric, (heads[self.ids] - counted) @ metric, back),
        }

    def recut_shift(self) -> np.ndarray:
        """(N,) count shifts of the re-cut tokens: without such a token its uses would be its first piece's too."""
        first = self.pieces.ids[self.pieces.starts[:-1]]
        source = self.counts.source[first] + self.uses
        alone = Pieces.from_lists([[i] for i in range(len(first))])
        return count_shift(alone, CorpusCounts(source, self.uses, [], 0)).astype(float) / self.checkpoint.logit_scale

    @cached_property
    def read_factor(self) -> float:
        """The decay of input rows with which the source reads its own text best when a third of them is composed."""
        texts = first_bytes(self.counts.fitting, READ_BYTES)
        ids, sizes = encode_documents(self.source, texts), [len(text.encode()) for text in texts]
        plain, model = self.matrices["input"], self.seen.model
        some = self.parts()[1]
        scores = {}
        for factor in READ_FACTORS:
            predict = decay(factor)(self.pieces, plain.double().numpy(), np.zeros(0), np.zeros(0), "input")
            rows = plain.clone()
            rows[torch.from_numpy(self.ids[some])] = torch.from_numpy(predict(select(self.pieces, some))).float()
            model.get_output_embeddings().weight = torch.nn.Parameter(self.matrices["head"], requires_grad=False)
            model.get_input_embeddings().weight = torch.nn.Parameter(rows, requires_grad=False)
            found = score_documents(model, ids, sizes, start_id=start_token(self.source.roles))
            scores[factor] = round(found.bits_per_byte, 4)
        del self.seen.__dict__["model"]
        print(f"bits per byte that the source pays for reading composed tokens, by decay: {scores}", flush=True)
        return min(scores, key=scores.__getitem__)

    def places(self) -> Places:
        """Of a sample of the text."""
        states = self.states[:: max(1, len(self.states) // PLACES)]
        return Places.of(states, self.matrices["head"].float(), self.ids, self.checkpoint.logit_scale)

    def examples(self) -> Examples:
        """All re-cut tokens."""
        return Examples.of(self.pieces, self.matrices["head"].double().numpy(), self.recut_shift())

    def likely(self, name: str) -> torch.Tensor:
        """Head rows of the new tokens, with counts, by a composition learned from all re-cut ones."""
        made = learn(self.examples(), self.places(), self.direction, **LIKELIHOOD[name])
        shift = self.shift[self.new]
        return made.rows(Examples.of(self.new_pieces, self.matrices["head"].double().numpy(), shift))

    def parts(self) -> tuple[np.ndarray, np.ndarray]:
        """Indices of the re-cut tokens to learn from, and of those held out."""
        held_out = np.array([is_held_out(self.source.token_bytes[i] or b"") for i in self.ids])
        return np.flatnonzero(~held_out), np.flatnonzero(held_out)

    def trust(self, chosen: np.ndarray) -> np.ndarray:
        """How much each re-cut token's row is believed."""
        return self.uses[chosen] / (self.uses[chosen] + HALF_TRUST)

    def learned(self, view: View, form: str) -> torch.Tensor:
        """Rows of the new tokens, learned from all re-cut ones."""
        every = np.arange(len(self.ids))
        decays = {f"decay {factor}": decay(factor) for factor in READ_FACTORS}
        chosen = {**FORMS, **decays}[f"decay {self.read_factor}" if form == "decay, read" else form]
        predict: Predict = chosen(self.pieces, view.rows, view.truth, self.trust(every), view.side)
        return torch.from_numpy(predict(self.new_pieces) @ view.back).float()

    def maker(
        self, inputs: torch.Tensor | None, heads: torch.Tensor | None, shifted: bool = True
    ) -> Callable[[torch.Tensor | None, np.ndarray | None, HeadCorrection | None], Made]:
        """``auto``'s matrices with other rows for new tokens, as a fitter wants them made.

        Args:
            inputs: their embedding rows; None for ``auto``'s.
            heads: their head rows; None for ``auto``'s.
            shifted: counts are added to these head rows.
        """
        new, shift = torch.from_numpy(self.new), self.shift.copy()
        plans = {side: plan_rows("auto", side, self.sources, Spaces(), rows) for side, rows in self.matrices.items()}
        plain = {side: make_rows(plan.weights, self.matrices[side]).float() for side, plan in plans.items()}
        if inputs is not None:
            plain["input"][new] = inputs
        if heads is not None:
            plain["head"][new] = heads
            shift[self.new] *= shifted

        def make(lacking: torch.Tensor | None, extra: np.ndarray | None, rows: HeadCorrection | None) -> Made:
            embedding = plain["input"] if lacking is None else plain["input"] + lacking
            total = torch.from_numpy(shift if extra is None else shift + extra).float()
            head = plain["head"] + total[:, None] * self.direction
            return Made(embedding, *(rows.apply(head, None) if rows is not None else (head, None)))

        return make

    def score(self, made: Made, documents: list[str]) -> float:
        """Bits per byte."""
        return score_matrices(self.seen, (made.embedding, made.head), documents).bits_per_byte


def first_bytes(texts: list[str], num_bytes: int) -> list[str]:
    """The first texts of about so many bytes."""
    ends = np.cumsum([len(text.encode()) for text in texts])
    return texts[: int(np.searchsorted(ends, num_bytes)) + 1]
