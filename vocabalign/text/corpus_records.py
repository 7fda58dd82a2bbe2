"""Records of text: lines of JSON, rows of parquet files and of datasets of the hub, each as a document."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from vocabalign.corpus_references import HubDataset
from vocabalign.errors import CorpusError

FIELDS = ("text", "messages", "domain", "language")
_ROWS = 256  # read at once from a parquet file


@dataclass(frozen=True, slots=True)
class Document:
    """One document.

    Attributes:
        text: what it says; of a conversation, the contents joined by blank lines.
        path: the file it came from.
        index: its number in that file: of the piece of a .txt file, or of the line or row of the others, from 0.
        messages: the (role, content) pairs of a conversation.
        domain: what the field ``domain`` of its line says.
        language: what the field ``language`` of its line says.
        weight: of the corpus entry it belongs to; only training looks at it.
    """

    text: str
    path: str
    index: int
    messages: tuple[tuple[str, str], ...] | None = None
    domain: str | None = None
    language: str | None = None
    weight: float = 1.0


def decode(raw: bytes, path: Path, offset: int) -> str:
    """UTF-8 to text; ``offset`` is where the bytes are in the file, for the message.

    Raises:
        CorpusError: it is not UTF-8.
    """
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as error:
        position = offset + error.start
        raise CorpusError(
            f"{path} is not UTF-8: byte {position} is 0x{raw[error.start]:02X}; convert the file to UTF-8."
        ) from None


def read_lines(path: Path, stream: IO[bytes]) -> Iterator[Document]:
    """Documents of a file with a JSON object in each line.

    Raises:
        CorpusError: a line is not UTF-8, not JSON, or holds no text.
    """
    offset = 0
    for index, raw in enumerate(stream):
        line = decode(raw, path, offset)
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
        yield _document(record, where, str(path), index)


def read_parquet(path: Path) -> Iterator[Document]:
    """Documents of a parquet file, some rows at a time.

    Raises:
        CorpusError: it cannot be read, or a row holds no text.
    """
    import pyarrow
    from pyarrow import parquet

    try:
        with parquet.ParquetFile(path) as file:
            names = file.schema_arrow.names
            # Where nothing is of use, the first row says what there is.
            columns = [name for name in names if name in FIELDS] or None
            batches = file.iter_batches(batch_size=_ROWS, columns=columns)
            yield from _rows((row for batch in batches for row in batch.to_pylist()), str(path))
    except (pyarrow.ArrowException, OSError) as error:
        raise CorpusError(f"{path} cannot be read as parquet: {_one_line(error)}.") from error


def read_hub(entry: str) -> Iterator[Document]:
    """Documents of a dataset of the hub (or of a local folder that ``datasets`` can load), as a stream.

    Raises:
        CorpusError: there is no such dataset, configuration or split, or a row holds no text.
    """
    import datasets

    wanted = HubDataset.parse(entry)
    try:
        rows = datasets.load_dataset(
            wanted.name, wanted.configuration, split=wanted.split, revision=wanted.revision, streaming=True
        )
        yield from _rows(rows, entry)
    except CorpusError:
        raise
    except Exception as error:  # the library raises what its many file systems raise
        raise CorpusError(
            f"The dataset '{entry}' cannot be read: {type(error).__name__}: {_one_line(error)[:300]} (offline, give a "
            "folder with its files instead)."
        ) from error


def _rows(rows: Iterable[Any], name: str) -> Iterator[Document]:
    for index, row in enumerate(rows):
        yield _document(row, f"{name}, row {index + 1}", name, index)


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()).rstrip(".")


def _document(record: Any, where: str, path: str, index: int) -> Document:
    text, messages = _text_of(record, where)
    try:
        text.encode()
    except UnicodeEncodeError:
        raise CorpusError(
            f"{where} holds half a surrogate pair (\\ud800 to \\udfff), which is no character: mend the line."
        ) from None
    return Document(text, path, index, messages, _label(record, "domain"), _label(record, "language"))


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
