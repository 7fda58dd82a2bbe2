"""The tables of models on a terminal."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from vocabalign.measures import MEASURES, SIDE_BY_SIDE

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table

SAMPLE_CHARACTERS = 160
Rows = Sequence[Mapping[str, Any]]


def format_table(metrics: Mapping[str, Any]) -> Table:
    """What was measured, for a terminal; ``metrics`` as in metrics.json. Parts without content are left out."""
    from rich.table import Table

    page = Table.grid()
    page.add_column()
    for part in (_models(metrics), *(part for make in PARTS for part in make(metrics))):
        page.add_row(part)
    return page


def _models(metrics: Mapping[str, Any]) -> Table:
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


def _groups(metrics: Mapping[str, Any]) -> Iterator[RenderableType]:
    """Bits per byte of each domain and language; in the last row the median of them."""
    rows: Rows = metrics["models"]
    for kind, key in (("domain", "domains"), ("language", "languages")):
        groups = rows[0].get(key)
        if groups:
            cells = [[name, *(format_score(row[key][name]) for row in rows)] for name in groups]
            cells.append(["median", *(f"{row[f'bits_per_byte_{kind}_median']:.4f}" for row in rows)])
            yield _table([f"bits per byte by {kind}", *(row["name"] for row in rows)], cells)


def _measures(metrics: Mapping[str, Any]) -> Iterator[RenderableType]:
    """One table of every optional measure that was taken."""
    rows: Rows = metrics["models"]
    for title, columns in MEASURES.items():
        measured = [row for row in rows if any(row.get(key) is not None for key, _, _ in columns)]
        kept = [column for column in columns if any(row.get(column[0]) is not None for row in rows)]
        if measured and (title not in SIDE_BY_SIDE or len(rows) > 1):
            cells = [[row["name"], *(_cell(row.get(key), form) for key, _, form in kept)] for row in measured]
            yield _table([title, *(heading for _, heading, _ in kept)], cells)


def _alignment(metrics: Mapping[str, Any]) -> Iterator[RenderableType]:
    found = metrics.get("alignment") or {}
    numbers = [(key, value) for key, value in found.items() if isinstance(value, float)]
    if numbers:
        yield _table(["lexicon", ""], [[key.replace("_", " "), f"{value:.4f}"] for key, value in numbers])


def _samples(metrics: Mapping[str, Any]) -> Iterator[RenderableType]:
    """Side by side under each prompt, where there is more than one; a single one is in the table of models."""
    rows: Rows = [row for row in metrics["models"] if len(row.get("samples") or ()) > 1]
    for number, prompt in enumerate(metrics.get("prompts") or () if rows else ()):
        cells = [[row["name"], shorten(row["samples"][number]["text"], SAMPLE_CHARACTERS)] for row in rows]
        yield _table([shorten(prompt, SAMPLE_CHARACTERS // 2), "goes on"], cells, right=False)


def _notes(metrics: Mapping[str, Any]) -> Iterator[RenderableType]:
    """Why a measure came out as it did, and commands to go on with."""
    from rich.text import Text

    for row in metrics["models"]:
        for key in ("teacher_note", "draft_note"):
            if row.get(key):
                yield Text(f"{row['name']}: {row[key]}")
        for server, command in (row.get("draft_commands") or {}).items():
            yield Text(f"\n# {row['name']} as the draft in {server}\n{command}")


def _table(header: Sequence[str], cells: Sequence[Sequence[str]], right: bool = True) -> Table:
    from rich.table import Table
    from rich.text import Text

    table = Table()
    for number, title in enumerate(header):
        table.add_column(Text(title), justify="right" if right and number else "left", overflow="fold")
    for row in cells:
        table.add_row(*(Text(cell) for cell in row))
    return table


def _cell(value: Any, form: str) -> str:
    return "" if value is None else format(value, form)


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


PARTS = (_groups, _measures, _alignment, _samples, _notes)
"""What follows the table of models, in this order."""
