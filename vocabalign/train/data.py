"""Training text as blocks of tokens that can be drawn by number.

Documents are tokenised once into a file of ids. A block is a piece of the stream of all documents in
an order that follows from seed and epoch alone, so any step can be drawn again from its number: that
is what makes an interrupted run go on exactly where it was.

Each document begins with BOS (with EOS where there is no BOS) and ends with EOS where that is another
token. Blocks are always full; no text is left out but less than one block at the end of an epoch.
Positions start again from 0 at each document, from which transformers builds the attention mask of
most architectures, so that documents in a block do not see each other (measured: 5 to 10 % of the
body's time on the CPU, for which training and scoring see the same thing). Some architectures
(OPT, Falcon, ALiBi, Mamba) do not look at positions that way: a probe at the start of a run warns
that their documents do see each other. The first token of the next document is never a label,
unless it is also the token that ends the last one.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from vocabalign.errors import CorpusError
from vocabalign.losses.fused import IGNORE
from vocabalign.train.documents import Documents, boundary_ids, tokenize
from vocabalign.train.mixing import Epochs

__all__ = ["Blocks", "Documents", "Fragment", "boundary_ids", "say_epochs", "tokenize"]
logger = logging.getLogger("vocabalign")


@dataclass(frozen=True, slots=True)
class Fragment:
    """Tokens ``first`` to ``last`` (exclusive) of a document, counted from the document's first token."""

    document: int
    first: int
    last: int


class Blocks(Dataset):
    """Blocks of ``context`` inputs with their labels, by number; they go on from epoch to epoch.

    Args:
        documents: the text.
        context: tokens in a block, L.
        seed: decides the order of documents in every epoch.
        positions: give ``position_ids`` that start again at each document.
        extend: gets the fragments of every row of a batch, returns more tensors for the batch.

    Raises:
        CorpusError: less text than one block.
    """

    def __init__(
        self,
        documents: Documents,
        context: int,
        seed: int,
        *,
        positions: bool = True,
        extend: Callable[[list[list[Fragment]]], dict[str, Any]] | None = None,
    ) -> None:
        self.documents, self.context, self.seed = documents, context, seed
        self.positions, self.extend = positions, extend
        self.epochs = Epochs(np.diff(documents.starts), documents.weights, context, seed)
        self.blocks_per_epoch = self.epochs.blocks_per_epoch
        self._order = lru_cache(maxsize=2)(self._make_order)
        if self.blocks_per_epoch < 1:
            raise CorpusError(
                f"The corpus has {self.epochs.num_tokens:,} tokens, too few for one sequence of {context}: give "
                "more text or a smaller training.context."
            )

    def __len__(self) -> int:
        return 1 << 62

    def __getitems__(self, numbers: Sequence[int]) -> dict[str, Any]:
        """A batch: ``input_ids``, ``labels`` and ``position_ids``, each (B, L) int64."""
        rows = [self.fragments(number) for number in numbers]
        batch: dict[str, Any] = self._tensors(rows)
        if self.extend is not None:
            batch.update(self.extend(rows))
        return batch

    def fragments(self, number: int) -> list[Fragment]:
        """What block ``number`` is made of: L + 1 tokens, the last one only a label."""
        epoch, index = self.epochs.locate(number)
        order, offsets = self._order(epoch)
        start, stop = index * self.context, (index + 1) * self.context + 1
        fragments = []
        place = int(np.searchsorted(offsets, start, side="right")) - 1
        while start < stop:
            first = start - int(offsets[place])
            last = min(int(offsets[place + 1]), stop) - int(offsets[place])
            if last > first:
                fragments.append(Fragment(int(order[place]), first, last))
            start += last - first
            place += 1
        return fragments

    def _make_order(self, epoch: int) -> tuple[np.ndarray, np.ndarray]:
        order = self.epochs.order(epoch)
        return order, np.concatenate([[0], np.cumsum(self.epochs.lengths[order])])

    def _tensors(self, rows: list[list[Fragment]]) -> dict[str, Tensor]:
        ids = np.empty((len(rows), self.context + 1), dtype=np.int64)
        positions = np.empty((len(rows), self.context + 1), dtype=np.int64)
        starts = self.documents.starts
        masked: list[tuple[int, int]] = []
        silent: list[tuple[int, slice]] = []
        for row, fragments in enumerate(rows):
            at = 0
            ends_silently = False
            for fragment in fragments:
                size = fragment.last - fragment.first
                base = int(starts[fragment.document])
                ids[row, at : at + size] = self.documents.ids[base + fragment.first : base + fragment.last]
                positions[row, at : at + size] = np.arange(size)
                ranges = self._unscored(base, fragment)
                if at and (ends_silently or not self.documents.marks_end):
                    masked.append((row, at - 1))
                # Of the first token another fragment decides: the one that it ends.
                silent += [(row, slice(at + max(a, 1) - 1, at + b - 1)) for a, b in ranges if b > 1]
                ends_silently = bool(ranges) and ranges[-1][1] == size
                at += size
        labels = ids[:, 1:].copy()
        for row, column in masked:
            labels[row, column] = IGNORE
        for row, columns in silent:
            labels[row, columns] = IGNORE
        batch = {"input_ids": torch.from_numpy(ids[:, :-1].copy()), "labels": torch.from_numpy(labels)}
        if self.positions:
            batch["position_ids"] = torch.from_numpy(positions[:, :-1].copy())
        return batch

    def _unscored(self, base: int, fragment: Fragment) -> list[tuple[int, int]]:
        """Ranges of a fragment's tokens that are not to be predicted, counted from its first."""
        ranges = self.documents.unscored
        if ranges is None:
            return []
        start, stop = base + fragment.first, base + fragment.last
        first, last = np.searchsorted(ranges[:, 1], start, side="right"), np.searchsorted(ranges[:, 0], stop)
        found = np.clip(ranges[first:last], start, stop) - start
        return [(int(a), int(b)) for a, b in found]

    def names(self, numbers: Sequence[int]) -> list[str]:
        """The documents that some blocks are made of, for people."""
        found = dict.fromkeys(fragment.document for number in numbers for fragment in self.fragments(number))
        return [self.documents.name_of(document) for document in found]


def say_epochs(blocks: Blocks, num_sequences: int, max_epochs: float = float("inf")) -> float:
    """Log how many passes over the text the step budget means; that number.

    Raises:
        CorpusError: more than ``max_epochs``.
    """
    epochs = num_sequences / blocks.blocks_per_epoch
    if epochs > max_epochs:
        raise CorpusError(
            f"The corpus has {blocks.epochs.num_tokens:,} tokens and the steps take "
            f"{num_sequences * blocks.context:,}: {epochs:.1f} epochs, over training.max_epochs of {max_epochs:g}. "
            "Give more text, fewer training.steps, or raise training.max_epochs."
        )
    logger.info(
        "%s tokens of text in %s documents; the steps take %s tokens: %.2f epochs.",
        f"{blocks.epochs.num_tokens:,}",
        f"{len(blocks.documents):,}",
        f"{num_sequences * blocks.context:,}",
        epochs,
    )
    return epochs
