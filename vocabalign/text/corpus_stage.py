"""The ``corpus`` stage: training and held-out text as two JSON-lines files."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from vocabalign.artifacts import stage_artifact
from vocabalign.errors import ConfigError, CorpusError
from vocabalign.stages import CorpusConfig
from vocabalign.text import standard_library
from vocabalign.text.corpus import PIECE_BYTES, Document, corpus_files, is_plain_text, read_documents
from vocabalign.text.splits import FEWEST_FILES, SAMPLE, SPLIT_BYTES, as_fraction, text_fraction, text_hash

# (name of the module or path, held out?, text)
Item = tuple[str, bool, str]
SIDES = ("train", "heldout")


def run(config: CorpusConfig) -> Path:
    """Write ``train.jsonl`` and ``heldout.jsonl``; each line has ``text`` and its ``module`` or ``path``.

    Which side a document is on follows from a hash of its text, so that it stays there when the corpus
    grows and equal texts are never on both sides. The standard library is split by module instead.

    ``.txt`` files are split by file where the corpus has at least 20 of them, each by a hash of all its text, so that
    no book is on both sides. With fewer they are split by piece of at most 16 kB, cut at line ends.

    With two or more different documents (files, pieces) neither side is empty: if no hash falls into
    ``heldout_percent``, the one with the smallest hash is held out; if all do, the one with the greatest is not.

    Raises:
        ConfigError: both sources of text are given, or none.
        CorpusError: the text cannot be read, there is only one document, or a limit leaves a side empty.
        ArtifactError: ``out`` exists.
    """
    if config.standard_library == bool(config.corpus):
        given = "both are given" if config.corpus else "neither is given"
        raise ConfigError(f"Text comes from --standard-library or from --corpus, and {given}: choose one of them.")
    if config.corpus:
        corpus_files(config.corpus)  # told before anything is written
    limits = {"train": config.max_bytes, "heldout": config.heldout_max_bytes}
    with stage_artifact("corpus", config) as writer:
        field, read = ("module", _library_items) if config.standard_library else ("path", _file_reader(config))
        writer.metrics.update(_write(writer.folder, field, read, limits))
    return Path(config.out)


def _library_items() -> Iterator[Item]:
    for passage in standard_library.passages():
        if passage.text.strip():
            yield passage.module, standard_library.is_heldout(passage.module), passage.text


def _file_reader(config: CorpusConfig) -> Callable[[], Iterator[Item]]:
    """What reads the corpus, each document with its side; the text is gone through here to find the sides."""
    text_files = {str(path) for path in corpus_files(config.corpus) if is_plain_text(path)}
    by_file = len(text_files) >= FEWEST_FILES
    read = partial(read_documents, config.corpus, piece_bytes=PIECE_BYTES if by_file else SPLIT_BYTES)
    hashes: dict[str, Any] = {}
    for document in read() if by_file else ():
        if document.path in text_files:
            hashes.setdefault(document.path, text_hash()).update(document.text.encode())

    def fraction(document: Document) -> float:
        found = hashes.get(document.path)
        return text_fraction(document.text) if found is None else as_fraction(found)

    threshold = _split_threshold(map(fraction, read()), config.heldout_percent / 100)
    return lambda: ((document.path, fraction(document) < threshold, document.text) for document in read())


def _split_threshold(fractions: Iterable[float], wanted: float) -> float:
    """The wanted threshold, moved as far as is needed so that something is below it and something is not."""
    least, most = 1.0, 0.0
    for fraction in fractions:
        least, most = min(least, fraction), max(most, fraction)
        if least < wanted <= most:
            return wanted
    if least >= most:
        return wanted  # one document, or copies of one
    return most if most < wanted else math.nextafter(least, 1)


def _write(
    folder: Path, field: str, read: Callable[[], Iterator[Item]], limits: dict[str, int | None]
) -> dict[str, int]:
    thresholds = _thresholds(read, limits)
    counts = {f"{side}_{unit}": 0 for side in SIDES for unit in ("documents", "bytes")}
    files = {side: (folder / f"{side}.jsonl").open("w", encoding="utf-8", newline="\n") for side in SIDES}
    try:
        for name, heldout, text in read():
            side = SIDES[heldout]
            if text_fraction(text, SAMPLE) >= thresholds[side]:
                continue
            files[side].write(json.dumps({"text": text, field: name}, ensure_ascii=False) + "\n")
            counts[f"{side}_documents"] += 1
            counts[f"{side}_bytes"] += len(text.encode())
    finally:
        for file in files.values():
            file.close()
    for side in SIDES:
        if not counts[f"{side}_documents"]:
            total = sum(counts[f"{side}_documents"] for side in SIDES)
            raise CorpusError(
                f"None of the {total} documents would be in {side}.jsonl: give more text, or change heldout_percent, "
                "max_bytes or heldout_max_bytes."
            )
    return counts


def _thresholds(read: Callable[[], Iterator[Item]], limits: dict[str, int | None]) -> dict[str, float]:
    """For each side, the hash below which documents are taken so that the side stays within its limit.

    Documents are taken in the order of their hashes, which spreads them evenly over the corpus. A first pass
    over the text finds how far that goes; only hashes and sizes are kept.
    """
    thresholds = dict.fromkeys(SIDES, 1.0)
    if not any(limits.values()):
        return thresholds
    sizes: dict[str, list[tuple[float, int]]] = {side: [] for side in SIDES}
    for _, heldout, text in read():
        sizes[SIDES[heldout]].append((text_fraction(text, SAMPLE), len(text.encode())))
    for side, limit in limits.items():
        if limit is None:
            continue
        taken = 0
        for fraction, size in sorted(sizes[side]):
            taken += size
            if taken > limit:
                thresholds[side] = fraction
                break
    return thresholds
