"""How a configuration names what a stage reads."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import BeforeValidator

# A folder, or demo:source / demo:teacher for the models that ship with the package.
Reference = Annotated[str, BeforeValidator(lambda value: str(value) if isinstance(value, Path) else value)]


def _listed(value: object) -> object:
    """One entry or several; ``{path: P, weight: W}`` is written ``P=W``."""
    entries = [value] if isinstance(value, (str, Path, dict)) else value
    return [_as_text(entry) for entry in entries] if isinstance(entries, (list, tuple)) else entries


def _as_text(entry: object) -> object:
    if isinstance(entry, dict) and set(entry) in ({"path"}, {"path", "weight"}):
        weight = entry.get("weight")
        return str(entry["path"]) if weight is None else f"{entry['path']}={weight}"
    return str(entry) if isinstance(entry, Path) else entry


Corpus = Annotated[list[Reference], BeforeValidator(_listed)]
