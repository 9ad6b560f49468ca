"""A Gantt chart as one SVG that reads on a phone and on a desktop.

Horizontal places are percentages and texts have a size of their own, so a narrow picture has
shorter bars and the same letters. It brings its own colours, for light and dark.
"""

from __future__ import annotations

import datetime
import html
from collections.abc import Sequence
from typing import NamedTuple

from lilith.planning.project import Calendar

MOST_ROWS = 150
_ROW, _BAR, _LEGEND_ROW = 40, 12, 22  # px
_LONGEST_NAME, _LONGEST_TEAM = 32, 28  # characters
_MOST_SHADED_DAYS = 200
_TICK_DAYS = (1, 2, 7, 14)
_MOST_TICKS = 10  # on a wide picture, and half as many on a narrow one
_LABEL_END = 88.0  # percent: a date that begins further right would be cut
_KINDS = {
    "critical": "critical path",
    "people": "held up by people",
    "plain": "other tasks",
    "milestone": "milestone",
    "off": "no work",
}
_STYLE = """
.lg{--lg-page:#fff;--lg-ink:#1c2428;--lg-soft:#56636a;--lg-grid:#d9dfe1;--lg-off:#eef1f2;
--lg-critical:#c8362a;--lg-people:#d98217;--lg-plain:#2f7fa8;--lg-milestone:#5b3fa0;
font-family:system-ui,-apple-system,"Segoe UI",Roboto,sans-serif;font-size:13px}
@media (prefers-color-scheme:dark){.lg{--lg-page:#182024;--lg-ink:#e6ecee;--lg-soft:#a3b1b7;
--lg-grid:#3a484e;--lg-off:#232d32;--lg-critical:#f0705f;--lg-people:#f2a94c;--lg-plain:#5fb4dd;
--lg-milestone:#b79cf5}}
.lg text{fill:var(--lg-ink);paint-order:stroke;stroke:var(--lg-page);stroke-width:5px;
stroke-linejoin:round}.lg .lg-soft{fill:var(--lg-soft)}
.lg .lg-title{font-size:16px;font-weight:600}
.lg .lg-grid{stroke:var(--lg-grid)}.lg .lg-page{fill:var(--lg-page)}.lg .lg-off{fill:var(--lg-off)}
.lg .lg-critical{fill:var(--lg-critical)}.lg .lg-people{fill:var(--lg-people)}
.lg .lg-plain{fill:var(--lg-plain)}.lg .lg-milestone{fill:var(--lg-milestone)}
.lg .lg-mark{stroke:var(--lg-ink);stroke-width:1.5;stroke-dasharray:5 4}
.lg .lg-narrow{display:none}
@media (max-width:600px){.lg .lg-wide{display:none}.lg .lg-narrow{display:inline}}
"""


class Bar(NamedTuple):
    """One row.

    Attributes:
      start, finish: days since the chart's first day, weekends counted, with fractions.
      first, last: its dates; kind: critical, people, plain or milestone; team: who does it.
    """

    name: str
    start: float
    finish: float
    first: datetime.date
    last: datetime.date
    kind: str
    team: str


class Mark(NamedTuple):
    """A dashed line at the end of a day."""

    label: str
    date: datetime.date


def gantt(title: str, bars: Sequence[Bar], marks: Sequence[Mark], calendar: Calendar) -> str:
    """The chart as ``<svg>``, for a page or a file of its own; at most 150 rows are drawn."""
    first = min(bar.first for bar in bars)
    ends = max(bar.last for bar in bars)
    reach = (ends - first).days + 1
    near = [mark for mark in marks if 0 <= (mark.date - first).days <= 2 * reach + 7]
    last = max([ends, *(mark.date for mark in near)])
    chart = _Chart(first, (last - first).days + 1)
    shown = bars[:MOST_ROWS]
    kinds = [kind for kind in _KINDS if kind != "off" and any(kind == bar.kind for bar in shown)]
    shaded = chart.shaded(calendar)
    kinds += ["off"] if shaded else []
    legend_top = 56
    marks_top = legend_top + -(-len(kinds) // 2) * _LEGEND_ROW + 6
    axis = marks_top + 18 * len(near) + 18
    bottom = axis + 12 + _ROW * len(shown)
    more = len(bars) - len(shown)
    height = bottom + (32 if more else 12)
    told = (
        f"Gantt chart of {title}: {len(bars)} tasks from {first} to {ends}; "
        f"critical: {', '.join(bar.name for bar in bars if bar.kind == 'critical') or 'none'}."
    )
    parts = [
        f'<svg class="lg" xmlns="http://www.w3.org/2000/svg" width="100%" height="{height}" '
        'role="img" aria-labelledby="lg-name lg-told">',
        f'<title id="lg-name">Gantt chart of {_text(title)}</title>',
        f'<desc id="lg-told">{_text(told)}</desc><style>{_STYLE}</style>',
        '<rect class="lg-page" width="100%" height="100%"/>',
        '<svg x="3%" width="94%" height="100%" overflow="visible">',
        f'<text class="lg-title" x="0" y="26">{_text(_cut(title, 36))}</text>',
        f'<text class="lg-soft" x="0" y="46">{_full(first)} – {_full(ends)}</text>',
        *_legend(kinds, legend_top),
        *(chart.box("lg-off", left, right, axis, bottom - axis) for left, right in shaded),
        *chart.ticks(axis, bottom),
    ]
    for i, mark in enumerate(near):
        parts += chart.mark(mark, marks_top + 18 * i + 12, bottom)
    for i, bar in enumerate(shown):
        parts += chart.row(bar, axis + 12 + i * _ROW)
    if more:
        parts.append(
            f'<text class="lg-soft" x="0" y="{bottom + 18}">and {more} more tasks, which the plan '
            "lists</text>"
        )
    return "\n".join([*parts, "</svg></svg>"])


class _Chart:
    def __init__(self, first: datetime.date, days: int) -> None:
        self.first, self.days = first, days

    def percent(self, day: float) -> float:
        return round(100 * day / self.days, 3)

    def box(self, kind: str, left: float, right: float, top: float, height: float) -> str:
        x, width = self.percent(left), max(self.percent(right) - self.percent(left), 0.3)
        round_ = "" if kind == "lg-off" else ' rx="3"'
        return (
            f'<rect class="{kind}" x="{x:g}%" y="{top:g}" width="{width:g}%" '
            f'height="{height:g}"{round_}/>'
        )

    def shaded(self, calendar: Calendar) -> list[tuple[int, int]]:
        """Runs of days without work, unless there are too many to see."""
        runs: list[tuple[int, int]] = []
        if self.days > _MOST_SHADED_DAYS:
            return runs
        for day in range(self.days):
            if calendar.works(self.first + datetime.timedelta(days=day)):
                continue
            if runs and runs[-1][1] == day:
                runs[-1] = (runs[-1][0], day + 1)
            else:
                runs.append((day, day + 1))
        return runs

    def ticks(self, axis: float, bottom: float) -> list[str]:
        parts = []
        for i, day in enumerate(self._tick_days()):
            x = self.percent(day)
            date = self.first + datetime.timedelta(days=day)
            parts.append(
                f'<line class="lg-grid" x1="{x:g}%" x2="{x:g}%" y1="{axis - 4}" y2="{bottom}"/>'
            )
            if x <= _LABEL_END:
                wide = " lg-wide" if i % 2 else ""
                parts.append(
                    f'<text class="lg-soft{wide}" x="{x:g}%" y="{axis - 6}">'
                    f"{self._date(date)}</text>"
                )
        return parts

    def _tick_days(self) -> list[int]:
        for step in _TICK_DAYS:
            start = -self.first.weekday() % 7 if step >= 7 else 0  # weeks begin on Mondays
            days = list(range(start, self.days, step))
            if len(days) <= _MOST_TICKS:
                return days
        months = [
            (datetime.date(year, month, 1) - self.first).days
            for year in range(self.first.year, self.first.year + self.days // 365 + 2)
            for month in range(1, 13)
        ]
        inside = [day for day in months if 0 <= day < self.days]
        return inside[:: -(-len(inside) // _MOST_TICKS)]

    def _date(self, date: datetime.date) -> str:
        if self.days > 366:
            return f"{date:%b %Y}"
        return f"{date.day} {date:%b}"

    def row(self, bar: Bar, top: float) -> list[str]:
        first, last = self._date(bar.first), self._date(bar.last)
        when = first if bar.first == bar.last else f"{first} – {last}"
        team = f"{_cut(bar.team, _LONGEST_TEAM)} · " if bar.team else ""
        told = f"{bar.name}: {bar.first} to {bar.last}" + (f", {bar.team}" if bar.team else "")
        if bar.kind == "milestone":
            shape = (
                f'<svg x="{self.percent(bar.finish):g}%" y="{top + 18 + _BAR / 2:g}" '
                'overflow="visible"><path class="lg-milestone" d="M0-8L8 0L0 8L-8 0Z"/></svg>'
            )
        else:
            shape = self.box(f"lg-{bar.kind}", bar.start, bar.finish, top + 18, _BAR)
        right = f'x="100%" dx="-5" y="{top + 13:g}" text-anchor="end"'
        return [
            f"<g><title>{_text(told)}</title>",
            f'<text x="0" y="{top + 13:g}">{_text(_cut(bar.name, _LONGEST_NAME))}</text>',
            f'<text class="lg-soft lg-wide" {right}>{_text(team + when)}</text>',
            f'<text class="lg-soft lg-narrow" {right}>{when}</text>',
            f"{shape}</g>",
        ]

    def mark(self, mark: Mark, y: float, bottom: float) -> list[str]:
        x = self.percent((mark.date - self.first).days + 1)
        side = ' text-anchor="end" dx="-5"' if x > 50 else ' dx="5"'
        return [
            f'<line class="lg-mark" x1="{x:g}%" x2="{x:g}%" y1="{y - 10:g}" y2="{bottom}"/>',
            f'<text x="{x:g}%" y="{y:g}"{side}>{_text(mark.label)} {_full(mark.date)}</text>',
        ]


def _legend(kinds: Sequence[str], top: float) -> list[str]:
    parts = []
    for i, kind in enumerate(kinds):
        x, y = 50 * (i % 2), top + (i // 2) * _LEGEND_ROW
        label = _text(_KINDS[kind])
        if kind == "milestone":
            shape = f'<path class="lg-milestone" d="M7 {y + 2}l7 7l-7 7l-7-7Z"/>'
        else:
            shape = f'<rect class="lg-{kind}" y="{y + 3}" width="14" height="12" rx="2"/>'
        parts.append(
            f'<svg x="{x}%" overflow="visible">{shape}'
            f'<text x="20" y="{y + 14}">{label}</text></svg>'
        )
    return parts


def _full(date: datetime.date) -> str:
    return f"{date.day} {date:%b %Y}"


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else text[: most - 1].rstrip() + "…"


def _text(text: str) -> str:
    """Text for XML: escaped, without the control characters that no XML may hold."""
    return html.escape("".join(c for c in text if c.isprintable()), quote=True)
