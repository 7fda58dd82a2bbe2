"""The untouched source model as the teacher of its own successor, across two tokenizers.

Both models read the same bytes. Wherever a token of each ends at the same byte, both have read the
same text, and what the head sees should be the same vector: the body is the same, only the pieces
in which the text came differ. No labels and no common vocabulary are needed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from vocabalign.errors import ModelError
from vocabalign.losses.fused import fused_loss
from vocabalign.text.spans import token_ends
from vocabalign.text.vocabulary import Vocabulary
from vocabalign.train.data import Documents, Fragment
from vocabalign.train.head import hidden_states, read_head, takes_positions

if TYPE_CHECKING:
    from transformers import PreTrainedModel

# Of the relative squared error beside one nat of cross-entropy. Only 0 and 1 were tried so far (stories260K
# with stories3M's tokenizer from mean rows, 80 of 160 steps of 16 x 128 tokens, one seed): held-out bits per
# byte 1.782 without, 1.773 with it. Other weights are open.
HIDDEN_WEIGHT = 1.0


class SourceSide:
    """The source's tokens for the bytes of each block, and the places where both sides end together.

    Args:
        documents: as the trained model cuts them.
        vocabulary: of the trained model.
        source_documents: the same texts as the source cuts them.
        source_vocabulary: of the source.
        context: tokens in a block.
        source_context: tokens that the source can read at once, or None.
    """

    def __init__(
        self,
        documents: Documents,
        vocabulary: Vocabulary,
        source_documents: Documents,
        source_vocabulary: Vocabulary,
        context: int,
        source_context: int | None,
    ) -> None:
        self.sides = ((documents, vocabulary), (source_documents, source_vocabulary))
        self.context, self.source_context = context, source_context or 1 << 62
        self._ends = lru_cache(maxsize=4096)(self._compare)

    def __call__(self, rows: Sequence[Sequence[Fragment]]) -> dict[str, Tensor]:
        """Tensors that ``Blocks`` adds to a batch.

        Returns:
            ``source_ids`` and ``source_positions`` (B, Ls); ``pairs`` (P, 2) int64, flat places in the
            (B, L) inputs and in the (B, Ls) source inputs that have read the same bytes.
        """
        pieces: list[list[np.ndarray]] = []
        places: list[tuple[int, np.ndarray, np.ndarray]] = []
        for row, fragments in enumerate(rows):
            pieces.append([])
            at = source_at = 0
            for fragment in fragments:
                last = min(fragment.last, fragment.first + self.context - at)
                ids, mine, theirs = self._align(fragment, last)
                pieces[row].append(ids)
                places.append((row, at + mine, source_at + theirs))
                at += fragment.last - fragment.first
                source_at += len(ids)
        width = max(1, *(sum(map(len, row)) for row in pieces))
        ids = np.zeros((len(rows), width), dtype=np.int64)
        positions = np.zeros((len(rows), width), dtype=np.int64)
        for row, parts in enumerate(pieces):
            if parts:
                joined = np.concatenate(parts)
                ids[row, : len(joined)] = joined
                positions[row, : len(joined)] = np.concatenate([np.arange(len(part)) for part in parts])
        pairs = [np.stack([row * self.context + a, row * width + b], 1) for row, a, b in places]
        return {
            "source_ids": torch.from_numpy(ids),
            "source_positions": torch.from_numpy(positions),
            "pairs": torch.from_numpy(np.concatenate(pairs).astype(np.int64)),
        }

    def _align(self, fragment: Fragment, last: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The source's tokens inside the fragment's bytes, and the indices of the ends that meet."""
        nothing = np.zeros(0, dtype=np.int64)
        ends = self._ends(fragment.document)
        if ends is None or last <= fragment.first:
            return nothing, nothing, nothing
        mine, theirs = ends
        begin = 0 if fragment.first == 0 else int(np.searchsorted(theirs, mine[fragment.first - 1])) + 1
        end = int(np.searchsorted(theirs, mine[last - 1], side="right"))
        end = min(end, begin + self.source_context)
        source = self.sides[1][0]
        start = int(source.starts[fragment.document])
        common, a, b = np.intersect1d(mine[fragment.first : last], theirs[begin:end], return_indices=True)
        read = common > 0
        return source.ids[start + begin : start + max(begin, end)].astype(np.int64), a[read], b[read]

    def _compare(self, document: int) -> tuple[np.ndarray, np.ndarray] | None:
        """Byte ends on both sides; None where a tokenizer does not give the text back as it was."""
        ends, texts = [], []
        for documents, vocabulary in self.sides:
            ids = documents.ids[documents.starts[document] : documents.starts[document + 1]]
            text = b"".join(vocabulary.token_bytes[i] or b"" for i in ids)
            found = token_ends(vocabulary, ids)
            ends.append(found)
            texts.append(text[len(text) - int(found[-1]) :] if len(found) else b"")
        return (ends[0], ends[1]) if texts[0] == texts[1] else None


@dataclass(frozen=True)
class SelfDistillation:
    """``CE + weight * sum over pairs |h - h_source|^2 / mean |h_source|^2``, both divided by the items.

    The gradient reaches the student's hidden states alone; the source is constant.

    Attributes:
        source: frozen; on the device of the batches.
        weight: of the relative squared error.
    """

    source: PreTrainedModel
    weight: float = HIDDEN_WEIGHT

    def __call__(self, model: PreTrainedModel, batch: dict[str, Tensor], num_items: Any) -> dict[str, Tensor]:
        """Loss and parts."""
        pairs = batch["pairs"]
        hidden = hidden_states(model, batch["input_ids"], batch.get("position_ids"))
        entropy = fused_loss(hidden, read_head(model), batch["labels"], num_items=num_items).loss
        with torch.no_grad():
            positions = batch["source_positions"] if takes_positions(self.source) else None
            theirs = hidden_states(self.source, batch["source_ids"], positions).flatten(0, 1)[pairs[:, 1]].float()
            scale = theirs.square().sum(-1).mean().clamp(min=1e-12)
        mine = hidden.flatten(0, 1)[pairs[:, 0]].float()
        distance = (mine - theirs).square().sum() / scale / num_items
        if not len(pairs):
            distance = hidden.float().sum() * 0.0  # no text of this batch is exact on both sides
        loss = entropy + self.weight * distance.to(entropy.dtype)
        return {"loss": loss, "cross_entropy": entropy, "hidden_distance": distance}


def check_same_body(model: PreTrainedModel, source: PreTrainedModel, name: str) -> None:
    """Refuse a source that cannot be the model before its transplant.

    Raises:
        ModelError: another architecture or size.
    """
    mine, theirs = model.config.get_text_config(), source.config.get_text_config()
    keys = ("model_type", "hidden_size", "num_hidden_layers")
    for key in keys:
        if getattr(mine, key, None) != getattr(theirs, key, None):
            raise ModelError(
                f"The source {name} has {key} {getattr(theirs, key, None)} and the model {getattr(mine, key, None)}: "
                "give the model that was transplanted, as it was before."
            )
