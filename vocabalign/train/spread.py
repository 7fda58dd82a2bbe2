"""Weights that FSDP2 has spread over ranks: gathered to be written, and put together again at the end of a stage.

FSDP2 makes each parameter of the model in memory a ``DTensor`` that holds one rank's part, changes the classes of its
modules, and leaves it so. What comes after a stage (another stage, scores, the folder) wants an ordinary model.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from vocabalign.errors import TrainingError
from vocabalign.models import move

if TYPE_CHECKING:
    from transformers import PreTrainedModel

__all__ = ["gathered_weights", "is_spread", "put_together"]


def is_spread(model: nn.Module) -> bool:
    """Whether parameters are held in parts."""
    from torch.distributed.tensor import DTensor

    return any(isinstance(parameter, DTensor) for parameter in model.parameters())


@torch.no_grad()
def gathered_weights(model: nn.Module) -> dict[str, Tensor]:
    """All tensors under their names, whole, in the processor's memory; every rank must ask and gets them."""
    from torch.distributed.tensor import DTensor

    tensors = model.state_dict().items()
    return {name: (v.full_tensor() if isinstance(v, DTensor) else v).detach().cpu() for name, v in tensors}


def put_together(model: PreTrainedModel, device: torch.device) -> PreTrainedModel:
    """A model like the one before it was spread, with the weights that it has now; every rank must ask.

    Raises:
        TrainingError: it has other parameters than its configuration says.
    """
    from torch.distributed.fsdp import FSDPModule
    from transformers import PreTrainedModel

    weights = gathered_weights(model)
    kinds = (kind for kind in type(model).__mro__ if issubclass(kind, PreTrainedModel))
    original = next(kind for kind in kinds if not issubclass(kind, FSDPModule))
    with torch.random.fork_rng(devices=[]):
        plain = original(model.config)
    missing, more = plain.load_state_dict(weights, strict=False)
    if more or {name for name, _ in plain.named_parameters()} & set(missing):
        raise TrainingError(
            f"The model has other parameters than its configuration says ({', '.join((*more, *missing)[:3])}): it "
            "cannot be put together from the ranks; train it data parallel."
        )
    plain.tie_weights()
    return move(plain, device).train(model.training)
