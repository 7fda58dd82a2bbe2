"""Text as a stream of documents: plain files, JSON lines and parquet, in files, folders and globs; datasets of the hub.

Nothing is read whole: a document is the largest thing in memory.
"""

from __future__ import annotations

import glob
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import IO

from vocabalign.corpus_references import is_hub, split_weight
from vocabalign.errors import ArtifactError, CorpusError
from vocabalign.manifests import read_manifest
from vocabalign.text.compressed_files import COMPRESSED_ENDINGS, READ_ERRORS, open_bytes
from vocabalign.text.corpus_records import Document, decode, read_hub, read_lines, read_parquet

__all__ = ["Document", "corpus_bytes", "corpus_files", "file_documents", "read_documents", "read_texts"]

TEXT_ENDINGS = (".txt",)
LINE_ENDINGS = (".jsonl", ".ndjson", ".jsonlines")
PARQUET_ENDINGS = (".parquet",)
PIECE_BYTES = 2**16
# What `vocabalign corpus` writes.
TRAIN_FILE, HELDOUT_FILE = "train.jsonl", "heldout.jsonl"
# Text usually shrinks to a quarter or a third; for estimates only.
_COMPRESSION_RATIO = 3.5


def read_texts(corpus: Sequence[str | Path], max_bytes: int | None = None) -> Iterator[str]:
    """The texts alone of ``read_documents``."""
    return (document.text for document in read_documents(corpus, max_bytes))


def read_documents(
    corpus: Sequence[str | Path],
    max_bytes: int | None = None,
    *,
    piece_bytes: int = PIECE_BYTES,
    weighted: bool = False,
) -> Iterator[Document]:
    r"""All documents of a corpus in a fixed order; blank ones are skipped, line ends stay as they are.

    A ``.txt`` file is one document, cut at line ends into pieces.

    Args:
        corpus: files, folders (read recursively, in order of names), globs, or datasets of the hub (``hub:NAME``).
        max_bytes: stop after this much text, counted in UTF-8; the last document is cut there.
        piece_bytes: the most in a piece of a ``.txt`` file.
        weighted: entries may be ``PATH=WEIGHT``; elsewhere such a path does not exist.

    Raises:
        CorpusError: something is missing, empty, not UTF-8, not JSON, or of an unknown kind.
    """
    sources = _sources(corpus, weighted)
    left, blanks, found = max_bytes, 0, False
    for source, weight in sources:
        for document in read_hub(source) if isinstance(source, str) else _read_file(source, piece_bytes):
            if weight != 1:
                document = replace(document, weight=weight)
            if not document.text.strip():
                blanks += 1
                continue
            found = True
            if left is not None:
                encoded = document.text.encode()
                if len(encoded) >= left:
                    text = encoded[:left].decode(errors="ignore")
                    if text.strip():
                        yield replace(document, text=text)
                    return
                left -= len(encoded)
            yield document
    if not found:
        names = ", ".join(str(item) for item in corpus)
        what = "only blank text" if blanks else "no documents"
        raise CorpusError(f"The corpus {names} holds {what}: give a file with text in it.")


def file_documents(path: Path, *, piece_bytes: int = PIECE_BYTES) -> Iterator[Document]:
    """The documents of one file that are not blank; possibly none.

    Raises:
        CorpusError: it is not UTF-8, not JSON, or cannot be read.
    """
    return (document for document in _read_file(path, piece_bytes) if document.text.strip())


def corpus_bytes(corpus: Sequence[str | Path]) -> int:
    """About how many bytes of text there are, from the sizes of the files alone.

    Raises:
        CorpusError: something is missing or of an unknown kind.
    """
    sizes = ((path.stat().st_size, path.suffix in COMPRESSED_ENDINGS) for path in corpus_files(corpus))
    return int(sum(size * (_COMPRESSION_RATIO if compressed else 1) for size, compressed in sizes))


def corpus_files(corpus: Sequence[str | Path]) -> list[Path]:
    """The files that a corpus consists of.

    Raises:
        CorpusError: nothing is given, a path is missing, a glob or folder has no text files, an ending is unknown.
    """
    return [path for item in _entries(corpus) for path in _files_of(item)]


def _entries(corpus: Sequence[str | Path]) -> list[str | Path]:
    entries: list[str | Path] = [corpus] if isinstance(corpus, (str, Path)) else list(corpus)
    if not entries:
        raise CorpusError("No corpus is given: expected files, folders or globs of text.")
    return entries


def _sources(corpus: Sequence[str | Path], weighted: bool) -> list[tuple[Path | str, float]]:
    """Files and names of datasets, each with its weight; whatever is missing is told before anything is read."""
    sources: list[tuple[Path | str, float]] = []
    for item in _entries(corpus):
        entry, weight = split_weight(str(item)) if weighted else (item, 1.0)
        found: Sequence[Path | str] = [str(entry)] if is_hub(str(entry)) else _files_of(entry)
        sources += [(source, weight) for source in found]
    return sources


def _files_of(item: str | Path) -> list[Path]:
    if is_hub(str(item)):
        raise CorpusError(f"'{item}' is a dataset of the hub, not a file: save it as files of text for this command.")
    path = Path(item)
    if path.is_dir():
        inside = sorted(path.rglob("*"))
        # Hidden folders hold half-written artefacts.
        files = [p for p in inside if p.is_file() and _kind(p) and not _is_hidden(p.relative_to(path))]
        if not files:
            raise CorpusError(f"The folder {path} holds no text files: expected names ending in {_endings()}.")
        _refuse_both_sides(files)
        return files
    if path.is_file():
        if _kind(path) is None:
            raise CorpusError(f"{path} is not recognised as text: expected a name ending in {_endings()}.")
        return [path]
    if path.exists():
        raise CorpusError(f"{path} is neither a file nor a folder: give a text file, a folder or a glob.")
    if not glob.has_magic(str(item)):
        raise CorpusError(f"{path} does not exist: check the path of the corpus.")
    matches = [Path(match) for match in sorted(glob.glob(str(item), recursive=True))]
    if not matches:
        raise CorpusError(f"The glob '{item}' matches nothing: check the path of the corpus.")
    return [file for match in matches for file in _files_of(match)]


def _refuse_both_sides(files: Sequence[Path]) -> None:
    """Training and held-out text of one split are never read together: scores on the latter would be worth nothing."""
    for path in files:
        if path.name == HELDOUT_FILE and path.with_name(TRAIN_FILE) in files and _is_split(path.parent):
            raise CorpusError(
                f"The folder {path.parent} was made by 'vocabalign corpus' and holds both sides of a split: give "
                f"{path.with_name(TRAIN_FILE)} to learn from, or {path} for scores."
            )


def _is_split(folder: Path) -> bool:
    try:
        return read_manifest(folder).get("stage") == "corpus"
    except ArtifactError:
        return False


def _is_hidden(path: Path) -> bool:
    return any(part.startswith(".") for part in path.parts)


def _endings() -> str:
    plain = ", ".join(TEXT_ENDINGS + LINE_ENDINGS)
    return f"{plain} (also with {', '.join(COMPRESSED_ENDINGS)}) or {', '.join(PARQUET_ENDINGS)}"


def _kind(path: Path) -> str | None:
    """``text``, ``lines``, ``parquet`` or None, by the name's ending below that of the compression."""
    name = path.name.lower()
    if name.endswith(PARQUET_ENDINGS):
        return "parquet"
    for ending in COMPRESSED_ENDINGS:
        name = name.removesuffix(ending)
    if name.endswith(TEXT_ENDINGS):
        return "text"
    return "lines" if name.endswith(LINE_ENDINGS) else None


def is_plain_text(path: Path) -> bool:
    """Whether it is a ``.txt`` file, compressed or not."""
    return _kind(path) == "text"


def _read_file(path: Path, piece_bytes: int) -> Iterator[Document]:
    if _kind(path) == "parquet":
        yield from read_parquet(path)
        return
    try:
        with open_bytes(path) as stream:
            yield from _pieces(path, stream, piece_bytes) if is_plain_text(path) else read_lines(path, stream)
    except READ_ERRORS as error:
        raise CorpusError(f"{path} cannot be read: {' '.join(str(error).split()) or type(error).__name__}.") from error


def _pieces(path: Path, stream: IO[bytes], most: int) -> Iterator[Document]:
    """Pieces of a plain text file; joined they give the file back."""
    offset, index, buffer = 0, 0, b""
    while True:
        block = stream.read(PIECE_BYTES)
        buffer += block
        while buffer and (len(buffer) > most or not block):
            size = _cut(buffer, most) if len(buffer) > most else len(buffer)
            yield Document(decode(buffer[:size], path, offset), str(path), index)
            buffer, offset, index = buffer[size:], offset + size, index + 1
        if not block:
            return


def _cut(buffer: bytes, most: int) -> int:
    """Bytes of the next piece: up to the last line end, else the last space, else the last whole character."""
    for separator in (b"\n", b" "):
        size = buffer.rfind(separator, 0, most) + 1
        if size:
            return size
    size = most
    # Bytes 10xxxxxx continue a character, which has at most four bytes.
    while size > most - 4 and buffer[size] & 0xC0 == 0x80:
        size -= 1
    return size
