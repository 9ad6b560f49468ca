"""Charts of a tear sheet as inline SVG, which take their colours and font from the page.

matplotlib draws in placeholder colours that become CSS variables, so the same picture reads on a
light and a dark page. It is imported when a chart is drawn.
"""

from __future__ import annotations

import datetime
import html
import io
import re
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK, GRID, ACCENT, SECOND, FAINT = "#010101", "#020202", "#030303", "#040404", "#050505"
_PAGE_COLOURS = {
    INK: "currentColor",
    GRID: "var(--grid)",
    ACCENT: "var(--accent)",
    SECOND: "var(--second)",
    FAINT: "var(--faint)",
}
_WIDTH, _HEIGHT = 4.7, 2.9  # inches of 72 units: text of 9 is legible where that is 340 px
_BUCKETS = 300  # of a thinned line, which keeps the lowest and highest point of each
_LEAST_BINS, _MOST_BINS = 8, 60
_NO_SPREAD = 1e-9  # of returns: a histogram of rounding says nothing
_STYLE: dict[Any, Any] = {
    "font.size": 9,
    "svg.fonttype": "none",  # text stays text
    "text.color": INK,
    "text.parse_math": False,  # a label may hold a dollar sign
    "axes.edgecolor": GRID,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.color": INK,
    "ytick.color": INK,
    "xtick.major.size": 0,
    "ytick.major.size": 0,
    "grid.color": GRID,
    "grid.linewidth": 0.6,
    "legend.frameon": False,
    "axes.unicode_minus": True,
}

_ABOVE: dict[str, Any] = {  # a legend that no line can cross
    "loc": "lower left",
    "bbox_to_anchor": (0, 1),
    "ncols": 2,
    "borderpad": 0,
    "borderaxespad": 0.3,
}
_TICK_STEPS = (1, 2, 5, 10)


class Line(NamedTuple):
    """Values over the time of the chart; NaN where there is none."""

    label: str
    values: np.ndarray
    colour: str = ACCENT


def time_chart(
    name: str,
    description: str,
    times: Sequence[datetime.date] | np.ndarray,
    lines: Sequence[Line],
    *,
    base: float,
    percent: bool = False,
    filled: bool = False,
) -> str:
    """Lines over dates (or numbers of periods) around the level ``base``, as one ``<svg>``.

    ``filled`` is for lines that stay below ``base``: the area between is coloured.
    ``name`` keeps its ids apart from those of other charts; ``description`` is its text equivalent.
    """
    import matplotlib

    with matplotlib.rc_context({**_STYLE, "svg.hashsalt": name}):
        figure, axes = _figure()
        axes.axhline(base, color=FAINT, linewidth=0.9)
        for line in reversed(lines):  # the first one on top
            at = _thinned(line.values)
            x, y = [times[i] for i in at], line.values[at]
            axes.plot(x, y, color=line.colour, linewidth=1.4, label=line.label)
            if filled:
                axes.fill_between(x, y, base, color=line.colour, alpha=0.18, linewidth=0)
            if not len(at):
                axes.text(0.5, 0.6, "no values: the returns are constant", ha="center",
                          transform=axes.transAxes)  # fmt: skip
        if filled:
            lowest = min(float(np.min(line.values)) for line in lines)
            axes.set_ylim(min(1.05 * lowest, base - 0.01), base)
        axes.grid(axis="y")
        axes.margins(x=0.01)
        _label_times(axes, times)
        axes.yaxis.set_major_locator(matplotlib.ticker.MaxNLocator(6, steps=_TICK_STEPS))
        axes.yaxis.set_major_formatter(_percent if percent else _plain)
        if len(lines) > 1:
            axes.legend(**_ABOVE, reverse=True)
        return _svg(figure, name, description)


def histogram(
    name: str,
    description: str,
    values: np.ndarray,
    marks: Sequence[tuple[str, float]],
) -> str:
    """Counts of ``values``, their normal curve and vertical lines at ``marks``, as ``<svg>``."""
    import matplotlib

    with matplotlib.rc_context({**_STYLE, "svg.hashsalt": name}):
        figure, axes = _figure()
        edges = _bin_edges(values)
        counts, _, _ = axes.hist(values, bins=edges.tolist(), color=ACCENT, alpha=0.55)
        spread = np.std(values)
        if spread > _NO_SPREAD:
            x = np.linspace(edges[0], edges[-1], 120)
            bell = np.exp(-(((x - values.mean()) / spread) ** 2) / 2) / (
                spread * (2 * np.pi) ** 0.5
            )
            axes.plot(x, bell * len(values) * (edges[1] - edges[0]), color=SECOND, linewidth=1.3,
                      label="normal with the same mean and deviation")  # fmt: skip
        top = 1.35 * float(np.max(counts))
        for i, (label, value) in enumerate(marks):
            axes.axvline(value, color=INK, linewidth=0.9, linestyle=(0, (3, 2)),
                         ymax=0.96 - 0.1 * i)  # fmt: skip
            side = "right" if value < values.mean() else "left"
            text = f"{label} " if side == "right" else f" {label}"
            axes.text(value, top * (0.96 - 0.1 * i), text, ha=side, va="top", fontsize=8)
        axes.set_ylim(0, top)
        axes.xaxis.set_major_locator(matplotlib.ticker.MaxNLocator(6, steps=_TICK_STEPS))
        axes.xaxis.set_major_formatter(_percent)
        axes.yaxis.set_major_locator(matplotlib.ticker.MaxNLocator(5, integer=True))
        axes.grid(axis="y")
        axes.set_axisbelow(True)
        return _svg(figure, name, description)


def _bin_edges(values: np.ndarray) -> np.ndarray:
    """Edges by Freedman and Diaconis, neither few nor many; a percent wide around a constant."""
    low, high = float(values.min()), float(values.max())
    if high - low <= _NO_SPREAD:
        return np.linspace(low - 0.005, low + 0.005, _LEAST_BINS)
    count = len(np.histogram_bin_edges(values, bins="fd")) - 1
    return np.linspace(low, high, min(max(count, _LEAST_BINS), _MOST_BINS) + 1)


def _figure() -> tuple[Figure, Axes]:
    # Not pyplot: no global state, no window system, and only the SVG backend is loaded.
    from matplotlib.figure import Figure

    figure = Figure(figsize=(_WIDTH, _HEIGHT), layout="constrained")
    figure.patch.set_alpha(0)
    axes = figure.add_subplot()
    axes.patch.set_alpha(0)
    return figure, axes


def _label_times(axes: Axes, times: Sequence[datetime.date] | np.ndarray) -> None:
    import matplotlib.dates as dates
    from matplotlib.ticker import MaxNLocator

    if isinstance(times[0], datetime.date):
        locator = dates.AutoDateLocator(minticks=3, maxticks=6)
        axes.xaxis.set_major_locator(locator)
        axes.xaxis.set_major_formatter(dates.ConciseDateFormatter(locator))
    else:
        axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
        axes.set_xlabel("period")


def _percent(value: float, position: float) -> str:
    return f"{100 * value:.6g}%".replace("-", "−")


def _plain(value: float, position: float) -> str:
    return f"{value:,.6g}".replace("-", "−")


def _thinned(values: np.ndarray) -> np.ndarray:
    """Indices of the known values, or where these are many, of each bucket's lowest and highest."""
    known = np.flatnonzero(np.isfinite(values))
    if len(known) <= 3 * _BUCKETS:
        return known
    buckets = np.array_split(known, _BUCKETS)
    extremes = [bucket[f(values[bucket])] for bucket in buckets for f in _EXTREMES]
    return np.unique([known[0], *extremes, known[-1]])


_EXTREMES: tuple[Callable[[np.ndarray], Any], ...] = (np.argmin, np.argmax)


def _svg(figure: Figure, name: str, description: str) -> str:
    """The figure as an ``<svg>`` for the body of an HTML page."""
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None})
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r"<defs>\s*<style.*?</style>\s*</defs>", "", svg, count=1, flags=re.DOTALL)
    svg = re.sub(r'(\bid="|href="#|url\(#)', rf"\g<1>{name}-", svg)
    for placeholder, colour in _PAGE_COLOURS.items():
        svg = svg.replace(placeholder, colour)
    label = html.escape(description, quote=True)
    return re.sub(
        r'^<svg [^>]*?(viewBox="[^"]*")[^>]*>',
        rf'<svg \1 role="img" aria-label="{label}" xmlns:xlink="http://www.w3.org/1999/xlink">',
        svg,
    )
