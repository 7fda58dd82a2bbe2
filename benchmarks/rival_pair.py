"""A model and the tokenizer that it shall get, as the rivals' programs see them, and rows by our own methods."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerBase

from vocabalign.lexicon import Lexicon
from vocabalign.text.tokenizers import load_vocabulary
from vocabalign.text.vocabulary import Vocabulary
from vocabalign.transplantation.row_plans import RowPlan, Spaces, plan_rows
from vocabalign.transplantation.rows import Pieces, Side, make_rows
from vocabalign.transplantation.sources import Sources, TokenClass, find_sources

Matrices = tuple[Tensor, Tensor]

_NO_SPACES = Spaces()


@dataclass(frozen=True)
class Pair:
    """A model and the tokenizer that it shall get, as the programs see them.

    Attributes:
        source: model folder.
        target: tokenizer (or model) folder.
        corpus: text for those that learn from text.
        owner: model folder that owns the target vocabulary, where there is one.
        seed: of everything drawn.
        lexicon: for rows that need one.
    """

    source: str
    target: str
    corpus: Sequence[str] = ()
    owner: str | None = None
    seed: int = 0
    lexicon: Lexicon | None = None

    @cached_property
    def model(self) -> torch.nn.Module:
        """The source model in float32."""
        return AutoModelForCausalLM.from_pretrained(self.source, dtype=torch.float32)

    @cached_property
    def source_tokenizer(self) -> PreTrainedTokenizerBase:
        """As users load it."""
        return AutoTokenizer.from_pretrained(self.source)

    @cached_property
    def target_tokenizer(self) -> PreTrainedTokenizerBase:
        """As users load it."""
        return AutoTokenizer.from_pretrained(self.target)

    @cached_property
    def by_bytes(self) -> Sources:
        """Our own sources: what is not given by a program stays as it is here."""
        return find_sources(*self.vocabularies, len(self.matrix("input")), self.lexicon, {})

    @cached_property
    def vocabularies(self) -> tuple[Vocabulary, Vocabulary]:
        """Of source and target."""
        return load_vocabulary(self.source), load_vocabulary(self.target)

    @property
    def tied(self) -> bool:
        """The source's embedding is its head."""
        return bool(self.model.config.tie_word_embeddings)

    def matrix(self, side: Side) -> Tensor:
        """(S, H) embedding or head."""
        part = self.model.get_input_embeddings() if side == "input" else self.model.get_output_embeddings()
        return part.weight.detach()

    def sources(self, pieces: Sequence[Sequence[int]], copied: Iterable[int]) -> Sources:
        """Sources as a program has them: pieces of T tokens, and those that it copies."""
        flags = np.zeros(len(pieces), bool)
        flags[list(copied)] = True
        lengths = np.array([len(row) for row in pieces])
        classes = np.where(lengths == 0, TokenClass.MEAN, TokenClass.SEGMENTATION)
        classes[flags] = TokenClass.IDENTICAL
        return dataclasses.replace(
            self.by_bytes, pieces=Pieces.from_lists(pieces), classes=classes.astype(np.uint8), lexicon=None
        )

    def both(self, make: Callable[[Side], Tensor]) -> Matrices:
        """Embedding and head, made once where they are one."""
        rows = make("input")
        return rows, rows if self.tied else make("head")


def rows_of_plan(plan: RowPlan, source: Tensor) -> Tensor:
    """(T, H) rows of a plan, without calibration."""
    rows = make_rows(plan.weights, source)
    ids, dense = plan.dense
    if len(ids):
        rows[torch.from_numpy(ids)] = dense
    return rows


def published(pair: Pair, inputs: str, heads: str, spaces: Spaces = _NO_SPACES) -> Matrices:
    """Rows of our own methods on tokens matched by bytes, without calibration."""

    def make(method: str, side: Side) -> Tensor:
        return rows_of_plan(plan_rows(method, side, pair.by_bytes, spaces, pair.matrix(side)), pair.matrix(side))

    return make(inputs, "input"), make(heads, "head")
