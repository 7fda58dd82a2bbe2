"""The page and the picture of a comparison of row methods."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vocabalign.comparison_records import comparison_table, sure_differences
from vocabalign.report.blocks import Block, Code, Figure, Paragraph, Section, Table, number, number_table
from vocabalign.report.compare_figure import draw_comparison, save_comparison
from vocabalign.report.figures import can_draw
from vocabalign.report.html import render_html

Result = Mapping[str, Any]


def render_comparison(result: Result) -> str:
    """The whole page, one file that works offline; ``result`` as from ``vocabalign.compare.compare_rows``."""
    names = Path(result["source"]["path"]).name, Path(result["target"]).name
    sections = [
        Section("summary", "Overview", [*map(Paragraph, _sentences(result)), *_figures(result), _scores(result)]),
        Section("rows", "Where rows come from", _classes(result)),
        Section("pairs", "Every two methods", [_pairs(result)]),
    ]
    return render_html(f"{names[0]} with the vocabulary of {names[1]}", sections, "compare")


def write_pictures(result: Result, folder: Path) -> list[Path]:
    """``comparison.svg`` and ``comparison.png``; none where matplotlib is not installed."""
    if not can_draw():
        return []
    paths = [folder / "comparison.svg", folder / "comparison.png"]
    for path in paths:
        save_comparison(result, path)
    return paths


def _sentences(result: Result) -> list[str]:
    best, untouched = result["methods"][0], result["source"]["bits_per_byte"]
    text = f"{number(result['documents'])} documents, {number(result['bytes'] / 1000)} kB"
    sentences = [
        f"Right after the transplant, without any training, {best['method']} is best: {best['bits_per_byte']:.4f} bits "
        f"per byte on {text}, {best['gap']:+.4f} above the untouched source ({untouched:.4f})."
    ]
    if result["tied"]:
        sentences.append("Embedding and head are one matrix, as in the source.")
    sure = sure_differences(result, finetuned=False)
    if len(sure) < len(result["methods"]) - 1:
        close = [row["method"] for row in result["methods"][1:] if row["method"] not in sure]
        sentences.append(f"On this text no difference to the best can be told for {', '.join(close)}.")
    if result["finetune_steps"]:
        later = min(result["methods"], key=lambda row: row["finetuned"]["bits_per_byte"])
        sentences.append(
            f"After {number(result['finetune_steps'])} steps of the same training {later['method']} is best, with "
            f"{later['finetuned']['bits_per_byte']:.4f}; the source, trained alike, has "
            f"{result['source']['finetuned']['bits_per_byte']:.4f}."
        )
    return sentences


def _figures(result: Result) -> list[Block]:
    if not can_draw():
        return [Code("pip install matplotlib", "The picture needs matplotlib")]
    caption = (
        "Bits per byte with 95 % intervals over documents; the rule is the untouched source. Differences are surer "
        "than the intervals suggest, since all methods read the same documents."
    )
    return [Figure(draw_comparison(result, "methods"), caption)]


def _scores(result: Result) -> Table:
    header, rows = comparison_table(result)
    return number_table("Best first; intervals over documents, differences paired by document.", header, rows)


def _classes(result: Result) -> list[Block]:
    names = list(dict.fromkeys(name for row in result["methods"] for name, count in row["classes"].items() if count))
    header = ["method", "input rows", "head rows", "head calibrated", *names]
    rows = []
    for row in result["methods"]:
        told = [row["input_rows"], row["head_rows"], "yes" if row["head_calibrated"] else "no"]
        rows.append([row["method"], *told, *(number(row["classes"][name]) for name in names)])
    numeric = frozenset(range(4, 4 + len(names)))
    return [Table("How many tokens got their rows in which way.", header, rows, numeric)]


def _pairs(result: Result) -> Table:
    header = ["method", "against", "when", "difference", "95 % interval", "documents better", "documents worse"]
    rows = []
    for pair in result["pairs"]:
        low, high = pair["difference_low"], pair["difference_high"]
        bounds = "" if low is None else f"{low:+.4f} to {high:+.4f}"
        when = "after training" if pair["finetuned"] else "at once"
        counts = [number(pair["documents_better"]), number(pair["documents_worse"])]
        rows.append([pair["method"], pair["against"], when, f"{pair['difference']:+.4f}", bounds, *counts])
    caption = "Bits per byte of the first minus the second, paired by document; below 0 the first is better."
    return Table(caption, header, rows, frozenset(range(3, 7)), title=f"{len(rows)} pairs")
