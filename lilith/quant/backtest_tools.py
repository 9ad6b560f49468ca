"""The tool ``backtest``: signals and prices in, an equity curve and its figures out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from lilith.quant.backtesting import RUINED, Costs
from lilith.quant.backtesting import backtest as run_backtest
from lilith.quant.performance import periodic_rate
from lilith.quant.performance_inputs import (
    MISSING_DAYS,
    PERIODS_PER_YEAR,
    check_equal_length,
    check_prices,
    check_spacing,
)
from lilith.quant.performance_summary import performance_summary
from lilith.quant.tool import Answer, Parameter, tool
from lilith.quant.tool_values import Table, ToolError

RATE = "fraction per year, 0.02 is 2%"
_FIGURES = {
    "total_return": "fraction",
    "cagr": "fraction per year",
    "annual_volatility": "fraction per year",
    "sharpe": "per square root of a year",
    "max_drawdown": "fraction",
}
_UNITS = {
    "equity": "multiple of the initial wealth",
    "returns": "fraction per period",
    "turnover": "traded value over equity",
    "costs": "fraction of equity",
    "cash": "fraction of equity",
    "leverage": "sum of absolute weights over equity",
    "turnover_per_year": "traded value over equity, per year",
    "gross_total_return": "fraction",
}

_CONVENTIONS = {
    "timing": "the weights of row t are traded at the prices of row t and earn until row t + 1; "
    "the last row is not traded",
    "costs": "turnover times fee_bps + slippage_bps, charged on equity before the trade",
    "turnover": "absolute change from the weights that prices have moved, first from cash",
    "rates": "yearly rates become periodic by (1 + rate)^(1 / periods_per_year) - 1",
}


@tool(
    "Backtest target weights on prices: a weight of day t is traded at the prices of day t and "
    "earns until day t + 1, less fees and slippage.",
    Parameter(
        "signals", "table",
        "target weights as fractions of equity, a row a day: 1 all of it, -0.5 half of it short",
    ),
    Parameter("prices", "table", "prices of the same assets on the same days"),
    Parameter(
        "costs", "object",
        "fee_bps and slippage_bps, proportional to the value traded, one way",
        unit="basis points, 10 is 0.1%", default=None,
    ),
    Parameter("cash_rate", "number", "what cash earns", unit=RATE, default=0.0, above=-1.0),
    Parameter(
        "borrow_rate", "number", "what borrowed cash costs; the cash rate where it is not given",
        unit=RATE, default=None, above=-1.0,
    ),
    Parameter(
        "short_rate", "number", "what borrowing shares to sell short costs", unit=RATE, default=0.0,
        minimum=0.0,
    ),
    Parameter(
        "max_leverage", "number", "the most that absolute weights may sum to", default=1.0,
        above=0.0,
    ),
    Parameter("dates", "dates", "the day of each row, rising", default=None),
    PERIODS_PER_YEAR,
    MISSING_DAYS,
)  # fmt: skip
def backtest(
    signals: Table,
    prices: Table,
    costs: dict[str, Any] | None,
    cash_rate: float,
    borrow_rate: float | None,
    short_rate: float,
    max_leverage: float,
    dates: Sequence[str] | None,
    periods_per_year: float,
    missing_days: str,
) -> Answer:
    """Run :func:`lilith.quant.backtesting.backtest` on one strategy."""
    weights = _matched(signals, prices)
    _check_market(weights, prices, max_leverage)
    days = _days(signals, prices, dates)
    warnings = check_spacing("dates", days, periods_per_year, missing_days) if days else []
    trading = _costs(costs)
    yearly = {
        "cash_rate": cash_rate,
        "borrow_rate": cash_rate if borrow_rate is None else borrow_rate,
        "short_rate": short_rate,
    }
    rates = {
        name: periodic_rate(rate, periods_per_year=periods_per_year)
        for name, rate in yearly.items()
    }
    found = run_backtest(weights, prices.values, trading, **rates)
    figures = performance_summary(found.returns, periods_per_year=periods_per_year)
    if found.status == RUINED:
        at = int(np.argmax(found.returns <= -1)) + 1
        when = days[at] if days else f"period {at}"
        warnings.append(f"the account is lost at {when}: nothing is traded after it")
    result = {name: figures[name] for name in _FIGURES}
    if not np.isfinite(result["sharpe"]):
        result["sharpe"] = None
        warnings.append("result.sharpe is null: the returns are constant")
    result |= {
        "gross_total_return": np.prod(1 + found.gross_returns) - 1,
        "turnover_per_year": np.mean(found.turnover) * periods_per_year,
        "dates": days,
        "equity": found.equity,
        "returns": found.returns,
        "turnover": found.turnover,
        "costs": found.costs,
        "cash": found.cash,
        "leverage": found.leverage,
    }
    chosen = {
        **trading._asdict(), **yearly, "periods_per_year": periods_per_year,
        "max_leverage": max_leverage,
    }  # fmt: skip
    return Answer(result, _FIGURES | _UNITS, chosen | _CONVENTIONS, warnings=warnings)


def _matched(signals: Table, prices: Table) -> np.ndarray:
    """The signals in the prices' order of columns.

    Raises:
      ToolError: rows or columns do not match.
    """
    check_equal_length("signals", len(signals.values), "prices", len(prices.values))
    if signals.names is not None and prices.names is not None:
        odd = sorted(set(signals.names) ^ set(prices.names))
        if odd:
            which = "signals" if odd[0] in prices.names else "prices"
            raise ToolError(
                "unmatched_asset", which, f"{which} has no column {odd[0]!r}",
                "give signals and prices the same assets",
            )  # fmt: skip
        return signals.values[:, [signals.names.index(name) for name in prices.names]]
    if signals.values.shape[1] != prices.values.shape[1]:
        raise ToolError(
            "unmatched_asset", "signals",
            f"signals has {signals.values.shape[1]} columns and prices has "
            f"{prices.values.shape[1]}",
            "give both one column for each asset",
        )  # fmt: skip
    return signals.values


def _check_market(weights: np.ndarray, prices: Table, most: float) -> None:
    """Enough rows, prices that can be, and no more leverage than ``most``.

    Raises:
      ToolError: one of these is not so.
    """
    if len(weights) < 3:
        raise ToolError(
            "too_few_observations", "prices",
            f"prices has {len(weights)} rows, which make fewer than two returns",
            "give at least three rows",
        )  # fmt: skip
    for j, column in enumerate(prices.values.T):
        check_prices("prices", column, f"[{prices.names[j] if prices.names else j}]")
    gross = np.abs(weights).sum(axis=1)
    wrong = np.flatnonzero(gross > most * (1 + 1e-9))
    if wrong.size:
        at = int(wrong[0])
        raise ToolError(
            "too_much_leverage", "signals",
            f"the absolute weights of signals row {at} sum to {gross[at]:g}, above max_leverage "
            f"{most:g}",
            "lower the weights, or raise max_leverage to borrow on purpose",
        )  # fmt: skip


def _days(signals: Table, prices: Table, dates: Sequence[str] | None) -> tuple[str, ...] | None:
    """The days of the rows, whichever argument has them.

    Raises:
      ToolError: arguments disagree on them.
    """
    known = {
        name: tuple(days)
        for name, days in (("prices", prices.dates), ("signals", signals.dates), ("dates", dates))
        if days is not None
    }
    first = next(iter(known), None)
    for name, days in known.items():
        check_equal_length(name, len(days), "prices", len(prices.values))
        for i, (day, other) in enumerate(zip(days, known[str(first)])):
            if day != other:
                raise ToolError(
                    "dates_differ", name,
                    f"row {i} is {day} in {name} and {other} in {first}",
                    "give both the same days",
                )  # fmt: skip
    return known[first] if first else None


def _costs(given: dict[str, Any] | None) -> Costs:
    """The costs, checked.

    Raises:
      ToolError: a key is unknown, or a value is not a number of at least 0.
    """
    unknown = set(given or {}) - set(Costs._fields)
    if unknown:
        raise ToolError(
            "unknown_key", "costs",
            f"costs has no key {sorted(unknown)[0]!r}",
            f"its keys are {', '.join(Costs._fields)}",
        )  # fmt: skip
    for key, value in (given or {}).items():
        number = isinstance(value, (int, float)) and not isinstance(value, bool)
        if not number or not np.isfinite(value) or value < 0:
            raise ToolError(
                "negative_costs" if number and value < 0 else "not_a_number", "costs",
                f"costs.{key} is {value!r}, and it must be a number of at least 0",
                "give basis points, 10 is 0.1%; trading is never paid for",
            )  # fmt: skip
    return Costs(**{key: float(value) for key, value in (given or {}).items()})
