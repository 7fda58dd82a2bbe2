"""Threads that share no work: each has blocks of its own."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import torch


@contextlib.contextmanager
def one_thread_each(workers: int) -> Iterator[ThreadPoolExecutor]:
    """Threads in each of which torch uses that thread alone; afterwards all is as before."""
    before = torch.get_num_threads()
    pool = ThreadPoolExecutor(workers, initializer=torch.set_num_threads, initargs=(1,))
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)
        torch.set_num_threads(before)
