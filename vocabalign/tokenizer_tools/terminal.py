"""The report of a tokenizer stage as plain text for the terminal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_MOST_FILES = 20
_MOST_WORDS = 10
_COUNTS = {
    "removed": "removed",
    "unreachable_removed": "of these never produced by any text",
    "added": "added",
    "learned": "of these learned from text",
    "parts_of_words": "of these parts that words are built from",
    "added_but_not_in_corpus": "of these in the corpus only as parts of longer tokens, or not at all",
    "merges": "merges",
    "words": "words asked for",
    "words_produced": "words that are one token now",
}


def format_report(metrics: Mapping[str, Any]) -> str:
    """Sizes, what changed, and compression in all and by file."""
    before = f"{metrics['size_before']:,} -> " if metrics.get("size_before") else ""
    lines = [f"vocabulary: {before}{metrics['size']:,} tokens ({metrics['kind']})"]
    lines += [f"  {text}: {metrics[key]:,}" for key, text in _COUNTS.items() if metrics.get(key)]
    for word, reason in list(metrics.get("not_produced", {}).items())[:_MOST_WORDS]:
        lines.append(f"  not produced: {word} ({reason})")
    if "kept_share_of_tokens" in metrics:
        lines.append(f"  running tokens that are kept: {metrics['kept_share_of_tokens']:.2%}")
    if metrics.get("characters_lost"):
        lines.append(f"  characters that cannot be written any more: {len(metrics['characters_lost']):,}")
    if metrics.get("compression"):
        lines += ["", *_compression(metrics["compression"])]
    return "\n".join(lines)


def _compression(report: Mapping[str, Any]) -> list[str]:
    sides = [side for side in ("before", "after") if side in report]
    header = ["", "bytes"]
    header += [f"bytes/token {side}" for side in sides] + [f"tokens/kB {side}" for side in sides]
    rows = [header, _row(f"all ({report['on']})", report, sides)]
    files = report["files"] if len(report["files"]) > 1 else []
    rows += [_row(entry["file"], entry, sides) for entry in files[:_MOST_FILES]]
    if len(files) > _MOST_FILES:
        rows.append([f"... {len(files) - _MOST_FILES} more files in manifest.json"] + [""] * (len(header) - 1))
    widths = [max(len(row[column]) for row in rows) for column in range(len(header))]
    return [
        "  ".join(cell.rjust(width) if i else cell.ljust(width) for i, (cell, width) in enumerate(zip(row, widths)))
        for row in rows
    ]


def _row(name: str, entry: Mapping[str, Any], sides: list[str]) -> list[str]:
    values = [f"{entry[side]['bytes_per_token']:.3f}" for side in sides]
    values += [f"{entry[side]['tokens_per_kilobyte']:.1f}" for side in sides]
    return [name, f"{entry['bytes']:,}", *values]
