"""Tables of the measures that are taken where they were asked for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from vocabalign.measures import MEASURES, SIDE_BY_SIDE
from vocabalign.report.blocks import Block, Code, Paragraph, Table, number, number_table

Rows = Sequence[Mapping[str, Any]]
CAPTIONS = {
    "cost": "For the same text, beside the first model. Where tokens are priced, fewer tokens cost less.",
    "samples": "Speed of writing in bytes a second, and what is wrong with what was written.",
    "beside the teacher": "Where both may say the next token: how often the first choice is the teacher's, "
    "and how far its distribution is from it (KL).",
    "as a draft": "Speculative decoding: what the teacher accepts of each model's drafts, and what that does to its "
    "speed on this machine.",
    "tasks": "Scores of tasks; retention is the share of the first model's score, also with chance taken off both.",
}


def measure_tables(metrics: Mapping[str, Any]) -> Iterator[Block]:
    """A table of every optional measure that was taken, and what was noted about it."""
    rows: Rows = metrics["models"]
    for title, columns in MEASURES.items():
        kept = [column for column in columns if any(row.get(column[0]) is not None for row in rows)]
        measured = [row for row in rows if any(row.get(key) is not None for key, _, _ in kept)]
        if not measured or (title in SIDE_BY_SIDE and len(rows) < 2):
            continue
        cells = [(str(row["name"]), *(_cell(row.get(key), form) for key, _, form in kept)) for row in measured]
        heading = title[0].upper() + title[1:]
        yield number_table(
            f"{heading}. {CAPTIONS[title]}", ("Model", *(label[0].upper() + label[1:] for _, label, _ in kept)), cells
        )
    yield from _tasks(rows)
    yield from _alignment(metrics.get("alignment") or {})
    for row in rows:
        for key in ("teacher_note", "draft_note"):
            if row.get(key):
                yield Paragraph(f"{row['name']}: {row[key]}")
        for server, command in (row.get("draft_commands") or {}).items():
            yield Code(str(command), f"{row['name']} as the draft in {server}")


def _alignment(alignment: Mapping[str, Any]) -> Iterator[Block]:
    """What the lexicon makes of the text, in all and by language and domain."""
    scores = [(key.replace("_", " "), f"{value:.4f}") for key, value in alignment.items() if isinstance(value, float)]
    if scores:
        caption = "The lexicon on this text: BLEU-1 of text carried over by it, and how similar texts stay."
        yield Table(caption, ("Alignment", "Score"), scores, frozenset({1}))
    for kind in ("language", "domain"):
        groups = alignment.get(f"{kind}s") or {}
        names = list(dict.fromkeys(name for group in groups.values() for name in group))
        cells = [(group, *(number(values.get(name), 4) for name in names)) for group, values in groups.items()]
        if cells:
            header = (kind.title(), *(name.replace("_", " ") for name in names))
            yield number_table(f"BLEU-1 of the lexicon by {kind}.", header, cells)


def _tasks(rows: Rows) -> Iterator[Block]:
    """Scores task by task, and what the model without knowledge gets there."""
    measured = [row for row in rows if row.get("tasks")]
    tasks = dict.fromkeys(name for row in measured for name in row["tasks"])
    cells = []
    for name in tasks:
        entries = [row["tasks"].get(name, {}) for row in measured]
        metric = next((str(entry["metric"]) for entry in entries if entry.get("metric")), "")
        floor = next((entry["floor"] for entry in entries if entry.get("floor") is not None), None)
        cells.append((name, *(number(entry.get("score"), 4) for entry in entries), number(floor, 4), metric))
    if cells:
        header = ("Task", *(str(row["name"]) for row in measured), "Floor", "Metric")
        yield number_table("Score of each task; the floor is what a model that knows nothing gets.", header, cells)


def _cell(value: Any, form: str) -> str:
    return "" if value is None else format(value, form)
