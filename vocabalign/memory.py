"""Peak resident memory of a part of the program."""

from __future__ import annotations

import resource
import sys
import threading
from pathlib import Path

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
        else:
            unit = 1 if sys.platform == "darwin" else 1024
            self.peak_bytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit

    def _sample(self) -> None:
        while True:
            self.peak_bytes = max(self.peak_bytes, _read_status("VmRSS"))
            if self._done.wait(0.25):
                return


def _read_status(key: str) -> int:
    for line in _STATUS.read_text().splitlines():
        if line.startswith(key + ":"):
            return int(line.split()[1]) * 1024
    return 0
