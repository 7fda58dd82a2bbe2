"""Folders that are whole or not there: made beside their place, renamed into it, cleaned up after a kill."""

from __future__ import annotations

import contextlib
import errno
import glob
import os
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path

from vocabalign.errors import ArtifactError
from vocabalign.fingerprints import MANIFEST


def work_folder(out: Path) -> Path:
    """Where a stage that writes ``out`` keeps what it needs to resume."""
    return out.with_name(f".{out.name}.work")


def make_folder(folder: Path) -> None:
    """Make a folder and its parents.

    Raises:
        ArtifactError: a file is in the way, or it may not be written there.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ArtifactError(f"The folder {folder} cannot be made ({error.strerror}): choose another --out.") from error


@contextlib.contextmanager
def only_one(out: Path) -> Iterator[None]:
    """Refuse a second run that writes the same artefact at the same time (where the system has file locks)."""
    try:
        import fcntl
    except ImportError:
        yield
        return
    path = out.with_name(f".{out.name}.lock")
    with path.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise ArtifactError(f"Another run of vocabalign is writing {out}: wait for it or stop it.") from error
        try:
            yield
        finally:
            path.unlink(missing_ok=True)


def refuse_existing(out: Path, overwrite: bool) -> None:
    """Raise ``ArtifactError`` when ``out`` is in the way, or is no artefact that may be replaced."""
    if out.parent.exists() and not out.parent.is_dir():
        raise ArtifactError(f"{out.parent} is a file, not a folder: choose another --out.")
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return
    if not overwrite:
        raise ArtifactError(f"{out} exists already: choose another --out, or say --overwrite to replace it.")
    if not (out / MANIFEST).is_file():
        raise ArtifactError(f"{out} is not an artefact of vocabalign, so it is not replaced: choose another --out.")


def remove_left_overs(out: Path) -> None:
    """Remove what a killed run left half-written beside ``out``; an artefact that it had moved aside comes back."""
    name = glob.escape(out.name)
    for old in out.parent.glob(f".{name}.old-*"):
        if out.exists():
            shutil.rmtree(old, ignore_errors=True)
        else:
            os.replace(old, out)
    for partial in out.parent.glob(f".{name}.partial-*"):
        shutil.rmtree(partial, ignore_errors=True)


def discard(folder: Path) -> None:
    """Remove a folder so that a kill in between leaves none that looks whole."""
    if folder.exists():
        gone = folder.with_name(f"{folder.name.removesuffix('.work')}.partial-{uuid.uuid4().hex[:8]}")
        os.replace(folder, gone)
        shutil.rmtree(gone, ignore_errors=True)


def replace_folder(new: Path, out: Path) -> None:
    """Rename ``new`` to ``out``; an older ``out`` is moved aside first and removed afterwards."""
    old = None
    if out.exists():
        old = out.with_name(f".{out.name}.old-{uuid.uuid4().hex[:8]}")
        os.replace(out, old)
    os.replace(new, out)
    if old is not None:
        shutil.rmtree(old, ignore_errors=True)


def is_disk_full(error: BaseException) -> bool:
    """Whether an error says that the disk is full, in the words of Python, safetensors or torch."""
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return True
    return any(
        words in str(error)
        for words in ("No space left on device", "StorageFull", "os error 28", "code: 28", "PytorchStreamWriter failed")
    )


def told(error: BaseException, out: Path) -> BaseException:
    """The error itself, or one sentence where the disk is full or may not be written."""
    if is_disk_full(error):
        return ArtifactError(
            f"No space left on the disk while writing {out}: free some space there or choose another --out; "
            "nothing half-written was kept."
        )
    if isinstance(error, OSError) and error.errno in (errno.EACCES, errno.EROFS, errno.EPERM):
        return ArtifactError(f"{out} cannot be written ({error.strerror}): choose another --out.")
    return error
