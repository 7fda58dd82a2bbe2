"""The lexicon: for each target token its source tokens with weights, and the evidence for them."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from enum import IntEnum
from pathlib import Path

import numpy as np

from vocabalign.errors import ArtifactError
from vocabalign.manifests import read_manifest

# What a lexicon may know beside its rows, with the types that it is written in.
OPTIONAL = {"target_counts": np.int64, "reverse": np.int32}


class Evidence(IntEnum):
    """Why a target token has its source tokens, strongest first; 0 means there is no evidence."""

    NONE = 0
    IDENTICAL = 1
    """The same bytes."""
    ROLE = 2
    """Special tokens with the same role."""
    RELAXED = 3
    """The same bytes up to a leading space or letter case."""
    COOCCURRENCE = 4
    """Source tokens that cover it in running text, counted."""
    SEGMENTATION = 5
    """The source tokenizer's own cut of the token's bytes."""
    DISTRIBUTIONAL = 6
    """Nearest neighbours among the mapped token embeddings."""


@dataclass(frozen=True)
class Lexicon:
    """Source tokens of every target token; T targets, K sources at most.

    Attributes:
        source_ids: (T, K) int32, best first, -1 where there are fewer than K.
        weights: (T, K) float32, non-negative; each row sums to 1, or to 0 where there is no evidence.
        evidence: (T,) uint8, ``Evidence``.
        confidence: (T,) float32 in [0, 1].
        source_fingerprint: of the source vocabulary.
        target_fingerprint: of the target vocabulary.
        target_counts: (T,) int64, how often each target token stands in the text that the lexicon was made from; None
            where no text was looked at.
        reverse: (S,) int32, for each source token the target token that covers most of it in running text, -1 where
            none was seen; None where that was not counted. The way back of the whole lexicon, not of a row.
    """

    source_ids: np.ndarray
    weights: np.ndarray
    evidence: np.ndarray
    confidence: np.ndarray
    source_fingerprint: str
    target_fingerprint: str
    target_counts: np.ndarray | None = None
    reverse: np.ndarray | None = None

    def __post_init__(self) -> None:
        num_targets, width = self.source_ids.shape
        assert self.weights.shape == (num_targets, width), (self.weights.shape, self.source_ids.shape)
        assert self.evidence.shape == self.confidence.shape == (num_targets,)

    @property
    def num_targets(self) -> int:
        """T."""
        return len(self.source_ids)

    def top(self, k: int) -> Lexicon:
        """The view with at most k source tokens for each target token; weights sum to 1 again.

        Args:
            k: 1 gives the one-best view.
        """
        assert k >= 1, k
        weights = self.weights[:, :k].astype(np.float64)
        totals = weights.sum(axis=1, keepdims=True)
        weights = np.divide(weights, totals, out=np.zeros_like(weights), where=totals > 0)
        return replace(self, source_ids=self.source_ids[:, :k].copy(), weights=weights.astype(np.float32))

    def only(self, chosen: np.ndarray) -> Lexicon:
        """The view in which each target token has one given source token, or none.

        Args:
            chosen: (T,) int64 source ids; -1 leaves the token without evidence.
        """
        assert chosen.shape == (self.num_targets,), chosen.shape
        has = chosen >= 0
        return replace(
            self,
            source_ids=chosen[:, None].astype(np.int32),
            weights=has[:, None].astype(np.float32),
            evidence=np.where(has, self.evidence, Evidence.NONE).astype(np.uint8),
            confidence=np.where(has, self.confidence, 0).astype(np.float32),
            reverse=None,
        )

    def evidence_counts(self) -> dict[str, int]:
        """How many target tokens rest on each kind of evidence."""
        return {kind.name.lower(): int((self.evidence == kind).sum()) for kind in Evidence}

    def save(self, folder: Path) -> None:
        """Write ``lexicon.safetensors`` into an artefact folder."""
        from safetensors.numpy import save_file

        tensors: dict[str, np.ndarray] = {
            "source_ids": np.ascontiguousarray(self.source_ids, dtype=np.int32),
            "weights": np.ascontiguousarray(self.weights, dtype=np.float32),
            "evidence": np.ascontiguousarray(self.evidence, dtype=np.uint8),
            "confidence": np.ascontiguousarray(self.confidence, dtype=np.float32),
        }
        for name, dtype in OPTIONAL.items():
            if getattr(self, name) is not None:
                tensors[name] = np.ascontiguousarray(getattr(self, name), dtype=dtype)
        # One key: safetensors writes several in an order that differs from run to run.
        fingerprints = json.dumps({"source": self.source_fingerprint, "target": self.target_fingerprint})
        save_file(tensors, folder / "lexicon.safetensors", metadata={"fingerprints": fingerprints})

    @classmethod
    def load(cls, folder: Path | str) -> Lexicon:
        """Read a lexicon artefact.

        Raises:
            ArtifactError: the folder is not a whole lexicon.
        """
        from safetensors import SafetensorError, safe_open

        path = Path(folder) / "lexicon.safetensors"
        if not path.is_file():
            raise ArtifactError(f"{folder} holds no lexicon.safetensors: make a lexicon with 'vocabalign align'.")
        read_manifest(folder)
        try:
            with safe_open(path, "numpy") as file:
                fingerprints = json.loads((file.metadata() or {}).get("fingerprints", "{}"))
                names = ("source_ids", "weights", "evidence", "confidence")
                arrays = {name: file.get_tensor(name) for name in names}
                optional = {name: file.get_tensor(name) for name in file.keys() if name in OPTIONAL}
        except (SafetensorError, ValueError, KeyError) as error:
            raise ArtifactError(f"{path} cannot be read: {error}.") from error
        return cls(
            **arrays,
            source_fingerprint=fingerprints.get("source", ""),
            target_fingerprint=fingerprints.get("target", ""),
            **optional,
        )
