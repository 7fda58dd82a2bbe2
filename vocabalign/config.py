"""Configuration: frozen pydantic models, read from YAML, changed by ``key=value`` overrides.

The string under a field is its documentation: it becomes the comment in the shipped YAML files.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from vocabalign.errors import ConfigError

Device = Literal["auto", "cpu", "cuda", "mps"]
Dtype = Literal["auto", "float32", "bfloat16", "float16"]


class Config(BaseModel):
    """Base of every configuration object: frozen, and unknown keys are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True, protected_namespaces=())


class StageConfig(Config):
    """What every stage takes."""

    out: Path
    """Folder of the artefact to write; it must not exist, unless ``overwrite`` is set."""
    seed: int = 0
    """Everything random follows from it."""
    device: Device = "auto"
    """Where tensors live; ``auto`` takes CUDA, then MPS, then the CPU."""
    dtype: Dtype = "auto"
    """Arithmetic of model forward passes; ``auto`` is bfloat16 on CUDA and float32 on the CPU."""
    overwrite: bool = False
    """Replace ``out`` where it exists, once the new artefact is whole."""


AnyConfig = TypeVar("AnyConfig", bound=Config)


def make_config(
    config_class: type[AnyConfig], values: Mapping[str, Any], where: str = "the configuration"
) -> AnyConfig:
    """Validate values; the first problems are told in one sentence.

    Raises:
        ConfigError: an unknown key, a missing value or a value of the wrong kind.
    """
    try:
        return config_class(**values)
    except ValidationError as error:
        raise ConfigError(f"In {where}: {_explain(error, config_class)}.") from error


def _explain(error: ValidationError, config_class: type[Config]) -> str:
    sentences = []
    for problem in error.errors()[:3]:
        key = ".".join(str(part) for part in problem["loc"])
        if problem["type"] == "extra_forbidden":
            known = ", ".join(sorted(_keys_at(config_class, problem["loc"][:-1])))
            sentences.append(f"unknown key '{key}' (known keys: {known})")
        elif problem["type"] == "missing":
            sentences.append(f"'{key}' is missing: give it on the command line or set it in the file")
        else:
            sentences.append(f"'{key}' is {problem['input']!r}: {problem['msg'].lower()}")
    return "; ".join(sentences)


def _keys_at(config_class: type[Config], path: tuple[int | str, ...]) -> list[str]:
    """Known keys of the block that ``path`` leads to."""
    for part in path:
        inner = config_class.model_fields[str(part)].annotation if str(part) in config_class.model_fields else None
        if not (isinstance(inner, type) and issubclass(inner, Config)):
            break
        config_class = inner
    return list(config_class.model_fields)


def read_yaml(path: Path | str) -> dict[str, Any]:
    """A YAML file that holds a mapping.

    Raises:
        ConfigError: the file is missing, not UTF-8, not YAML, or not a mapping.
    """
    path = Path(path)
    try:
        value = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(f"{path} does not exist: check the path of the configuration file.") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} cannot be read as UTF-8 text: {error}.") from error
    except yaml.YAMLError as error:
        raise ConfigError(f"{path} is not YAML: {' '.join(str(error).split())}.") from error
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise ConfigError(f"{path} holds a {type(value).__name__}; expected keys with values ('key: value').")
    if not all(isinstance(key, str) for key in value):
        raise ConfigError(f"{path} has keys that are not words ({', '.join(map(repr, value))}): put them in quotes.")
    return value


def parse_overrides(overrides: Iterable[str]) -> dict[str, Any]:
    """``["steps=10", "stages.align.config.top_k=4"]`` -> nested mapping; values are read as YAML.

    Raises:
        ConfigError: an item without ``=``, or a value that is not YAML.
    """
    nested: dict[str, Any] = {}
    for item in overrides:
        key, equals, text = item.partition("=")
        if not equals or not key:
            raise ConfigError(f"The override '{item}' is not of the form key=value.")
        try:
            value = yaml.safe_load(text)
        except yaml.YAMLError as error:
            reason = " ".join(str(error).split())
            raise ConfigError(f"The value of the override '{item}' is not YAML: {reason}.") from error
        *parents, last = key.split(".")
        level = nested
        for parent in parents:
            level = level.setdefault(parent, {})
            if not isinstance(level, dict):
                raise ConfigError(f"The override '{item}' contradicts another one for '{parent}'.")
        level[last] = value
    return nested


def merge(base: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """``base`` with ``changes`` laid over it, key by key at every depth."""
    merged = dict(base)
    for key, value in changes.items():
        if isinstance(value, Mapping) and isinstance(merged.get(key), Mapping):
            merged[key] = merge(merged[key], value)
        else:
            merged[key] = value
    return merged
