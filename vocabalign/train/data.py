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

import json
import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from vocabalign.errors import CorpusError
from vocabalign.losses.fused import IGNORE
from vocabalign.progress import progress
from vocabalign.text.batches import in_batches
from vocabalign.text.vocabulary import Vocabulary

logger = logging.getLogger("vocabalign")


@dataclass(frozen=True)
class Documents:
    """Tokenised documents.

    Attributes:
        ids: (num_tokens,) unsigned integers, memory-mapped; all documents one after another.
        starts: (num_documents + 1,) int64, where each begins, and the end.
        num_bytes: UTF-8 bytes of the text.
        begin: the id that each document begins with, or None.
        end: the id that each document ends with, or None.
    """

    ids: np.ndarray
    starts: np.ndarray
    num_bytes: int
    begin: int | None
    end: int | None

    @property
    def marks_end(self) -> bool:
        """Whether the begin of a document also ends the one before it."""
        return self.begin is not None and self.end is None

    def __len__(self) -> int:
        return len(self.starts) - 1


def boundary_ids(vocabulary: Vocabulary) -> tuple[int | None, int | None]:
    """(what a document begins with, what it ends with); the second is None where it is the same token."""
    eos = vocabulary.roles.get("eos")
    begin = vocabulary.roles.get("bos", eos)
    return begin, (eos if eos != begin else None)


def tokenize(texts: Iterable[str], vocabulary: Vocabulary, folder: Path, name: str) -> Documents:
    """Tokenise once into ``folder``; a whole earlier result there is taken as it is.

    The caller keeps ``folder`` for one corpus and one tokenizer. Memory is that of a megabyte of
    text (or of the longest document), whatever the size of the corpus.

    Raises:
        CorpusError: no text.
    """
    description = folder / f"{name}.json"
    if not description.exists():
        _write_ids(texts, vocabulary, folder, name)
    about = json.loads(description.read_text())
    ids = np.memmap(folder / f"{name}.ids", dtype=about["dtype"], mode="r")
    return Documents(ids, np.load(folder / f"{name}.starts.npy"), about["num_bytes"], *boundary_ids(vocabulary))


def _write_ids(texts: Iterable[str], vocabulary: Vocabulary, folder: Path, name: str) -> None:
    dtype = np.uint16 if len(vocabulary) <= 1 << 16 else np.uint32
    begin, end = boundary_ids(vocabulary)
    before = [] if begin is None else [begin]
    after = [] if end is None else [end]
    lengths, num_bytes = [0], 0
    with (folder / f"{name}.ids").open("wb") as file, progress("tokenising") as bar:
        for group in in_batches(texts):
            for ids in vocabulary.encode_batch(group):
                document = np.array([*before, *ids, *after], dtype=dtype)
                lengths.append(len(document))
                document.tofile(file)
            size = sum(len(text.encode()) for text in group)
            num_bytes += size
            bar.advance(size, f"{num_bytes:,} bytes")
    if len(lengths) == 1 or num_bytes == 0:
        raise CorpusError("The corpus holds no text to train on: check the files and the field 'text'.")
    np.save(folder / f"{name}.starts.npy", np.cumsum(np.array(lengths, dtype=np.int64)))
    about = {"dtype": np.dtype(dtype).name, "num_bytes": num_bytes, "num_tokens": sum(lengths)}
    # Written last: where it exists, the two other files are whole.
    (folder / f"{name}.json.new").write_text(json.dumps(about))
    (folder / f"{name}.json.new").replace(folder / f"{name}.json")


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
        self.blocks_per_epoch = (int(documents.starts[-1]) - 1) // context
        self._order = lru_cache(maxsize=2)(self._make_order)
        if self.blocks_per_epoch < 1:
            raise CorpusError(
                f"The corpus has {int(documents.starts[-1]):,} tokens, too few for one sequence of {context}: give "
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
        epoch, index = divmod(number, self.blocks_per_epoch)
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
        order = np.random.default_rng([self.seed, epoch]).permutation(len(self.documents))
        lengths = np.diff(self.documents.starts)[order]
        return order, np.concatenate([[0], np.cumsum(lengths)])

    def _tensors(self, rows: list[list[Fragment]]) -> dict[str, Tensor]:
        ids = np.empty((len(rows), self.context + 1), dtype=np.int64)
        positions = np.empty((len(rows), self.context + 1), dtype=np.int64)
        starts = self.documents.starts
        masked: list[tuple[int, int]] = []
        for row, fragments in enumerate(rows):
            at = 0
            for fragment in fragments:
                size = fragment.last - fragment.first
                base = int(starts[fragment.document])
                ids[row, at : at + size] = self.documents.ids[base + fragment.first : base + fragment.last]
                positions[row, at : at + size] = np.arange(size)
                if at and not self.documents.marks_end:
                    masked.append((row, at - 1))
                at += size
        labels = ids[:, 1:].copy()
        for row, column in masked:
            labels[row, column] = IGNORE
        batch = {"input_ids": torch.from_numpy(ids[:, :-1].copy()), "labels": torch.from_numpy(labels)}
        if self.positions:
            batch["position_ids"] = torch.from_numpy(positions[:, :-1].copy())
        return batch


def say_epochs(blocks: Blocks, num_sequences: int) -> float:
    """Log how many passes over the text the step budget means; that number."""
    epochs = num_sequences / blocks.blocks_per_epoch
    logger.info(
        "%s tokens of text in %s documents; the steps take %s tokens: %.2f epochs.",
        f"{int(blocks.documents.starts[-1]):,}",
        f"{len(blocks.documents):,}",
        f"{num_sequences * blocks.context:,}",
        epochs,
    )
    return epochs
