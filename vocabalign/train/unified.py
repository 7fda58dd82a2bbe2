"""Distillation with one vocabulary: teacher and student read the same tokens, and nothing need be lined up."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from torch import Tensor

from vocabalign.losses.fused import fused_loss
from vocabalign.train.head import hidden_states, read_head
from vocabalign.train.teachers import RunningTeacher

if TYPE_CHECKING:
    from transformers import PreTrainedModel


@dataclass(frozen=True)
class Distillation:
    """Cross-entropy mixed with a divergence from a teacher of the same vocabulary, in one pass over the logits.

    Attributes:
        teacher: where it runs.
        divergence: name in ``losses.divergences.DIVERGENCES``.
        weight: share of the divergence.
        temperature: softens both distributions.
        shared_rows: ids that stand for a token; rows beyond only pad.
    """

    teacher: RunningTeacher
    divergence: str
    weight: float
    temperature: float
    shared_rows: int

    def __call__(self, model: PreTrainedModel, batch: dict[str, Tensor], num_items: Any) -> dict[str, Tensor]:
        """Loss and parts, in nats per token."""
        positions = batch.get("position_ids")
        device = batch["input_ids"].device
        # Of the teacher only its hidden states are kept while the student runs.
        teacher_hidden = self.teacher.hidden(batch["input_ids"], positions).to(device)
        hidden = hidden_states(model, batch["input_ids"], positions)
        loss = fused_loss(
            hidden,
            read_head(model),
            batch["labels"],
            num_items=num_items,
            teacher_hidden=teacher_hidden,
            teacher_head=self.teacher.head(device),
            divergence=self.divergence,
            weight=self.weight,
            temperature=self.temperature,
            shared_rows=self.shared_rows,
        )
        return {"loss": loss.loss, "cross_entropy": loss.cross_entropy, "divergence": loss.divergence}
