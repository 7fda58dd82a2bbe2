"""What a user says of special tokens: TARGET=SOURCE[,SOURCE...] on the command line, or a mapping file."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from vocabalign.errors import ConfigError

Overrides = Mapping[str, str | Sequence[str]]


def parse_overrides(texts: Iterable[str]) -> dict[str, str | list[str]]:
    """Overrides as they are given on the command line; the first "=" divides.

    Raises:
        ConfigError: one has no "=" or an empty side, or two contradict each other.
    """
    merged: dict[str, str | list[str]] = {}
    for text in texts:
        target, equals, source = text.partition("=")
        if not (target and equals and source):
            raise ConfigError(f"The override '{text}' cannot be read: expected TARGET=SOURCE[,SOURCE...].")
        merged = merge_overrides(merged, {target: source})
    return merged


def read_overrides(path: Path | str) -> dict[str, str | list[str]]:
    """A mapping file: TARGET: SOURCE, or TARGET: [SOURCE, ...], in YAML or JSON.

    Raises:
        ConfigError: the file cannot be read, is not such a mapping, or names a token twice.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8")
        pairs = _read_json(text) if path.suffix == ".json" else _read_yaml(text)
    except (OSError, UnicodeDecodeError, ValueError) as error:
        raise ConfigError(f"{path} cannot be read as a mapping file: {' '.join(str(error).split())}.") from error
    merged: dict[str, str | list[str]] = {}
    for target, source in pairs:
        listed = isinstance(source, list) and source and all(isinstance(part, str) and part for part in source)
        if not isinstance(target, str) or not target or not (listed or (isinstance(source, str) and source)):
            raise ConfigError(
                f"{path} says {target!r}: {source!r}; expected a token and the source's token, or a list of them."
            )
        merged = merge_overrides(merged, {target: source})
    return merged


def merge_overrides(first: Overrides, second: Overrides) -> dict[str, str | list[str]]:
    """Both together.

    Raises:
        ConfigError: they say different things of one token.
    """
    merged: dict[str, str | list[str]] = {}
    for overrides in (first, second):
        for key, value in overrides.items():
            plain = value if isinstance(value, str) else list(value)
            if merged.setdefault(key, plain) != plain:
                raise ConfigError(
                    f"The overrides for special tokens contradict each other: '{key}' is mapped to {merged[key]!r} and "
                    f"to {plain!r}; keep one of them."
                )
    return merged


def _read_json(text: str) -> list[tuple[Any, Any]]:
    class Pairs(list):  # type: ignore[type-arg]
        """Keys and values of an object, with those that are there twice."""

    value = json.loads(text, object_pairs_hook=Pairs)
    if not isinstance(value, Pairs):
        raise ValueError("expected a mapping")
    return value


def _read_yaml(text: str) -> list[tuple[Any, Any]]:
    import yaml

    loader = yaml.SafeLoader(text)
    try:
        node = loader.get_single_node()
        if not isinstance(node, yaml.MappingNode):
            raise ValueError("expected a mapping")
        return [
            (loader.construct_object(key, deep=True), loader.construct_object(value, deep=True))
            for key, value in node.value
        ]
    except yaml.YAMLError as error:
        raise ValueError(str(error)) from error
    finally:
        loader.dispose()
