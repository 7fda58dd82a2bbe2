"""A model folder with some of its layers: the start of a small draft model.

Which tensors belong to which layer is read off their names: the one prefix whose numbers run from 0 to the
configuration's count. No table of architectures is kept; where the numbering is not clear, the model is refused.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from vocabalign.errors import ConfigError, ModelError
from vocabalign.manifests import write_json
from vocabalign.transplantation.checkpoint import INDEX, Checkpoint, open_checkpoint
from vocabalign.transplantation.shards import rewrite_shard

_COUNT_KEYS = ("num_hidden_layers", "n_layer", "num_layers", "n_layers")
_NUMBERED = re.compile(r"(.+?)\.(\d+)\.")
# What a layer is depends on its number: with other numbers the body would be another model.
_STEP_KEYS = ("decoder_sparse_step", "interleave_moe_layer_step", "sliding_window_pattern", "attn_layer_period")


def parse_layers(text: str, count: int) -> list[int]:
    """``"0-7,12"`` -> layer numbers, ranges inclusive, in the order given.

    Raises:
        ConfigError: not such a list, a layer that the model does not have, or one that is named twice.
    """
    layers: list[int] = []
    for part in text.split(","):
        match = re.fullmatch(r"\s*(\d+)(?:-(\d+))?\s*", part)
        if match is None:
            raise ConfigError(f"--keep-layers {text}: expected numbers and ranges such as 0-7,12.")
        first, last = int(match[1]), int(match[2] or match[1])
        layers += range(first, last + 1)
    wrong = next((layer for layer in layers if layer >= count), None)
    if wrong is not None:
        raise ConfigError(f"--keep-layers {text}: there is no layer {wrong}; the model has layers 0 to {count - 1}.")
    if len(set(layers)) < len(layers) or not layers:
        raise ConfigError(f"--keep-layers {text}: name each layer once, and at least one.")
    return layers


def cut_layers(source: Path, out: Path, text: str) -> Path:
    """Write the model folder ``source`` with the named layers alone, numbered anew in the order given.

    Args:
        source: a model folder.
        out: made anew; what lies there is removed.
        text: such as ``"0-7,12"``.

    Returns:
        ``out``: weights, configurations and tokenizer, all else as it was.

    Raises:
        ConfigError: a list of layers that makes no sense.
        ModelError: the layers cannot be told from the tensors' names or the configuration.
    """
    checkpoint = open_checkpoint(source)
    config, rename = plan_cut(checkpoint, text)
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    _write_weights(checkpoint, out, rename)
    for path in checkpoint.folder.iterdir():
        if path.is_file() and path.suffix != ".safetensors" and path.name not in (INDEX, "config.json"):
            shutil.copyfile(path, out / path.name)
    write_json(out / "config.json", config)
    return out


def plan_cut(checkpoint: Checkpoint, text: str) -> tuple[dict[str, Any], Callable[[str], str | None]]:
    """What a model with the named layers alone consists of.

    Args:
        checkpoint: the whole model.
        text: such as ``"0-7,12"``.

    Returns:
        Its configuration, and a function from a tensor's name to its new one, None for one that is left out.

    Raises:
        ConfigError: a list of layers that makes no sense.
        ModelError: the layers cannot be told from the tensors' names or the configuration.
    """
    part = _layer_part(checkpoint.config)
    count = _layer_count(checkpoint, part)
    kept = parse_layers(text, count)
    rename = _renamer(_layer_prefix(checkpoint, count), kept)
    return _cut_config(checkpoint.config, part, kept, count), rename


def _layer_part(config: dict[str, Any]) -> str | None:
    """The nested configuration that holds the text layers; None where they are at the top."""
    nested = (key for key in ("text_config", "llm_config", "language_config") if isinstance(config.get(key), dict))
    return next(nested, None)


def _layer_count(checkpoint: Checkpoint, part: str | None) -> int:
    config = checkpoint.config[part] if part else checkpoint.config
    key = next((key for key in _COUNT_KEYS if isinstance(config.get(key), int)), None)
    if key is None:
        raise ModelError(f"{checkpoint.folder}: config.json does not say how many layers there are.")
    steps = [name for name in _STEP_KEYS if isinstance(config.get(name), int) and config[name] > 1]
    if steps:
        raise ModelError(f"{checkpoint.folder}: what a layer is depends on its number ({steps[0]}): keep all layers.")
    return int(config[key])


def _layer_prefix(checkpoint: Checkpoint, count: int) -> str:
    numbers: dict[str, set[int]] = {}
    for name in checkpoint.weight_map:
        match = _NUMBERED.match(name)
        if match:
            numbers.setdefault(match[1], set()).add(int(match[2]))
    found = [prefix for prefix, seen in numbers.items() if seen == set(range(count))]
    if len(found) != 1:
        names = ", ".join(found) or "no name"
        raise ModelError(f"{checkpoint.folder}: {names} is numbered 0 to {count - 1}; expected one prefix that is.")
    return found[0]


def _renamer(prefix: str, kept: Sequence[int]) -> Callable[[str], str | None]:
    places = {layer: place for place, layer in enumerate(kept)}

    def rename(name: str) -> str | None:
        match = _NUMBERED.match(name)
        if match is None or match[1] != prefix:
            return name
        place = places.get(int(match[2]))
        return None if place is None else f"{prefix}.{place}.{name[match.end() :]}"

    return rename


def _write_weights(checkpoint: Checkpoint, out: Path, rename: Callable[[str], str | None]) -> None:
    names: dict[str, str] = {}
    for name, file in checkpoint.weight_map.items():
        new = rename(name)
        if new is not None:
            names[new] = file
    for file in sorted(set(names.values())):
        rewrite_shard(checkpoint.folder / file, out / file, {}, rename)
    if checkpoint.has_index:
        size = sum((out / file).stat().st_size for file in set(names.values()))
        write_json(out / INDEX, {"metadata": {"total_size": size}, "weight_map": names})


def _cut_config(config: dict[str, Any], part: str | None, kept: Sequence[int], count: int) -> dict[str, Any]:
    """The configuration with the new count, and lists over layers or of layer numbers cut alike."""
    body = dict(config[part] if part else config)
    places = {layer: place for place, layer in enumerate(kept)}
    for key, value in body.items():
        if key in _COUNT_KEYS:
            body[key] = len(kept)
        elif isinstance(value, list) and len(value) == count and count > 1:
            body[key] = [value[layer] for layer in kept]
        elif key.endswith("_layers") and isinstance(value, list) and all(isinstance(item, int) for item in value):
            body[key] = sorted(places[item] for item in value if item in places)
        elif key == "max_window_layers" and isinstance(value, int):
            body[key] = sum(layer < value for layer in kept)
    return {**config, part: body} if part else body
