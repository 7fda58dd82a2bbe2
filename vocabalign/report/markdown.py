"""The page as Markdown: the same tables and numbers, without figures and search."""

from __future__ import annotations

from collections.abc import Sequence

from vocabalign.report.blocks import Bars, Block, Code, Figure, Paragraph, Samples, Section, Table
from vocabalign.report.collect import LexiconTable
from vocabalign.report.escape import escape_markdown, shorten, visible_lines

SHOWN_ROWS = 20
CELL_CHARACTERS = 80


def render_markdown(title: str, sections: Sequence[Section]) -> str:
    """The whole file; tables in the GitHub form."""
    parts = [f"# {escape_markdown(title)}"]
    for section in sections:
        parts.append(f"## {escape_markdown(section.title)}")
        parts.extend(text for text in map(_block, section.blocks) if text)
    return "\n\n".join(parts) + "\n"


def _block(block: Block) -> str:
    if isinstance(block, Table):
        return _table(block)
    if isinstance(block, Figure):
        return ""
    if isinstance(block, Bars):
        return _bars(block)
    if isinstance(block, Paragraph):
        return escape_markdown(block.text)
    if isinstance(block, Code):
        code = "\n".join(f"    {line}" for line in visible_lines(block.text.rstrip("\n")).split("\n"))
        return f"{escape_markdown(block.title)}:\n\n{code}" if block.title else code
    if isinstance(block, Samples):
        items = [f"- **{escape_markdown(name)}**: {escape_markdown(text)}" for name, text in block.texts]
        return f"Prompt: {escape_markdown(block.prompt)}\n\n" + "\n".join(items)
    return _lexicon(block)


def _table(table: Table) -> str:
    rule = ["---:" if i in table.numeric else "---" for i in range(len(table.header))]
    lines = [table.header, *table.rows]
    cells = [[escape_markdown(shorten(cell, CELL_CHARACTERS)) for cell in line] for line in lines]
    cells.insert(1, rule)
    return escape_markdown(table.caption) + "\n\n" + "\n".join(f"| {' | '.join(line)} |" for line in cells)


def _bars(bars: Bars) -> str:
    rows = [(name, *(text for _, text in values)) for name, values in bars.rows]
    return _table(Table(bars.caption, (bars.label, *bars.series), rows, frozenset(range(1, len(bars.series) + 1))))


def _lexicon(lexicon: LexiconTable) -> str:
    step = max(1, len(lexicon.rows) // SHOWN_ROWS)
    rows = lexicon.rows[::step][:SHOWN_ROWS]
    caption = f"{lexicon.name}: {len(rows):,} of {len(lexicon.rows):,} rows, evenly spread."
    return _table(Table(caption, lexicon.header, [_fitted(row, len(lexicon.header)) for row in rows]))


def _fitted(row: Sequence[str], width: int) -> list[str]:
    return [*row[:width], *[""] * (width - len(row))]
