"""The table of models on a terminal."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.table import Table

SAMPLE_CHARACTERS = 160


def format_table(metrics: Mapping[str, Any]) -> Table:
    """A rich table of the models, for a terminal; ``metrics`` as in metrics.json."""
    from rich.table import Table
    from rich.text import Text

    table = Table()
    table.add_column("model", no_wrap=True)
    table.add_column("bits per byte", justify="right", no_wrap=True)
    table.add_column("tokens/kB", justify="right", no_wrap=True)
    table.add_column("sample", overflow="fold")
    for row in metrics["models"]:
        # Text, not a string: a sample may hold what rich would read as markup.
        sample = Text(shorten(row.get("sample") or "", SAMPLE_CHARACTERS))
        table.add_row(Text(row["name"]), format_score(row), f"{row['tokens_per_kilobyte']:.1f}", sample)
    return table


def format_score(row: Mapping[str, Any]) -> str:
    """``1.0059 ± 0.0123``: half the interval's width; the value alone where there is no interval."""
    low, high = row.get("bits_per_byte_low"), row.get("bits_per_byte_high")
    half = "" if low is None or high is None else f" ± {(high - low) / 2:.4f}"
    return f"{row['bits_per_byte']:.4f}{half}"


def shorten(text: str, length: int) -> str:
    r"""At most ``length`` characters on one line, with control characters as escapes (``\n``, ``\x1b``)."""
    # Format characters (Cf) turn the direction of a line around; they are shown, not obeyed.
    shown = "".join(
        c.encode("unicode_escape").decode() if unicodedata.category(c) in ("Cc", "Cf", "Cs", "Zl", "Zp") else c
        for c in text
    )
    return shown if len(shown) <= length else shown[: length - 1] + "\N{HORIZONTAL ELLIPSIS}"
