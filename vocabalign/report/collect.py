"""Reading a run folder: every artefact inside it, and what each has to tell. Nothing is recomputed."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from vocabalign.errors import ArtifactError, VocabAlignError
from vocabalign.manifests import read_manifest
from vocabalign.report.curves import Curve, read_curve
from vocabalign.report.token_table import TokenTable, provenance_table, read_lexicon_table

MAX_FILE_BYTES = 2**30
"""Files over this are left out, with a note: reading them would take longer than the page is worth."""


PROVENANCE = "provenance.json"
# What was really run, with all overrides; else the file as it was written.
PIPELINES = ("pipeline.resolved.yaml", "pipeline.yaml")


@dataclass(frozen=True)
class Artefact:
    """One artefact folder of the run."""

    name: str
    folder: Path
    manifest: dict[str, Any]

    @property
    def stage(self) -> str:
        """Name of the stage that wrote it."""
        return str(self.manifest.get("stage", "?"))

    @property
    def config(self) -> dict[str, Any]:
        """The resolved configuration it was made with."""
        return self.manifest.get("config") or {}


@dataclass
class Run:
    """What a run folder holds; ``notes`` says what was looked for and could not be read."""

    folder: Path
    artefacts: list[Artefact]
    pipeline_text: str | None
    description: str
    metrics: dict[str, dict[str, Any]] = field(default_factory=dict)
    curves: list[Curve] = field(default_factory=list)
    tables: list[TokenTable] = field(default_factory=list)
    evidence: dict[str, dict[str, int]] = field(default_factory=dict)
    least_certain: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    maps: dict[str, dict[str, Any]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def collect_run(folder: Path | str) -> Run:
    """Read a run; files that are missing or broken are left out, broken ones with a note.

    Raises:
        ArtifactError: the folder does not exist, or has no artefact inside.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise ArtifactError(f"{folder} does not exist: expected the folder of a run.")
    notes: list[str] = []
    pipeline_text, pipeline = _read_pipeline(folder, notes)
    artefacts = _find_artefacts(folder, pipeline, notes)
    if not artefacts:
        raise ArtifactError(
            f"{folder} has no artefact inside: expected the folder of a run, with one folder for each stage and "
            "manifest.json in each."
        )
    run = Run(folder, artefacts, pipeline_text, str(pipeline.get("description") or ""), notes=notes)
    for artefact in artefacts:
        _collect_artefact(run, artefact)
    if not run.tables:
        _add_table_of_transplant(run)
    return run


def _read_pipeline(folder: Path, notes: list[str]) -> tuple[str | None, dict[str, Any]]:
    """Text and content of the pipeline file that made the run."""
    path = next((folder / name for name in PIPELINES if (folder / name).is_file()), folder / PIPELINES[0])
    try:
        text = path.read_text(encoding="utf-8")
        values = yaml.safe_load(text)
    except FileNotFoundError:
        return None, {}
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        notes.append(f"{path.name} cannot be read: {' '.join(str(error).split())}")
        return None, {}
    return text, values if isinstance(values, dict) else {}


def _find_artefacts(folder: Path, pipeline: dict[str, Any], notes: list[str]) -> list[Artefact]:
    """Artefacts one level deep, in the pipeline's order; those it does not name follow in order of time."""
    found = []
    for path in folder.iterdir():
        # Hidden folders are half-written ones.
        if path.name.startswith(".") or not (path / "manifest.json").is_file():
            continue
        try:
            manifest = read_manifest(path)
        except ArtifactError as error:
            notes.append(str(error))
            continue
        if manifest.get("stage") != "report":
            found.append(Artefact(path.name, path, manifest))
    stages = pipeline.get("stages")
    names = [str(entry.get("name")) for entry in stages if isinstance(entry, dict)] if isinstance(stages, list) else []
    order = {name: position for position, name in enumerate(names)}

    def key(artefact: Artefact) -> tuple[int, float, str]:
        written = (artefact.folder / "manifest.json").stat().st_mtime
        return order.get(artefact.name, len(order)), written, artefact.name

    return sorted(found, key=key)


def _collect_artefact(run: Run, artefact: Artefact) -> None:
    """Add what one artefact tells to the run."""
    metrics = _read_json(run, artefact, "metrics.json")
    if isinstance(metrics, dict) and isinstance(metrics.get("models"), list):
        run.metrics[artefact.name] = metrics
    path = _small_file(run, artefact, "metrics.jsonl")
    curve = None if path is None else read_curve(path, artefact.name)
    if curve is not None:
        run.curves.append(curve)
    path = _small_file(run, artefact, "lexicon.tsv")
    table = None if path is None else read_lexicon_table(path, artefact.name)
    if table is not None:
        run.tables.append(table)
        run.evidence[artefact.name] = table.class_counts()
    # Models trained from a transplant may carry its provenance along: it is told once.
    provenance = _read_json(run, artefact, PROVENANCE) if artefact.stage == "transplant" else None
    if isinstance(provenance, dict):
        _add_provenance(run, artefact, provenance)
    points = _read_json(run, artefact, "map.json")
    if isinstance(points, dict):
        run.maps[artefact.name] = points


def _small_file(run: Run, artefact: Artefact, name: str) -> Path | None:
    path = artefact.folder / name
    if not path.is_file():
        return None
    if path.stat().st_size > MAX_FILE_BYTES:
        run.notes.append(f"{artefact.name}/{name} is over {MAX_FILE_BYTES // 2**20} MiB and was left out.")
        return None
    return path


def _read_json(run: Run, artefact: Artefact, name: str) -> Any:
    path = _small_file(run, artefact, name)
    if path is None:
        return None
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        run.notes.append(f"{artefact.name}/{name} cannot be read: {error}")
        return None


def _add_provenance(run: Run, artefact: Artefact, provenance: dict[str, Any]) -> None:
    """Classes of rows, and the tokens to look at first."""
    least_certain = provenance.get("least_certain")
    if isinstance(least_certain, list):
        run.least_certain[artefact.name] = [row for row in least_certain if isinstance(row, dict)]
    counts = provenance.get("counts")
    if isinstance(counts, dict) and all(isinstance(count, int) for count in counts.values()):
        run.evidence[artefact.name] = counts


def _add_table_of_transplant(run: Run) -> None:
    """Without a lexicon, the first transplant says where rows came from; its tokens are in its tokenizer."""
    artefact = next((one for one in run.artefacts if one.stage == "transplant"), None)
    provenance = None if artefact is None else _read_json(run, artefact, PROVENANCE)
    if artefact is None or not isinstance(provenance, dict) or "classes" not in provenance:
        return
    tokens = _token_texts(artefact.folder)
    if tokens is None:
        return  # a custom vocabulary, which has no files
    try:
        table = provenance_table(artefact.name, provenance, tokens, _token_texts(provenance.get("source")) or [])
    except (KeyError, IndexError, TypeError, ValueError) as error:
        run.notes.append(f"{artefact.name}/{PROVENANCE} has another form than expected: {type(error).__name__} {error}")
        return
    run.tables.append(table)


def _token_texts(folder: Path | str | None) -> list[str] | None:
    """Texts of a tokenizer's tokens; None where there is none that can be loaded."""
    from vocabalign.text.token_text import token_text
    from vocabalign.text.tokenizers import load_vocabulary

    try:
        vocabulary = load_vocabulary(folder or "")
    except VocabAlignError:
        return None
    return [token_text(vocabulary, token_id) for token_id in range(len(vocabulary))]
