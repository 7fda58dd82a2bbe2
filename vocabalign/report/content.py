"""What the page says: sections of tables, figures and text, rendered alike as HTML and as Markdown."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from vocabalign.report import figures
from vocabalign.report.again import again_section
from vocabalign.report.blocks import Block, Figure, Paragraph, Section, Table, number, number_table
from vocabalign.report.collect import Artefact, Run
from vocabalign.report.curves import Curve, joined_curves
from vocabalign.report.models import model_sections
from vocabalign.report.rows import doubt_blocks, fit_blocks, hub_blocks, moved_blocks, row_blocks
from vocabalign.report.sentences import summary


def build_sections(run: Run) -> list[Section]:
    """All sections that the run has something for."""
    measured = [
        section
        for name, metrics in run.metrics.items()
        if metrics["models"]
        for section in model_sections(name, metrics, f" ({name})" if len(run.metrics) > 1 else "")
    ]
    sections = [
        Section("summary", "What was done", [Paragraph(sentence) for sentence in summary(run)]),
        *measured,
        Section("training", "Training", list(_curves(joined_curves(run)))),
        Section("rows", "Where rows came from", [*row_blocks(run), *moved_blocks(run), *fit_blocks(run)]),
        Section("tokens", "Tokens", list(run.tables)),
        Section("doubts", "Least certain tokens", list(doubt_blocks(run))),
        Section("hubs", "Hubs", list(hub_blocks(run))),
        Section("map", "Token-embedding spaces", list(_maps(run))),
        Section("resources", "Time and memory", [_resources(run.artefacts)]),
        again_section(run),
        Section("notes", "Left out", [Paragraph(note) for note in _all_notes(run)]),
    ]
    return [section for section in sections if section.blocks]


def _curves(curves: Sequence[Curve]) -> Iterator[Block]:
    if not curves:
        return
    if figures.can_draw() and any(curve.bits_per_byte or curve.ends for curve in curves):
        caption = (
            "Bits per byte of held-out text against tokens trained, all runs in one plot; less is better. Solid: "
            "scored during training. Rings joined by dashes: the model before and after, as evaluated. A run that went "
            "on from another begins where that one ended. A steep start may lie above the frame; the table has it."
        )
        yield Figure(figures.draw_curves(curves, "curves"), caption)
    if figures.can_draw() and any(curve.loss for curve in curves):
        caption = (
            "Training loss, in the units of each run's objective and by the run's own tokens: between runs only bits "
            "per byte compare."
        )
        yield Figure(figures.draw_losses(curves, "losses"), caption)
    yield number_table(
        "The ends of the curves: bits per byte as scored during training, else as evaluated before and after.",
        ("Run", "Tokens", "Bits per byte before", "Bits per byte after", "Last loss"),
        [_curve_row(curve) for curve in curves],
    )


def _curve_row(curve: Curve) -> tuple[str, ...]:
    before = next((value for tokens, value in curve.bits_per_byte or curve.ends if tokens == 0), None)
    after = next((value for tokens, value in reversed(curve.bits_per_byte or curve.ends) if tokens > 0), None)
    loss = curve.loss[-1][1] if curve.loss else None
    return curve.name, number(int(curve.tokens)), number(before, 4), number(after, 4), number(loss, 4)


def _maps(run: Run) -> Iterator[Block]:
    if not figures.can_draw():
        return
    for name, points in run.maps.items():
        try:
            svg = figures.draw_map(points["points"], f"map-{name}")
        except (KeyError, IndexError, TypeError, ValueError) as error:
            run.notes.append(f"{name}/map.json has another form than expected: {type(error).__name__} {error}")
            continue
        caption = "The commonest tokens of both vocabularies in two dimensions; lines join tokens that the two share."
        yield Figure(svg, caption)


def _resources(artefacts: Sequence[Artefact]) -> Table:
    rows = []
    total, highest = 0.0, 0
    for artefact in artefacts:
        seconds, peak = artefact.manifest.get("seconds"), artefact.manifest.get("peak_memory_bytes")
        total, highest = total + (seconds or 0.0), max(highest, peak or 0)
        rows.append((artefact.name, artefact.stage, number(seconds, 1), f"{peak / 1e6:,.0f}" if peak else ""))
    rows.append(("all", "", number(total, 1), f"{highest / 1e6:,.0f}" if highest else ""))
    caption = "Wall-clock seconds and peak resident memory (1 MB is a million bytes) of each stage."
    return Table(caption, ("Artefact", "Stage", "Seconds", "Peak MB"), rows, frozenset({2, 3}), frozenset({0}))


def _all_notes(run: Run) -> list[str]:
    notes = list(run.notes)
    if not figures.can_draw():
        notes.append("Figures are left out: matplotlib is not installed (pip install 'vocabalign[report]').")
    return notes
