"""Which parameters a stage trains: rows, new rows alone, everything, or adapters (LoRA) beside the body's matrices."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from vocabalign.errors import ConfigError, ModelError
from vocabalign.provenance import PROVENANCE, copied_rows, read_provenance
from vocabalign.stages import FinetuneConfig, LoraOptions
from vocabalign.train.head import train_everything, train_only_rows

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_MARK = "_only_some_rows"
Select = Callable[["PreTrainedModel"], list[str]]


def selections(config: FinetuneConfig, folder: Path) -> tuple[Select, Select]:
    """What the first stage trains, and what the second does.

    Args:
        config: ``train`` says what.
        folder: of the model; its transplant's provenance names the new rows.

    Raises:
        ConfigError: what is asked for needs a package that is missing, or cannot be done with other settings.
        ModelError: new rows are asked for, and nothing tells which they are.
    """
    return _WAYS[config.train](config, folder)


def _everything(config: FinetuneConfig, folder: Path) -> tuple[Select, Select]:
    return train_only_rows, train_everything


def _rows(config: FinetuneConfig, folder: Path) -> tuple[Select, Select]:
    return train_only_rows, train_only_rows


def _refuse_parts(config: FinetuneConfig, *ways: str) -> None:
    """Raises: ConfigError: one of the ways to spread weights or gradients over ranks is asked for."""
    spread = [way for way in ways if config.trainer.get(way)]
    spread += [way for way in ways if os.environ.get(f"ACCELERATE_USE_{way.upper()}", "false") == "true"]
    if spread:
        raise ConfigError(
            f"train: {config.train} needs whole matrices, and {spread[0]} cuts them up: use DDP or one process."
        )


def _new_rows(config: FinetuneConfig, folder: Path) -> tuple[Select, Select]:
    if config.training.weight_decay:
        raise ConfigError("training.weight_decay would change the rows that train: new-rows keeps: set it to 0.")
    _refuse_parts(config, "fsdp", "deepspeed")
    provenance = read_provenance(folder)
    if provenance is None:
        raise ModelError(
            f"{folder} has no {PROVENANCE}, which says what rows are new: give a transplanted model, or train: rows."
        )
    changed = {part: torch.from_numpy(new_rows(provenance, part)) for part in ("input", "head")}

    def select(model: PreTrainedModel) -> list[str]:
        return train_new_rows(model, changed["input"], changed["head"])

    return select, select


def new_rows(provenance: dict[str, Any], part: str) -> np.ndarray:
    """(num_rows,) bool: all rows but those of the same token (or role) in the source, copied bit for bit.

    Args:
        provenance: of ``read_provenance``.
        part: "input" or "head".
    """
    same = [provenance["class_names"].index(name) for name in ("identical", "role")]
    rows = ~np.isin(np.asarray(provenance["classes"]), same)
    copied = np.zeros(provenance["num_rows"], dtype=bool)
    copied[copied_rows(provenance, part)[0]] = True
    return rows | ~copied


def train_new_rows(model: PreTrainedModel, input_rows: Tensor, head_rows: Tensor) -> list[str]:
    """Freeze everything but some rows of embedding and head; the others stay as they are, bit for bit.

    Their gradients are set to 0, so AdamW's moments stay 0 and with them its steps (it must not decay them).

    Args:
        model: tied or not.
        input_rows: (V,) bool, the embedding rows to train.
        head_rows: (V,) bool, the head rows to train; not looked at where the two are one matrix.

    Returns:
        The names of the parameters that are trained in part.

    Raises:
        ModelError: the model has another number of rows.
    """
    names = train_only_rows(model)
    for module, rows in ((model.get_input_embeddings(), input_rows), (model.get_output_embeddings(), head_rows)):
        for parameter in module.parameters(recurse=False):
            if parameter.shape[0] != len(rows):
                raise ModelError(
                    f"The model has {parameter.shape[0]:,} rows and its {PROVENANCE} tells of {len(rows):,}: they do "
                    "not belong together."
                )
            if not getattr(parameter, _MARK, False):
                parameter.register_hook(_keeper(rows))
                setattr(parameter, _MARK, True)  # once, also where both are one matrix
    return names


def _keeper(rows: Tensor) -> Callable[[Tensor], Tensor]:
    def keep(gradient: Tensor) -> Tensor:
        mask = rows.to(gradient.device).view(-1, *[1] * (gradient.dim() - 1))
        return torch.where(mask, gradient, torch.zeros((), dtype=gradient.dtype, device=gradient.device))

    return keep


# ------------------------------------------------------------------------ LoRA


def _lora(config: FinetuneConfig, folder: Path) -> tuple[Select, Select]:
    _refuse_parts(config, "fsdp")
    if find_spec("peft") is None:
        raise ConfigError("train: lora needs the package peft, which is not installed: pip install 'vocabalign[lora]'.")

    def select(model: PreTrainedModel) -> list[str]:
        return train_lora(model, config.lora, config.seed)

    return train_only_rows, select


def train_lora(model: PreTrainedModel, options: LoraOptions, seed: int) -> list[str]:
    """Put adapters beside all matrices of the body, and train them and all rows of embedding and head.

    Args:
        model: changed in place; ``merge_lora`` makes an ordinary model of it again.
        options: rank, scale and dropout.
        seed: of the adapters' start, whatever was drawn before.

    Raises:
        ModelError: peft finds no matrix that it knows.

    Reference:
        Hu et al. (2022), LoRA: Low-Rank Adaptation of Large Language Models, section 4.1; all linear layers as in
        Dettmers et al. (2023), QLoRA, section 4.
    """
    from peft import LoraConfig, inject_adapter_in_model

    settings = LoraConfig(
        r=options.rank, lora_alpha=options.alpha, lora_dropout=options.dropout, target_modules="all-linear"
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        try:
            inject_adapter_in_model(settings, model)
        except ValueError as error:
            reason = " ".join(str(error).split())[:200]
            raise ModelError(f"{type(model).__name__} cannot get LoRA adapters: {reason}") from error
    train_only_rows(model)
    for name, parameter in model.named_parameters():
        if "lora_" in name:
            parameter.requires_grad_(True)
    return [name for name, parameter in model.named_parameters() if parameter.requires_grad]


def _adapted(model: nn.Module) -> Iterator[tuple[str, Any]]:
    """Layers with adapters, by name."""
    if find_spec("peft") is None:
        return
    from peft.tuners.lora import LoraLayer

    for name, module in list(model.named_modules()):
        if isinstance(module, LoraLayer):
            yield name, module


def merge_lora(model: PreTrainedModel) -> None:
    """Add each adapter to its matrix and take it away; nothing where there are none."""
    for name, layer in _adapted(model):
        layer.merge()
        parent, _, child = name.rpartition(".")
        setattr(model.get_submodule(parent), child, layer.get_base_layer())


@torch.no_grad()
def merged_weights(model: PreTrainedModel) -> dict[str, Tensor]:
    """The model's tensors under the names and with the values that they have once adapters are merged."""
    weights = {name: value for name, value in model.state_dict().items() if ".lora_" not in name}
    for name, layer in _adapted(model):
        key = f"{name}.base_layer.weight"
        delta = sum(layer.get_delta_weight(adapter) for adapter in layer.active_adapters)
        weights[key] = weights[key] + delta.to(weights[key].dtype)
    return {name.replace(".base_layer.", "."): value for name, value in weights.items()}


_WAYS = {"everything": _everything, "rows": _rows, "new-rows": _new_rows, "lora": _lora}
