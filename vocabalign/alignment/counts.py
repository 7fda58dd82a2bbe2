"""All that is counted of two vocabularies on one corpus, as an artefact whose parts can be added."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from scipy import sparse

from vocabalign.alignment.cooccurrence import UNIT, Cooccurrence, CooccurrenceCounter
from vocabalign.errors import ArtifactError
from vocabalign.manifests import read_manifest
from vocabalign.text.batches import in_batches
from vocabalign.text.corpus_shards import Shard
from vocabalign.text.covers import CoverCounter, CoverCounts
from vocabalign.text.vocabulary import Vocabulary

FILE = "counts.safetensors"


@dataclass(frozen=True, order=True)
class Part:
    """A piece of text that was counted: a shard of a corpus (told by ``corpus_digest``)."""

    corpus: str
    number: int
    of: int


@dataclass(frozen=True, eq=False)
class VocabularyCounts:
    """Counts of S source and T target tokens; whole numbers, so that sums of parts are exact.

    Attributes:
        covers: which source tokens cover which target tokens.
        source: which source tokens follow which; None where that was not counted.
        target: the same for the target.
        fingerprints: of the source's and of the target's vocabulary.
        parts: what was counted, sorted; complete corpora are one part each.
        least: pairs of neighbours below this distance-weighted count were left out; 0 for none.
    """

    covers: CoverCounts
    source: Cooccurrence | None
    target: Cooccurrence | None
    fingerprints: tuple[str, str]
    parts: tuple[Part, ...]
    least: float = 0.0

    @property
    def window(self) -> int:
        """Tokens to each side in the tables of neighbours; 0 where there are none."""
        return self.source.window if self.source is not None else 0

    def missing(self) -> list[str]:
        """Shards of the corpora counted in part that were not counted: ``3/8``."""
        counted = {(part.corpus, part.of): part.of for part in self.parts}
        everything = [Part(corpus, number, of) for (corpus, of) in counted for number in range(1, of + 1)]
        return [f"{part.number}/{part.of}" for part in everything if part not in self.parts]

    def without_rare(self, least: float) -> VocabularyCounts:
        """The same without pairs of neighbours whose distance-weighted count is below ``least``."""
        if not least:
            return self
        source, target = (None if side is None else _without_rare(side, least) for side in (self.source, self.target))
        return replace(self, source=source, target=target, least=least)

    def save(self, folder: Path) -> None:
        """Write ``counts.safetensors`` into a folder; equal counts give equal files."""
        from safetensors.numpy import save_file

        covers = self.covers
        tables = {"overlap": covers.overlap, "first": covers.first, "last": covers.last}
        arrays = {"target_counts": covers.target_counts, "source_counts": covers.source_counts}
        for name, side in (("source", self.source), ("target", self.target)):
            if side is not None:
                tables[f"{name}_following"], arrays[f"{name}_tokens"] = side.following, side.token_counts
        for name, table in tables.items():
            arrays |= {f"{name}.indptr": table.indptr.astype(np.int64), f"{name}.data": table.data}
            arrays[f"{name}.indices"] = table.indices.astype(np.int32)
        about = {
            "fingerprints": self.fingerprints,
            "window": self.window,
            "parts": [[part.corpus, part.number, part.of] for part in self.parts],
            "least": self.least,
            "bytes": [covers.num_bytes, covers.num_bytes_unaligned],
        }
        save_file(dict(sorted(arrays.items())), folder / FILE, metadata={"about": json.dumps(about)})

    @classmethod
    def load(cls, folder: Path | str) -> VocabularyCounts:
        """Read a counts artefact.

        Raises:
            ArtifactError: the folder is not a whole one.
        """
        from safetensors import SafetensorError, safe_open

        path = Path(folder) / FILE
        if not path.is_file():
            raise ArtifactError(f"{folder} holds no {FILE}: count with 'vocabalign count'.")
        read_manifest(folder)
        try:
            with safe_open(path, "numpy") as file:
                about = json.loads((file.metadata() or {})["about"])
                arrays = {name: file.get_tensor(name) for name in file.keys()}
            return _assembled(arrays, about)
        except (SafetensorError, OSError, ValueError, KeyError) as error:
            raise ArtifactError(f"{path} cannot be read: {error}.") from error


def _assembled(arrays: dict[str, np.ndarray], about: dict[str, Any]) -> VocabularyCounts:
    num_targets, num_sources = len(arrays["target_counts"]), len(arrays["source_counts"])

    def table(name: str, shape: tuple[int, int]) -> sparse.csr_matrix:
        parts = (arrays[f"{name}.data"], arrays[f"{name}.indices"], arrays[f"{name}.indptr"])
        return sparse.csr_matrix(parts, shape=shape)

    def side(name: str, size: int) -> Cooccurrence | None:
        if not about["window"]:
            return None
        return Cooccurrence(table(f"{name}_following", (size, size)), arrays[f"{name}_tokens"], about["window"])

    overlap, first, last = (table(name, (num_targets, num_sources)) for name in ("overlap", "first", "last"))
    covers = CoverCounts(overlap, first, last, arrays["target_counts"], arrays["source_counts"], *about["bytes"])
    source_fingerprint, target_fingerprint = about["fingerprints"]
    return VocabularyCounts(
        covers,
        side("source", num_sources),
        side("target", num_targets),
        (source_fingerprint, target_fingerprint),
        tuple(Part(*part) for part in about["parts"]),
        about["least"],
    )


def _without_rare(side: Cooccurrence, least: float) -> Cooccurrence:
    kept = side.following.copy()
    kept.data[kept.data < least * UNIT] = 0
    kept.eliminate_zeros()
    return replace(side, following=kept)


def count_vocabularies(
    source: Vocabulary,
    target: Vocabulary,
    texts: Iterable[str],
    window: int,
    corpus: str = "",
    shard: Shard | None = None,
) -> VocabularyCounts:
    """Cut each text once with either tokenizer and count spans and neighbours.

    Args:
        source: S tokens.
        target: T tokens.
        texts: documents; gone through once.
        window: tokens to each side that count as neighbours; 0 counts none.
        corpus: what tells the corpus from others.
        shard: which part of it the texts are.
    """
    shard = shard or Shard()
    covers = CoverCounter(source, target)
    sides = [CooccurrenceCounter(len(side), window) if window else None for side in (source, target)]
    for batch in in_batches(texts):
        cuts = [side.encode_batch(batch) for side in (source, target)]
        covers.add(batch, *cuts)
        for counter, ids in zip(sides, cuts, strict=True):
            if counter is not None:
                counter.add(ids)
    of_source, of_target = (None if counter is None else counter.result() for counter in sides)
    part = Part(corpus, shard.number, shard.of)
    prints = (source.fingerprint, target.fingerprint)
    return VocabularyCounts(covers.result(), of_source, of_target, prints, collapsed([part]))


def collapsed(parts: Sequence[Part]) -> tuple[Part, ...]:
    """Sorted parts; where all shards of a corpus are there, the corpus as one part."""
    result = set(parts)
    for corpus, of in {(part.corpus, part.of) for part in parts}:
        shards = {Part(corpus, number, of) for number in range(1, of + 1)}
        if shards <= result:
            result = (result - shards) | {Part(corpus, 1, 1)}
    return tuple(sorted(result))


def load_counts(folder: Path | str, source: Vocabulary, target: Vocabulary) -> VocabularyCounts:
    """Counts that were made with these very vocabularies.

    Raises:
        ArtifactError: the folder is not such an artefact, or it belongs to other tokenizers.
    """
    counts = VocabularyCounts.load(folder)
    wrong = [
        f"its {side} is {found[:12]}, '{vocabulary.name}' is {vocabulary.fingerprint[:12]}"
        for side, found, vocabulary in zip(("source", "target"), counts.fingerprints, (source, target), strict=True)
        if found != vocabulary.fingerprint
    ]
    if wrong:
        raise ArtifactError(
            f"The counts in {folder} were made with other tokenizers: {'; '.join(wrong)}. Count again with "
            "'vocabalign count'."
        )
    return counts


def counted_neighbours(folder: Path | str, vocabulary: Vocabulary) -> Cooccurrence:
    """Which tokens of a vocabulary stand together, from counts in which it is the source or the target.

    Raises:
        ArtifactError: the folder is not such an artefact, knows other tokenizers, or counted no neighbours.
    """
    counts = VocabularyCounts.load(folder)
    for side, fingerprint in zip((counts.source, counts.target), counts.fingerprints, strict=True):
        if fingerprint == vocabulary.fingerprint:
            if side is None:
                raise ArtifactError(f"The counts in {folder} hold no neighbours: count again with a window above 0.")
            return side
    raise ArtifactError(
        f"Neither tokenizer of the counts in {folder} is '{vocabulary.name}': count again with 'vocabalign count'."
    )
