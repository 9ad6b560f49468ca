"""The tool ``backtest_metrics``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from lilith.quant.drawdown import cumulative_return, drawdown_series
from lilith.quant.performance import COMPOUNDINGS, compound_by_group, rolling_sharpe
from lilith.quant.performance_inputs import (
    KIND,
    MISSING_DAYS,
    PERIODS_PER_YEAR,
    as_returns,
    check_equal_length,
    check_spacing,
)
from lilith.quant.performance_summary import performance_summary
from lilith.quant.tail_risk import METHODS
from lilith.quant.tool import Answer, Parameter, tool
from lilith.quant.tool_values import ToolError

RATE = "fraction per year, 0.02 is 2%"
# The figures whose value can be missing, and why.
CONSTANT = "the returns are constant ({first:g}), so their standard deviation is 0"
_REASONS = {
    "sharpe": CONSTANT,
    "sortino": "no return falls short of the required one",
    "calmar": "wealth never fell below a former peak",
    "omega": "no return falls short of the required one",
    "profit_factor": "no return is negative",
    "tail_ratio": "the lower quantile is 0",
    "win_rate_excl_zero": "every return is 0",
    "skew_biased": CONSTANT,
    "skew_unbiased": "it needs three returns that are not constant",
    "kurtosis_excess_biased": CONSTANT,
    "kurtosis_excess_unbiased": "it needs four returns that are not constant",
    "alpha": "the benchmark is constant",
    "alpha_compounded": "the benchmark is constant",
    "beta": "the benchmark is constant",
    "correlation": "the returns or the benchmark are constant",
    "information_ratio": "the returns less the benchmark are constant",
}
_UNITS = {
    "periods": "periods",
    "total_return": "fraction",
    "cagr": "fraction per year",
    "annual_volatility": "fraction per year",
    "sharpe": "per square root of a year",
    "sortino": "per square root of a year",
    "calmar": "none",
    "omega": "none",
    "max_drawdown": "fraction",
    "drawdown": "periods",
    "longest_drawdown": "periods",
    "ulcer_index": "fraction",
    "mean_return": "fraction per period",
    "best": "fraction per period",
    "worst": "fraction per period",
    "win_rate_excl_zero": "fraction",
    "win_rate_incl_zero": "fraction",
    "zero_periods": "periods",
    "profit_factor": "none",
    "tail_ratio": "none",
    "skew_biased": "none",
    "skew_unbiased": "none",
    "kurtosis_excess_biased": "none",
    "kurtosis_excess_unbiased": "none",
    "alpha": "fraction per year",
    "alpha_compounded": "fraction per year",
    "beta": "none",
    "correlation": "none",
    "tracking_error": "fraction per year",
    "information_ratio": "per square root of a year",
    "benchmark_total_return": "fraction",
    "monthly_returns": "fraction",
}  # in the order of the answer
_SERIES_UNITS = {
    "series.equity": "multiple of the baseline",
    "series.drawdown": "fraction",
    "series.rolling_sharpe": "per square root of a year",
}


class History(NamedTuple):
    """A validated series of returns.

    Attributes:
      returns: float64 [T].
      dates: ISO, of the T returns, or None.
      start: the date of the baseline (the first price), or None.
      warnings: about the dates.
    """

    returns: np.ndarray
    dates: tuple[str, ...] | None
    start: str | None
    warnings: list[str]

    def point(self, index: int) -> dict[str, Any] | None:
        """A point of the wealth path, 0 the baseline, with its date; None for -1."""
        if index < 0:
            return None
        date = self.start if index == 0 else self.dates[index - 1] if self.dates else None
        return {"period": index, "date": date}


def read_history(
    values: np.ndarray,
    kind: str,
    dates: Sequence[str] | None,
    periods_per_year: float,
    missing_days: str,
    field: str = "returns",
) -> History:
    """Returns or prices and their dates, checked.

    Raises:
      ToolError: see :mod:`lilith.quant.performance_inputs`.
    """
    returns = as_returns(field, values, kind)
    if dates is None:
        return History(returns, None, None, [])
    check_equal_length("dates", len(dates), field, len(values))
    warnings = check_spacing("dates", dates, periods_per_year, missing_days)
    start = dates[0] if kind == "prices" else None
    return History(returns, tuple(dates[1:] if start else dates), start, warnings)


@tool(
    "Performance of a strategy from its periodic returns or prices: growth, volatility, Sharpe, "
    "Sortino, drawdowns, value at risk, and against a benchmark alpha and beta.",
    Parameter("returns", "numbers", "the returns, oldest first (0.01 is 1%), or prices by kind"),
    KIND,
    Parameter("dates", "dates", "the day of each entry of returns, rising", default=None),
    Parameter(
        "benchmark", "numbers", "the benchmark's returns or prices, on the same days", default=None
    ),
    PERIODS_PER_YEAR,
    Parameter(
        "risk_free_rate", "number", "of the Sharpe ratio and alpha", unit=RATE, default=0.0,
        above=-1.0,
    ),
    Parameter(
        "required_return", "number",
        "of the Sortino and omega ratios; the risk-free rate where it is not given",
        unit=RATE, default=None, above=-1.0,
    ),
    Parameter(
        "compounding", "string", "how yearly rates become periodic", default="geometric",
        choices=COMPOUNDINGS,
    ),
    Parameter(
        "confidence", "number", "of value at risk and the tail ratio", default=0.95, above=0.5,
        below=1.0,
    ),
    Parameter(
        "ddof", "integer", "standard deviations divide by T - ddof", default=1, minimum=0,
        maximum=1,
    ),
    Parameter(
        "rolling_window", "integer", "periods of the rolling Sharpe ratio", default=126, minimum=2
    ),
    Parameter(
        "include_series", "boolean",
        "also give equity, drawdown and rolling Sharpe for each period", default=False,
    ),
    MISSING_DAYS,
)  # fmt: skip
def backtest_metrics(
    returns: np.ndarray,
    kind: str,
    dates: Sequence[str] | None,
    benchmark: np.ndarray | None,
    periods_per_year: float,
    risk_free_rate: float,
    required_return: float | None,
    compounding: str,
    confidence: float,
    ddof: int,
    rolling_window: int,
    include_series: bool,
    missing_days: str,
) -> Answer:
    """The figures of :func:`performance_summary`, with dates, reasons for what is null, series."""
    history = read_history(returns, kind, dates, periods_per_year, missing_days)
    market = read_benchmark(benchmark, kind, len(returns))
    rates = {
        "periods_per_year": periods_per_year,
        "risk_free_rate": risk_free_rate,
        "compounding": compounding,
        "ddof": ddof,
    }
    required = risk_free_rate if required_return is None else required_return
    figures = performance_summary(
        history.returns, market, required_return=required, confidence=confidence, **rates
    )
    result, reasons = _result(figures, history, confidence)
    if history.dates:
        result["monthly_returns"] = monthly_returns(history.returns, history.dates)
    if include_series:
        result["series"] = _series(history, rolling_window, rates)
    warnings = [f"result.{name} is null: {why}" for name, why in reasons.items()]
    if not figures["cornish_fisher_is_monotone"] and "skew_biased" not in reasons:
        warnings.append(
            "the Cornish-Fisher expansion is not monotone for this skewness and kurtosis: its "
            "value at risk is not to be relied on"
        )
    return Answer(
        result,
        units=_units(result),
        conventions=_conventions(rates, required, confidence, rolling_window, kind),
        diagnostics={"null_reasons": reasons},
        warnings=history.warnings + warnings,
    )


def read_benchmark(benchmark: np.ndarray | None, kind: str, count: int) -> np.ndarray | None:
    """The benchmark's returns.

    Raises:
      ToolError: it has not ``count`` entries, or see :func:`as_returns`.
    """
    if benchmark is None:
        return None
    check_equal_length("benchmark", len(benchmark), "returns", count)
    return as_returns("benchmark", benchmark, kind)


def _result(
    figures: Mapping[str, Any], history: History, confidence: float
) -> tuple[dict[str, Any], dict[str, str]]:
    """The figures as the tool names them, and why those are missing that are."""
    tails = {
        f"{kind}_{method}": f"{kind}{100 * confidence:g}_{method}"
        for method in METHODS
        for kind in ("var", "cvar")
    }
    result: dict[str, Any] = {"periods": len(history.returns)}
    reasons = {}
    for key in (*_UNITS, *tails):
        if key in figures:
            name, value = tails.get(key, key), figures[key]
            result[name] = value.item() if np.isfinite(value) else None
            if result[name] is None:
                why = _REASONS.get(key, CONSTANT)
                reasons[name] = why.format(first=history.returns[0])
    result["drawdown"] = {
        name: history.point(int(figures[f"drawdown_{name}"]))
        for name in ("peak", "trough", "recovery")
    }
    result["longest_drawdown"] = {
        "periods": int(figures["longest_drawdown_periods"]),
        "peak": history.point(int(figures["longest_drawdown_peak"])),
        "recovery": history.point(int(figures["longest_drawdown_recovery"])),
    }
    return result, reasons


def monthly_returns(returns: np.ndarray, dates: Sequence[str]) -> dict[str, dict[str, float]]:
    """Compounded returns by year and month, {"2024": {"01": 0.02, ..., "year": 0.11}}."""
    months = sorted({day[:7] for day in dates})
    years = sorted({day[:4] for day in dates})
    by_month = compound_by_group(returns, [months.index(day[:7]) for day in dates],
                                 count=len(months))  # fmt: skip
    by_year = compound_by_group(returns, [years.index(day[:4]) for day in dates], count=len(years))
    table: dict[str, dict[str, float]] = {year: {} for year in years}
    for month, value in zip(months, by_month):
        table[month[:4]][month[5:]] = float(value)
    for year, value in zip(years, by_year):
        table[year]["year"] = float(value)
    return table


def _series(history: History, window: int, rates: Mapping[str, Any]) -> dict[str, Any]:
    returns = history.returns
    if len(returns) < window:
        raise ToolError(
            "window_too_long",
            "rolling_window",
            f"rolling_window is {window}, and there are {len(returns)} returns",
            f"give a window of at most {len(returns)}",
        )
    rolling = rolling_sharpe(returns, window=window, **rates)
    return {
        "dates": history.dates,
        "equity": 1 + cumulative_return(returns),
        "drawdown": drawdown_series(returns),
        "rolling_sharpe": [float(x) if np.isfinite(x) else None for x in rolling],
    }


def _units(result: Mapping[str, Any]) -> dict[str, str]:
    units = {name: unit for name, unit in _UNITS.items() if name in result}
    units |= {name: "fraction per period" for name in result if name.startswith(("var", "cvar"))}
    return units | (_SERIES_UNITS if "series" in result else {})


def _conventions(
    rates: Mapping[str, Any], required: float, confidence: float, window: int, kind: str
) -> dict[str, Any]:
    return {
        **rates,
        "kind": kind,
        "required_return": required,
        "confidence": confidence,
        "baseline": "wealth is 1 before the first return; period 0 is that baseline",
        "annualization": "means times periods_per_year, deviations times its square root; cagr "
        "compounds over periods / periods_per_year years",
        "sortino": "the downside deviation divides by all periods",
        "value_at_risk": "returns, a loss is negative; historical interpolates the quantile "
        "linearly, and its conditional mean takes the returns at or below it",
        "longest_drawdown": "periods below a former peak, without the one of recovery",
        "null_recovery": "not recovered by the last period, or never fell where the peak is null",
        "alpha": "regression of excess returns, times periods_per_year; alpha_compounded compounds",
        "rolling_sharpe": f"over {window} periods; null before",
    }
