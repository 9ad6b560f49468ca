"""A strategy's tear sheet: one self-contained HTML file of figures and plots."""

from __future__ import annotations

import datetime
import functools
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from lilith.quant.charts import ACCENT, SECOND, Line, histogram, time_chart
from lilith.quant.drawdown import cumulative_return, drawdown_series
from lilith.quant.performance import rolling_sharpe
from lilith.quant.performance_tools import (
    History,
    backtest_metrics,
    read_benchmark,
    read_history,
)
from lilith.quant.tool_values import ToolError

if TYPE_CHECKING:
    import jinja2

TEMPLATES = Path(__file__).parent / "templates"
LONGEST_WINDOW = 126
MOST_DRAWDOWNS = 5
MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_FULL_HEAT = 0.10  # a month's return that is coloured in full
# Rows of the table of figures: key of the result, label, how it is written.
_ROWS = (
    ("total_return", "Total return", "percent"),
    ("cagr", "Compound growth a year", "percent"),
    ("annual_volatility", "Volatility a year", "percent"),
    ("sharpe", "Sharpe ratio", "ratio"),
    ("sortino", "Sortino ratio", "ratio"),
    ("calmar", "Calmar ratio", "ratio"),
    ("omega", "Omega ratio", "ratio"),
    ("max_drawdown", "Maximum drawdown", "percent"),
    ("ulcer_index", "Ulcer index", "percent"),
    ("win_rate_excl_zero", "Periods won, zeros left out", "percent"),
    ("zero_periods", "Periods of zero", "count"),
    ("profit_factor", "Profit factor", "ratio"),
    ("best", "Best period", "percent"),
    ("worst", "Worst period", "percent"),
    ("var95_historical", "Value at risk 95%, historical", "percent"),
    ("cvar95_historical", "Conditional VaR 95%, historical", "percent"),
    ("var95_normal", "Value at risk 95%, normal", "percent"),
    ("skew_unbiased", "Skewness", "ratio"),
    ("kurtosis_excess_unbiased", "Excess kurtosis", "ratio"),
    ("tail_ratio", "Tail ratio", "ratio"),
    ("alpha", "Alpha a year", "percent"),
    ("beta", "Beta", "ratio"),
    ("correlation", "Correlation", "ratio"),
    ("tracking_error", "Tracking error a year", "percent"),
    ("information_ratio", "Information ratio", "ratio"),
)
_HEADLINES = ("cagr", "annual_volatility", "sharpe", "max_drawdown", "total_return")


class Row(NamedTuple):
    """A figure of the table, written out."""

    label: str
    value: str
    benchmark: str


def tear_sheet(
    returns: Any,
    path: str | os.PathLike[str],
    benchmark: Any = None,
    dates: Any = None,
    title: str = "Performance",
    *,
    kind: str = "returns",
    periods_per_year: float = 252.0,
    risk_free_rate: float = 0.0,
    rolling_window: int | None = None,
    missing_days: str = "error",
) -> Path:
    """Write the tear sheet of ``returns`` [T] to ``path``; returns it.

    The arguments are those of the tool ``backtest_metrics``. Where ``dates`` is not given and
    ``returns`` is a series with dates as its index, these are taken; without dates there is no
    table of months. ``rolling_window`` is 126 periods, or a quarter of a shorter series; the page
    says which.

    Raises:
      ToolError: an argument can not be used, or the file can not be written.
    """
    if dates is None and hasattr(returns, "to_numpy"):
        dates = returns.index if all(hasattr(day, "isoformat") for day in returns.index) else None
    values = backtest_metrics.validate(
        returns=returns,
        benchmark=benchmark,
        dates=dates,
        kind=kind,
        periods_per_year=periods_per_year,
        risk_free_rate=risk_free_rate,
        missing_days=missing_days,
    )
    history = read_history(values["returns"], kind, values["dates"], periods_per_year, missing_days)
    market = read_benchmark(values["benchmark"], kind, len(values["returns"]))
    count = len(history.returns)
    window = min(LONGEST_WINDOW, max(2, count // 4)) if rolling_window is None else rolling_window
    if not 2 <= window <= count:
        raise ToolError(
            "window_too_long",
            "rolling_window",
            f"rolling_window is {window}, and there are {count} returns",
            f"give a window from 2 to {count}",
        )
    page = _page(title, history, market, window, values)
    return _write(Path(path), page)


def _page(
    title: str,
    history: History,
    market: np.ndarray | None,
    window: int,
    values: Mapping[str, Any],
) -> str:
    """The page as HTML; ``values`` are the validated arguments of ``backtest_metrics``."""
    answer = backtest_metrics.function(**values)
    market_result: Mapping[str, Any] = {}
    if market is not None:
        own = {**values, "returns": values["benchmark"], "benchmark": None}
        market_result = backtest_metrics.function(**own).result
    rates = {name: values[name] for name in ("periods_per_year", "risk_free_rate")}
    return _template().render(
        title=title,
        span=_span(history),
        headlines=_headlines(answer.result),
        columns=_columns(_rows(answer.result, market_result)),
        with_benchmark=market is not None,
        notes=history.warnings + _missing(answer.diagnostics["null_reasons"]),
        charts=_charts(history, market, window, rates, answer.result),
        months=MONTHS,
        years=_heat_table(answer.result.get("monthly_returns", {})),
        drawdowns=_deepest(history),
        conventions=f"{rates['periods_per_year']:g} periods a year; risk-free rate "
        f"{rates['risk_free_rate']:.2%} a year, compounded; sample standard deviations (ddof 1); "
        "wealth starts at 1 before the first return.",
    )


def drawdown_episodes(returns: np.ndarray) -> list[tuple[float, int, int, int | None]]:
    """Every fall below a peak of ``returns`` [T] as (depth, peak, trough, recovery), deepest first.

    Points in time count from the baseline, 0; recovery is None where there is none yet.
    """
    depths = np.concatenate([[0.0], drawdown_series(returns)])
    under = np.concatenate([depths < 0, [False]])
    starts = np.flatnonzero(under[1:] & ~under[:-1])  # the peaks
    ends = np.flatnonzero(~under[1:] & under[:-1]) + 1
    episodes: list[tuple[float, int, int, int | None]] = []
    for start, end in zip(starts.tolist(), ends.tolist()):
        trough = start + int(np.argmin(depths[start:end]))
        recovery = end if end <= len(returns) else None
        episodes.append((float(depths[trough]), start, trough, recovery))
    return sorted(episodes)


def _charts(
    history: History,
    market: np.ndarray | None,
    window: int,
    rates: Mapping[str, float],
    result: Mapping[str, Any],
) -> list[dict[str, str]]:
    named = [("Strategy", history.returns, ACCENT)]
    if market is not None:
        named.append(("Benchmark", market, SECOND))
    whole, within = _times(history)

    def lines(values: Any, lead: list[float]) -> list[Line]:
        return [Line(label, np.concatenate([lead, values(own)]), c) for label, own, c in named]

    unit = "day" if history.dates else "period"
    equity = lines(lambda own: 1 + cumulative_return(own), [1.0])
    falls = lines(drawdown_series, [0.0])
    sharpe = lines(lambda own: rolling_sharpe(own, window=window, **rates), [])
    last, depth = equity[0].values[-1], float(np.min(falls[0].values))
    recent = sharpe[0].values[-1]
    marks = [("mean", float(result["mean_return"]))]
    marks.insert(0, ("VaR 95%", float(result["var95_historical"])))
    return [
        {
            "title": "Wealth",
            "unit": "multiple of the start",
            "svg": time_chart(
                "wealth", f"Wealth over time, at {last:.3g} in the end", whole, equity, base=1.0
            ),
        },
        {
            "title": "Drawdown",
            "unit": "below the highest wealth so far",
            "svg": time_chart(
                "drawdown", f"Drawdown over time, at most {depth:.1%}", whole, falls, base=0.0,
                percent=True, filled=True,
            ),
        },
        {
            "title": "Rolling Sharpe ratio",
            "unit": f"over {window} periods",
            "svg": time_chart(
                "sharpe", f"Sharpe ratio of the last {window} periods, {recent:.2f} in the end",
                within, sharpe, base=0.0,
            ),
        },
        {
            "title": "Returns",
            "unit": f"number of {unit}s by return",
            "svg": histogram(
                "returns", "Histogram of returns with the mean and the value at risk",
                history.returns, marks,
            ),
        },
    ]  # fmt: skip


def _times(history: History) -> tuple[Any, Any]:
    """The T + 1 points of the wealth path and its last T: dates where they are known."""
    if history.dates is None:
        numbers = np.arange(len(history.returns) + 1)
        return numbers, numbers[1:]
    days = [datetime.date.fromisoformat(day) for day in history.dates]
    # The baseline's own date, or one usual step before the first return.
    start = datetime.date.fromisoformat(history.start) if history.start else None
    return [start or days[0] - (days[1] - days[0]), *days], days


def _span(history: History) -> str:
    count = f"{len(history.returns):,} periods"
    if history.dates is None:
        return count
    return f"{history.start or history.dates[0]} to {history.dates[-1]}, {count}"


def _written(value: float | None, style: str) -> str:
    if value is None:
        return "–"
    text = {
        "percent": f"{value:,.2%}",
        "ratio": f"{value:,.2f}",
        "count": f"{value:,.0f}",
    }[style]
    return text.replace("-", "−")


def _headlines(result: Mapping[str, Any]) -> list[tuple[str, str]]:
    styles = {key: (label, style) for key, label, style in _ROWS}
    return [(styles[key][0], _written(result[key], styles[key][1])) for key in _HEADLINES]


def _rows(result: Mapping[str, Any], market: Mapping[str, Any]) -> list[Row]:
    return [
        Row(
            label,
            _written(result[key], style),
            _written(market[key], style) if key in market else "",
        )
        for key, label, style in _ROWS
        if key in result
    ]


def _columns(rows: list[Row]) -> list[list[Row]]:
    half = (len(rows) + 1) // 2
    return [rows[:half], rows[half:]]


def _missing(reasons: Mapping[str, str]) -> list[str]:
    """Why figures of the table are missing, one sentence a reason."""
    labels: dict[str, list[str]] = {}
    for key, label, _ in _ROWS:
        if key in reasons:
            labels.setdefault(reasons[key], []).append(label)
    return [f"{', '.join(names)}: none, because {why}." for why, names in labels.items()]


def _heat_table(monthly: Mapping[str, Mapping[str, float]]) -> list[dict[str, Any]]:
    """Rows of years; each cell is (text, sign, share of the full colour in percent)."""

    def cell(value: float | None) -> tuple[str, str, int]:
        if value is None:
            return "", "", 0
        share = min(1.0, abs(value) / _FULL_HEAT)
        text = f"{round(100 * value, 1) + 0.0:.1f}".replace("-", "−")  # + 0.0: no minus zero
        return text, "gain" if value >= 0 else "loss", round(8 + 62 * share)

    return [
        {
            "year": year,
            "cells": [cell(months.get(f"{i:02}")) for i in range(1, 13)],
            "total": _written(months["year"], "percent"),
        }
        for year, months in monthly.items()
    ]


def _deepest(history: History) -> list[dict[str, str]]:
    def when(point: int | None) -> str:
        found = None if point is None else history.point(point)
        if found is None:
            return "not yet"
        return found["date"] or ("start" if found["period"] == 0 else f"period {found['period']}")

    return [
        {
            "depth": _written(depth, "percent"),
            "peak": when(peak),
            "trough": when(trough),
            "recovery": when(recovery),
            "periods": f"{(recovery or len(history.returns) + 1) - peak - 1:,}",
        }
        for depth, peak, trough, recovery in drawdown_episodes(history.returns)[:MOST_DRAWDOWNS]
    ]


@functools.cache
def _template() -> jinja2.Template:
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    return environment.get_template("tear_sheet.html.jinja")


def _write(path: Path, page: str) -> Path:
    """Whole or not at all: a reader never sees half a page."""
    temporary = None
    try:
        with tempfile.NamedTemporaryFile("wb", dir=path.parent, delete=False) as file:
            temporary = Path(file.name)
            file.write(page.encode("utf-8", "replace"))
        temporary.chmod(0o644)
        temporary.replace(path)
    except OSError as error:
        if temporary is not None:
            temporary.unlink(missing_ok=True)
        raise ToolError(
            "cannot_write",
            "path",
            f"path {path} can not be written: {error.strerror or error}",
            "name a file in a folder that exists and may be written",
        ) from error
    return path
