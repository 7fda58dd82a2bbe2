"""Peak memory of a block."""

import numpy as np

from vocabalign.memory import PeakMemory


def test_the_peak_counts_what_was_freed_again():
    with PeakMemory() as small:
        pass
    with PeakMemory() as large:
        block = np.ones(60_000_000 // 8)
        block += 1
        del block
    assert large.peak_bytes - small.peak_bytes > 40_000_000


def test_a_new_block_forgets_the_old_peak():
    with PeakMemory() as large:
        block = np.ones(200_000_000 // 8)
        del block
    with PeakMemory() as small:
        pass
    assert small.peak_bytes < large.peak_bytes
