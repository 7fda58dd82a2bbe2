"""The page as Markdown: the same tables and numbers, without figures and search."""

from __future__ import annotations

from collections.abc import Sequence

from vocabalign.report.blocks import Bars, Block, Code, Figure, Paragraph, Samples, Section, Shares, Table, number
from vocabalign.report.escape import escape_markdown, shorten, visible_lines
from vocabalign.report.rows import kind_name
from vocabalign.report.token_table import TokenTable

SHOWN_ROWS = 20
CELL_CHARACTERS = 80
TOKEN_COLUMNS = ("Id", "Token", "Evidence", "Confidence", "Sources with weights")


def render_markdown(title: str, sections: Sequence[Section], lead: str = "") -> str:
    """The whole file; tables in the GitHub form."""
    parts = [f"# {escape_markdown(title)}", *([escape_markdown(lead.strip())] if lead.strip() else [])]
    for section in sections:
        texts = [text for text in map(_block, section.blocks) if text]
        parts += [f"## {escape_markdown(section.title)}", *texts] if texts else []
    return "\n\n".join(parts) + "\n"


def _block(block: Block) -> str:
    if isinstance(block, Table):
        return _table(block)
    if isinstance(block, Figure):
        return ""
    if isinstance(block, Shares):
        return _shares(block)
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
    return _tokens(block)


def _table(table: Table) -> str:
    rule = ["---:" if i in table.numeric else "---" for i in range(len(table.header))]
    lines = [table.header, *table.rows]
    cells = [[escape_markdown(shorten(cell, CELL_CHARACTERS)) for cell in line] for line in lines]
    cells.insert(1, rule)
    return escape_markdown(table.caption) + "\n\n" + "\n".join(f"| {' | '.join(line)} |" for line in cells)


def _bars(bars: Bars) -> str:
    rows = [(name, *(text for _, text in values)) for name, values in bars.rows]
    return _table(Table(bars.caption, (bars.label, *bars.series), rows, frozenset(range(1, len(bars.series) + 1))))


def _shares(shares: Shares) -> str:
    rows = [(name, *(number(count) for count in counts)) for name, counts in shares.rows]
    header = (shares.label, *shares.series)
    return _table(Table(shares.caption, header, rows, frozenset(range(1, len(header)))))


def _tokens(table: TokenTable) -> str:
    step = max(1, len(table.ids) // SHOWN_ROWS)
    shown = range(0, len(table.ids), step)[:SHOWN_ROWS]
    caption = f"{table.name}: {len(shown):,} of {len(table.ids):,} tokens, evenly spread."
    rows = [
        (
            str(table.ids[row]),
            table.tokens[row],
            kind_name(table.kinds[row]),
            f"{table.confidence[row]:.3f}",
            ", ".join(f"{source} {weight:.3f}" for source, weight in table.sources(row)),
        )
        for row in shown
    ]
    return _table(Table(caption, TOKEN_COLUMNS, rows, frozenset({0, 3})))
