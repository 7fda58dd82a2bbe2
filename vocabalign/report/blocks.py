"""What a page is made of; rendered alike as HTML and as Markdown."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from vocabalign.report.token_table import TokenTable


@dataclass(frozen=True)
class Table:
    """Cells are plain text; ``numeric`` are the columns that stand right and ``tokens`` those from outside.

    A table with a ``title`` is folded away under it.
    """

    caption: str
    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    numeric: frozenset[int] = frozenset()
    tokens: frozenset[int] = frozenset()
    title: str = ""


@dataclass(frozen=True)
class Figure:
    """An SVG element, and what it shows in words."""

    svg: str
    caption: str


@dataclass(frozen=True)
class Bars:
    """Bars that lie, one for each series in each row, drawn without any library; all text is plain.

    Attributes:
        caption: what they show.
        label: heading of the rows' names.
        series: names of the bars of a row.
        rows: name, and for each series (length in [0, 1] of the full width, what to write beside it).
    """

    caption: str
    label: str
    series: Sequence[str]
    rows: Sequence[tuple[str, Sequence[tuple[float, str]]]]


@dataclass(frozen=True)
class Shares:
    """Bars that are cut into the shares of each series; all text is plain.

    Attributes:
        caption: what they show.
        label: heading of the rows' names.
        series: names of the parts.
        rows: name, and a count for each series.
    """

    caption: str
    label: str
    series: Sequence[str]
    rows: Sequence[tuple[str, Sequence[int]]]


@dataclass(frozen=True)
class Paragraph:
    """A sentence or two."""

    text: str


@dataclass(frozen=True)
class Code:
    """Text to copy; folded away under ``title`` where it has one."""

    text: str
    title: str = ""


@dataclass(frozen=True)
class Samples:
    """What each model wrote after the prompt."""

    prompt: str
    texts: Sequence[tuple[str, str]]


Block = Table | Figure | Bars | Shares | Paragraph | Code | Samples | TokenTable


@dataclass
class Section:
    """A heading with what stands under it."""

    identity: str
    title: str
    blocks: list[Block] = field(default_factory=list)


def number(value: float | None, digits: int = 0) -> str:
    """``1,234.5``; "" for None."""
    return "" if value is None else f"{value:,.{digits}f}"


def number_table(caption: str, header: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
    """A table of numbers, with names from outside in its first column."""
    return Table(caption, header, rows, frozenset(range(1, len(header))), frozenset({0}))
