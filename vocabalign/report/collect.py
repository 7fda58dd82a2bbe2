"""Reading a run folder: every artefact inside it, and what each has to tell. Nothing is recomputed."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from vocabalign.errors import ArtifactError
from vocabalign.lexicon import Lexicon
from vocabalign.manifests import read_manifest
from vocabalign.report.escape import visible_edges

MAX_FILE_BYTES = 64 * 2**20
"""Text files over this are left out, with a note: the page must stay small."""


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


@dataclass(frozen=True)
class Curve:
    """One training run; each series is a list of (tokens trained, value)."""

    name: str
    loss: list[tuple[float, float]]
    bits_per_byte: list[tuple[float, float]]


@dataclass(frozen=True)
class LexiconTable:
    """A lexicon as it was written for people."""

    name: str
    header: list[str]
    rows: list[list[str]]


@dataclass
class Run:
    """What a run folder holds; ``notes`` says what was looked for and could not be read."""

    folder: Path
    artefacts: list[Artefact]
    pipeline_text: str | None
    description: str
    metrics: dict[str, dict[str, Any]] = field(default_factory=dict)
    curves: list[Curve] = field(default_factory=list)
    lexicons: list[LexiconTable] = field(default_factory=list)
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
    curve = _read_curve(run, artefact)
    if curve is not None:
        run.curves.append(curve)
    lexicon = _read_lexicon_table(run, artefact)
    if lexicon is not None:
        run.lexicons.append(lexicon)
    run.evidence.update(_read_evidence(run, artefact))
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


def _json_lines(path: Path) -> Iterator[dict[str, Any]]:
    """Rows of a JSON-lines file; a last line that a killed run cut off is skipped."""
    with path.open(encoding="utf-8", errors="replace") as lines:
        for line in lines:
            try:
                row = json.loads(line)
            except ValueError:
                continue
            if isinstance(row, dict):
                yield row


def _read_curve(run: Run, artefact: Artefact) -> Curve | None:
    path = _small_file(run, artefact, "metrics.jsonl")
    if path is None:
        return None
    rows = list(_json_lines(path))
    # Scores on held-out text stand on lines of their own, which know the step but not the tokens.
    tokens_at = {0: 0.0} | {row["step"]: row["tokens"] for row in rows if _is_finite(row, "step", "tokens")}
    curve = Curve(artefact.name, [], [])
    for row in rows:
        tokens = row["tokens"] if _is_finite(row, "tokens") else tokens_at.get(row.get("step", -1))
        for key, series in (("loss", curve.loss), ("heldout_bits_per_byte", curve.bits_per_byte)):
            if tokens is not None and _is_finite(row, key):
                series.append((float(tokens), float(row[key])))
    return curve if curve.loss or curve.bits_per_byte else None


def _is_finite(row: dict[str, Any], *keys: str) -> bool:
    return all(isinstance(row.get(key), (int, float)) and math.isfinite(row[key]) for key in keys)


def _read_lexicon_table(run: Run, artefact: Artefact) -> LexiconTable | None:
    path = _small_file(run, artefact, "lexicon.tsv")
    if path is None:
        return None
    # Tokens hold quotes, commas and line separators of their own: tab and line feed are the only marks.
    text = path.read_bytes().decode("utf-8", "replace")
    lines = [[visible_edges(cell) for cell in line.split("\t")] for line in text.split("\n") if line]
    header = [name.replace("_", " ") for name in lines[0]] if lines else []
    return LexiconTable(artefact.name, header, lines[1:]) if len(lines) > 1 else None


def _read_evidence(run: Run, artefact: Artefact) -> dict[str, dict[str, int]]:
    """Name -> kind of evidence -> tokens, of a lexicon or of a model's provenance."""
    if (artefact.folder / "lexicon.safetensors").is_file():
        try:
            return {artefact.name: Lexicon.load(artefact.folder).evidence_counts()}
        except (ArtifactError, AssertionError) as error:
            run.notes.append(f"{artefact.name}/lexicon.safetensors cannot be read: {error}")
            return {}
    # Models trained from a transplant may carry its provenance along: it is told once.
    provenance = _read_json(run, artefact, "provenance.json") if artefact.stage == "transplant" else None
    if not isinstance(provenance, dict):
        return {}
    least_certain = provenance.get("least_certain")
    if isinstance(least_certain, list):
        run.least_certain[artefact.name] = [row for row in least_certain if isinstance(row, dict)]
    counts = provenance.get("counts")
    if not isinstance(counts, dict) or not all(isinstance(count, int) for count in counts.values()):
        return {}
    return {artefact.name: counts}
