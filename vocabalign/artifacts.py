"""Artefact folders: written beside their place, renamed into it when whole, described by a manifest.

A folder that exists under its final name is complete. While it is being made, the files are in a
hidden folder beside it; a stage that can resume keeps its checkpoints in a second hidden folder
that is removed when the artefact is whole.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import importlib.metadata
import json
import os
import platform
import shutil
import time
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from vocabalign.errors import ArtifactError
from vocabalign.memory import PeakMemory

MANIFEST = "manifest.json"
_LIBRARIES = ("vocabalign", "torch", "transformers", "tokenizers", "sentencepiece", "gensim", "numpy", "faiss-cpu", "faiss-gpu")


class ArtifactWriter:
    """What a stage sees while it writes: a folder for its files, a folder to resume from, metrics.

    Attributes:
        folder: write the artefact's files here.
        work: checkpoints of an interrupted run of the same artefact; created when first asked for.
        metrics: numbers that go into the manifest; units in the names.
    """

    def __init__(self, out: Path) -> None:
        self.out = out
        self.folder = out.with_name(f".{out.name}.partial-{uuid.uuid4().hex[:8]}")
        self.metrics: dict[str, Any] = {}

    @property
    def work(self) -> Path:
        path = work_folder(self.out)
        path.mkdir(parents=True, exist_ok=True)
        return path


def work_folder(out: Path) -> Path:
    """Where a stage that writes ``out`` keeps what it needs to resume."""
    return out.with_name(f".{out.name}.work")


@contextlib.contextmanager
def write_artifact(
    out: Path | str,
    stage: str,
    config: Mapping[str, Any],
    inputs: Mapping[str, Path | str | list[str] | None],
    *,
    seed: int | None = None,
    overwrite: bool = False,
) -> Iterator[ArtifactWriter]:
    """Write an artefact folder so that it is either whole or not there.

    Args:
        out: final folder.
        stage: name of the stage that writes it.
        config: the resolved configuration, as JSON values.
        inputs: name -> path (or paths) of everything read; fingerprinted into the manifest.
        seed: the seed that makes the result reproducible.
        overwrite: replace an existing folder (only once the new one is whole).

    Raises:
        ArtifactError: ``out`` exists and ``overwrite`` is false, or the disk is full.
    """
    out = Path(out).absolute()
    refuse_existing(out, overwrite)
    remove_partial_folders(out)
    writer = ArtifactWriter(out)
    started = time.monotonic()
    try:
        writer.folder.mkdir(parents=True)
        fingerprints = {name: fingerprint_paths(value) for name, value in inputs.items() if value}
        with PeakMemory() as memory:
            yield writer
        manifest = {
            "stage": stage,
            "config": dict(config),
            "inputs": {name: _as_text(value) for name, value in inputs.items() if value},
            "input_fingerprints": fingerprints,
            "libraries": library_versions(),
            "python": platform.python_version(),
            "seed": seed,
            "seconds": round(time.monotonic() - started, 3),
            "peak_memory_bytes": memory.peak_bytes,
            "metrics": writer.metrics,
            "files": {name: digest for name, digest in _file_digests(writer.folder)},
        }
        write_json(writer.folder / MANIFEST, manifest)
        _replace_folder(writer.folder, out)
    except OSError as error:
        shutil.rmtree(writer.folder, ignore_errors=True)
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise ArtifactError(
                f"No space left on the disk while writing {out}: free some space there or choose another --out; "
                "nothing half-written was kept."
            ) from error
        if error.errno in (errno.EACCES, errno.EROFS, errno.EPERM):
            raise ArtifactError(f"{out} cannot be written: {error.strerror.lower()}; choose another --out.") from error
        raise
    except BaseException:
        shutil.rmtree(writer.folder, ignore_errors=True)
        raise
    shutil.rmtree(work_folder(out), ignore_errors=True)


def refuse_existing(out: Path, overwrite: bool) -> None:
    """Raise ``ArtifactError`` when ``out`` is in the way."""
    if out.exists() and not overwrite and not (out.is_dir() and not any(out.iterdir())):
        raise ArtifactError(f"{out} exists already: choose another --out, or say --overwrite to replace it.")


def remove_partial_folders(out: Path) -> None:
    """Remove what a killed run left half-written beside ``out``."""
    for partial in out.parent.glob(f".{out.name}.partial-*"):
        shutil.rmtree(partial, ignore_errors=True)


def _replace_folder(new: Path, out: Path) -> None:
    """Rename ``new`` to ``out``; an older ``out`` is moved aside first and removed afterwards."""
    old = None
    if out.exists():
        old = out.with_name(f".{out.name}.partial-old-{uuid.uuid4().hex[:8]}")
        os.replace(out, old)
    os.replace(new, out)
    if old is not None:
        shutil.rmtree(old, ignore_errors=True) if old.is_dir() else old.unlink()


def read_manifest(folder: Path | str) -> dict[str, Any]:
    """The manifest of an artefact.

    Raises:
        ArtifactError: the folder is missing, has no manifest, or the manifest is not JSON.
    """
    path = Path(folder) / MANIFEST
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ArtifactError(f"{folder} is not a vocabalign artefact: it has no {MANIFEST}.") from None
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ArtifactError(f"{path} cannot be read: {error}.") from error


def write_json(path: Path, value: object) -> None:
    """Write JSON for people: indented, UTF-8, newline at the end."""
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False, default=str) + "\n", encoding="utf-8")


# ------------------------------------------------------------------ fingerprints


def fingerprint_paths(paths: Path | str | list[str]) -> str:
    """Fingerprint of the content of one or several files or folders; globs are expanded."""
    if isinstance(paths, (list, tuple)):
        return _digest_of(fingerprint_paths(path) for path in paths)
    path = Path(paths)
    if path.is_dir():
        return fingerprint_folder(path)
    if path.is_file():
        return fingerprint_file(path)
    matches = sorted(path.parent.glob(path.name)) if path.name else []
    if not matches:
        raise ArtifactError(f"{path} does not exist: check the path.")
    return _digest_of(fingerprint_paths(match) for match in matches)


def fingerprint_folder(folder: Path) -> str:
    """Fingerprint of names and contents; a manifest's seconds and memory do not count."""
    manifest_path = folder / MANIFEST
    if manifest_path.is_file():
        files = read_manifest(folder).get("files")
        if isinstance(files, dict) and all((folder / name).is_file() for name in files):
            return _digest_of(f"{name}\0{digest}" for name, digest in sorted(files.items()))
    return _digest_of(f"{name}\0{digest}" for name, digest in _file_digests(folder))


def fingerprint_file(path: Path) -> str:
    """SHA-256 of a file's content."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def fingerprint_value(value: object) -> str:
    """SHA-256 of a JSON value, independent of the order of keys."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()


def _file_digests(folder: Path) -> list[tuple[str, str]]:
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != MANIFEST)
    return [(path.relative_to(folder).as_posix(), fingerprint_file(path)) for path in files]


def _digest_of(parts: Any) -> str:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part.encode() + b"\n")
    return digest.hexdigest()


def _as_text(value: Path | str | list[str]) -> str | list[str]:
    return [str(item) for item in value] if isinstance(value, (list, tuple)) else str(value)


def library_versions() -> dict[str, str]:
    """Versions of the libraries that a result depends on."""
    versions = {}
    for name in _LIBRARIES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions[name] = importlib.metadata.version(name)
    return versions
