"""What the page says: sections of tables, figures and text, rendered alike as HTML and as Markdown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import yaml

from vocabalign.report import figures
from vocabalign.report.blocks import Block, Code, Figure, Paragraph, Samples, Section, Table, number
from vocabalign.report.collect import PIPELINES, Artefact, Run
from vocabalign.report.escape import slug
from vocabalign.report.rows import rows_section
from vocabalign.report.sentences import summary


def build_sections(run: Run) -> list[Section]:
    """All sections that the run has something for."""
    sections = [
        Section("summary", "What was done", [Paragraph(sentence) for sentence in summary(run)]),
        *(section for name, metrics in run.metrics.items() for section in _models(run, name, metrics)),
        _curves(run),
        rows_section(run),
        Section("lexicon", "Lexicon", list(run.lexicons)),
        _maps(run),
        Section("resources", "Time and memory", [_resources(run.artefacts)]),
        _again(run),
        Section("notes", "Left out", [Paragraph(note) for note in _all_notes(run)]),
    ]
    return [section for section in sections if section.blocks]


def _models(run: Run, name: str, metrics: Mapping[str, Any]) -> list[Section]:
    """Table, figure, differences and samples of one evaluate artefact."""
    rows = metrics["models"]
    suffix = f" ({name})" if len(run.metrics) > 1 else ""
    blocks: list[Block] = [_model_table(rows)]
    if figures.can_draw():
        caption = "Bits per byte on held-out text; the line is the 95 % interval of resampling documents."
        blocks.append(Figure(figures.draw_scores(rows, f"scores-{name}"), caption))
    if metrics.get("comparisons"):
        blocks.append(_comparison_table(metrics["comparisons"]))
    texts = [(str(row["name"]), str(row["sample"])) for row in rows if row.get("sample")]
    sections = [Section(slug(f"models-{name}"), f"Models{suffix}", blocks)]
    if texts:
        samples = Samples(str(metrics.get("prompt", "")), texts)
        sections.append(Section(slug(f"samples-{name}"), f"Samples{suffix}", [samples]))
    return sections


def _model_table(rows: Sequence[Mapping[str, Any]]) -> Table:
    header = ("Model", "Bits per byte", "95 % interval", "Tokens per kB", "Bytes per token", "Parameters", "Vocabulary")
    cells = []
    for row in rows:
        low, high = row.get("bits_per_byte_low"), row.get("bits_per_byte_high")
        cells.append(
            (
                str(row.get("name", "")),
                number(row.get("bits_per_byte"), 4),
                f"{low:.4f} to {high:.4f}" if low is not None and high is not None else "",
                number(row.get("tokens_per_kilobyte"), 1),
                number(row.get("bytes_per_token"), 2),
                number(row.get("parameters")),
                number(row.get("vocabulary_size")),
            )
        )
    caption = "Every model on the same held-out text. Bits per byte: less is better. A kilobyte is 1,000 bytes."
    return Table(caption, header, cells, frozenset(range(1, len(header))), frozenset({0}))


def _comparison_table(comparisons: Sequence[Mapping[str, Any]]) -> Table:
    header = ("Model", "Against", "Difference", "95 % interval", "Documents better", "Documents worse")
    cells = []
    for row in comparisons:
        low, high = row.get("bits_per_byte_difference_low"), row.get("bits_per_byte_difference_high")
        cells.append(
            (
                str(row.get("name", "")),
                str(row.get("against", "")),
                f"{row['bits_per_byte_difference']:+.4f}",
                f"{low:+.4f} to {high:+.4f}" if low is not None and high is not None else "",
                number(row.get("documents_better")),
                number(row.get("documents_worse")),
            )
        )
    caption = "Differences in bits per byte, paired by document. Below zero: better."
    return Table(caption, header, cells, frozenset(range(2, len(header))), frozenset({0, 1}))


def _curves(run: Run) -> Section:
    section = Section("training", "Training")
    if not run.curves:
        return section
    if figures.can_draw():
        caption = (
            "Training against tokens read. The loss is in the units of each run's objective and counts the run's own "
            "tokens: between runs only bits per byte compare. A steep start may lie above the frame; the table has it."
        )
        section.blocks.append(Figure(figures.draw_curves(run.curves, "curves"), caption))
    rows = []
    for curve in run.curves:
        tokens = max(x for x, _ in curve.loss + curve.bits_per_byte)
        scores = [y for _, y in curve.bits_per_byte]
        first, last = (number(scores[0], 4), number(scores[-1], 4)) if scores else ("", "")
        loss = curve.loss[-1][1] if curve.loss else None
        rows.append((curve.name, number(int(tokens)), first, last, number(loss, 4)))
    header = ("Run", "Tokens", "First bits per byte", "Last bits per byte", "Last loss")
    caption = "The ends of the training curves; bits per byte on held-out text, as scored during training."
    section.blocks.append(Table(caption, header, rows, frozenset(range(1, 5)), frozenset({0})))
    return section


def _maps(run: Run) -> Section:
    section = Section("map", "Token-embedding space")
    if not figures.can_draw():
        return section
    for name, points in run.maps.items():
        try:
            svg = figures.draw_map(points["points"], f"map-{name}")
        except (KeyError, IndexError, TypeError, ValueError) as error:
            run.notes.append(f"{name}/map.json has another form than expected: {type(error).__name__} {error}")
            continue
        caption = "Both vocabularies in two dimensions; lines join tokens that the two share."
        section.blocks.append(Figure(svg, caption))
    return section


def _resources(artefacts: Sequence[Artefact]) -> Table:
    rows = []
    total = 0.0
    for artefact in artefacts:
        seconds, peak = artefact.manifest.get("seconds"), artefact.manifest.get("peak_memory_bytes")
        total += seconds or 0.0
        memory = f"{peak / 1e6:,.0f}" if peak else ""
        rows.append((artefact.name, artefact.stage, number(seconds, 1), memory))
    rows.append(("all", "", number(total, 1), ""))
    caption = "Wall-clock seconds and peak resident memory (1 MB is a million bytes) of each stage."
    return Table(caption, ("Artefact", "Stage", "Seconds", "Peak MB"), rows, frozenset({2, 3}), frozenset({0}))


def _again(run: Run) -> Section:
    section = Section("again", "Run it again")
    if run.pipeline_text is not None:
        name = next((name for name in PIPELINES if (run.folder / name).is_file()), PIPELINES[0])
        section.blocks.append(Code(f"vocabalign run {run.folder / name}"))
        section.blocks.append(Code(run.pipeline_text, name))
    for artefact in run.artefacts:
        text = yaml.safe_dump(artefact.config, sort_keys=False, allow_unicode=True)
        section.blocks.append(Code(text, f"{artefact.name}: vocabalign {artefact.stage} --config"))
    versions = run.artefacts[-1].manifest.get("libraries") or {}
    if versions:
        text = ", ".join(f"{name} {version}" for name, version in versions.items())
        section.blocks.append(Paragraph(f"Python {run.artefacts[-1].manifest.get('python', '?')}, {text}."))
    return section


def _all_notes(run: Run) -> list[str]:
    notes = list(run.notes)
    if not run.metrics:
        notes.append("No metrics.json was found: the run has no evaluate stage yet.")
    if not figures.can_draw():
        notes.append("Figures are left out: matplotlib is not installed (pip install 'vocabalign[report]').")
    return notes
