"""The table of tokens on the page: the first rows as HTML, all of them as data for search, filters and sorting."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from vocabalign.report.escape import bidi_isolated, escape_html, json_for_script, shorten, visible
from vocabalign.report.rows import kind_name
from vocabalign.report.token_table import TokenTable

PAGE_ROWS = 50
TOKEN_CHARACTERS = 80
DATA_CHARACTERS = 22_000_000
"""Of a page under 30 MB this much may be the table; beyond it rows get fewer sources."""
MOST_SOURCES = 10
# Key that the script sorts by, heading, class of the cells.
COLUMNS = (
    ("id", "Id", "number"),
    ("token", "Token", "token"),
    ("kind", "Evidence", "evidence"),
    ("script", "Script", "script"),
    ("confidence", "Confidence", "number"),
    ("weight", "Sources with weights", "sources"),
)


def token_block(table: TokenTable, identity: str) -> str:
    """Controls, table and data; without a script the first rows stand there and the controls are hidden."""
    data, limit = table_data(table)
    caption = f"{table.name}: {len(table.ids):,} tokens, each with its source tokens, heaviest first."
    if limit < MOST_SOURCES:
        caption += f" At most {limit} sources of each are shown, to keep the page small."
    head = "".join(
        f'<th role="columnheader" scope="col" class="{css}" data-key="{key}">{title}</th>'
        for key, title, css in COLUMNS
    )
    rows = "\n".join(token_row(table, row, limit) for row in range(min(PAGE_ROWS, len(table.ids))))
    return (
        f'<div class="tokens" data-tokens="{identity}" data-page="{PAGE_ROWS}">\n{_controls(data, identity)}\n'
        f'<div class="scroll" tabindex="0" role="region" aria-label="{escape_html(visible(caption))}">'
        f'<table role="table" id="{identity}-table"><caption>{escape_html(visible(caption))}</caption>'
        f'<thead role="rowgroup"><tr role="row">{head}</tr></thead>'
        f'<tbody role="rowgroup">\n{rows}\n</tbody></table></div>\n'
        f'<script type="application/json" id="{identity}-data">'
        f"{json_for_script(json.dumps(data, ensure_ascii=False, separators=(',', ':')))}</script></div>"
    )


def _controls(data: dict[str, Any], identity: str) -> str:
    """Search, filters, pages; shown by the script, which they are useless without."""
    selects = "".join(
        f'<label for="{identity}-{part}">{label} <select id="{identity}-{part}"><option value="">all</option>'
        + "".join(f'<option value="{i}">{escape_html(visible(name))}</option>' for i, name in enumerate(data[names]))
        + "</select></label>"
        for part, label, names in (("kind", "Evidence", "kinds"), ("script", "Script", "scripts"))
    )
    pages = "".join(
        f'<button type="button" data-go="{go}">{text}</button>'
        for go, text in (("first", "First"), ("previous", "Previous"), ("next", "Next"), ("last", "Last"))
    )
    return (
        f'<div class="controls" role="search" hidden><label class="wide" for="{identity}-q">Search tokens and sources '
        f'<input id="{identity}-q" type="search" autocomplete="off" autocapitalize="off" spellcheck="false" dir="auto" '
        f'aria-controls="{identity}-table"></label>{selects}</div>'
        f'<div class="pages" hidden><output id="{identity}-count" aria-live="polite"></output>'
        f'<span role="group" aria-label="Pages">{pages}</span></div>'
    )


def token_row(table: TokenTable, row: int, limit: int) -> str:
    """One row of the table as HTML, with at most ``limit`` sources."""
    sources = ", ".join(
        f"<span>{bidi_isolated(shorten(source, TOKEN_CHARACTERS))} {weight:.3f}</span>"
        for source, weight in table.sources(row, limit)
    )
    cells = (
        str(table.ids[row]),
        bidi_isolated(shorten(table.tokens[row], TOKEN_CHARACTERS)),
        escape_html(visible(kind_name(table.kinds[row]))),
        escape_html(table.scripts[row]),
        f"{table.confidence[row]:.3f}",
        sources,
    )
    shown = []
    for (_, _, css), cell in zip(COLUMNS, cells, strict=True):
        element, role = ('th scope="row"', "rowheader") if css == "token" else ("td", "cell")
        shown.append(f'<{element} role="{role}" class="{css}">{cell}</{element.split()[0]}>')
    return f'<tr role="row">{"".join(shown)}</tr>'


def table_data(table: TokenTable) -> tuple[dict[str, Any], int]:
    """The columns as JSON values, and how many sources of a token they hold.

    Confidence and weights are in thousandths. ``counts`` is the number of sources of each token; ``entries`` and
    ``weights`` hold these one after the other, as positions in ``sources``.
    """
    kinds, kind = _coded([kind_name(kind) for kind in table.kinds])
    scripts, script = _coded(table.scripts)
    data: dict[str, Any] = {
        "ids": list(table.ids),
        "tokens": _shown(table.tokens),
        "kinds": kinds,
        "kind": kind,
        "scripts": scripts,
        "script": script,
        "confidence": [round(1000 * value) for value in table.confidence],
        "sources": _shown(table.source_tokens),
    }
    limit = _limit(table, DATA_CHARACTERS - sum(map(_size, data.values())))
    counts: list[int] = []
    entries: list[int] = []
    weights: list[int] = []
    for row in range(len(table.ids)):
        first = table.starts[row]
        end = min(table.starts[row + 1], first + limit)
        counts.append(end - first)
        entries += table.entries[first:end]
        weights += [round(1000 * weight) for weight in table.weights[first:end]]
    return data | {"counts": counts, "entries": entries, "weights": weights}, limit


def _limit(table: TokenTable, room: int) -> int:
    """How many sources of a token fit into so many characters; at least one."""
    each = len(str(len(table.source_tokens))) + len(",") + len("999,")
    for limit in range(MOST_SOURCES, 1, -1):
        entries = sum(min(table.starts[row + 1] - table.starts[row], limit) for row in range(len(table.ids)))
        if each * entries + 2 * len(table.ids) <= room:
            return limit
    return 1


def _size(values: Sequence[Any]) -> int:
    """About how many bytes a list takes as JSON."""
    return sum(len(str(value).encode("utf-8", "replace")) + 3 for value in values)


def _shown(texts: Sequence[str]) -> list[str]:
    return [shorten(visible(text), TOKEN_CHARACTERS) for text in texts]


def _coded(names: Sequence[str]) -> tuple[list[str], list[int]]:
    """The distinct names, and for each its position among them."""
    positions: dict[str, int] = {}
    codes = [positions.setdefault(name, len(positions)) for name in names]
    return list(positions), codes
