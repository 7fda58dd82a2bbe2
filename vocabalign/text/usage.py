"""How often vocabularies use each of their tokens, file by file, in one pass over a corpus."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path, PurePath

import numpy as np

from vocabalign.text.batches import in_batches
from vocabalign.text.compressed_files import COMPRESSED_ENDINGS
from vocabalign.text.compression import count_ids
from vocabalign.text.corpus import LINE_ENDINGS, TEXT_ENDINGS, read_documents
from vocabalign.text.vocabulary import Vocabulary


@dataclass(frozen=True)
class FileUsage:
    """One file of a corpus.

    Attributes:
        path: of the file.
        documents: how many it holds.
        bytes: UTF-8 bytes of them.
        counts: of each vocabulary (V,) int64, how often it uses each id there.
    """

    path: str
    documents: int
    bytes: int
    counts: tuple[np.ndarray, ...]


def count_usage(
    vocabularies: Sequence[Vocabulary], corpus: Sequence[str | Path], max_bytes: int | None = None
) -> Iterator[FileUsage]:
    """Encode a corpus with each vocabulary; a batch of text is the most that is in memory.

    Args:
        vocabularies: N of them.
        corpus: files, folders or globs.
        max_bytes: stop after this much text.

    Raises:
        CorpusError: the corpus cannot be read.
    """
    for path, documents in groupby(read_documents(corpus, max_bytes), key=lambda document: document.path):
        counts = [np.zeros(len(vocabulary), dtype=np.int64) for vocabulary in vocabularies]
        num_documents = num_bytes = 0
        for batch in in_batches(document.text for document in documents):
            num_documents += len(batch)
            num_bytes += sum(len(text.encode()) for text in batch)
            for vocabulary, count in zip(vocabularies, counts, strict=True):
                count += count_ids(vocabulary, vocabulary.encode_batch(batch))
        yield FileUsage(path, num_documents, num_bytes, tuple(counts))


def short_labels(paths: Sequence[str]) -> list[str]:
    """Names of files without their endings, with as many folders before them as tell them apart: ``ntrex/en``."""
    parts = [(*PurePath(path).parts[:-1], _stem(PurePath(path).name)) for path in paths]
    longest = max(map(len, parts), default=0)
    for length in range(1, longest + 1):
        labels = ["/".join(part[-length:]) for part in parts]
        if len(set(labels)) == len(labels):
            return labels
    return list(paths)


def _stem(name: str) -> str:
    for endings in (COMPRESSED_ENDINGS, TEXT_ENDINGS + LINE_ENDINGS):
        ending = next((ending for ending in endings if name.lower().endswith(ending)), "")
        name = name[: len(name) - len(ending)]
    return name
