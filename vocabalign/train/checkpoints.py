"""Checkpoints of an interrupted run: a folder counts only once its marker, written last, is there."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

MARKER = "COMPLETE"
PREFIX = "checkpoint-"


def last_complete(folder: Path) -> Path | None:
    """The newest whole checkpoint; the others that are not whole are removed."""
    whole: dict[int, Path] = {}
    for path in folder.glob(PREFIX + "*"):
        if (path / MARKER).is_file():
            whole[int(path.name.removeprefix(PREFIX))] = path
        else:
            shutil.rmtree(path, ignore_errors=True)
    return whole[max(whole)] if whole else None


def step_of(checkpoint: Path | None) -> int:
    """Steps that were done when the checkpoint was written."""
    return 0 if checkpoint is None else int(checkpoint.name.removeprefix(PREFIX))


def mark_complete(checkpoint: Path) -> None:
    """Declare a checkpoint whole; atomic."""
    new = checkpoint / (MARKER + ".new")
    new.write_text("")
    os.replace(new, checkpoint / MARKER)
