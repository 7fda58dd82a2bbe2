"""The untouched source model as the teacher of its own successor, across two tokenizers.

Both models read the same bytes. Wherever a token of each ends at the same byte, both have read the same text, and what
the head sees should be the same vector: the body is the same, only the pieces in which the text came differ. Where the
next tokens start at the same byte as well, both predict the same text, and their distributions over classes of first
pieces can be compared; inside a token that the source writes in several pieces, those of the next piece. No labels and
no common vocabulary are needed, and one forward pass of the source serves all.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from vocabalign.losses.chunks import chunk_loss
from vocabalign.losses.class_sums import ClassSums
from vocabalign.losses.classes import common_classes
from vocabalign.losses.continuations import Continuations
from vocabalign.losses.event_mixture import event_mixture_loss
from vocabalign.losses.fused import fused_loss
from vocabalign.losses.hidden import hidden_loss
from vocabalign.losses.likelihood import observed_log_probs
from vocabalign.losses.logits import Head
from vocabalign.stages import SelfDistillationOptions
from vocabalign.text.vocabulary import Vocabulary
from vocabalign.train.fading import LEAD, Fading
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
        fading: the share of these weights that a step has, beside that of the text.
    """

    source: PreTrainedModel
    lessons: Lessons
    options: SelfDistillationOptions
    fading: Fading = field(default_factory=Fading)

    def __call__(self, model: PreTrainedModel, batch: dict[str, Tensor], num_items: Any) -> dict[str, Tensor]:
        """Loss and parts."""
        hidden = hidden_states(model, batch["input_ids"], batch.get("position_ids"))
        head = read_head(model)
        if self.fading.passed:
            entropy = fused_loss(hidden, head, batch["labels"], num_items=num_items).loss
            return {"loss": self.options.cross_entropy * entropy, "cross_entropy": entropy}
        with torch.no_grad():
            positions = batch["source_positions"] if takes_positions(self.source) else None
            theirs = hidden_states(self.source, batch["source_ids"], positions).flatten(0, 1)
        mine = hidden.flatten(0, 1)
        loss, parts = self._from_logits(mine, head, theirs, batch, num_items)
        for name, part in PARTS.items():
            weight = getattr(self.options, name) * self.fading.weight
            if weight:
                value = part(self, mine, head, theirs, batch, num_items)
                loss, parts[part.__name__] = loss + weight * value.to(loss.dtype), value
        return {"loss": loss, **parts}

    def _from_logits(
        self, mine: Tensor, head: Head, theirs: Tensor, batch: dict[str, Tensor], num_items: Any
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Cross-entropy, and what is learned of what comes next at starts and inside tokens: from one set of logits."""
        options, labels = self.options, batch["labels"].flatten()
        if not options.events and not options.continuations and not options.fades:
            entropy = fused_loss(mine, head, labels, num_items=num_items).loss
            return options.cross_entropy * entropy, {"cross_entropy": entropy}
        found = event_mixture_loss(
            mine,
            head,
            labels,
            theirs,
            read_head(self.source),
            batch["starts"],
            self.lessons.classes,
            cross_entropy=options.cross_entropy,
            events=options.events * self.fading.weight,
            inside=(batch["continuations"], self.lessons.continuations) if options.continuations else None,
            continuations=options.continuations * self.fading.weight,
            num_items=num_items,
        )
        parts = {"cross_entropy": found.cross_entropy, "event_divergence": found.events}
        if options.continuations:
            parts["continuation_divergence"] = found.continuations
        return found.loss, parts | {LEAD: found.lead}

    def hidden_distance(
        self, mine: Tensor, head: Head, theirs: Tensor, batch: dict[str, Tensor], num_items: Any
    ) -> Tensor:
        """``|h - h_source|^2 / mean |h_source|^2`` wherever both have read the same bytes."""
        ends = batch["ends"]
        return hidden_loss(mine[ends[:, 0]], theirs[ends[:, 1]], num_items=num_items)

    def chunk_divergence(
        self, mine: Tensor, head: Head, theirs: Tensor, batch: dict[str, Tensor], num_items: Any
    ) -> Tensor:
        """Chunk likelihood, by tokens."""
        chunks = unpack_chunks(batch)
        observed = observed_log_probs(theirs[chunks.teacher.positions], read_head(self.source), chunks.teacher.labels)
        rows = mine[chunks.student.positions]
        return chunk_loss(rows, head, chunks, observed, weights="tokens", num_items=num_items)


# Weight in the options -> what it is the weight of; ``events`` and ``continuations`` go with the cross-entropy.
PARTS = {
    "hidden": SelfDistillation.hidden_distance,
    "chunks": SelfDistillation.chunk_divergence,
}
LEARNED = ("events", "continuations", *PARTS)
"""Weights of what is learned from the source."""
