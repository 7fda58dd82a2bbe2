"""Where rows came from: kinds of evidence as a figure and a table, and the least certain tokens."""

from __future__ import annotations

from collections.abc import Mapping

from vocabalign.report import figures
from vocabalign.report.blocks import Figure, Section, Table, number
from vocabalign.report.collect import Run

KIND_NAMES = {
    "identical": "the same bytes",
    "role": "the same role",
    "relaxed": "same but for space or case",
    "cooccurrence": "counted in running text",
    "lexicon": "the lexicon",
    "segmentation": "the source's own cut",
    "distributional": "nearest embeddings",
    "mean": "nothing known: the mean row",
    "none": "no evidence",
    "padding": "padding",
    "similarity": "a mixture of similar tokens",
    "drawn": "drawn at random or zero",
}
LEAST_CERTAIN = 20


def rows_section(run: Run) -> Section:
    """Counts of each lexicon and transplant, then the tokens to look at first."""
    section = Section("rows", "Where rows came from")
    for name, counts in run.evidence.items():
        named = _named(counts)
        total = sum(named.values())
        if not total:
            continue
        if figures.can_draw():
            caption = f"Tokens of {name} by what their rows rest on."
            drawing = figures.draw_evidence(named, f"evidence-{len(section.blocks)}")
            section.blocks.append(Figure(drawing, caption))
        rows = [(kind, number(count), f"{count / total:.1%}") for kind, count in named.items()]
        caption = f"Evidence in {name}, {number(total)} tokens in all."
        section.blocks.append(Table(caption, ("Evidence", "Tokens", "Share"), rows, frozenset({1, 2}), frozenset({0})))
    for name, tokens in run.least_certain.items():
        cells = [
            (
                str(row.get("id", "")),
                str(row.get("token", "")),
                _name(str(row.get("class", ""))),
                number(row.get("confidence"), 4),
                number(row.get("uses")),
            )
            for row in tokens[:LEAST_CERTAIN]
        ]
        if cells:
            header = ("Id", "Token", "Evidence", "Confidence", "Uses")
            caption = f"The least certain tokens of {name} that text uses, as the tokenizer writes them."
            section.blocks.append(Table(caption, header, cells, frozenset({0, 3, 4}), frozenset({1})))
    return section


def _named(counts: Mapping[str, int]) -> dict[str, int]:
    """Kinds in words, strongest first; kinds without tokens are left out."""
    order = {kind: position for position, kind in enumerate(KIND_NAMES)}
    kinds = sorted(counts, key=lambda kind: order.get(kind, len(order)))
    return {_name(kind): counts[kind] for kind in kinds if counts[kind]}


def _name(kind: str) -> str:
    return KIND_NAMES.get(kind, kind.replace("_", " "))
