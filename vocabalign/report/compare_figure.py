"""The picture of a comparison of row methods: on the page, as SVG and as PNG."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vocabalign.report import figures
from vocabalign.report.escape import shorten, visible

if TYPE_CHECKING:
    from matplotlib.figure import Figure as MatplotlibFigure

LABEL_CHARACTERS = 28


@dataclass(frozen=True)
class Colours:
    """Of text, of rules, of what was scored at once, and of what was scored after training."""

    ink: str
    rule: str
    at_once: str
    finetuned: str


PRINT = Colours("#1a1a1a", "#cccccc", "#2563a8", "#b4541a")


def draw_comparison(result: Mapping[str, Any], identity: str) -> str:
    """An SVG element for a page, in the page's colours."""
    page = Colours(figures._INK, figures._FAINT, figures._SERIES[0], figures._SERIES[1])
    title = "Bits per byte of each method with 95 % intervals"
    return figures._svg(lambda figure: _draw(figure, result, page), _size(result), identity, title)


def save_comparison(result: Mapping[str, Any], path: Path) -> None:
    """A picture by itself; the ending says which kind (``.svg``, ``.png``)."""
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    settings: Any = {"svg.fonttype": "none", "svg.hashsalt": "comparison", "text.parse_math": False}
    with matplotlib.rc_context(settings):
        figure = Figure(figsize=_size(result), layout="constrained")
        FigureCanvasAgg(figure)
        _draw(figure, result, PRINT)
        # Without the date, so that the same comparison gives the same file.
        metadata: dict[str, Any] = {"Date": None} if path.suffix == ".svg" else {"Software": None}
        figure.savefig(path, dpi=160, facecolor="white", metadata=metadata)


def _size(result: Mapping[str, Any]) -> tuple[float, float]:
    return 7.2, 1.1 + 0.34 * (len(result["methods"]) + 1)


def _draw(figure: MatplotlibFigure, result: Mapping[str, Any], colours: Colours) -> None:
    """A line for each method, the best on top; the untouched source is a rule down the whole height."""
    axes = figure.add_subplot()
    rows = [{"method": "source", **result["source"]}, *result["methods"]]
    moments: list[tuple[str | None, str, str]] = [(None, colours.at_once, "at once")]
    if result["finetune_steps"]:
        moments.append(("finetuned", colours.finetuned, f"after {result['finetune_steps']:,} steps"))
    for number, (moment, colour, label) in enumerate(moments):
        offset = 0.0 if len(moments) == 1 else 0.14 * (1 - 2 * number)
        for position, row in enumerate(reversed(rows)):
            record = row if moment is None else row[moment]
            low, high = record["bits_per_byte_low"], record["bits_per_byte_high"]
            if low is not None and high is not None:
                axes.plot([low, high], [position + offset] * 2, color=colour, linewidth=2, alpha=0.5)
            axes.plot(
                [record["bits_per_byte"]],
                [position + offset],
                "o",
                color=colour,
                markersize=6,
                label="" if position else label,
            )
    axes.axvline(result["source"]["bits_per_byte"], color=colours.rule, linewidth=1, zorder=0)
    labels = [shorten(visible(str(row["method"])), LABEL_CHARACTERS) for row in reversed(rows)]
    axes.set_yticks(range(len(rows)), labels)
    axes.set_ylim(-0.6, len(rows) - 0.4)
    axes.set_xlabel("bits per byte of held-out text (less is better)", fontsize=9, color=colours.ink)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.spines["bottom"].set_color(colours.rule)
    axes.tick_params(length=0, colors=colours.ink, labelsize=9)
    axes.grid(axis="x", color=colours.rule, linewidth=0.6)
    axes.set_axisbelow(True)
    if len(moments) > 1:
        axes.legend(frameon=False, labelcolor=colours.ink, fontsize=9)
