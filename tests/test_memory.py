"""Peak memory of a block; in a process of its own, since the mark is one per process."""

import subprocess
import sys

CODE = """
import numpy as np
from vocabalign.memory import PeakMemory, keep_freed_memory
{before}
with PeakMemory() as first:
    block = np.ones({first} // 8)
    del block
with PeakMemory() as second:
    block = np.ones({second} // 8)
    del block
print(first.peak_bytes, second.peak_bytes)
"""


def peaks(first: int, second: int, before: str = "") -> tuple[int, int]:
    code = CODE.format(first=first, second=second, before=before)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return tuple(map(int, done.stdout.split()))


def test_the_peak_counts_what_was_freed_again():
    small, large = peaks(8, 60_000_000)
    assert 50_000_000 < large - small < 80_000_000


def test_a_new_block_forgets_the_old_peak():
    large, small = peaks(200_000_000, 8)
    assert large - small > 150_000_000


def test_freed_memory_is_kept_when_asked_for():
    large, small = peaks(200_000_000, 8, before="keep_freed_memory()")
    assert large - small < 50_000_000 or not sys.platform.startswith("linux")
