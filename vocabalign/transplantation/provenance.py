"""``provenance.json``: for every row of the new model, where it came from, as the transplant writes it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy import sparse

from vocabalign.provenance import PROVENANCE, copied_rows, moved_rows, read_provenance
from vocabalign.text.vocabulary import Vocabulary
from vocabalign.transplantation.sources import TokenClass

__all__ = ["PROVENANCE", "Provenance", "copied_rows", "read_provenance"]
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
        head_classes: (T,) uint8 classes of the head's rows; None where they are those of ``classes``.
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
    head_classes: np.ndarray | None = None

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

    def write(self, folder: Path, vocabulary: Vocabulary) -> dict[str, Any]:
        """Write ``provenance.json``: arrays over ids, kept compact; what was written."""
        num_rows = len(self.classes)
        value: dict[str, Any] = {
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
            "head_classes": None if self.head_classes is None else self.head_classes.tolist(),
            "confidence": _rounded(self.confidence),
            "shift": None if self.shift is None else _rounded(self.shift),
            "input": _ragged(self.input),
            "head": None if self.tied and self.head is self.input else _ragged(self.head),
        }
        value["moved"] = {part: moved_rows(value, part) for part in ("input", "head")}
        text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
        (folder / PROVENANCE).write_text(text + "\n", encoding="utf-8")
        return value


def _rounded(values: np.ndarray) -> list[float]:
    # Four digits are for people; a shift that is exactly 0 stays so, and a tiny one must not become 0.
    return [0.0 if value == 0 else float(f"{value:.4g}") for value in values.tolist()]


def _ragged(matrix: sparse.csr_matrix) -> dict[str, list[Any]]:
    return {"starts": matrix.indptr.tolist(), "ids": matrix.indices.tolist(), "weights": _rounded(matrix.data)}
