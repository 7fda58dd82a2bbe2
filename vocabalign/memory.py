"""Peak resident memory of a part of the program."""

from __future__ import annotations

import ctypes
import sys
import threading
from pathlib import Path

# glibc's mallopt parameters, and how much freed memory it may keep.
_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_THRESHOLD = -1, -2, -3
_KEEP_BYTES = 512 * 2**20

_STATUS = Path("/proc/self/status")
_CLEAR = Path("/proc/self/clear_refs")


class PeakMemory:
    """Context manager; afterwards ``peak_bytes`` is the highest resident size inside the block.

    Linux keeps a high-water mark that can be reset; where that is not allowed the resident size is
    sampled four times a second, and elsewhere the process's own maximum is taken. Blocks may not be
    nested: the mark is one per process.
    """

    def __init__(self) -> None:
        self.peak_bytes = 0
        self._done = threading.Event()
        self._sampler: threading.Thread | None = None

    def __enter__(self) -> PeakMemory:
        try:
            _CLEAR.write_text("5")
        except OSError:
            if _STATUS.exists():
                self._sampler = threading.Thread(target=self._sample, daemon=True)
                self._sampler.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        if self._sampler is not None:
            self._sampler.join()
        elif _STATUS.exists():
            self.peak_bytes = _read_status("VmHWM")
        elif sys.platform != "win32":
            import resource

            unit = 1 if sys.platform == "darwin" else 1024
            self.peak_bytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit

    def _sample(self) -> None:
        while True:
            self.peak_bytes = max(self.peak_bytes, _read_status("VmRSS"))
            if self._done.wait(0.25):
                return


def keep_freed_memory() -> None:
    """Let the C library keep freed blocks instead of giving them back to the system at once.

    Training frees and takes the same large blocks at every step; glibc maps each anew, and the kernel
    fills it with zeros page by page: a quarter to a third of a small model's step on a CPU. Does
    nothing where the C library is another one.
    """
    if not sys.platform.startswith("linux"):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, _KEEP_BYTES)
        mallopt(_M_TRIM_THRESHOLD, _KEEP_BYTES)
        mallopt(_M_TOP_PAD, 64 * 2**20)


def _read_status(key: str) -> int:
    for line in _STATUS.read_text().splitlines():
        if line.startswith(key + ":"):
            return int(line.split()[1]) * 1024
    return 0
