"""Running the source model's body on either tokenizer's text, with any embedding rows in place."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from vocabalign.models import context_length, load_model
from vocabalign.text.spans import aligned_spans, verified_ends
from vocabalign.text.vocabulary import Vocabulary

# How deep in the body new input rows are compared with the source: by then a token's pieces have met, and what is
# added to its row still arrives as it was added. Of 1, 2, 3 and 5 of 5 blocks 2 and 3 were best.
COMPARED_DEPTH = 0.4
_WINDOW = 512
_BATCH_TOKENS = 8192


@dataclass(frozen=True)
class Document:
    """One text cut by both tokenizers; each side begins with its start token.

    Attributes:
        source: (Ls,) int64 ids.
        target: (Lt,) int64 ids.
        source_ends: (N,) int64, places of the source tokens at whose ends a target token ends too.
        target_ends: (N,) int64, places of those target tokens.
        num_bytes: of the text.
    """

    source: np.ndarray
    target: np.ndarray
    source_ends: np.ndarray
    target_ends: np.ndarray
    num_bytes: int

    @property
    def one_to_one(self) -> bool:
        """Both cuts are the same."""
        return len(self.source) == len(self.target) == len(self.target_ends) + 1


def cut_documents(source: Vocabulary, target: Vocabulary, texts: Sequence[str], num_rows: int) -> list[Document]:
    """Cut texts by both tokenizers; a text that one of them does not give back, or without a row, is left out.

    Args:
        source: the model's vocabulary.
        target: the new one.
        texts: documents.
        num_rows: of the source model; ids at or above it have no row.
    """
    documents = []
    cuts = zip(texts, source.encode_batch(texts), target.encode_batch(texts), strict=True)
    starts = [voc.roles.get("bos", voc.roles.get("eos", 0)) for voc in (source, target)]
    for text, of_source, of_target in cuts:
        ends = verified_ends(source, of_source, text), verified_ends(target, of_target, text)
        spans = None if ends[0] is None or ends[1] is None else aligned_spans(ends[0], ends[1])
        if spans is None or not len(spans.byte_ends) or max(of_source, default=0) >= num_rows:
            continue
        # The start token is before all others, so the last token of a chunk is at the next one's first place.
        documents.append(
            Document(
                np.array([starts[0], *of_source], np.int64),
                np.array([starts[1], *of_target], np.int64),
                spans.a[1:],
                spans.b[1:],
                len(text.encode()),
            )
        )
    return documents


class _Stop(Exception):
    """The final hidden states have been read; no logits are needed."""


class Body:
    """A model without its head.

    Args:
        folder: the source model.
        dtype: of its arithmetic.
        device: where it runs.

    Raises:
        ModelError: the model cannot be loaded.
    """

    def __init__(self, folder: Path, *, dtype: torch.dtype, device: torch.device) -> None:
        self.model = load_model(folder, dtype=dtype, device=device)
        self.device = device
        text = self.model.config.get_text_config()
        self.window = min(_WINDOW, context_length(self.model) or _WINDOW)
        self.soft_cap = float(getattr(text, "final_logit_softcapping", None) or 0)
        self.num_blocks = int(getattr(text, "num_hidden_layers", 0) or 0)
        self._final: list[Tensor] = []
        self._middle: list[Tensor] = []
        self._entry: list[Tensor] = []
        self.model.get_output_embeddings().register_forward_pre_hook(self._catch)
        lists = [m for m in self.model.modules() if isinstance(m, torch.nn.ModuleList) and len(m) == self.num_blocks]
        for blocks in lists if self.num_blocks else []:
            blocks[max(0, round(COMPARED_DEPTH * self.num_blocks) - 1)].register_forward_hook(self._catch_middle)
            blocks[0].register_forward_pre_hook(self._catch_entry, with_kwargs=True)
        self.compares = bool(lists and self.num_blocks)

    @property
    def num_parameters(self) -> int:
        """Of the body: the embedding and the head are not counted."""
        outside = {id(m.weight) for m in (self.model.get_input_embeddings(), self.model.get_output_embeddings())}
        return sum(p.numel() for p in self.model.parameters() if id(p) not in outside)

    @contextmanager
    def _rows(self, rows: Tensor | None) -> Any:
        """The model with other embedding rows for as long as it runs."""
        module = cast(torch.nn.Embedding, self.model.get_input_embeddings())
        old = module.weight
        if rows is not None:
            module.weight = torch.nn.Parameter(rows.to(self.device, old.dtype), requires_grad=False)
        try:
            yield
        finally:
            module.weight = old

    @torch.no_grad()
    def read(self, documents: Sequence[np.ndarray], rows: Tensor | None = None) -> list[States]:
        """Hidden states of documents, each read alone, in windows that advance by half their length.

        Args:
            documents: ids, start token first.
            rows: (V, H) the embedding to read them with; None for the model's own.

        Returns:
            One entry a document, on the CPU in float32.
        """
        results: list[States | None] = [None] * len(documents)
        jobs = sorted(
            (len(ids[begin:end]), number, begin, first, end)
            for number, ids in enumerate(documents)
            for begin, first, end in _windows(len(ids), self.window)
        )
        with self._rows(rows):
            while jobs:
                size = max(1, min(len(jobs), _BATCH_TOKENS // max(1, jobs[-1][0])))
                batch, jobs = jobs[-size:], jobs[:-size]
                ids = torch.zeros(len(batch), batch[-1][0], dtype=torch.long)
                for row, (length, number, begin, _, end) in enumerate(batch):
                    ids[row, :length] = torch.from_numpy(documents[number][begin:end])
                found = self._run(ids)
                for row, (_, number, begin, first, end) in enumerate(batch):
                    kept = slice(first - begin, end - begin)
                    results[number] = _joined(results[number], States(*(part[row, kept] for part in found)), first)
        return [state for state in results if state is not None]

    def _run(self, ids: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        for caught in (self._final, self._middle, self._entry):
            caught.clear()
        try:
            self.model(input_ids=ids.to(self.device), use_cache=False)
        except _Stop:
            pass
        final = self._final[-1]
        return final, self._middle[-1] if self._middle else final, self._entry[-1] if self._entry else final

    def _catch(self, module: torch.nn.Module, inputs: tuple[Any, ...]) -> None:
        self._final.append(inputs[0].float().cpu())
        raise _Stop

    def _catch_middle(self, module: torch.nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        self._middle.append((output[0] if isinstance(output, tuple) else output).float().cpu())

    def _catch_entry(self, module: torch.nn.Module, inputs: tuple[Any, ...], named: dict[str, Any]) -> None:
        self._entry.append((inputs[0] if inputs else named["hidden_states"]).float().cpu())


@dataclass
class States:
    """Hidden states of one document of L tokens, each (L, H) float32.

    Attributes:
        final: what the head reads.
        middle: behind the block at which new rows are compared.
        entry: what the first block reads.
    """

    final: Tensor
    middle: Tensor
    entry: Tensor


def _joined(before: States | None, new: States, first: int) -> States:
    """States of a document with those of one more of its windows, whatever the order of the windows."""
    needed = first + len(new.final)
    if before is None:
        before = States(*(torch.zeros(0, part.shape[1]) for part in (new.final, new.middle, new.entry)))
    parts = []
    for old, more in ((before.final, new.final), (before.middle, new.middle), (before.entry, new.entry)):
        if len(old) < needed:
            old = torch.cat([old, torch.zeros(needed - len(old), more.shape[1])])
        old[first:needed] = more
        parts.append(old)
    return States(*parts)


def _windows(length: int, window: int) -> list[tuple[int, int, int]]:
    """(begin, first new, end) of the windows over ``length`` tokens; all but the first have half a window before."""
    result, first = [], 0
    while first < length:
        begin = max(0, first - window // 2) if first else 0
        end = min(length, begin + window)
        result.append((begin, first, end))
        first = end
    return result
