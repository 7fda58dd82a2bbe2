"""The page as one self-contained HTML file: style, script and figures inside, nothing fetched."""

from __future__ import annotations

import importlib.resources
from collections.abc import Sequence

from vocabalign.report.blocks import Bars, Block, Code, Figure, Paragraph, Samples, Section, Shares, Table
from vocabalign.report.escape import bidi_isolated, escape_html, shorten, visible, visible_lines
from vocabalign.report.token_block import token_block

CELL_CHARACTERS = 160
POLICY = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data:"


def render_html(title: str, sections: Sequence[Section], kind: str = "report", lead: str = "") -> str:
    """The whole page; all text that is not ours is escaped here."""
    links = "".join(f'<li><a href="#{escape_html(s.identity)}">{escape_html(s.title)}</a></li>' for s in sections)
    body = "\n".join(_section(section) for section in sections)
    heading = escape_html(visible(title))
    subtitle = f'\n<p class="lead">{escape_html(visible(lead.strip()))}</p>' if lead.strip() else ""
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
<h1>{heading}</h1>{subtitle}
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
    if isinstance(block, Shares):
        return _shares(block)
    if isinstance(block, Paragraph):
        return f"<p>{escape_html(visible(block.text))}</p>"
    if isinstance(block, Code):
        text = escape_html(visible_lines(block.text.rstrip("\n")))
        code = f'<pre tabindex="0"><code>{text}</code></pre>'
        summary = f"<summary>{escape_html(visible(block.title))}</summary>"
        return f"<details>{summary}{code}</details>" if block.title else code
    if isinstance(block, Samples):
        return _samples(block)
    return token_block(block, identity)


def _table(table: Table) -> str:
    head = "".join(f'<th scope="col"{_class(i, table)}>{escape_html(cell)}</th>' for i, cell in enumerate(table.header))
    rows = "\n".join(f"<tr>{_cells(row, table)}</tr>" for row in table.rows)
    caption = f"<caption>{escape_html(visible(table.caption))}</caption>"
    text = (
        f'<div class="scroll" tabindex="0" role="region" aria-label="{escape_html(visible(table.caption))}">'
        f"<table>{caption}<thead><tr>{head}</tr></thead><tbody>\n{rows}\n</tbody></table></div>"
    )
    return f"<details><summary>{escape_html(visible(table.title))}</summary>{text}</details>" if table.title else text


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
        f'<div class="bars">{_legend(bars.series)}<table>{caption}'
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


def _shares(shares: Shares) -> str:
    """A table whose cells hold one bar cut into parts; beside it the numbers, each with its series when read aloud."""
    legend = _legend(shares.series)
    rows = []
    for name, counts in shares.rows:
        total = sum(counts) or 1
        parts = "".join(
            f'<span class="series-{i}" style="--share:{count / total:.4f}"></span>'
            for i, count in enumerate(counts)
            if count
        )
        numbers = ", ".join(
            f"{escape_html(visible(series))}: {count:,}" for series, count in zip(shares.series, counts) if count
        )
        rows.append(
            f'<tr><th scope="row">{bidi_isolated(shorten(name, CELL_CHARACTERS))}</th>'
            f'<td><div class="bar"><span class="parts" aria-hidden="true">{parts}</span>'
            f'<span class="read">{numbers}</span><span aria-hidden="true">{sum(counts):,}</span></div></td></tr>'
        )
    heads = f'<th scope="col">{escape_html(shares.label)}</th><th scope="col"><span class="read">Tokens</span></th>'
    caption = f"<caption>{escape_html(visible(shares.caption))}</caption>"
    numbers = _table(
        Table(
            "The same in numbers.",
            (shares.label, *shares.series),
            [(name, *(f"{count:,}" if count else "" for count in counts)) for name, counts in shares.rows],
            frozenset(range(1, len(shares.series) + 1)),
            frozenset({0}),
            "As numbers",
        )
    )
    return (
        f'<div class="bars">{legend}<table>{caption}<thead><tr>{heads}</tr></thead><tbody>\n'
        f"{chr(10).join(rows)}\n</tbody></table></div>\n{numbers}"
    )


def _legend(series: Sequence[str]) -> str:
    items = "".join(
        f'<li><span class="swatch series-{i}" aria-hidden="true"></span>{bidi_isolated(name)}</li>'
        for i, name in enumerate(series)
    )
    return f'<ul class="legend" aria-label="Legend">{items}</ul>'
