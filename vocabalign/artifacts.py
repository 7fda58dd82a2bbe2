"""Artefact folders: written beside their place, renamed into it when whole, described by a manifest.

A folder that exists under its final name is complete. While it is being made, the files are in a
hidden folder beside it; a stage that can resume keeps its checkpoints in a second hidden folder
that is removed when the artefact is whole.
"""

from __future__ import annotations

import contextlib
import platform
import shutil
import time
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vocabalign.fingerprints import MANIFEST, file_digests, fingerprint_value
from vocabalign.folders import (
    discard,
    make_folder,
    only_one,
    refuse_existing,
    remove_left_overs,
    replace_folder,
    told,
    work_folder,
)
from vocabalign.manifests import library_versions, run_identity, stage_inputs, write_json
from vocabalign.memory import PeakMemory

if TYPE_CHECKING:
    from vocabalign.config import StageConfig


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

    @property
    def has_work(self) -> bool:
        """Whether there is anything to resume from."""
        return any(path.name != "identity" for path in work_folder(self.out).iterdir())


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
    with only_one(out):
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
            replace_folder(writer.folder, out)
        except BaseException as error:
            shutil.rmtree(writer.folder, ignore_errors=True)
            if work_folder(out).is_dir() and not writer.has_work:
                discard(work_folder(out))
            raise told(error, out) from error
        discard(work_folder(out))


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


def _as_text(value: Path | str | list[str]) -> str | list[str]:
    return [str(item) for item in value] if isinstance(value, (list, tuple)) else str(value)
