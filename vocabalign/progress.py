"""Progress of long work: a rich bar on a terminal, plain lines elsewhere, always on standard error."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

logger = logging.getLogger("vocabalign")

Item = TypeVar("Item")
PLAIN_SECONDS = 15.0


class Progress:
    """Counts units of work; ``advance`` says how many more are done and what to show beside them."""

    def __init__(self, description: str, total: float | None) -> None:
        self.description, self.total, self.done = description, total, 0.0
        self._bar = self._task = None
        self._last = self._started = time.monotonic()
        if sys.stderr.isatty() and logger.isEnabledFor(logging.INFO):
            self._bar, self._task = _start_bar(description, total)

    def advance(self, amount: float = 1, note: str = "") -> None:
        """Add ``amount`` units of work."""
        self.done += amount
        if self._bar is not None:
            self._bar.update(self._task, advance=amount, note=note)
        elif time.monotonic() - self._last >= PLAIN_SECONDS:
            self._last = time.monotonic()
            share = f"{self.done / self.total:4.0%}" if self.total else f"{self.done:,.0f}"
            logger.info("%s: %s %s", self.description, share, note)

    def close(self) -> None:
        """Remove the bar."""
        if self._bar is not None:
            self._bar.stop()


@contextmanager
def progress(description: str, total: float | None = None) -> Iterator[Progress]:
    """A ``Progress`` that is closed at the end of the block."""
    counter = Progress(description, total)
    try:
        yield counter
    finally:
        counter.close()


def track(items: Iterable[Item], description: str, total: float | None = None) -> Iterator[Item]:
    """Go through ``items`` and show how far it is."""
    if total is None and hasattr(items, "__len__"):
        total = len(items)  # type: ignore[arg-type]
    with progress(description, total) as counter:
        for item in items:
            yield item
            counter.advance()


def _start_bar(description: str, total: float | None):  # noqa: ANN202 - rich is imported only on a terminal
    from rich.console import Console
    from rich.progress import BarColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
    from rich.progress import Progress as RichProgress

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f}%"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
    )
    bar = RichProgress(*columns, console=Console(stderr=True), transient=True)
    bar.start()
    return bar, bar.add_task(description, total=total, note="")
