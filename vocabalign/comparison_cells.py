"""One method of a comparison: its model made, scored and, where wished, trained; what is kept of it."""

from __future__ import annotations

import dataclasses
import json
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vocabalign.comparison_records import SOURCE
from vocabalign.config import make_config
from vocabalign.progress import logger
from vocabalign.stages import STAGES, FinetuneConfig, TransplantConfig

if TYPE_CHECKING:
    from vocabalign.evaluation.bits_per_byte import DocumentScores


@dataclass(frozen=True)
class Setting:
    """What all methods have in common."""

    source: str
    target: str
    corpus: tuple[str, ...]
    given: Mapping[str, str | None]
    finetune_steps: int
    calibrate_head: bool
    untie: bool
    common: Mapping[str, Any]


@dataclass
class Cell:
    """What is kept of a method when the next one begins: scores at once, and after training."""

    at_once: DocumentScores
    finetuned: DocumentScores | None = None
    facts: dict[str, Any] = field(default_factory=dict)


def make_cell(name: str, folder: Path, setting: Setting, heldout: Sequence[str]) -> Cell:
    """Scores of one method; from its file where a run before this one got so far.

    Args:
        name: a method, ``INPUT/HEAD``, or ``source``.
        folder: of the cells; models are in it as long as they are needed, so that training can be gone on with.
        setting: what all methods have in common.
        heldout: files to score on.

    Raises:
        VocabAlignError: whatever the stages refuse.
    """
    path = folder / f"{name.replace('/', '+')}.json"
    if path.exists():
        logger.info("%s: kept from an interrupted run", name)
        return _read_cell(path)
    started = time.monotonic()
    place = folder / name.replace("/", "+")
    cell = Cell(_score(name, _made(name, place, setting), heldout, setting))
    if setting.finetune_steps:
        start = setting.source if name == SOURCE else str(place / "transplanted")
        logger.info("%s: training %d steps", name, setting.finetune_steps)
        values: dict[str, Any] = {"model": start, "corpus": list(setting.corpus), **setting.common}
        values |= {"training": {"steps": setting.finetune_steps}, "out": place / "finetuned"}
        config = make_config(FinetuneConfig, values)
        trained = config.out if config.out.exists() else STAGES["finetune"].run(config)
        cell.finetuned = _score(f"{name} finetuned", str(trained), heldout, setting)
    cell.facts["seconds"] = round(time.monotonic() - started, 2)
    if name != SOURCE:
        cell.facts |= _facts(place / "transplanted")
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps(_plain(cell)), encoding="utf-8")
    partial.replace(path)
    shutil.rmtree(place, ignore_errors=True)
    return cell


def _made(name: str, place: Path, setting: Setting) -> str:
    """The model folder of a method."""
    if name == SOURCE:
        return setting.source
    out = place / "transplanted"
    if not out.exists():
        logger.info("%s: transplanting", name)
        inputs, _, heads = name.partition("/")
        values: dict[str, Any] = {
            "source": setting.source,
            "target": setting.target,
            "corpus": list(setting.corpus),
            **setting.given,
        }
        values |= {"input_rows": inputs, "head_rows": heads or inputs, "untie": setting.untie, **setting.common}
        values["calibrate_head"] = setting.calibrate_head
        STAGES["transplant"].run(make_config(TransplantConfig, {**values, "out": out}))
    return str(out)


def _score(name: str, model: str, heldout: Sequence[str], setting: Setting) -> DocumentScores:
    from vocabalign.evaluation.measuring import measure
    from vocabalign.text.corpus import read_texts

    options = {"device": setting.common["device"], "dtype": setting.common["dtype"], "sample_tokens": 0}
    return measure({name: model}, list(read_texts(list(heldout))), **options).scores[name]


def _facts(folder: Path) -> dict[str, Any]:
    """What the transplant said of its rows."""
    from vocabalign.manifests import read_manifest

    metrics = read_manifest(folder)["metrics"]
    return {key: metrics[key] for key in ("input_rows", "head_rows", "head_calibrated", "tied", "classes")}


def _plain(cell: Cell) -> dict[str, Any]:
    def columns(scores: DocumentScores | None) -> dict[str, Any] | None:
        if scores is None:
            return None
        return {column.name: getattr(scores, column.name).tolist() for column in dataclasses.fields(scores)}

    return {"at_once": columns(cell.at_once), "finetuned": columns(cell.finetuned), "facts": cell.facts}


def _read_cell(path: Path) -> Cell:
    import numpy as np

    from vocabalign.evaluation.bits_per_byte import DocumentScores

    kept = json.loads(path.read_text(encoding="utf-8"))
    scores = {
        part: DocumentScores(**{name: np.array(values) for name, values in kept[part].items()})
        for part in ("at_once", "finetuned")
        if kept[part] is not None
    }
    return Cell(scores["at_once"], scores.get("finetuned"), kept["facts"])
