"""How a configuration names what a stage reads."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import BeforeValidator

# A folder, or demo:source / demo:teacher for the models that ship with the package.
Reference = Annotated[str, BeforeValidator(lambda value: str(value) if isinstance(value, Path) else value)]


def _listed(value: object) -> object:
    """One path or several."""
    return [str(value)] if isinstance(value, (str, Path)) else value


Corpus = Annotated[list[Reference], BeforeValidator(_listed)]
