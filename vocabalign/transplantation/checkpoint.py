"""A model folder as files: which tensors have a vocabulary axis, and where they lie.

The tensors are found through the model's own ``get_input_embeddings()`` and ``get_output_embeddings()``
on the meta device, so no table of architectures is kept; names on disk are matched by name, by the
base model's prefix, by known aliases, and by shape.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor

from vocabalign.errors import ModelError
from vocabalign.models import read_model_config, resolve
from vocabalign.transplantation.shards import DTYPES, all_entries

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel

INDEX = "model.safetensors.index.json"
SINGLE = "model.safetensors"
_ADAPTER_ONLY = "{folder} holds an adapter only: merge it into its base model first (peft's merge_and_unload)."
# Names that older checkpoints have on disk for what transformers calls otherwise in memory.
_ALIASES = {
    "lm_head.weight": ("embed_out.weight", "output.weight", "head.weight"),
    "lm_head.bias": ("embed_out.bias", "output.bias", "head.bias"),
}


@dataclass(frozen=True)
class Checkpoint:
    """A model folder whose vocabulary tensors are known; S rows, hidden size H.

    Attributes:
        folder: the model folder.
        config: ``config.json`` as it is.
        weight_map: tensor name -> file name, all tensors.
        has_index: whether there is an index file.
        embedding: name on disk of the (S, H) embedding.
        head: name on disk of the (S, H) head; None where it is tied and not stored.
        bias: name on disk of the (S,) head bias; None where there is none.
        head_in_memory: what the model calls its head's weight.
        tied: embedding and head are one matrix.
        num_rows: S, which may differ from the tokenizer's length.
        hidden_size: H.
        dtype: of the embedding.
        num_bytes: of all weight files.
        logit_scale: by what the model multiplies what its head gives (Granite, Cohere); 1 for most.
        generates: it writes text from left to right; an encoder does not.
    """

    folder: Path
    config: dict[str, Any]
    weight_map: dict[str, str]
    has_index: bool
    embedding: str
    head: str | None
    bias: str | None
    head_in_memory: str | None
    tied: bool
    num_rows: int
    hidden_size: int
    dtype: torch.dtype
    num_bytes: int
    logit_scale: float
    generates: bool = True

    def read(self, name: str) -> torch.Tensor:
        """One tensor, in the dtype it is stored in."""
        from safetensors import safe_open

        with safe_open(self.folder / self.weight_map[name], framework="pt") as file:
            return file.get_tensor(name)


def open_checkpoint(folder: str | Path) -> Checkpoint:
    """Find the vocabulary tensors of a model folder; reads headers only.

    Raises:
        ModelError: not a model; quantised; an adapter alone; pickled weights alone; a model that needs
            remote code; or tensors that do not fit the configuration.
    """
    folder = resolve(folder)
    if not (folder / "config.json").is_file() and (folder / "adapter_config.json").is_file():
        raise ModelError(_ADAPTER_ONLY.format(folder=folder))
    config = read_model_config(folder)
    _refuse_quantised(folder, config)
    weight_map, has_index = _weight_map(folder)
    entries = all_entries(folder, weight_map.values())
    missing = sorted(set(weight_map) - set(entries))
    if missing:
        raise ModelError(f"{folder}: the index lists {missing[0]} ({len(missing)} in all), which no weight file holds.")
    shapes = {name: tuple(entry["shape"]) for name, (_, entry) in entries.items()}
    model = meta_model(folder)
    inputs, outputs = model.get_input_embeddings(), model.get_output_embeddings()
    if inputs is None or not hasattr(inputs, "weight"):
        raise ModelError(f"{folder}: {type(model).__name__} has no embedding matrix of its own.")
    tied = outputs is not None and outputs.weight is inputs.weight
    in_memory = {name for name, _ in model.named_parameters(remove_duplicate=False)}
    finder = _NameFinder(folder, shapes, in_memory, model.base_model_prefix)
    embedding = finder.find(_parameter_name(model, inputs), tuple(cast(Tensor, inputs.weight).shape))
    head_name = _parameter_name(model, outputs) if outputs is not None else None
    head = bias = None
    if head_name is not None and outputs is not None:
        find = finder.find_known if tied else finder.find
        head = find(head_name, tuple(outputs.weight.shape), taken=embedding)
        if getattr(outputs, "bias", None) is not None:
            bias_name = head_name.removesuffix("weight") + "bias"
            # Some models register the head's bias twice and store it under its other name.
            same = [n for n, p in model.named_parameters(remove_duplicate=False) if p is outputs.bias]
            bias_name = next((n for n in (bias_name, *same) if n in shapes), bias_name)
            bias = finder.find(bias_name, tuple(outputs.bias.shape), taken=embedding)
    files = {file for file, _ in entries.values()}
    dtype_names = {entries[name][1]["dtype"] for name in (embedding, head, bias) if name}
    if not dtype_names <= DTYPES.keys():
        stored = ", ".join(sorted(dtype_names))
        raise ModelError(f"{folder}: {embedding} is stored as {stored}; expected plain floating point.")
    return Checkpoint(
        folder=folder,
        config=config,
        weight_map={name: file for name, (file, _) in entries.items()},
        has_index=has_index,
        embedding=embedding,
        head=head,
        bias=bias,
        head_in_memory=head_name,
        tied=tied,
        num_rows=shapes[embedding][0],
        hidden_size=shapes[embedding][1],
        dtype=DTYPES[entries[embedding][1]["dtype"]],
        num_bytes=sum((folder / file).stat().st_size for file in files),
        logit_scale=_logit_scale(model.config.get_text_config()),
        generates=bool(model.can_generate()),
    )


def meta_model(folder: Path) -> PreTrainedModel:
    """The model's modules without any weights.

    Raises:
        ModelError: transformers does not know the architecture.
    """
    import transformers

    try:
        config = transformers.AutoConfig.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
        architecture = (config.architectures or ["-"])[0]
        model_class = getattr(transformers, architecture, None)
        with torch.device("meta"):
            if model_class is not None and hasattr(model_class, "_from_config"):
                model = model_class._from_config(config)
            else:
                model = transformers.AutoModelForCausalLM.from_config(config, trust_remote_code=False)
    except (OSError, ValueError, KeyError, ImportError, TypeError) as error:
        reason = " ".join(str(error).split())[:300]
        raise ModelError(f"{folder}: transformers cannot build this architecture: {reason}") from error
    model.tie_weights()
    return model


def _logit_scale(config: PretrainedConfig) -> float:
    """The factor between what the head gives and the logits: Cohere multiplies by one, Granite divides by one."""
    factors = [getattr(config, name, None) for name in ("logit_scale", "logits_scaling")]
    factor, divisor = (value if isinstance(value, (int, float)) and value else 1.0 for value in factors)
    return float(factor / divisor)


def _refuse_quantised(folder: Path, config: dict[str, Any]) -> None:
    for part in (config, config.get("text_config") or {}):
        quantisation = part.get("quantization_config") or part.get("compression_config")
        if quantisation:
            method = quantisation.get("quant_method") or quantisation.get("format") or "unknown"
            raise ModelError(
                f"{folder} is quantised ({method}): transplant the model it was made from, then quantise the result."
            )


def _weight_map(folder: Path) -> tuple[dict[str, str], bool]:
    """Tensor -> file, from the index or from the single file."""
    index = folder / INDEX
    if index.is_file():
        try:
            weight_map = dict(json.loads(index.read_text(encoding="utf-8"))["weight_map"])
        except (ValueError, KeyError, TypeError) as error:
            raise ModelError(f"{index} is not an index of weight files: {error}.") from error
        for name, file in weight_map.items():
            # The names are also written to: none may lead out of the folder.
            if not isinstance(file, str) or set(file) & set("/\\:") or not file.endswith(".safetensors"):
                raise ModelError(f"{index} says that {name} is in {file!r}: expected the name of a .safetensors file.")
        return weight_map, True
    if (folder / SINGLE).is_file():
        return dict.fromkeys(all_entries(folder, [SINGLE]), SINGLE), False
    if (folder / "adapter_config.json").is_file():
        raise ModelError(_ADAPTER_ONLY.format(folder=folder))
    if any(folder.glob("*.bin")) or any(folder.glob("*.pt")) or any(folder.glob("*.pth")):
        raise ModelError(
            f"{folder} has pickled weights only, which can run code when read: load it where you trust it and "
            "save_pretrained() it again as safetensors."
        )
    raise ModelError(f"{folder} has no weights: expected {SINGLE} or {INDEX}.")


def _parameter_name(model: PreTrainedModel, module: torch.nn.Module) -> str:
    """The name of ``module.weight`` by its module, which also tells it apart where it is tied."""
    return next(name for name, candidate in model.named_modules() if candidate is module) + ".weight"


def _common_ending(one: str, other: str) -> int:
    """How many dotted parts two names share, counted from the end."""
    pairs = zip(reversed(one.split(".")), reversed(other.split(".")))
    return next((count for count, (a, b) in enumerate(pairs) if a != b), min(one.count("."), other.count(".")) + 1)


@dataclass(frozen=True)
class _NameFinder:
    folder: Path
    shapes: dict[str, tuple[int, ...]]
    in_memory: set[str]
    prefix: str

    def find_known(self, name: str, shape: tuple[int, ...], *, taken: str | None = None) -> str | None:
        """The name on disk of the parameter that is ``name`` in memory, by its name; None where there is none."""
        plain = name.removeprefix(f"{self.prefix}.")
        candidates = [name, plain, f"{self.prefix}.{name}", *_ALIASES.get(name, ()), *_ALIASES.get(plain, ())]
        found = next((c for c in candidates if c in self.shapes and c != taken), None)
        return None if found is None else self._checked(found, shape)

    def find(self, name: str, shape: tuple[int, ...], *, taken: str | None = None) -> str:
        """The same, by its shape too; a parameter that is not on disk is an error."""
        found = self.find_known(name, shape, taken=taken)
        if found is not None:
            return found
        # Renamed by transformers while loading: what no parameter in memory claims and has the shape.
        free = [c for c in self.shapes if self.shapes[c] == shape and c != taken and c not in self.in_memory]
        if len(free) > 1:  # several matrices of the shape: the one whose name ends alike
            longest = max(_common_ending(c, name) for c in free)
            free = [c for c in free if _common_ending(c, name) == longest]
        if len(free) != 1:
            raise ModelError(f"{self.folder}: no tensor is the model's {name} {list(shape)}; are shards missing?")
        return free[0]

    def _checked(self, found: str, shape: tuple[int, ...]) -> str:
        if self.shapes[found] != shape:
            raise ModelError(
                f"{self.folder}: {found} is {list(self.shapes[found])} on disk, but config.json asks for {list(shape)}."
            )
        return found
