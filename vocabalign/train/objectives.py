"""What is minimised: from a model and a batch to the loss and its parts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

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
