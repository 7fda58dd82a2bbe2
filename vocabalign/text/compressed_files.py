"""Opening files that may be compressed; a file that ends too early is an error, not a short file."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import zlib
from pathlib import Path
from typing import IO

import zstandard

COMPRESSED_ENDINGS = (".gz", ".bz2", ".xz", ".zst")
READ_ERRORS = (OSError, EOFError, zlib.error, lzma.LZMAError, zstandard.ZstdError)


def open_bytes(path: Path) -> IO[bytes]:
    """A buffered stream of the file's uncompressed bytes; reading raises one of ``READ_ERRORS``."""
    ending = path.suffix.lower()
    if ending == ".gz":
        return gzip.open(path, "rb")  # type: ignore[return-value]
    if ending == ".bz2":
        return bz2.open(path, "rb")  # type: ignore[return-value]
    if ending == ".xz":
        return lzma.open(path, "rb")  # type: ignore[return-value]
    if ending == ".zst":
        return io.BufferedReader(_ZstandardFile(path), 2**16)  # type: ignore[return-value]
    return path.open("rb")


class _ZstandardFile(io.RawIOBase):
    """All frames of a .zst file; the library's own reader ends silently where a file was cut off."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._file = path.open("rb")
        self._frame = zstandard.ZstdDecompressor().decompressobj()
        self._in_frame = False
        self._ready = b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        while not self._ready and self._fill():
            pass
        size = min(len(buffer), len(self._ready))
        buffer[:size], self._ready = self._ready[:size], self._ready[size:]
        return size

    def _fill(self) -> bool:
        """Decompress one more block; False at the end of the file."""
        block = self._file.read(2**16)
        if not block:
            if self._in_frame:
                raise EOFError("the compressed file ends too early")
            return False
        parts = []
        while block:
            parts.append(self._frame.decompress(block))
            self._in_frame = not self._frame.eof
            block = b""
            if self._frame.eof:
                block = self._frame.unused_data
                self._frame = zstandard.ZstdDecompressor().decompressobj()
        self._ready = b"".join(parts)
        return True

    def close(self) -> None:
        self._file.close()
        super().close()
