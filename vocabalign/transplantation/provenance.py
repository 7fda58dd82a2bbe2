"""``provenance.json``: for every row of the new model, where it came from."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy import sparse

from vocabalign.errors import ArtifactError
from vocabalign.text.vocabulary import Vocabulary
from vocabalign.transplantation.sources import TokenClass

PROVENANCE = "provenance.json"
LEAST_CERTAIN = 50


@dataclass(frozen=True)
class Provenance:
    """Where T rows came from.

    Attributes:
        source: folder of the source model.
        target: name of the target vocabulary.
        methods: "input" and "head" -> way of making rows.
        tied: the two are one matrix.
        classes: (T,) uint8 ``TokenClass``.
        input: (T, S) weighting of the embedding rows.
        head: (T, S) weighting of the head rows.
        shift: (T,) float32 added to the head's logits; None where it was not calibrated.
        confidence: (T,) float32.
        counts: (T,) uses in the corpus; None without one.
    """

    source: str
    target: str
    methods: dict[str, str]
    tied: bool
    classes: np.ndarray
    input: sparse.csr_matrix
    head: sparse.csr_matrix
    shift: np.ndarray | None
    confidence: np.ndarray
    counts: np.ndarray | None

    def class_counts(self) -> dict[str, int]:
        """How many rows there are of each class."""
        return {kind.name.lower(): int((self.classes == kind).sum()) for kind in TokenClass}

    def least_certain(self, vocabulary: Vocabulary, limit: int = LEAST_CERTAIN) -> list[dict[str, Any]]:
        """The tokens with the least confidence, those that text uses most first."""
        num_tokens = min(len(vocabulary), len(self.classes))
        uses = np.zeros(num_tokens) if self.counts is None else self.counts[:num_tokens]
        order = np.lexsort((-uses, self.confidence[:num_tokens], uses == 0))
        least = [i for i in order if self.classes[i] != TokenClass.PADDING and self.confidence[i] < 1][:limit]
        return [
            {
                "id": int(i),
                "token": vocabulary.raw_tokens[i],
                "class": TokenClass(self.classes[i]).name.lower(),
                "confidence": round(float(self.confidence[i]), 4),
                "uses": int(uses[i]),
            }
            for i in least
        ]

    def write(self, folder: Path, vocabulary: Vocabulary) -> None:
        """Write ``provenance.json``: arrays over ids, kept compact."""
        num_rows = len(self.classes)
        value = {
            "source": self.source,
            "target": self.target,
            "methods": self.methods,
            "tied": self.tied,
            "num_rows": num_rows,
            "num_tokens": len(vocabulary),
            "counts": self.class_counts(),
            "least_certain": self.least_certain(vocabulary),
            "class_names": [kind.name.lower() for kind in TokenClass],
            "classes": self.classes.tolist(),
            "confidence": _rounded(self.confidence),
            "shift": None if self.shift is None else _rounded(self.shift),
            "input": _ragged(self.input),
            "head": None if self.tied and self.head is self.input else _ragged(self.head),
        }
        text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
        (folder / PROVENANCE).write_text(text + "\n", encoding="utf-8")


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


def _rounded(values: np.ndarray) -> list[float]:
    # Four digits are for people; a shift that is exactly 0 stays so, and a tiny one must not become 0.
    return [0.0 if value == 0 else float(f"{value:.4g}") for value in values.tolist()]


def _ragged(matrix: sparse.csr_matrix) -> dict[str, list[Any]]:
    return {"starts": matrix.indptr.tolist(), "ids": matrix.indices.tolist(), "weights": _rounded(matrix.data)}
