"""The token embeddings artefact: one vector for each id of one tokenizer, learned from text."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vocabalign.errors import ArtifactError
from vocabalign.manifests import read_manifest
from vocabalign.text.vocabulary import Vocabulary


@dataclass(frozen=True, eq=False)
class TokenEmbeddings:
    """Vectors for the ids of one tokenizer; V tokens, D dimensions.

    Attributes:
        vectors: (V, D) float32; the row of a token without a vector is zero.
        counts: (V,) int64, how often each token stands in the text; 0 = unseen.
        fingerprint: of the vocabulary they belong to.
        method: how they were learned; "" where that is not known.
    """

    vectors: np.ndarray
    counts: np.ndarray
    fingerprint: str
    method: str = ""

    def __post_init__(self) -> None:
        assert self.vectors.ndim == 2 and self.counts.shape == self.vectors.shape[:1]

    @property
    def covered(self) -> np.ndarray:
        """(V,) bool: which tokens have a vector."""
        return np.asarray(self.vectors.any(axis=1))

    def save(self, folder: Path) -> None:
        """Write ``embeddings.safetensors`` and ``counts.npy`` into a folder."""
        from safetensors.numpy import save_file

        tensors = {"vectors": np.ascontiguousarray(self.vectors, dtype=np.float32)}
        # One key: safetensors writes several in an order that changes from run to run.
        about = json.dumps({"vocabulary_fingerprint": self.fingerprint, "method": self.method})
        save_file(tensors, folder / "embeddings.safetensors", metadata={"about": about})
        np.save(folder / "counts.npy", self.counts)

    @classmethod
    def load(cls, folder: Path | str) -> TokenEmbeddings:
        """Read what ``save`` wrote.

        Raises:
            ArtifactError: a file is missing or broken, the shapes differ, or a vector is not finite.
        """
        from safetensors import SafetensorError, safe_open

        folder = Path(folder)
        try:
            counts = np.load(folder / "counts.npy", allow_pickle=False)
            with safe_open(folder / "embeddings.safetensors", "numpy") as file:
                about = json.loads((file.metadata() or {}).get("about", "{}"))
                vectors = file.get_tensor("vectors")
        except FileNotFoundError:
            raise ArtifactError(
                f"{folder} holds no token embeddings (embeddings.safetensors and counts.npy): "
                "make them with 'vocabalign embed'."
            ) from None
        except (SafetensorError, OSError, ValueError) as error:
            raise ArtifactError(f"The token embeddings in {folder} cannot be read: {error}.") from error
        if vectors.ndim != 2 or counts.shape != vectors.shape[:1]:
            raise ArtifactError(
                f"The token embeddings in {folder} do not fit together: vectors {vectors.shape}, counts {counts.shape}."
            )
        if not np.isfinite(vectors).all():
            raise ArtifactError(f"The token embeddings in {folder} hold values that are not finite: learn them again.")
        return cls(vectors, counts, about.get("vocabulary_fingerprint", ""), about.get("method", ""))


def load_embeddings(folder: Path | str, vocabulary: Vocabulary) -> TokenEmbeddings:
    """Token embeddings that ``embed`` wrote for this very vocabulary.

    Raises:
        ArtifactError: the folder is not such an artefact, or it belongs to another tokenizer.
    """
    read_manifest(folder)
    embeddings = TokenEmbeddings.load(folder)
    if embeddings.fingerprint != vocabulary.fingerprint or len(embeddings.counts) != len(vocabulary):
        raise ArtifactError(
            f"The token embeddings in {folder} were made with another tokenizer ({len(embeddings.counts):,} tokens) "
            f"than '{vocabulary.name}' ({len(vocabulary):,} tokens): make them again with 'vocabalign embed'."
        )
    return embeddings
