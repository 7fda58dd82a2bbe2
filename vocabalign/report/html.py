"""The page as one self-contained HTML file: style, script and figures inside, nothing fetched."""

from __future__ import annotations

import importlib.resources
import json
from collections.abc import Sequence

from vocabalign.report.blocks import Bars, Block, Code, Figure, Paragraph, Samples, Section, Table
from vocabalign.report.collect import LexiconTable
from vocabalign.report.escape import bidi_isolated, escape_html, json_for_script, shorten, visible, visible_lines

SHOWN_ROWS = 30
"""Rows of a lexicon that stand on the page; the search looks through all that are embedded."""
SEARCHABLE_CHARACTERS = 20_000_000
CELL_CHARACTERS = 160
POLICY = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data:"


def render_html(title: str, sections: Sequence[Section], kind: str = "report") -> str:
    """The whole page; all text that is not ours is escaped here."""
    links = "".join(f'<li><a href="#{escape_html(s.identity)}">{escape_html(s.title)}</a></li>' for s in sections)
    body = "\n".join(_section(section) for section in sections)
    heading = escape_html(visible(title))
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta http-equiv="Content-Security-Policy" content="{POLICY}">
<title>{heading}</title>
<style>
{_packaged("report.css")}</style>
</head>
<body>
<a class="skip" href="#content">Skip to the content</a>
<header>
<p class="kind">vocabalign {escape_html(kind)}</p>
<h1>{heading}</h1>
<nav aria-label="Sections"><ul>{links}</ul></nav>
</header>
<main id="content">
{body}
</main>
<script>
{_packaged("report.js")}</script>
</body>
</html>
"""


def _packaged(name: str) -> str:
    return importlib.resources.files("vocabalign.report").joinpath(name).read_text(encoding="utf-8")


def _section(section: Section) -> str:
    identity = escape_html(section.identity)
    blocks = "\n".join(_block(block, f"{identity}-{i}") for i, block in enumerate(section.blocks))
    title = escape_html(visible(section.title))
    heading = f'<h2 id="{identity}-h">{title}</h2>'
    return f'<section id="{identity}" aria-labelledby="{identity}-h">\n{heading}\n{blocks}\n</section>'


def _block(block: Block, identity: str) -> str:
    if isinstance(block, Table):
        return _table(block)
    if isinstance(block, Figure):
        return (
            f'<figure><div class="drawing" tabindex="0" role="group" aria-label="Figure">{block.svg}</div>'
            f"<figcaption>{escape_html(visible(block.caption))}</figcaption></figure>"
        )
    if isinstance(block, Bars):
        return _bars(block)
    if isinstance(block, Paragraph):
        return f"<p>{escape_html(visible(block.text))}</p>"
    if isinstance(block, Code):
        text = escape_html(visible_lines(block.text.rstrip("\n")))
        code = f'<pre tabindex="0"><code>{text}</code></pre>'
        summary = f"<summary>{escape_html(visible(block.title))}</summary>"
        return f"<details>{summary}{code}</details>" if block.title else code
    if isinstance(block, Samples):
        return _samples(block)
    return _lexicon(block, identity)


def _table(table: Table, attributes: str = "") -> str:
    head = "".join(f'<th scope="col"{_class(i, table)}>{escape_html(cell)}</th>' for i, cell in enumerate(table.header))
    rows = "\n".join(f"<tr>{_cells(row, table)}</tr>" for row in table.rows)
    caption = f"<caption>{escape_html(visible(table.caption))}</caption>"
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="{escape_html(visible(table.caption))}">'
        f"<table{attributes}>{caption}<thead><tr>{head}</tr></thead><tbody>\n{rows}\n</tbody></table></div>"
    )


def _cells(row: Sequence[str], table: Table) -> str:
    cells = []
    for i, cell in enumerate(row):
        text = shorten(cell, CELL_CHARACTERS)
        shown = bidi_isolated(text) if i in table.tokens else escape_html(visible(text))
        kind = _class(i, table)
        cells.append(f'<th scope="row"{kind}>{shown}</th>' if i == 0 else f"<td{kind}>{shown}</td>")
    return "".join(cells)


def _class(column: int, table: Table) -> str:
    return ' class="number"' if column in table.numeric else ""


def _bars(bars: Bars) -> str:
    """A table whose cells hold the bars and the numbers; read aloud it is the numbers, each with its series."""
    legend = "".join(
        f'<li><span class="swatch series-{i}" aria-hidden="true"></span>{bidi_isolated(name)}</li>'
        for i, name in enumerate(bars.series)
    )
    rows = []
    for name, values in bars.rows:
        cells = "".join(
            f'<div class="bar"><span class="length series-{i}" style="--length:{length:.4f}" aria-hidden="true"></span>'
            f'<span><span class="read">{escape_html(visible(series))}: </span>{escape_html(visible(text))}</span></div>'
            for i, (series, (length, text)) in enumerate(zip(bars.series, values, strict=True))
        )
        rows.append(f'<tr><th scope="row">{bidi_isolated(shorten(name, CELL_CHARACTERS))}</th><td>{cells}</td></tr>')
    heads = f'<th scope="col">{escape_html(bars.label)}</th><th scope="col"><span class="read">Values</span></th>'
    caption = f"<caption>{escape_html(visible(bars.caption))}</caption>"
    return (
        f'<div class="bars"><ul class="legend" aria-label="Legend">{legend}</ul><table>{caption}'
        f"<thead><tr>{heads}</tr></thead><tbody>\n{chr(10).join(rows)}\n</tbody></table></div>"
    )


def _samples(samples: Samples) -> str:
    """Prompt and continuation of each model; line ends are kept, code reads badly without them."""
    prompt = escape_html(visible_lines(samples.prompt))
    cards = []
    for name, text in samples.texts:
        shown = escape_html(visible_lines(text))
        cards.append(
            f'<article class="sample"><h3>{bidi_isolated(name)}</h3>'
            f'<p dir="auto"><span class="prompt">{prompt}</span>{shown}</p></article>'
        )
    return f'<p>All models went on from the same prompt (grey).</p><div class="samples">{"".join(cards)}</div>'


def _lexicon(lexicon: LexiconTable, identity: str) -> str:
    """A table with a sample of the rows, and all rows as data for the search."""
    step = max(1, len(lexicon.rows) // SHOWN_ROWS)
    shown = lexicon.rows[::step][:SHOWN_ROWS]
    numeric = frozenset(i for i in range(len(lexicon.header)) if all(_is_number(row, i) for row in shown))
    tokens = frozenset(range(len(lexicon.header))) - numeric
    caption = f"{lexicon.name}: {len(shown):,} of {len(lexicon.rows):,} rows, evenly spread."
    rows = [[shorten(visible(cell), CELL_CHARACTERS) for cell in row] for row in lexicon.rows]
    data = json.dumps(rows, ensure_ascii=False, separators=(",", ":"))
    if len(data) > SEARCHABLE_CHARACTERS:
        keep = rows[:: -(-len(data) // SEARCHABLE_CHARACTERS)]
        data = json.dumps(keep, ensure_ascii=False, separators=(",", ":"))
        caption += f" The search covers {len(keep):,} rows: the page would be too large with all."
    table = _table(Table(caption, lexicon.header, shown, numeric, tokens), f' id="{identity}-table"')
    return (
        f'<div class="search" hidden data-lexicon="{identity}"><label for="{identity}-q">Search tokens</label> '
        f'<input id="{identity}-q" type="search" autocomplete="off" spellcheck="false" '
        f'aria-controls="{identity}-table">'
        f'<output for="{identity}-q" aria-live="polite"></output></div>\n{table}\n'
        f'<script type="application/json" id="{identity}-data">{json_for_script(data)}</script>'
    )


def _is_number(row: Sequence[str], column: int) -> bool:
    try:
        float(row[column])
    except (ValueError, IndexError):
        return False
    return True
