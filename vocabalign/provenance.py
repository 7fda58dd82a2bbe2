"""Reading ``provenance.json``, which a transplant leaves in a model: where each of its rows came from."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from vocabalign.errors import ArtifactError

PROVENANCE = "provenance.json"


def read_provenance(folder: Path) -> dict[str, Any] | None:
    """What ``provenance.json`` says; None where there is none.

    Raises:
        ArtifactError: it is not JSON.
    """
    path = folder / PROVENANCE
    if not path.is_file():
        return None
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ArtifactError(f"{path} cannot be read: {error}.") from error


# What a transplant whose corpus is of another domain than the source model's was counted on, by the manifest's word.
COUNTED_ON = {
    "corpus": "the corpus all the same, as was asked for",
    "corpus and own text": "the corpus, and text that the source model wrote itself",
    "nothing": "nothing, as the model would have taken too long to write text of its own",
}


def copied_rows(provenance: dict[str, Any], part: str) -> tuple[np.ndarray, np.ndarray]:
    """Target ids and source ids of the rows that must be the source's bit for bit.

    Args:
        provenance: of :func:`read_provenance`.
        part: "input" or "head".
    """
    unshifted = np.ones(provenance["num_rows"], bool)
    if provenance["shift"] is not None and (part == "head" or provenance["tied"]):
        unshifted = np.asarray(provenance["shift"]) == 0
    parts = [provenance["input"], provenance["head"]] if provenance["tied"] else [provenance[part]]
    result = np.full(provenance["num_rows"], -1, np.int64)
    for number, table in enumerate(entry for entry in parts if entry is not None):
        starts, ids = np.asarray(table["starts"]), np.asarray(table["ids"], np.int64)
        single = (np.diff(starts) == 1) & unshifted
        copied = np.full(len(result), -1, np.int64)
        copied[single] = ids[starts[:-1][single]]
        result = copied if number == 0 else np.where(result == copied, result, -1)
    targets = np.flatnonzero(result >= 0)
    return targets, result[targets]


def moved_rows(provenance: dict[str, Any], part: str) -> dict[str, int]:
    """Rows of tokens with a twin or a role in the source that are not its row any more, counted by what moved them.

    Args:
        provenance: of :func:`read_provenance`.
        part: "input" or "head".

    Returns:
        "fitted": moved to what the source expects; "mixed": made of several rows, as by an override or a method that
        copies nothing, or by tying two rows that differ; "shifted": in a head, along the direction that calibrates
        how often the token is expected. Only what occurs.
    """
    moved = np.asarray(provenance["confidence"]) >= 1
    moved[copied_rows(provenance, part)[0]] = False
    kinds = provenance["classes"] if part == "input" else provenance.get("head_classes") or provenance["classes"]
    fitted = moved & (np.asarray(kinds) == provenance["class_names"].index("fitted"))
    shifted = np.zeros(len(moved), bool)
    if provenance["shift"] is not None and (part == "head" or provenance["tied"]):
        shifted = moved & ~fitted & (np.asarray(provenance["shift"]) != 0)
    counts = {"fitted": fitted, "shifted": shifted, "mixed": moved & ~fitted & ~shifted}
    return {name: int(rows.sum()) for name, rows in counts.items() if rows.any()}
