"""Bits per byte: the measure of a language model that survives a change of tokenizer.

Each document is scored alone, after one start token. Windows advance by half their length, so every
token except those near a document's start has at least half a window before it, and each token is
counted once. Special tokens stand for no text and carry no bytes.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, cast

import numpy as np

from vocabalign.errors import ModelError
from vocabalign.models import context_length
from vocabalign.progress import progress

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

LOGITS_BYTES = 2**30
"""Logits of one forward pass take at most this much memory, in float32; one window always goes."""
SCORED_POSITIONS = 1024
"""Positions whose log-probabilities are in float32 at one time."""


@dataclass(frozen=True, eq=False)
class DocumentScores:
    """What a model paid for each document; N documents, in the order of the text.

    Attributes:
        nats: (N,) float64, negative log-likelihood of the document's tokens.
        num_bytes: (N,) int64, UTF-8 bytes of the text.
        num_tokens: (N,) int64, tokens without the start token.
    """

    nats: np.ndarray
    num_bytes: np.ndarray
    num_tokens: np.ndarray

    def __post_init__(self) -> None:
        assert self.nats.shape == self.num_bytes.shape == self.num_tokens.shape

    @property
    def bits_per_byte(self) -> float:
        """Over all documents together: bits of the text divided by its bytes."""
        return float(self.nats.sum() / math.log(2) / self.num_bytes.sum())

    def normalised_perplexity(self, num_reference_tokens: int) -> float:
        """``exp(nats / tokens of one tokenizer)``, the same tokenizer for every model.

        Bits per byte on another scale: comparable between vocabularies, unlike perplexity per own token.

        Reference:
            Wei et al. (2023), Skywork; in TokAlign (2506.03523) and TokAlign++ (2605.13429) normalised to the
            vocabulary of the source model.
        """
        return float(np.exp(self.nats.sum() / num_reference_tokens)) if num_reference_tokens else math.nan

    def select(self, documents: np.ndarray) -> DocumentScores:
        """Some of the documents; ``documents`` is (N,) bool or indices."""
        return DocumentScores(self.nats[documents], self.num_bytes[documents], self.num_tokens[documents])


class Window(NamedTuple):
    """Tokens ``start:end`` of a document, of which ``first:end`` are scored; 0 is the start token."""

    document: int
    start: int
    first: int
    end: int


def start_token(roles: Mapping[str, int]) -> int:
    """The id that every document begins with: BOS, else EOS, else 0."""
    return roles.get("bos", roles.get("eos", 0))


def embedding_rows(model: PreTrainedModel) -> int:
    """Rows of the input embedding: the ids that the model can read."""
    return len(cast("torch.nn.Embedding", model.get_input_embeddings()).weight)


def cut_windows(document: int, length: int, window: int) -> Iterator[Window]:
    """Windows over ``length`` tokens (start token included) that advance by half of ``window``.

    Example:
        >>> [w[1:] for w in cut_windows(0, 12, 8)]
        [(0, 1, 8), (4, 8, 12)]
    """
    first = 1
    while first < length:
        start = max(0, first - window // 2) if first > 1 else 0
        end = min(length, start + window)
        yield Window(document, start, first, end)
        first = end


def score_documents(
    model: PreTrainedModel,
    documents: Sequence[Sequence[int]],
    num_bytes: Sequence[int],
    *,
    start_id: int,
    window: int = 512,
    batch_size: int = 16,
    description: str = "Scoring",
) -> DocumentScores:
    """Negative log-likelihood of each document.

    Neither the batch size nor the company of other documents changes a score: padding stands to
    the right, where a causal model cannot see it, and sums are taken per window.

    Args:
        model: a causal language model in evaluation mode.
        documents: N lists of token ids, without special tokens.
        num_bytes: N numbers, UTF-8 bytes of each document.
        start_id: id before each document, see ``start_token``.
        window: tokens in a window; at most the model's context is taken.
        batch_size: windows in one forward pass; fewer where their logits would take over 1 GiB.
        description: shown beside the progress.

    Returns:
        Scores in the order of ``documents``.

    Raises:
        ModelError: an id has no row in the model, or a score is not a number.
    """
    import torch

    rows = embedding_rows(model)
    highest = max((max(ids) for ids in documents if len(ids)), default=0)
    if max(highest, start_id) >= rows:
        raise ModelError(
            f"The tokenizer gives the id {max(highest, start_id)}, but the model has {rows} embedding rows: "
            "they do not belong together."
        )
    window = min(window, context_length(model) or window)
    sequences = [[start_id, *ids] for ids in documents]
    windows = [w for i, ids in enumerate(sequences) for w in cut_windows(i, len(ids), window)]
    nats = np.zeros(len(sequences))
    with torch.inference_mode(), progress(description, len(windows)) as counter:
        for batch in batch_windows(windows, batch_size, LOGITS_BYTES // (4 * rows)):
            tokens = [sequences[w.document][w.start : w.end] for w in batch]
            for w, value in zip(batch, _score_batch(model, batch, tokens)):
                nats[w.document] += value
            counter.advance(len(batch))
    if not np.isfinite(nats).all():
        worst = int(np.flatnonzero(~np.isfinite(nats))[0])
        raise ModelError(
            f"The score of document {worst} is {nats[worst]}: the weights are broken, or {model.dtype} is too narrow "
            "for them (try --dtype float32)."
        )
    lengths = np.array([len(ids) for ids in documents], dtype=np.int64)
    return DocumentScores(nats, np.array(num_bytes, dtype=np.int64), lengths)


def batch_windows(windows: Sequence[Window], batch_size: int, max_positions: int) -> Iterator[list[Window]]:
    """Windows of like length and like offset together, so that little is padded and few logits are thrown away.

    Args:
        windows: any order.
        batch_size: windows in a batch, at most.
        max_positions: padded positions whose logits are taken, at most (one window always goes).
    """
    batch: list[Window] = []
    width, keep = 0, 0
    for item in sorted(windows, key=lambda w: (w.start > 0, w.start - w.end, w.document, w.start)):
        width_with = max(width, item.end - item.start)
        context = min([w.first - w.start - 1 for w in batch] + [item.first - item.start - 1])
        keep = width_with - context
        if batch and (len(batch) == batch_size or keep * (len(batch) + 1) > max_positions):
            yield batch
            batch, width_with = [], item.end - item.start
        batch.append(item)
        width = width_with
    if batch:
        yield batch


def _score_batch(model: PreTrainedModel, batch: list[Window], tokens: list[list[int]]) -> list[float]:
    """Nats of each window's scored tokens; one forward pass over (B, L) ids."""
    import torch

    width = max(len(ids) for ids in tokens)
    padded = torch.tensor([ids + [0] * (width - len(ids)) for ids in tokens], device=model.device)
    # Logits before the first scored token of any window are context: the head need not see them.
    skip = min(w.first - w.start - 1 for w in batch)
    arguments: dict[str, object] = {"input_ids": padded, "attention_mask": torch.ones_like(padded), "use_cache": False}
    if "logits_to_keep" in inspect.signature(model.forward).parameters:
        arguments["logits_to_keep"] = width - skip
    logits = model(**arguments).logits
    skip = width - logits.shape[1]
    sums = []
    for row, w in enumerate(batch):
        first, end = w.first - w.start - 1, w.end - w.start - 1
        targets = padded[row, first + 1 : end + 1]
        sums.append(_negative_log_likelihood(logits[row, first - skip : end - skip], targets))
    return torch.stack(sums).tolist()


def _negative_log_likelihood(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Sum over (P, V) logits and (P,) targets, in float32 block by block: a scalar tensor."""
    import torch

    total = torch.zeros((), device=logits.device)
    for block, wanted in zip(logits.split(SCORED_POSITIONS), targets.split(SCORED_POSITIONS)):
        total += torch.nn.functional.cross_entropy(block.float(), wanted, reduction="sum")
    return total
