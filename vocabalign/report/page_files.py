"""Pages that stand alone in a file: refused before the work when they are in the way, written whole or not at all."""

from __future__ import annotations

import os
from pathlib import Path

from vocabalign.errors import ArtifactError


def refuse_page(path: Path, overwrite: bool) -> None:
    """Say early that a page cannot be written.

    Raises:
        ArtifactError: a folder or another file is in the way.
    """
    if path.is_dir():
        raise ArtifactError(f"{path} is a folder: name the file of the page, such as {path / 'inspect.html'}.")
    if path.exists() and not overwrite:
        raise ArtifactError(f"{path} exists already: name another file, or say --overwrite to replace it.")


def write_page(path: Path, text: str) -> None:
    """Write a page and the folders above it.

    Raises:
        ArtifactError: it may not be written there.
    """
    partial = path.with_name(f".{path.name}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial.write_text(text, encoding="utf-8", newline="\n")
        os.replace(partial, path)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise ArtifactError(f"The page {path} cannot be written ({error.strerror}): name another file.") from error
