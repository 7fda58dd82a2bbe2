"""Training curves of a run: read from ``metrics.jsonl``, and laid end to end where one model was trained on."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vocabalign.report.collect import Run

Series = list[tuple[float, float]]


@dataclass(frozen=True)
class Curve:
    """One training run; each series is a list of (tokens trained, value).

    Attributes:
        name: of its artefact.
        tokens: that it was trained on in all.
        loss: in the units of its objective.
        bits_per_byte: of held-out text, as scored during training.
        ends: bits per byte of its model before and after, as evaluated; one or none where the other is not known.
        offset: tokens that the model had been trained on before, in this run folder.
    """

    name: str
    tokens: float
    loss: Series
    bits_per_byte: Series
    ends: Series = field(default_factory=list)
    offset: float = 0.0

    def shifted(self, series: Series) -> Series:
        """A series with the tokens of earlier training added."""
        return [(x + self.offset, y) for x, y in series]


def read_curve(path: Path, name: str) -> Curve | None:
    """What a run logged; None where it logged nothing."""
    rows = list(_json_lines(path))
    # Scores on held-out text stand on lines of their own, which know the step but not the tokens.
    tokens_at = {0: 0.0} | {row["step"]: float(row["tokens"]) for row in rows if _is_finite(row, "step", "tokens")}
    loss: Series = []
    scores: Series = []
    for row in rows:
        tokens = row["tokens"] if _is_finite(row, "tokens") else tokens_at.get(row.get("step", -1))
        for key, series in (("loss", loss), ("heldout_bits_per_byte", scores)):
            if tokens is not None and _is_finite(row, key):
                series.append((float(tokens), float(row[key])))
    return Curve(name, max(tokens_at.values()), loss, scores) if loss or scores else None


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


def _is_finite(row: Mapping[str, Any], *keys: str) -> bool:
    return all(isinstance(row.get(key), (int, float)) and math.isfinite(row[key]) for key in keys)


def joined_curves(run: Run) -> list[Curve]:
    """The run's curves, each beginning where the model that it trained on ended, with evaluated ends."""
    scores = _scores(run)
    made_by = {_place(artefact.config.get("out") or artefact.folder): artefact.name for artefact in run.artefacts}
    trained = {curve.name: curve for curve in run.curves}
    joined: dict[str, Curve] = {}
    # A model stands behind the one it was trained from: its offset is known by then.
    for artefact in run.artefacts:
        if artefact.name not in trained:
            continue
        curve = trained[artefact.name]
        before = artefact.config.get("student") or artefact.config.get("model")
        earlier = joined.get(made_by.get(_place(before), ""))
        out = artefact.config.get("out") or artefact.folder
        known = [(0.0, scores.get(_place(before))), (curve.tokens, scores.get(_place(out)))]
        ends = [(tokens, value) for tokens, value in known if value is not None]
        offset = 0.0 if earlier is None else earlier.offset + earlier.tokens
        joined[artefact.name] = replace(curve, ends=ends, offset=offset)
    return list(joined.values())


def _scores(run: Run) -> dict[str, float]:
    """Bits per byte of what was evaluated, by place."""
    scores: dict[str, float] = {}
    for metrics in run.metrics.values():
        for row in metrics["models"]:
            if _is_finite(row, "bits_per_byte"):
                scores.setdefault(_place(row.get("path")), float(row["bits_per_byte"]))
    return scores


def _place(reference: object) -> str:
    """The last two parts of a path: the same from wherever a run was started, and after it was moved."""
    return "/".join(Path(str(reference)).parts[-2:])
