"""Held-out text with its domains and languages: what each document is called, and how much of each file is read."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from vocabalign.corpus_references import is_hub, split_weight
from vocabalign.text.compressed_files import COMPRESSED_ENDINGS
from vocabalign.text.corpus import Document, corpus_bytes, corpus_files, read_documents

Labels = Mapping[str, Sequence[str | None]]
KINDS = {"domain": "domains", "language": "languages"}
"""What a document may be labelled with, and the key in metrics.json under which its groups stand."""


@dataclass
class HeldoutText:
    """Documents that models are scored on; N documents.

    Attributes:
        texts: what they say; of conversations, the contents joined by blank lines.
        conversations: of each conversation, by its number, the (role, content) pairs.
        labels: "domain" and "language" -> N names, None for documents without one.
    """

    texts: list[str] = field(default_factory=list)
    conversations: dict[int, tuple[tuple[str, str], ...]] = field(default_factory=dict)
    labels: dict[str, list[str | None]] = field(default_factory=lambda: {kind: [] for kind in KINDS})


def read_heldout(corpus: Sequence[str] | Mapping[str, str], max_bytes: int | None = None) -> HeldoutText:
    """All held-out documents, labelled.

    The domain of a document is the name that its text was given, else the field ``domain`` of its line, else
    (where there are several files) the name of its file. Its language is the field ``language`` of its line.

    Args:
        corpus: files, folders or globs; or names with them.
        max_bytes: at most this much text in all, in UTF-8: files that are too long are cut to even shares.

    Raises:
        CorpusError: something is missing, empty or cannot be read.
    """
    named = corpus if isinstance(corpus, Mapping) else {None: list(corpus)}
    files = [(name, path) for name, paths in named.items() for path in corpus_files(paths)]
    # An empty file among others is no reason to stop.
    files = [(name, path) for name, path in files if path.stat().st_size] or files
    by_file = file_names([path for _, path in files]) if len(files) > 1 else {}
    read = _read_shares([path for _, path in files], max_bytes)
    result = HeldoutText()
    for (name, path), documents in zip(files, read, strict=True):
        for document in documents:
            if document.messages is not None:
                result.conversations[len(result.texts)] = document.messages
            result.texts.append(document.text)
            result.labels["domain"].append(name or document.domain or by_file.get(path))
            result.labels["language"].append(document.language)
    return result


def groups_of(labels: Labels) -> Iterator[tuple[str, str, np.ndarray]]:
    """(kind, name, indices of its documents) of every group, where a kind has labels at all."""
    for kind, names in labels.items():
        for name in dict.fromkeys(name for name in names if name is not None):
            yield kind, name, np.array([i for i, other in enumerate(names) if other == name], dtype=np.int64)


def file_names(paths: Sequence[Path]) -> dict[Path, str]:
    """Short names for files: without folder and ending, with folders where two would be equal.

    Example:
        >>> list(file_names([Path("news/de.txt"), Path("course/de.txt"), Path("code.jsonl.gz")]).values())
        ['news/de', 'course/de', 'code']
    """
    stems = {path: _without_ending(path) for path in paths}
    names = {}
    for path, stem in stems.items():
        parts = (*path.absolute().parts[:-1], stem)
        others = [(*other.absolute().parts[:-1], stems[other]) for other in stems if other != path]
        length = next((n for n in range(1, len(parts)) if all(parts[-n:] != other[-n:] for other in others)), 0)
        names[path] = "/".join(parts[-length:]) if length else str(path)
    return names


def domain_names(corpus: Sequence[str]) -> dict[str, str]:
    """File -> the domain of its documents that name none: its name where there are several, else nothing."""
    entries = [split_weight(entry)[0] for entry in corpus]
    files = [path for entry in entries if not is_hub(entry) for path in corpus_files([entry])]
    hub = [entry for entry in entries if is_hub(entry)]
    if len(files) + len(hub) < 2:
        return {}
    return {str(path): name for path, name in file_names(files).items()} | {name: name for name in hub}


def _without_ending(path: Path) -> str:
    name = path.name
    for ending in COMPRESSED_ENDINGS:
        name = name.removesuffix(ending)
    return name.rpartition(".")[0] or name


def _read_shares(paths: Sequence[Path], max_bytes: int | None) -> list[list[Document]]:
    """Documents of each file; the shortest files are read first, so that what they leave goes to the others."""
    read: list[list[Document]] = [[] for _ in paths]
    order = sorted(range(len(paths)), key=lambda i: corpus_bytes([paths[i]]))
    left = max_bytes
    for rank, i in enumerate(order):
        share = None if left is None else left // (len(order) - rank)
        if share == 0:
            continue
        read[i] = list(read_documents([paths[i]], share))
        if left is not None:
            left -= sum(len(document.text.encode()) for document in read[i])
    return read
