"""Artefact folders: written beside their place, renamed into it when whole, described by a manifest.

A folder that exists under its final name is complete. While it is being made, the files are in a
hidden folder beside it; a stage that can resume keeps its checkpoints in a second hidden folder
that is removed when the artefact is whole.
"""

from __future__ import annotations

import contextlib
import errno
import glob
import importlib.metadata
import json
import os
import platform
import shutil
import sys
import time
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vocabalign.errors import ArtifactError
from vocabalign.fingerprints import (
    MANIFEST,
    digest_of,
    file_digests,
    fingerprint_file,
    fingerprint_paths,
    fingerprint_run,
    fingerprint_value,
)
from vocabalign.memory import PeakMemory
from vocabalign.models import resolve

if TYPE_CHECKING:
    from vocabalign.stages import StageConfig

_LIBRARIES = tuple("vocabalign torch transformers tokenizers sentencepiece gensim numpy faiss-cpu faiss-gpu".split())


class ArtifactWriter:
    """What a stage sees while it writes: a folder for its files, a folder to resume from, metrics.

    Attributes:
        folder: write the artefact's files here.
        work: checkpoints of an interrupted run of the same artefact; created when first asked for.
        metrics: numbers that go into the manifest; units in the names.
    """

    def __init__(self, out: Path, identity: Mapping[str, Any]) -> None:
        self.out = out
        self.folder = out.with_name(f".{out.name}.partial-{uuid.uuid4().hex[:8]}")
        self.metrics: dict[str, Any] = {}
        self._identity = fingerprint_value(identity)

    @property
    def work(self) -> Path:
        """Where checkpoints are kept until the artefact is whole; empty unless they are of this very run."""
        folder = work_folder(self.out)
        note = folder / "identity"
        if folder.exists() and (not note.is_file() or note.read_text() != self._identity):
            shutil.rmtree(folder)
        if not folder.exists():
            folder.mkdir(parents=True)
            note.write_text(self._identity)
        return folder


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
    make_folder(out.parent)
    started = time.monotonic()
    with _only_one(out):
        remove_left_overs(out)
        identity = run_identity(stage, config, inputs)
        writer = ArtifactWriter(out, identity)
        try:
            writer.folder.mkdir()
            with PeakMemory() as memory:
                yield writer
            manifest = {
                **identity,
                "config": dict(config),
                "inputs": {name: _as_text(value) for name, value in inputs.items() if value},
                "libraries": library_versions(),
                "python": platform.python_version(),
                "seed": seed,
                "seconds": round(time.monotonic() - started, 3),
                "peak_memory_bytes": memory.peak_bytes,
                "metrics": writer.metrics,
                "files": dict(file_digests(writer.folder)),
            }
            write_json(writer.folder / MANIFEST, manifest)
            _replace_folder(writer.folder, out)
        except BaseException as error:
            shutil.rmtree(writer.folder, ignore_errors=True)
            raise _told(error, out) from error
        discard(work_folder(out))


def _told(error: BaseException, out: Path) -> BaseException:
    """The error itself, or one sentence where the disk is full or may not be written."""
    if is_disk_full(error):
        return ArtifactError(
            f"No space left on the disk while writing {out}: free some space there or choose another --out; "
            "nothing half-written was kept."
        )
    if isinstance(error, OSError) and error.errno in (errno.EACCES, errno.EROFS, errno.EPERM):
        return ArtifactError(f"{out} cannot be written ({error.strerror}): choose another --out.")
    return error


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
def _only_one(out: Path) -> Iterator[None]:
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


@contextlib.contextmanager
def stage_artifact(stage: str, config: StageConfig) -> Iterator[ArtifactWriter]:
    """``write_artifact`` for a stage's own configuration: inputs, seed and place come from it."""
    with write_artifact(
        config.out,
        stage,
        config.model_dump(mode="json"),
        stage_inputs(stage, config),
        seed=config.seed,
        overwrite=config.overwrite,
    ) as writer:
        yield writer


def stage_inputs(stage: str, config: StageConfig) -> dict[str, list[str]]:
    """What a configured stage reads: field -> paths."""
    from vocabalign.stages import STAGES

    inputs = {}
    for name in STAGES[stage].inputs:
        value = getattr(config, name)
        values = value if isinstance(value, list) else list(value.values()) if isinstance(value, dict) else [value]
        inputs[name] = [str(resolve(item)) if _is_reference(item) else str(item) for item in values if item]
    return inputs


def run_identity(stage: str, config: Mapping[str, Any], inputs: Mapping[str, Any]) -> dict[str, Any]:
    """Everything that decides a stage's result; two runs with equal identities give the same artefact."""
    # Where things are does not matter, what they are does; of named inputs the names do.
    ignored = ("out", "overwrite", *(name for name, value in inputs.items() if value and name != "models"))
    settings = {key: value for key, value in config.items() if key not in ignored}
    if isinstance(settings.get("models"), dict):
        settings["models"] = list(settings["models"])
    fingerprint = fingerprint_run_of if stage == "report" else fingerprint_paths
    return {
        "stage": stage,
        "settings": settings,
        "input_fingerprints": {name: fingerprint(value) for name, value in inputs.items() if value},
        "code_version": code_version(stage),
    }


def fingerprint_run_of(paths: list[str]) -> str:
    """Fingerprint of the one run that a report is about."""
    return fingerprint_run(Path(paths[0]))


def is_up_to_date(folder: Path, identity: Mapping[str, Any]) -> bool:
    """Whether ``folder`` is a whole artefact that a run with this identity would only make again."""
    try:
        manifest = read_manifest(folder)
    except ArtifactError:
        return False
    same = all(manifest.get(key) == json.loads(json.dumps(value, default=str)) for key, value in identity.items())
    return same and all((folder / name).is_file() for name in manifest.get("files", {}))


def code_version(stage: str) -> str:
    """Fingerprint of the code that decides a stage's result; "" for artefacts that no stage makes."""
    from vocabalign.stages import STAGES

    if stage not in STAGES:
        return ""
    root = Path(__file__).parent
    folders = [root / package for package in STAGES[stage].packages]
    files = sorted(path for folder in folders for path in folder.rglob("*.py"))
    files += [root / "lexicon.py", root / "models.py"]
    digests = [f"{path.relative_to(root).as_posix()}\0{fingerprint_file(path)}" for path in files]
    python = "{}.{}".format(*sys.version_info)  # the standard library is also text to learn from
    return digest_of([python, *digests])[:16]


def _is_reference(item: object) -> bool:
    return str(item).startswith("demo:")


def is_disk_full(error: BaseException) -> bool:
    """Whether an error says that the disk is full, in the words of Python, safetensors or torch."""
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return True
    return any(words in str(error) for words in ("No space left on device", "StorageFull", "os error 28", "code: 28"))


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


def _replace_folder(new: Path, out: Path) -> None:
    """Rename ``new`` to ``out``; an older ``out`` is moved aside first and removed afterwards."""
    old = None
    if out.exists():
        old = out.with_name(f".{out.name}.old-{uuid.uuid4().hex[:8]}")
        os.replace(out, old)
    os.replace(new, out)
    if old is not None:
        shutil.rmtree(old, ignore_errors=True)


def read_manifest(folder: Path | str) -> dict[str, Any]:
    """The manifest of an artefact.

    Raises:
        ArtifactError: the folder is missing, has no manifest, or the manifest is not JSON.
    """
    path = Path(folder) / MANIFEST
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(manifest, dict):
            raise ArtifactError(f"{path} holds no JSON object: the artefact is broken, make it again.")
        return manifest
    except (FileNotFoundError, NotADirectoryError):
        raise ArtifactError(f"{folder} is not a vocabalign artefact: it has no {MANIFEST}.") from None
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ArtifactError(f"{path} cannot be read: {error}.") from error


def write_json(path: Path, value: object) -> None:
    """Write JSON for people: indented, UTF-8, newline at the end."""
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False, default=str) + "\n", encoding="utf-8")


def _as_text(value: Path | str | list[str]) -> str | list[str]:
    return [str(item) for item in value] if isinstance(value, (list, tuple)) else str(value)


def library_versions() -> dict[str, str]:
    """Versions of the libraries that a result depends on."""
    versions = {}
    for name in _LIBRARIES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions[name] = importlib.metadata.version(name)
    return versions
