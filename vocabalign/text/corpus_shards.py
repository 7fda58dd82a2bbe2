"""A corpus divided among machines: each reads its own part, and all parts together are the whole, once."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from vocabalign.errors import ConfigError
from vocabalign.fingerprints import digest_of
from vocabalign.text.corpus import corpus_files, file_documents


@dataclass(frozen=True, slots=True)
class Shard:
    """One part of a corpus: ``number`` of ``of``, numbered from 1."""

    number: int = 1
    of: int = 1

    @classmethod
    def parse(cls, text: str) -> Shard:
        """``"2/8"`` is the second of eight.

        Raises:
            ConfigError: the text says something else.
        """
        match = re.fullmatch(r"(\d+)/(\d+)", text)
        if match is None or not 1 <= int(match[1]) <= int(match[2]):
            raise ConfigError(f"The shard '{text}' is not of the form i/n with i from 1 to n, such as 2/8.")
        return cls(int(match[1]), int(match[2]))

    def __str__(self) -> str:
        return f"{self.number}/{self.of}"


@dataclass(frozen=True, slots=True)
class Portion:
    """What a shard takes of a file: documents ``first``, ``first + step``, ... counted from 0."""

    path: Path
    first: int
    step: int


def portions(files: Sequence[Path], shard: Shard) -> list[Portion]:
    """What a shard reads, in the order of the files.

    A file larger than a shard's part of the whole is read by every shard, and its documents are dealt out in turn;
    each other file belongs to one shard whole, largest first to the shard that has least. Only the order of the files
    and their sizes decide.
    """
    sizes = [path.stat().st_size for path in files]
    loads = [0] * shard.of
    owners = [-1] * len(files)
    for index in sorted(range(len(files)), key=lambda i: (-sizes[i], i)):
        if sizes[index] * shard.of > sum(sizes):
            continue
        owners[index] = loads.index(min(loads))
        loads[owners[index]] += sizes[index]
    mine = shard.number - 1
    return [
        Portion(path, 0, 1) if owner == mine else Portion(path, mine, shard.of)
        for path, owner in zip(files, owners, strict=True)
        if owner in (mine, -1)
    ]


def read_shard(corpus: Sequence[str | Path], shard: Shard) -> Iterator[str]:
    """The texts of one part; blank documents are skipped.

    Raises:
        CorpusError: something is missing, not UTF-8, not JSON, or of an unknown kind.
    """
    for portion in portions(corpus_files(corpus), shard):
        documents = file_documents(portion.path)
        yield from (document.text for document in islice(documents, portion.first, None, portion.step))


def corpus_digest(corpus: Sequence[str | Path]) -> str:
    """What tells one corpus from another without reading it: names and sizes of its files, in order."""
    return digest_of(f"{path.name}\0{path.stat().st_size}" for path in corpus_files(corpus))[:16]
