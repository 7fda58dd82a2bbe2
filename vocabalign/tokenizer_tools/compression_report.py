"""How well tokenizers compress text, in all and file by file."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, groupby
from pathlib import Path
from typing import Any

import numpy as np

from vocabalign.progress import progress
from vocabalign.text.batches import in_batches
from vocabalign.text.corpus import corpus_bytes, read_documents
from vocabalign.text.vocabulary import Vocabulary

Encoded = tuple[str, list[str], list[list[list[int]]]]


@dataclass
class Compression:
    """Tokens of one text under several vocabularies, V of them.

    Attributes:
        counts: for each vocabulary (size of it,) int64: how often each id is used.
        files: path -> [bytes, tokens of the first vocabulary, tokens of the second, ...].
    """

    counts: list[np.ndarray]
    files: dict[str, list[int]]

    def as_json(self, vocabularies: Sequence[Vocabulary], names: Sequence[str]) -> dict[str, Any]:
        """Totals and one row for each file; sizes in bytes, rates per token and per 1000 bytes."""
        total = np.sum(list(self.files.values()), axis=0)
        result: dict[str, Any] = {"bytes": int(total[0])}
        for number, (name, vocabulary) in enumerate(zip(names, vocabularies, strict=True)):
            counts, unknown = self.counts[number], vocabulary.roles.get("unk")
            result[name] = {
                **_rates(int(total[0]), int(total[number + 1])),
                "unknown_tokens": 0 if unknown is None else int(counts[unknown]),
                "byte_fallback_tokens": int(counts[sorted(vocabulary.byte_ids)].sum()),
                "types_used": int((counts > 0).sum()),
            }
        rows = []
        for path, (size, *tokens) in self.files.items():
            rows.append({"file": path, "bytes": size, **{n: _rates(size, t) for n, t in zip(names, tokens)}})
        return {**result, "files": rows}


def measure(vocabularies: Sequence[Vocabulary], corpus: Sequence[str | Path], max_bytes: int | None) -> Compression:
    """Encode a corpus with each vocabulary.

    Raises:
        CorpusError: it cannot be read or is empty.
    """
    result = Compression([np.zeros(len(v), dtype=np.int64) for v in vocabularies], {})
    for batch in encoded_batches(vocabularies, corpus, max_bytes):
        add_batch(result, batch)
    return result


def add_batch(result: Compression, batch: Encoded) -> None:
    """Count one batch."""
    path, texts, encoded = batch
    row = result.files.setdefault(path, [0] * (1 + len(encoded)))
    row[0] += sum(len(text.encode()) for text in texts)
    for number, ids in enumerate(encoded):
        flat = np.fromiter(chain.from_iterable(ids), np.int64)
        result.counts[number] += np.bincount(flat, minlength=len(result.counts[number]))
        row[number + 1] += len(flat)


def encoded_batches(
    vocabularies: Sequence[Vocabulary], corpus: Sequence[str | Path], max_bytes: int | None
) -> Iterator[Encoded]:
    """(file, texts, for each vocabulary the ids of each text), in the order of the corpus."""
    total = min(corpus_bytes(corpus), max_bytes or 2**62)
    with progress("encoding", total) as counter:
        for path, documents in groupby(read_documents(corpus, max_bytes), key=lambda document: document.path):
            for texts in in_batches(document.text for document in documents):
                yield path, texts, [vocabulary.encode_batch(texts) for vocabulary in vocabularies]
                counter.advance(sum(map(len, texts)))


def _rates(num_bytes: int, tokens: int) -> dict[str, float | int]:
    return {
        "tokens": tokens,
        "bytes_per_token": round(num_bytes / max(tokens, 1), 4),
        "tokens_per_kilobyte": round(1000 * tokens / max(num_bytes, 1), 3),
    }
