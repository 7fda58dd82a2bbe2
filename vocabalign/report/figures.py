"""Figures as inline SVG, drawn by matplotlib where it is installed.

Colours are written as CSS variables and text as text, so that a figure follows the page into dark
mode, into print, and into a screen reader.
"""

from __future__ import annotations

import importlib.util
import io
import re
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

from vocabalign.report.escape import escape_html, shorten, slug, visible

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as MatplotlibFigure

    from vocabalign.report.collect import Curve

# Stand-ins that the SVG text is searched for; the page says what they really are.
_INK, _FAINT = "#010203", "#040506"
_SERIES = tuple(f"#0a0b{number:02x}" for number in range(8))
_VARIABLES = {_INK: "--ink", _FAINT: "--rule"} | {colour: f"--series-{i}" for i, colour in enumerate(_SERIES)}
MAX_POINTS = 1500
MAX_CURVE_POINTS = 60
MAX_PAIRS = 150

Series = Sequence[tuple[float, float]]


def can_draw() -> bool:
    """Whether matplotlib is installed."""
    return importlib.util.find_spec("matplotlib") is not None


def draw_scores(rows: Sequence[Mapping[str, Any]], identity: str) -> str:
    """Bits per byte of each model as a dot with its interval."""

    def draw(figure: MatplotlibFigure) -> None:
        axes = figure.add_subplot()
        for position, row in enumerate(reversed(rows)):
            value, low, high = row["bits_per_byte"], row.get("bits_per_byte_low"), row.get("bits_per_byte_high")
            if low is not None and high is not None:
                axes.plot([low, high], [position, position], color=_SERIES[0], linewidth=2, alpha=0.5)
            axes.plot([value], [position], "o", color=_SERIES[0], markersize=6)
        labels = [shorten(visible(str(row["name"])), 24) for row in reversed(rows)]
        axes.set_yticks(range(len(rows)), labels)
        axes.set_ylim(-0.6, len(rows) - 0.4)
        axes.set_xlabel("bits per byte of held-out text (less is better)")
        _quiet(axes, "x")

    return _svg(draw, (7.2, 0.9 + 0.34 * len(rows)), identity, "Bits per byte of each model with 95 % intervals")


def draw_curves(curves: Sequence[Curve], identity: str) -> str:
    """Bits per byte against tokens trained, all runs in the same axes: scored in training, and evaluated ends."""

    def draw(figure: MatplotlibFigure) -> None:
        axes = figure.add_subplot()
        seen: list[float] = []
        for i, curve in enumerate(curves):
            colour, label = _SERIES[i % len(_SERIES)], shorten(visible(curve.name), 24)
            if curve.bits_per_byte:
                _line(axes, curve.shifted(curve.bits_per_byte), colour, label)
            if curve.ends and not curve.bits_per_byte:
                x, y = [p[0] / 1e6 for p in curve.shifted(curve.ends)], [p[1] for p in curve.ends]
                axes.plot(x, y, "--o", color=colour, linewidth=1.2, markersize=5, markerfacecolor="none", label=label)
            seen += [y for _, y in [*curve.bits_per_byte, *curve.ends]]
        axes.set_ylabel("bits per byte")
        _finish(axes, seen)

    return _svg(draw, (7.4, 3.6), identity, "Bits per byte of held-out text against tokens trained")


def draw_losses(curves: Sequence[Curve], identity: str) -> str:
    """Training loss against tokens trained."""

    def draw(figure: MatplotlibFigure) -> None:
        axes = figure.add_subplot()
        seen: list[float] = []
        for i, curve in enumerate(curves):
            series = _thinned(curve.shifted(curve.loss))
            if series:
                _line(axes, series, _SERIES[i % len(_SERIES)], shorten(visible(curve.name), 24))
            seen += [y for _, y in series]
        axes.set_ylabel("training loss")
        _finish(axes, seen)

    return _svg(draw, (7.4, 3.2), identity, "Training loss against tokens trained")


def _line(axes: Axes, series: Series, colour: str, label: str) -> None:
    x, y = [point[0] / 1e6 for point in series], [point[1] for point in series]
    marker = "o" if len(series) <= 40 else ""
    axes.plot(x, y, marker=marker, markersize=3, linewidth=1.6, color=colour, label=label)


def _finish(axes: Axes, seen: Sequence[float]) -> None:
    """What both plots of curves have."""
    axes.set_xlabel("million tokens trained")
    _quiet(axes, "y")
    axes.yaxis.label.set_color(_INK)
    axes.yaxis.label.set_fontsize(9)
    if seen:
        _cut_the_start(axes, seen)
    # Beside the plot: no curve lies under it.
    axes.legend(frameon=False, labelcolor=_INK, fontsize=9, loc="center left", bbox_to_anchor=(1.01, 0.5))


def draw_evidence(counts: Mapping[str, int], identity: str) -> str:
    """Tokens by kind of evidence, as bars with their numbers."""

    def draw(figure: MatplotlibFigure) -> None:
        axes = figure.add_subplot()
        names, values = list(counts), list(counts.values())
        bars = axes.barh(range(len(names)), values, color=_SERIES[0], height=0.5)
        total = sum(values) or 1
        axes.bar_label(bars, [f"{v:,}  ({v / total:.1%})" for v in values], padding=4, color=_INK, fontsize=9)
        axes.set_yticks(range(len(names)), [visible(name) for name in names])
        axes.invert_yaxis()
        axes.set_xlim(0, max([*values, 1]) * 1.28)
        axes.set_xticks([])
        _quiet(axes)
        axes.spines["bottom"].set_visible(False)

    return _svg(draw, (7.2, 0.3 + 0.3 * len(counts)), identity, "Target tokens by kind of evidence")


def draw_map(points: Sequence[Mapping[str, Any]], identity: str) -> str:
    """Both token-embedding spaces in two dimensions, before and after mapping, shared tokens joined.

    Args:
        points: ``{"side": "source" | "target", "pair": int | None, "before": [x, y], "after": [x, y] | None}``
            each; the two points of a shared token have the same ``pair``.
        identity: makes the ids inside the SVG unique on the page.

    Raises:
        KeyError, TypeError, ValueError: the points are of another form.
    """
    moments = [moment for moment in ("before", "after") if all(point[moment] is not None for point in points)]
    pairs: dict[int, list[Mapping[str, Any]]] = {}
    for point in points:
        if point["pair"] is not None:
            pairs.setdefault(point["pair"], []).append(point)

    def draw(figure: MatplotlibFigure) -> None:
        for number, moment in enumerate(moments, 1):
            axes = figure.add_subplot(1, len(moments), number)
            for pair in list(pairs.values())[:MAX_PAIRS]:
                axes.plot(*zip(*(point[moment] for point in pair)), color=_FAINT, linewidth=0.8, zorder=1)
            for i, side in enumerate(("source", "target")):
                x, y = zip(*[point[moment] for point in points if point["side"] == side][:MAX_POINTS])
                axes.scatter(x, y, s=7, color=_SERIES[i], alpha=0.6, linewidths=0, label=side, zorder=2)
            axes.set_title(f"{moment} mapping", loc="left", fontsize=10, color=_INK)
            axes.set_xticks([])
            axes.set_yticks([])
            _quiet(axes)
            if number == 1:
                axes.legend(frameon=False, labelcolor=_INK, fontsize=9, markerscale=2)

    return _svg(draw, (7.6, 3.8), identity, "Token embeddings of both vocabularies before and after mapping")


def _cut_the_start(axes: Axes, values: Sequence[float]) -> None:
    """Leave the steepest start outside of the frame: it would press the ends, which matter, into one line."""
    ordered = sorted(values)
    low, high, upper_quartile = ordered[0], ordered[-1], ordered[len(ordered) * 3 // 4]
    top = low + 3 * (upper_quartile - low)
    if low < top < high:
        margin = 0.05 * (top - low)
        axes.set_ylim(low - margin, top + margin)


def _thinned(series: Series) -> list[tuple[float, float]]:
    """At most ``MAX_CURVE_POINTS``, each the mean of its neighbours: single points would be noise."""
    if len(series) <= MAX_CURVE_POINTS:
        return list(series)
    size = -(-len(series) // MAX_CURVE_POINTS)
    blocks = [series[i : i + size] for i in range(0, len(series), size)]
    return [(block[-1][0], sum(value for _, value in block) / len(block)) for block in blocks]


def _quiet(axes: Axes, grid: Literal["x", "y"] | None = None) -> None:
    """Nothing but what carries numbers."""
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.spines["bottom"].set_color(_FAINT)
    axes.tick_params(length=0, colors=_INK, labelsize=9)
    axes.xaxis.label.set_color(_INK)
    axes.xaxis.label.set_fontsize(9)
    if grid:
        axes.grid(axis=grid, color=_FAINT, linewidth=0.6)
        axes.set_axisbelow(True)


def _svg(draw: Callable[[MatplotlibFigure], None], size: tuple[float, float], identity: str, title: str) -> str:
    """Draw a figure and turn matplotlib's file into an element of the page."""
    import matplotlib
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    settings: Any = {"svg.fonttype": "none", "svg.hashsalt": identity, "text.parse_math": False, "text.color": _INK}
    with matplotlib.rc_context(settings):
        figure = Figure(figsize=size, layout="constrained")
        FigureCanvasSVG(figure)
        draw(figure)
        buffer = io.StringIO()
        nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
        figure.savefig(buffer, format="svg", transparent=True, metadata=nothing)
    return _inline(buffer.getvalue(), slug(identity), title)


def _inline(text: str, identity: str, title: str) -> str:
    """An ``<svg>`` element without prolog, metadata and namespaces, with ids of its own, a title and CSS colours."""
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r"<!--.*?-->", "", text, flags=re.DOTALL)
    text = re.sub(r'\s(xmlns(:\w+)?|version)="[^"]*"', "", text).replace("xlink:href", "href")
    text = re.sub(r'\sid="', lambda _: f' id="{identity}-', text)
    text = text.replace('href="#', f'href="#{identity}-').replace("url(#", f"url(#{identity}-")
    for colour, variable in _VARIABLES.items():
        text = text.replace(colour, f"var({variable})")
    head, _, rest = text.partition(">")
    head = re.sub(r'\s(width|height)="[^"]*"', "", head)
    return f'{head} role="img" aria-label="{escape_html(title)}"><title>{escape_html(title)}</title>{rest}'.strip()
