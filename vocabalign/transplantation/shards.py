"""Safetensors files edited by their own format: some tensors replaced, all other bytes as they were.

The format is eight bytes (length of the header, little endian), a JSON header, then the tensors' bytes.
Going through the library instead would read every tensor into memory and might reorder them.
"""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable, Iterable, Mapping
from io import FileIO
from pathlib import Path
from typing import Any

import torch

from vocabalign.errors import ModelError

DTYPE_NAMES = {torch.float64: "F64", torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16"}
DTYPES = {name: dtype for dtype, name in DTYPE_NAMES.items()}
_BLOCK_BYTES = 1 << 24
_WITHIN_BYTES = 1 << 30
# What systems say that cannot copy between these two files by themselves.
_CANNOT = (errno.EXDEV, errno.ENOSYS, errno.EINVAL, errno.EOPNOTSUPP, errno.EPERM, errno.EBADF)
_METADATA = "__metadata__"

Header = dict[str, dict[str, Any]]


def read_header(path: Path) -> tuple[Header, int]:
    """Header of a safetensors file (with ``__metadata__`` where there is one) and where the data begins.

    Raises:
        ModelError: the file is missing, cut short, or not in the format.
    """
    header, start, _ = _read_header_bytes(path)
    return header, start


def _read_header_bytes(path: Path) -> tuple[Header, int, bytes]:
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if length > path.stat().st_size:
                raise ValueError("the header is longer than the file")
            raw = file.read(length)
        header = json.loads(raw)
        end = max((entry["data_offsets"][1] for name, entry in header.items() if name != _METADATA), default=0)
    except FileNotFoundError:
        raise ModelError(f"{path} is missing: the model folder is not complete.") from None
    except (ValueError, TypeError, AttributeError, KeyError, OSError) as error:
        raise ModelError(f"{path} is not a whole safetensors file: {error}.") from error
    if path.stat().st_size != 8 + length + end:
        raise ModelError(
            f"{path} is not a whole safetensors file: its header promises {8 + length + end:,} bytes "
            f"and it has {path.stat().st_size:,}."
        )
    return header, 8 + length, raw


def tensor_entries(path: Path) -> Header:
    """Name -> ``{"dtype", "shape", "data_offsets"}`` of every tensor in a file.

    Raises:
        ModelError: the file is not a whole safetensors file.
    """
    return {name: entry for name, entry in read_header(path)[0].items() if name != _METADATA}


def rewrite_shard(
    source: Path,
    out: Path,
    tensors: Mapping[str, torch.Tensor],
    rename: Callable[[str], str | None] = lambda name: name,
) -> int:
    """Write ``source`` to ``out`` with some tensors replaced or, under new names, added at the end.

    Untouched tensors are copied block by block, so memory stays at the given tensors. Where no shape
    changes, the header's bytes stay as they are too.

    Args:
        source: the file to start from.
        out: the file to write.
        tensors: name (the new one) -> tensor in its final dtype; anything contiguous.
        rename: old name -> new name; None leaves a tensor out.

    Returns:
        Bytes of tensor data in ``out`` minus those in ``source``.
    """
    header, start, raw = _read_header_bytes(source)
    before = {name: entry for name, entry in header.items() if name != _METADATA}
    renamed = ((rename(name), entry) for name, entry in before.items())
    old = {name: entry for name, entry in renamed if name is not None}
    order = sorted(old, key=lambda name: old[name]["data_offsets"][0])
    order += [name for name in tensors if name not in old]
    new: Header = {_METADATA: header[_METADATA]} if _METADATA in header else {}
    position = 0
    for name in order:
        entry = _entry(tensors[name]) if name in tensors else dict(old[name])
        size = _num_bytes(tensors[name]) if name in tensors else _span(old[name])
        entry["data_offsets"] = [position, position + size]
        position += size
        new[name] = entry
    if new != header:
        raw = json.dumps(new, separators=(",", ":"), ensure_ascii=False).encode()
        raw += b" " * (-len(raw) % 8)  # the format asks for data that is aligned to eight bytes
    with source.open("rb", buffering=0) as reader, out.open("wb", buffering=0) as writer:
        _write(writer, memoryview(len(raw).to_bytes(8, "little") + raw))
        for name in order:
            if name in tensors:
                _write(writer, _as_bytes(tensors[name]))
            else:
                _copy(reader, writer, start + old[name]["data_offsets"][0], _span(old[name]))
    return position - sum(_span(entry) for entry in before.values())


def all_entries(folder: Path, files: Iterable[str]) -> dict[str, tuple[str, dict[str, Any]]]:
    """Tensor name -> (file name, header entry) over several files.

    Raises:
        ModelError: a file is missing or broken.
    """
    return {name: (file, entry) for file in sorted(set(files)) for name, entry in tensor_entries(folder / file).items()}


def _entry(tensor: torch.Tensor) -> dict[str, Any]:
    return {"dtype": DTYPE_NAMES[tensor.dtype], "shape": list(tensor.shape)}


def _num_bytes(tensor: torch.Tensor) -> int:
    return tensor.numel() * tensor.element_size()


def _span(entry: Mapping[str, Any]) -> int:
    return entry["data_offsets"][1] - entry["data_offsets"][0]


def _as_bytes(tensor: torch.Tensor) -> memoryview:
    return memoryview(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)


def copy_file(source: Path, out: Path) -> None:
    """Copy a file's bytes without bringing them here; a file system that can shares them instead."""
    with source.open("rb", buffering=0) as reader, out.open("wb", buffering=0) as writer:
        _copy(reader, writer, 0, source.stat().st_size)


def _write(writer: FileIO, data: memoryview) -> None:
    # The system takes at most 2 GiB at once.
    while data:
        data = data[writer.write(data[:_BLOCK_BYTES]) :]


def _copy(reader: FileIO, writer: FileIO, start: int, count: int) -> None:
    """Append ``count`` bytes of a file from ``start`` on, within the system where it can."""
    within = hasattr(os, "copy_file_range")
    while count:
        if within:
            try:
                done = os.copy_file_range(reader.fileno(), writer.fileno(), min(count, _WITHIN_BYTES), start)
            except OSError as error:
                if error.errno not in _CANNOT:
                    raise
                within = False
                continue
        else:
            reader.seek(start)
            block = reader.read(min(count, _BLOCK_BYTES)) or b""
            done = len(block)
            _write(writer, memoryview(block))
        if not done:
            raise ModelError("A weight file ended while it was read: was it changed meanwhile?")
        start, count = start + done, count - done
