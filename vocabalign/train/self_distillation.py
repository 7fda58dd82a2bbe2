"""The untouched source model as the teacher of its own successor, across two tokenizers.

Both models read the same bytes. Wherever a token of each ends at the same byte, both have read the same text, and what
the head sees should be the same vector: the body is the same, only the pieces in which the text came differ. Where the
next tokens start at the same byte as well, both predict the same text, and their distributions over classes of first
pieces can be compared; inside a token that the source writes in several pieces, those of the next piece. No labels and
no common vocabulary are needed, and one forward pass of the source serves all.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from vocabalign.losses.chunks import chunk_loss
from vocabalign.losses.classes import common_classes
from vocabalign.losses.continuations import Continuations, continuation_loss
from vocabalign.losses.event_mixture import ClassSums, event_mixture_loss
from vocabalign.losses.fused import fused_loss
from vocabalign.losses.hidden import hidden_loss
from vocabalign.losses.likelihood import observed_log_probs
from vocabalign.losses.logits import Head
from vocabalign.stages import SelfDistillationOptions
from vocabalign.text.vocabulary import Vocabulary
from vocabalign.train.head import hidden_states, read_head, takes_positions
from vocabalign.train.source_side import unpack_chunks

if TYPE_CHECKING:
    from transformers import PreTrainedModel

__all__ = ["LEARNED", "Lessons", "SelfDistillation"]


class Lessons:
    """What two vocabularies can tell each other, made once for a run.

    Args:
        student: the trained model's.
        source: the source's.
        num_rows: of the trained model's head.
        device: where the losses run.
    """

    def __init__(
        self, student: Vocabulary, source: Vocabulary, num_rows: int, device: torch.device | str = "cpu"
    ) -> None:
        self.classes = ClassSums(common_classes(student, source), num_rows, device)
        self.continuations = Continuations(student, source, device)


@dataclass(frozen=True)
class SelfDistillation:
    """Cross-entropy and, weighted, the distances to the source at all places where the two can be compared.

    Each part is a sum over its places, divided by the number of the batch's labels like the cross-entropy, so that
    weights are nats per token and gradients add up over accumulated batches and ranks.

    Attributes:
        source: frozen; on the device of the batches.
        lessons: on the same device.
        options: weights; parts of weight 0 are not computed.
    """

    source: PreTrainedModel
    lessons: Lessons
    options: SelfDistillationOptions

    def __call__(self, model: PreTrainedModel, batch: dict[str, Tensor], num_items: Any) -> dict[str, Tensor]:
        """Loss and parts."""
        hidden = hidden_states(model, batch["input_ids"], batch.get("position_ids"))
        head = read_head(model)
        with torch.no_grad():
            positions = batch["source_positions"] if takes_positions(self.source) else None
            theirs = hidden_states(self.source, batch["source_ids"], positions).flatten(0, 1)
        mine = hidden.flatten(0, 1)
        loss, parts = self._entropy(mine, head, theirs, batch, num_items)
        for name, part in PARTS.items():
            weight = getattr(self.options, name)
            if weight:
                value = part(self, mine, head, theirs, batch, num_items)
                loss, parts[part.__name__] = loss + weight * value.to(loss.dtype), value
        return {"loss": loss, **parts}

    def _entropy(
        self, mine: Tensor, head: Head, theirs: Tensor, batch: dict[str, Tensor], num_items: Any
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Cross-entropy, and the divergence of what comes next at common starts: both from one set of logits."""
        options, labels = self.options, batch["labels"].flatten()
        if not options.events:
            entropy = fused_loss(mine, head, labels, num_items=num_items).loss
            return options.cross_entropy * entropy, {"cross_entropy": entropy}
        loss, entropy, divergence = event_mixture_loss(
            mine,
            head,
            labels,
            theirs,
            read_head(self.source),
            batch["starts"],
            self.lessons.classes,
            cross_entropy=options.cross_entropy,
            events=options.events,
            num_items=num_items,
        )
        return loss, {"cross_entropy": entropy, "event_divergence": divergence}

    def hidden_distance(
        self, mine: Tensor, head: Head, theirs: Tensor, batch: dict[str, Tensor], num_items: Any
    ) -> Tensor:
        """``|h - h_source|^2 / mean |h_source|^2`` wherever both have read the same bytes."""
        ends = batch["ends"]
        return hidden_loss(mine[ends[:, 0]], theirs[ends[:, 1]], num_items=num_items)

    def continuation_divergence(
        self, mine: Tensor, head: Head, theirs: Tensor, batch: dict[str, Tensor], num_items: Any
    ) -> Tensor:
        """Divergence of the next pieces inside tokens."""
        rows = batch["continuations"]
        return continuation_loss(
            mine[rows[:, 0]],
            head,
            theirs[rows[:, 1]],
            read_head(self.source),
            rows[:, 2],
            self.lessons.continuations,
            num_items=num_items,
        )

    def chunk_divergence(
        self, mine: Tensor, head: Head, theirs: Tensor, batch: dict[str, Tensor], num_items: Any
    ) -> Tensor:
        """Chunk likelihood, by tokens."""
        chunks = unpack_chunks(batch)
        observed = observed_log_probs(theirs[chunks.teacher.positions], read_head(self.source), chunks.teacher.labels)
        rows = mine[chunks.student.positions]
        return chunk_loss(rows, head, chunks, observed, weights="tokens", num_items=num_items)


# Weight in the options -> what it is the weight of; ``events`` goes with the cross-entropy.
PARTS = {
    "hidden": SelfDistillation.hidden_distance,
    "continuations": SelfDistillation.continuation_divergence,
    "chunks": SelfDistillation.chunk_divergence,
}
LEARNED = ("events", *PARTS)
"""Weights of what is learned from the source."""
