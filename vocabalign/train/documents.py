"""Tokenised documents in memory-mapped files: written once, as large as the disk allows."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import IO

import numpy as np

from vocabalign.errors import CorpusError
from vocabalign.progress import progress
from vocabalign.text.batches import in_batches
from vocabalign.text.vocabulary import Vocabulary
from vocabalign.train.texts import TrainingText, encode_scored


@dataclass(frozen=True)
class Documents:
    """Tokenised documents.

    Attributes:
        ids: (num_tokens,) unsigned integers, memory-mapped; all documents one after another.
        starts: (num_documents + 1,) int64, where each begins, and the end.
        num_bytes: UTF-8 bytes of the text.
        begin: the id that each document begins with, or None.
        end: the id that each document ends with, or None.
        weights: (num_documents,) float32, how often each is read in an epoch; None where all are read once.
        unscored: (num_ranges, 2) int64, increasing ranges of tokens that are read but never predicted (what others
            than the assistant say in a conversation); None where there are none.
        files: what the documents came from.
        origins: (num_documents, 2) int64, each one's number in ``files`` and its number there; None if unknown.
    """

    ids: np.ndarray
    starts: np.ndarray
    num_bytes: int
    begin: int | None
    end: int | None
    weights: np.ndarray | None = None
    unscored: np.ndarray | None = None
    files: tuple[str, ...] = ()
    origins: np.ndarray | None = None

    @property
    def marks_end(self) -> bool:
        """Whether the begin of a document also ends the one before it."""
        return self.begin is not None and self.end is None

    def __len__(self) -> int:
        return len(self.starts) - 1

    def name_of(self, document: int) -> str:
        """Where a document came from, for people."""
        if self.origins is None:
            return f"document {document + 1}"
        file, index = self.origins[document].tolist()
        return f"{self.files[file]}:{index + 1}"


def boundary_ids(vocabulary: Vocabulary) -> tuple[int | None, int | None]:
    """(what a document begins with, what it ends with); the second is None where it is the same token."""
    eos = vocabulary.roles.get("eos")
    begin = vocabulary.roles.get("bos", eos)
    return begin, (eos if eos != begin else None)


def tokenize(texts: Iterable[str | TrainingText], vocabulary: Vocabulary, folder: Path, name: str) -> Documents:
    """Tokenise once into ``folder``; a whole earlier result there is taken as it is.

    The caller keeps ``folder`` for one corpus and one tokenizer. Memory is that of some megabytes of
    text (or of the longest document) and a few numbers a document, whatever the size of the corpus.

    Raises:
        CorpusError: no text.
    """
    description = folder / f"{name}.json"
    if not description.exists():
        _Writer(vocabulary, folder, name).write(texts)
    about = json.loads(description.read_text())
    return Documents(
        np.memmap(folder / f"{name}.ids", dtype=about["dtype"], mode="r"),
        np.load(folder / f"{name}.starts.npy", mmap_mode="r"),
        about["num_bytes"],
        *boundary_ids(vocabulary),
        weights=np.fromfile(folder / f"{name}.weights", np.float32) if about["weighted"] else None,
        unscored=np.fromfile(folder / f"{name}.unscored", np.int64).reshape(-1, 2) if about["conversations"] else None,
        files=tuple(about["files"]),
        origins=np.memmap(folder / f"{name}.origins", np.int64, mode="r").reshape(-1, 2) if about["files"] else None,
    )


class _Writer:
    """Writes what ``Documents`` reads."""

    def __init__(self, vocabulary: Vocabulary, folder: Path, name: str) -> None:
        self.vocabulary, self.folder, self.name = vocabulary, folder, name
        self.dtype = np.uint16 if len(vocabulary) <= 1 << 16 else np.uint32
        self.begin, self.end = boundary_ids(vocabulary)
        self.files: dict[str, int] = {}
        self.num_tokens = self.num_bytes = 0
        self.weighted = self.conversations = False

    def write(self, texts: Iterable[str | TrainingText]) -> None:
        kinds = ("ids", "lengths", "weights", "unscored", "origins")
        streams = {kind: (self.folder / f"{self.name}.{kind}").open("wb") for kind in kinds}
        try:
            with progress("tokenising") as bar:
                for group in _prefetched(in_batches(map(_as_item, texts))):
                    bar.advance(self._write_group(group, streams), f"{self.num_bytes:,} bytes")
        finally:
            for stream in streams.values():
                stream.close()
        if self.num_bytes == 0:
            raise CorpusError("The corpus holds no text to train on: check the files and the field 'text'.")
        lengths = self.folder / f"{self.name}.lengths"
        starts = np.concatenate([[0], np.cumsum(np.fromfile(lengths, np.int64))])
        np.save(self.folder / f"{self.name}.starts.npy", starts)
        lengths.unlink()
        about = {
            "dtype": np.dtype(self.dtype).name,
            "num_bytes": self.num_bytes,
            "num_tokens": self.num_tokens,
            "files": list(self.files),
            "weighted": self.weighted,
            "conversations": self.conversations,
        }
        # Written last: where it exists, the other files are whole.
        new = self.folder / f"{self.name}.json.new"
        new.write_text(json.dumps(about))
        new.replace(self.folder / f"{self.name}.json")

    def _write_group(self, group: Sequence[TrainingText], streams: Mapping[str, IO[bytes]]) -> int:
        """Append some documents; bytes of their text."""
        rows = self._encode(group, streams["unscored"])
        sizes = np.fromiter(map(len, rows), np.int64, len(rows))
        total = int(sizes.sum())
        np.fromiter(chain.from_iterable(rows), self.dtype, total).tofile(streams["ids"])
        sizes.tofile(streams["lengths"])
        np.fromiter((item.weight for item in group), np.float32, len(group)).tofile(streams["weights"])
        self.weighted |= any(item.weight != 1 for item in group)
        if group[0].path is not None:
            numbers = [(self.files.setdefault(str(item.path), len(self.files)), item.index) for item in group]
            np.array(numbers, np.int64).tofile(streams["origins"])
        self.num_tokens += total
        size = sum(len(item.text.encode()) for item in group)
        self.num_bytes += size
        return size

    def _encode(self, group: Sequence[TrainingText], unscored: IO[bytes]) -> list[list[int]]:
        """Ids of each document with its begin and end; ranges that are not to be predicted go to ``unscored``."""
        plain = [item.text for item in group if item.scored is None]
        rows = iter(self.vocabulary.encode_batch(plain) if plain else [])
        spoken = iter(encode_scored(self.vocabulary, [item for item in group if item.scored is not None]))
        result: list[list[int]] = []
        at = self.num_tokens
        for item in group:
            if item.scored is None:
                result.append(self._framed(next(rows)))
            else:
                ids, scored = next(spoken)
                row = self._framed(ids, conversation=True)
                shift = 0 if self.begin is None or ids[:1] == [self.begin] else 1
                after = len(row) - shift - len(ids)
                # The model learns to stop where the assistant has the last word.
                flags = np.array([False] * shift + scored + [item.ends_scored] * after, dtype=bool)
                (at + _ranges(~flags)).astype(np.int64).tofile(unscored)
                self.conversations = True
                result.append(row)
            at += len(result[-1])
        return result

    def _framed(self, ids: list[int], conversation: bool = False) -> list[int]:
        """With begin and end; a chat template may have written them already."""
        before = [] if self.begin is None or (conversation and ids[:1] == [self.begin]) else [self.begin]
        after = [] if self.end is None or (conversation and ids[-1:] == [self.end]) else [self.end]
        return before + ids + after if before or after else ids


def _ranges(flags: np.ndarray) -> np.ndarray:
    """(num_ranges, 2) int64: where runs of true begin and end."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], flags.astype(np.int8), [0]])))
    return edges.reshape(-1, 2)


def _as_item(text: str | TrainingText) -> TrainingText:
    return TrainingText(text) if isinstance(text, str) else text


def _prefetched(groups: Iterator[list[TrainingText]]) -> Iterator[list[TrainingText]]:
    """The next group is read in a thread while the tokenizer's own threads work on this one."""
    with ThreadPoolExecutor(1) as pool:
        coming = pool.submit(next, groups, None)
        while (group := coming.result()) is not None:
            coming = pool.submit(next, groups, None)
            yield group
