"""What is minimised: from a model and a batch to the loss and its parts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from vocabalign.losses.fused import fused_loss
from vocabalign.train.head import hidden_states, read_head

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def cross_entropy(model: PreTrainedModel, batch: dict[str, Tensor], num_items: Any) -> dict[str, Tensor]:
    """Next-token cross-entropy, summed over the batch and divided by ``num_items``."""
    hidden = hidden_states(model, batch["input_ids"], batch.get("position_ids"))
    loss = fused_loss(hidden, read_head(model), batch["labels"], num_items=num_items)
    return {"loss": loss.loss}


@dataclass(frozen=True)
class Distillation:
    """Cross-entropy mixed with a divergence from a teacher of the same vocabulary.

    With ``weight`` 0 the teacher is not run and the arithmetic is that of ``cross_entropy``.

    Attributes:
        teacher: frozen; moved to the batch's device by the caller.
        divergence: name in ``losses.divergences.DIVERGENCES``.
        weight: share of the divergence.
        temperature: softens both distributions.
        shared_rows: ids that stand for a token; rows beyond only pad.
    """

    teacher: PreTrainedModel
    divergence: str
    weight: float
    temperature: float
    shared_rows: int

    def __call__(self, model: PreTrainedModel, batch: dict[str, Tensor], num_items: Any) -> dict[str, Tensor]:
        """Loss and parts, in nats per token."""
        positions = batch.get("position_ids")
        with torch.no_grad():
            teacher_hidden = hidden_states(self.teacher, batch["input_ids"], positions)
        hidden = hidden_states(model, batch["input_ids"], positions)
        loss = fused_loss(
            hidden,
            read_head(model),
            batch["labels"],
            num_items=num_items,
            teacher_hidden=teacher_hidden,
            teacher_head=read_head(self.teacher),
            divergence=self.divergence,
            weight=self.weight,
            temperature=self.temperature,
            shared_rows=self.shared_rows,
        )
        return {"loss": loss.loss, "cross_entropy": loss.cross_entropy, "divergence": loss.divergence}
