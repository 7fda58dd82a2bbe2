"""Text as a stream of documents: plain files and JSON lines, compressed or not, in files, folders and globs.

Nothing is read whole: a document is the largest thing in memory.
"""

from __future__ import annotations

import glob
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any

from vocabalign.errors import CorpusError
from vocabalign.text.compressed_files import COMPRESSED_ENDINGS, READ_ERRORS, open_bytes

TEXT_ENDINGS = (".txt",)
LINE_ENDINGS = (".jsonl", ".ndjson", ".jsonlines")
PIECE_BYTES = 2**16
# Text usually shrinks to a quarter or a third; for estimates only.
_COMPRESSION_RATIO = 3.5


@dataclass(frozen=True, slots=True)
class Document:
    """One document.

    Attributes:
        text: what it says; of a conversation, the contents joined by blank lines.
        path: the file it came from.
        index: its number in that file: of the piece of a .txt file, or of the line of a .jsonl file, from 0.
        messages: the (role, content) pairs of a conversation.
        domain: what the field ``domain`` of its line says.
        language: what the field ``language`` of its line says.
    """

    text: str
    path: str
    index: int
    messages: tuple[tuple[str, str], ...] | None = None
    domain: str | None = None
    language: str | None = None


def read_texts(corpus: Sequence[str | Path], max_bytes: int | None = None) -> Iterator[str]:
    """The texts alone of ``read_documents``."""
    return (document.text for document in read_documents(corpus, max_bytes))


def read_documents(
    corpus: Sequence[str | Path], max_bytes: int | None = None, *, piece_bytes: int = PIECE_BYTES
) -> Iterator[Document]:
    r"""All documents of a corpus in a fixed order; blank ones are skipped, line ends stay as they are.

    A ``.txt`` file is one document, cut at line ends into pieces.

    Args:
        corpus: files, folders (read recursively, in order of names) or globs.
        max_bytes: stop after this much text, counted in UTF-8; the last document is cut there.
        piece_bytes: the most in a piece of a ``.txt`` file.

    Raises:
        CorpusError: something is missing, empty, not UTF-8, not JSON, or of an unknown kind.
    """
    paths = corpus_files(corpus)
    left, blanks, found = max_bytes, 0, False
    for path in paths:
        for document in _read_file(path, piece_bytes):
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
    if isinstance(corpus, (str, Path)):
        corpus = [corpus]
    if not corpus:
        raise CorpusError("No corpus is given: expected files, folders or globs of text.")
    return [path for item in corpus for path in _files_of(item)]


def _files_of(item: str | Path) -> list[Path]:
    path = Path(item)
    if path.is_dir():
        inside = sorted(path.rglob("*"))
        # Hidden folders hold half-written artefacts.
        files = [p for p in inside if p.is_file() and _kind(p) and not _is_hidden(p.relative_to(path))]
        if not files:
            raise CorpusError(f"The folder {path} holds no text files: expected names ending in {_endings()}.")
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


def _is_hidden(path: Path) -> bool:
    return any(part.startswith(".") for part in path.parts)


def _endings() -> str:
    return f"{', '.join(TEXT_ENDINGS + LINE_ENDINGS)} (also with {', '.join(COMPRESSED_ENDINGS)})"


def _kind(path: Path) -> str | None:
    """``text``, ``lines`` or None, by the name's ending below that of the compression."""
    name = path.name.lower()
    for ending in COMPRESSED_ENDINGS:
        name = name.removesuffix(ending)
    if name.endswith(TEXT_ENDINGS):
        return "text"
    return "lines" if name.endswith(LINE_ENDINGS) else None


def is_plain_text(path: Path) -> bool:
    """Whether it is a ``.txt`` file, compressed or not."""
    return _kind(path) == "text"


def _read_file(path: Path, piece_bytes: int) -> Iterator[Document]:
    try:
        with open_bytes(path) as stream:
            yield from _pieces(path, stream, piece_bytes) if is_plain_text(path) else _lines(path, stream)
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
            yield Document(_decode(buffer[:size], path, offset), str(path), index)
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


def _decode(raw: bytes, path: Path, offset: int) -> str:
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as error:
        position = offset + error.start
        raise CorpusError(
            f"{path} is not UTF-8: byte {position} is 0x{raw[error.start]:02X}; convert the file to UTF-8."
        ) from None


def _lines(path: Path, stream: IO[bytes]) -> Iterator[Document]:
    offset = 0
    for index, raw in enumerate(stream):
        line = _decode(raw, path, offset)
        offset += len(raw)
        if index == 0:
            line = line.removeprefix("\ufeff")
        if not line.strip():
            continue
        where = f"{path}, line {index + 1}"
        try:
            record = json.loads(line)
        except (json.JSONDecodeError, RecursionError) as error:
            reason = error.msg if isinstance(error, json.JSONDecodeError) else "nested too deeply"
            raise CorpusError(f"{where} is not JSON ({reason}): expected one object in each line.") from None
        text, messages = _text_of(record, where)
        try:
            text.encode()
        except UnicodeEncodeError:
            raise CorpusError(
                f"{where} holds half a surrogate pair (\\ud800 to \\udfff), which is no character: mend the line."
            ) from None
        yield Document(text, str(path), index, messages, _label(record, "domain"), _label(record, "language"))


def _label(record: Mapping[str, Any], name: str) -> str | None:
    value = record.get(name)
    return value if isinstance(value, str) and value else None


def _text_of(record: Any, where: str) -> tuple[str, tuple[tuple[str, str], ...] | None]:
    if not isinstance(record, dict):
        raise CorpusError(f"{where} is a JSON {type(record).__name__}: expected an object with 'text' or 'messages'.")
    text = record.get("text")
    if isinstance(text, str):
        return text, None
    messages = record.get("messages")
    if isinstance(messages, list) and all(_is_message(message) for message in messages):
        pairs = tuple((str(message.get("role", "user")), message["content"]) for message in messages)
        return "\n\n".join(content for _, content in pairs), pairs
    found = ", ".join(f"'{key}'" for key in list(record)[:8]) or "none"
    if text is not None or messages is not None:
        raise CorpusError(
            f"{where}: 'text' must be a string, 'messages' a list of objects with 'role' and 'content' (keys: {found})."
        )
    raise CorpusError(f"{where} has neither 'text' nor 'messages' (keys: {found}).")


def _is_message(message: Any) -> bool:
    return isinstance(message, dict) and isinstance(message.get("content"), str)
