"""Charts as inline SVG that take their colours and font from the page around them.

matplotlib draws in placeholder colours, which become CSS variables: the same picture reads well on
a light and a dark page. matplotlib is imported when a chart is drawn.
"""

from __future__ import annotations

import html
import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# What matplotlib is told, and what the page reads instead.
INK, GRID, ACCENT, SECOND, FAINT = "#010101", "#020202", "#030303", "#040404", "#050505"
PAGE_COLOURS = {
    INK: "currentColor",
    GRID: "var(--grid)",
    ACCENT: "var(--accent)",
    SECOND: "var(--second)",
    FAINT: "var(--faint)",
}
WIDTH, HEIGHT = 4.7, 2.9  # inches; at 72 units each, text of 9 is legible on a phone's 340 px
MOST_POINTS = 500  # of a line; more only make the file larger
_STYLE: dict[Any, Any] = {
    "font.size": 9,
    "svg.fonttype": "none",  # text stays text
    "text.color": INK,
    "axes.edgecolor": GRID,
    "axes.labelcolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.color": INK,
    "ytick.color": INK,
    "xtick.major.size": 0,
    "ytick.major.size": 0,
    "grid.color": GRID,
    "grid.linewidth": 0.6,
    "legend.frameon": False,
}


@dataclass(frozen=True)
class Series:
    """A line of finite numbers: ``x`` are steps, in rising order."""

    label: str  # "": not in the legend
    x: Sequence[float]
    y: Sequence[float]
    colour: str = ACCENT
    dots: bool = False


def smooth(values: Sequence[float]) -> np.ndarray:
    """Centred running median over a twentieth of the values: one bad batch leaves no trace."""
    from scipy.ndimage import median_filter

    return median_filter(
        np.asarray(values, np.float64), size=2 * (len(values) // 40) + 1, mode="nearest"
    )


def line_chart(
    name: str,
    description: str,
    series: Sequence[Series],
    *,
    y_top: float | None = None,
    from_zero: bool = False,
    x_label: str = "step",
    doublings: bool = False,
) -> str:
    """Lines over training steps, as one ``<svg>``. ``name`` keeps its ids apart from others'.

    With ``doublings``, ``x`` are powers of two and stand at equal distances.
    """
    import matplotlib

    with matplotlib.rc_context({**_STYLE, "svg.hashsalt": name}):
        figure, axes = _figure(HEIGHT)
        for line in series:
            x, y = _thin(line.x), _thin(line.y)
            axes.plot(
                x,
                y,
                color=line.colour,
                linewidth=0.8 if line.colour == FAINT else 1.7,
                marker="o" if line.dots or len(x) == 1 else None,
                markersize=3.5,
                label=line.label or None,
            )
        axes.grid(axis="y")
        axes.set_xlabel(x_label)
        axes.margins(x=0.02)
        axes.set_ylim(bottom=0 if from_zero else None, top=y_top)
        if doublings:
            axes.set_xscale("log", base=2)
            axes.set_xticks(sorted({x for line in series for x in line.x}))
        else:
            axes.set_xlim(left=0)
            axes.locator_params(axis="x", integer=True, nbins=6)
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_formatter(lambda value, position: _compact(value))
        if sum(bool(line.label) for line in series) > 1:
            axes.legend(loc="upper right")
        return _svg(figure, name, description)


def bar_chart(name: str, description: str, values: Mapping[str, float], highlight: str) -> str:
    """Horizontal bars with their values, the first at the top, as one ``<svg>``."""
    import matplotlib

    with matplotlib.rc_context({**_STYLE, "svg.hashsalt": name}):
        figure, axes = _figure(0.5 * len(values) + 0.15)
        heights = np.arange(len(values))
        colours = [ACCENT if label == highlight else FAINT for label in values]
        axes.barh(heights, list(values.values()), height=0.42, color=colours)
        for y, (label, value) in enumerate(values.items()):
            weight = "bold" if label == highlight else "normal"
            axes.text(0, y - 0.32, label, va="bottom", weight=weight)
            axes.text(value, y, f" {value:.3f}", va="center", weight=weight)
        axes.set_ylim(len(values) - 0.7, -0.75)
        axes.set_xlim(0, 1.16 * max(values.values()))
        axes.set_axis_off()
        return _svg(figure, name, description)


def _figure(height: float) -> tuple[Figure, Axes]:
    # Not pyplot: no global state, no window system, and only the SVG backend is loaded.
    from matplotlib.figure import Figure

    figure = Figure(figsize=(WIDTH, height), layout="constrained")
    figure.patch.set_alpha(0)
    axes = figure.add_subplot()
    axes.patch.set_alpha(0)
    return figure, axes


def _compact(value: float) -> str:
    """A tick's number, short: 0.003, 12,500, 250k, 2.5M."""
    for least, unit, suffix in ((1e9, 1e9, "G"), (1e6, 1e6, "M"), (1e5, 1e3, "k")):
        if abs(value) >= least:
            return f"{value / unit:g}{suffix}"
    return f"{value:,.0f}" if abs(value) >= 1e3 else f"{value:.4g}"


def _thin(values: Sequence[float]) -> np.ndarray:
    """At most MOST_POINTS of the values, evenly, the first and the last among them."""
    at = np.linspace(0, len(values) - 1, min(len(values), MOST_POINTS)).round().astype(int)
    return np.asarray(values, np.float64)[at]


def _svg(figure: Figure, name: str, description: str) -> str:
    """The figure as an ``<svg>`` for the body of an HTML page."""
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None})
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg") :]  # without the XML prologue
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r"<defs>\s*<style.*?</style>\s*</defs>", "", svg, count=1, flags=re.DOTALL)
    # One page holds several charts: ids, which matplotlib repeats, get the chart's name.
    svg = re.sub(r'(\bid="|href="#|url\(#)', rf"\g<1>{name}-", svg)
    for placeholder, colour in PAGE_COLOURS.items():
        svg = svg.replace(placeholder, colour)
    label = html.escape(description, quote=True)
    return re.sub(
        r'^<svg [^>]*?(viewBox="[^"]*")[^>]*>',
        rf'<svg \1 role="img" aria-label="{label}" xmlns:xlink="http://www.w3.org/1999/xlink">',
        svg,
    )
