"""Draw the pictures of docs/how-it-works.md from the tokenizers that ship with vocabalign.

python scripts/draw_documentation.py [FOLDER]
"""

from __future__ import annotations

import sys
from pathlib import Path

import matplotlib

matplotlib.use("svg")
from matplotlib import pyplot
from matplotlib.axes import Axes
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch, Rectangle

from vocabalign.models import resolve
from vocabalign.text.spans import token_ends
from vocabalign.text.tokenizers import load_vocabulary
from vocabalign.text.vocabulary import Vocabulary

ROOT = Path(__file__).resolve().parents[1]
INK, RULE, SOURCE, TARGET, NEW = "#333333", "#bbbbbb", "#d9e6f5", "#fde7cf", "#dff0d8"
TEXT = "        raise ValueError(unexpected keyword)"


def canvas(width: float, height: float) -> Axes:
    """Axes without ticks, one unit an inch."""
    figure = pyplot.figure(figsize=(width, height))
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(0, width), ylim=(0, height))
    axes.axis("off")
    return axes


def box(axes: Axes, x: float, y: float, width: float, text: str, colour: str, height: float = 0.5) -> None:
    """A rounded box with text in it; (x, y) is its lower left corner."""
    style = "round,pad=0,rounding_size=0.06"
    axes.add_patch(
        FancyBboxPatch((x, y), width, height, boxstyle=style, facecolor=colour, edgecolor=INK, linewidth=0.8)
    )
    axes.text(x + width / 2, y + height / 2, text, ha="center", va="center", fontsize=9, color=INK)


def arrow(axes: Axes, start: tuple[float, float], end: tuple[float, float]) -> None:
    axes.add_patch(FancyArrowPatch(start, end, arrowstyle="-|>", mutation_scale=10, color=INK, linewidth=0.8))


def draw_flow() -> None:
    """What flows from text and source model to the report."""
    axes = canvas(8.6, 2.5)
    places = {"text": 0.1, "align": 1.5, "transplant": 3.2, "finetune": 4.9, "distill": 6.6}
    box(axes, places["text"], 1.55, 1.0, "text", SOURCE)
    box(axes, places["align"], 1.55, 1.2, "align", NEW)
    box(axes, places["align"], 0.35, 1.2, "source model", SOURCE)
    box(axes, places["align"], 2.2, 1.2, "two tokenizers", SOURCE, 0.28)
    box(axes, places["transplant"], 1.55, 1.2, "transplant", NEW)
    box(axes, places["finetune"], 1.55, 1.2, "finetune", NEW)
    box(axes, places["distill"], 1.55, 1.2, "distill", NEW)
    box(axes, places["distill"], 0.35, 1.2, "a teacher", SOURCE)
    box(axes, places["finetune"], 0.35, 1.2, "evaluate, report", NEW)
    arrow(axes, (1.1, 1.8), (1.5, 1.8))
    arrow(axes, (2.1, 2.2), (2.1, 2.05))
    for name, label in (("align", "lexicon"), ("transplant", "model"), ("finetune", "model")):
        arrow(axes, (places[name] + 1.2, 1.8), (places[name] + 1.7, 1.8))
        axes.text(places[name] + 1.44, 1.88, label, ha="center", va="bottom", fontsize=7, color=INK)
    arrow(axes, (2.7, 0.6), (3.6, 1.55))
    arrow(axes, (7.2, 0.85), (7.2, 1.55))
    arrow(axes, (7.8, 1.8), (8.4, 1.8))
    for place in (3.9, 5.5, 6.7):
        axes.add_patch(FancyArrowPatch((place, 1.55), (5.5, 0.85), arrowstyle="-", color=RULE, linewidth=0.8))


def draw_tokens(axes: Axes, vocabulary: Vocabulary, text: str, y: float, colour: str, scale: float) -> set[int]:
    """The tokens of a text as boxes over its bytes; the places where they end."""
    ids = vocabulary.encode_batch([text])[0]
    ends = [int(end) for end in token_ends(vocabulary, ids)]
    for number, (begin, end) in enumerate(zip([0, *ends[:-1]], ends, strict=True)):
        axes.add_patch(
            Rectangle((0.1 + begin * scale, y), (end - begin) * scale, 0.34, facecolor=colour, edgecolor=INK)
        )
        piece = vocabulary.token_bytes[ids[number]] or b""
        label = piece.decode("utf-8", "replace").replace(" ", "\u2423")
        axes.text(
            0.1 + (begin + end) * scale / 2, y + 0.17, label, ha="center", va="center", fontsize=8, family="monospace"
        )
    return set(ends)


def draw_spans() -> None:
    """One text, cut by both tokenizers, with lines where tokens of both end."""
    source, target = load_vocabulary(resolve("demo:source")), load_vocabulary(resolve("demo:teacher"))
    scale = 8.4 / len(TEXT)
    axes = canvas(8.6, 1.7)
    first = draw_tokens(axes, source, TEXT, 1.05, SOURCE, scale)
    second = draw_tokens(axes, target, TEXT, 0.3, TARGET, scale)
    for end in sorted(first & second):
        axes.plot([0.1 + end * scale] * 2, [0.64, 1.05], color=INK, linewidth=1.2)
    axes.text(0.1, 1.5, "source tokens", fontsize=8, color=INK, va="center")
    axes.text(0.1, 0.14, "target tokens", fontsize=8, color=INK, va="center")
    axes.text(8.5, 1.5, "a line: tokens of both end at this byte", fontsize=8, color=INK, va="center", ha="right")


def draw_rows() -> None:
    """Which piece of a cut token matters for its embedding row and which for its head row."""
    axes = canvas(8.6, 2.1)
    pieces = ("assert", "Equ", "al")
    for number, piece in enumerate(pieces):
        box(axes, 0.2 + number * 1.2, 1.4, 1.1, piece, SOURCE)
    box(axes, 0.8, 0.3, 2.3, "assertEqual", TARGET)
    axes.text(2.0, 2.0, "rows of the source", fontsize=8, ha="center", color=INK)
    axes.text(2.0, 0.1, "row of the target", fontsize=8, ha="center", color=INK)
    for number in range(3):
        arrow(axes, (0.75 + number * 1.2, 1.4), (1.6 + number * 0.35, 0.8))
    axes.text(
        4.2, 1.65, "embedding row: what was just read is mostly in the last piece", fontsize=9, va="center", color=INK
    )
    axes.text(4.2, 1.15, "head row: what comes next is mostly in the first piece,", fontsize=9, va="center", color=INK)
    axes.text(4.2, 0.9, "shifted by how often text goes on to the end of the token", fontsize=9, va="center", color=INK)


DRAWINGS = {"flow": draw_flow, "spans": draw_spans, "rows": draw_rows}


def main() -> None:
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "docs"
    matplotlib.rcParams["svg.hashsalt"] = "vocabalign"
    matplotlib.rcParams["svg.fonttype"] = "none"
    for name, draw in DRAWINGS.items():
        draw()
        pyplot.savefig(folder / f"how-it-works-{name}.svg", metadata={"Date": None, "Creator": None}, facecolor="white")
        pyplot.close()


if __name__ == "__main__":
    main()
