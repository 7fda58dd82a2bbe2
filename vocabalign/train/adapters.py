"""A student that learns by adapters alone, so that without them it is still the model that it was."""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from typing import TYPE_CHECKING

from vocabalign.errors import ConfigError
from vocabalign.stages import LoraOptions
from vocabalign.train.head import train_everything
from vocabalign.train.trainable import train_lora

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def put_adapters(model: PreTrainedModel, options: LoraOptions, seed: int) -> None:
    """Put adapters beside the body's matrices; they add nothing before they are trained.

    Args:
        model: changed in place; writing it merges them.
        options: rank, scale and dropout.
        seed: of their start.

    Raises:
        ConfigError: ``peft`` is not installed.
        ModelError: no matrix can have one.
    """
    if find_spec("peft") is None:
        raise ConfigError("train: lora needs the package peft, which is not installed: pip install 'vocabalign[lora]'.")
    train_lora(model, options, seed)


def train_only_adapters(model: PreTrainedModel) -> list[str]:
    """Freeze everything else, embedding and head rows too; the names of what is trained."""
    names = []
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(".lora_" in name)
        if parameter.requires_grad:
            names.append(name)
    return names


SELECTIONS: dict[str, Callable[[PreTrainedModel], list[str]]] = {
    "everything": train_everything,
    "lora": train_only_adapters,
}
