"""Fingerprints: what a result was made from, told by content and not by name or time."""

from __future__ import annotations

import glob
import hashlib
import json
import os
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path

from vocabalign.corpus_references import HubDataset, is_hub, split_weight
from vocabalign.errors import ArtifactError

MANIFEST = "manifest.json"
_WHOLE_FILE_BYTES = 2**30
_REMEMBERED_BYTES = 2**22


def fingerprint_paths(paths: Path | str | list[str]) -> str:
    """Fingerprint of the content of one or several files or folders; globs are expanded.

    A weight (``PATH=2``) counts too. A dataset of the hub is told by its name and revision, not by its content.
    """
    if isinstance(paths, (list, tuple)):
        return digest_of(fingerprint_paths(path) for path in paths)
    entry, weight = split_weight(str(paths))
    if entry != str(paths):
        return digest_of([fingerprint_paths(entry), repr(weight)])
    if is_hub(entry):
        folder = Path(HubDataset.parse(entry).name)
        return digest_of([entry, *([fingerprint_folder(folder)] if folder.is_dir() else [])])
    path = Path(paths)
    if path.is_dir():
        return fingerprint_folder(path)
    if path.is_file():
        return fingerprint_file(path)
    matches = sorted(glob.glob(str(path), recursive=True))
    if not matches:
        raise ArtifactError(f"{path} does not exist: check the path.")
    return digest_of(fingerprint_paths(match) for match in matches)


def fingerprint_folder(folder: Path) -> str:
    """Fingerprint of names and contents; the seconds and memory in a manifest do not count."""
    return digest_of(f"{name}\0{digest}" for name, digest in file_digests(folder))


def fingerprint_run(folder: Path) -> str:
    """Fingerprint of a run, for its report: the artefacts inside but other reports, and the pipeline."""
    artefacts = sorted(path.parent for path in folder.glob(f"*/{MANIFEST}"))
    parts = [f"{path.name}\0{fingerprint_folder(path)}" for path in artefacts if not _is_report(path)]
    pipelines = sorted(folder.glob("*.yaml"))
    return digest_of(parts + [f"{path.name}\0{fingerprint_file(path)}" for path in pipelines])


def _is_report(artefact: Path) -> bool:
    try:
        return json.loads((artefact / MANIFEST).read_text(encoding="utf-8")).get("stage") == "report"
    except (OSError, ValueError, AttributeError):
        return False


def fingerprint_file(path: Path) -> str:
    """SHA-256 of a file's content; of a file over 1 GiB, of its size, time of change, first and last MiB."""
    status = path.stat()
    if status.st_size < _REMEMBERED_BYTES:  # so small that a change within a tick of the clock costs more to miss
        return hashlib.sha256(path.read_bytes()).hexdigest()
    return _fingerprint_large(str(path.absolute()), status.st_size, status.st_mtime_ns)


@lru_cache(maxsize=4096)
def _fingerprint_large(path: str, size: int, changed: int) -> str:
    """Read a file once, although a pipeline asks before a stage and the stage asks again."""
    with open(path, "rb") as file:
        if size <= _WHOLE_FILE_BYTES:
            return hashlib.file_digest(file, "sha256").hexdigest()
        digest = hashlib.sha256(f"{size} {changed}".encode())
        digest.update(file.read(2**20))
        file.seek(-(2**20), os.SEEK_END)
        digest.update(file.read())
        return digest.hexdigest()


def fingerprint_value(value: object) -> str:
    """SHA-256 of a JSON value, independent of the order of keys."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()


def file_digests(folder: Path) -> list[tuple[str, str]]:
    """(relative name, fingerprint) of every file in a folder but its manifest, sorted by name."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != MANIFEST)
    return [(path.relative_to(folder).as_posix(), fingerprint_file(path)) for path in files]


def digest_of(parts: Iterable[str]) -> str:
    """SHA-256 of a sequence of texts."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part.encode() + b"\n")
    return digest.hexdigest()
