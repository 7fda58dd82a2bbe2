"""An inspection as tables for a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vocabalign.report.blocks import Table
from vocabalign.report.escape import visible
from vocabalign.report.inspect_tables import Result, compression_table, facts_table, script_table, sharing_table

if TYPE_CHECKING:
    from rich.console import JustifyMethod
    from rich.table import Table as RichTable

SCRIPTS = 16


def format_inspection(result: Result) -> list[RichTable]:
    """Rich tables of what matters; the page and the JSON have more."""
    tables = [facts_table(result)]
    if "corpus" in result:
        tables.append(compression_table(result))
    if "shared" in result:
        tables += [sharing_table(result), script_table(result, SCRIPTS)]
    return [_rich(table) for table in tables]


def _rich(table: Table) -> RichTable:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table as RichTable
    from rich.text import Text

    caption = Text(visible(table.caption))
    result = RichTable(box=SIMPLE_HEAD, caption=caption, caption_justify="left", pad_edge=False)
    for i, name in enumerate(table.header):
        justify: JustifyMethod = "right" if i in table.numeric else "left"
        result.add_column(Text(visible(name)), justify=justify, no_wrap=i == 0, overflow="fold")
    for row in table.rows:
        # Text, not strings: tokens may hold what rich would read as markup.
        result.add_row(*(Text(visible(cell)) for cell in row))
    return result
