"""A table of option quotes: read, checked row by row, and turned into implied volatilities."""

from __future__ import annotations

import difflib
import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from lilith.quant.options import black_scholes
from lilith.quant.options.implied_volatility import (
    AT_LOWER_BOUND,
    SOLVED,
    STATUS,
    price_bounds,
    solve_implied_volatility,
)
from lilith.quant.tool_values import ToolError

COLUMNS = ("strike", "maturity", "volatility", "price", "option_type", "forward", "rate")
ROUNDING = 1e-9  # of the forward: smaller crossings are rounding


class Quotes(NamedTuple):
    """One row a quote, in the order given.

    Attributes:
      strike, forward: currency; maturity: years; rate: a year.
      volatility: implied or given, a year.
      is_call: booleans.
    """

    strike: np.ndarray
    maturity: np.ndarray
    forward: np.ndarray
    rate: np.ndarray
    volatility: np.ndarray
    is_call: np.ndarray


def read_quotes(
    quotes: Mapping[str, Sequence[Any]] | Sequence[Mapping[str, Any]],
    *,
    spot: float | None,
    rate: float,
    dividend: float,
) -> Quotes:
    """Check and complete a table; arguments as for ``VolatilitySurface.from_quotes``.

    Raises:
      ToolError: see there.
    """
    columns = _columns(quotes)
    strike = _numbers(columns, "strike", above=0.0)
    maturity = _numbers(columns, "maturity", above=0.0)
    rates = _numbers(columns, "rate") if "rate" in columns else np.full(len(strike), float(rate))
    if "forward" in columns:
        forward = _numbers(columns, "forward", above=0.0)
    elif spot is not None:
        if not spot > 0 or not math.isfinite(spot):
            raise ToolError(
                "out_of_range", "spot", f"spot is {spot} and must be above 0", "give today's spot"
            )
        forward = spot * np.exp((rates - dividend) * maturity)
    else:
        raise ToolError(
            "missing_forward", "spot", "neither a spot nor a forward column was given",
            "give spot (with rate and dividend), or a forward a row",
        )  # fmt: skip
    _one_value_a_maturity(maturity, forward, "forward")
    is_call = _types(columns, len(strike))
    if "volatility" in columns:
        volatility = _numbers(columns, "volatility", above=0.0)
    else:
        price = _numbers(columns, "price", above=0.0)
        volatility = _imply(price, strike, maturity, forward, rates, is_call)
    return Quotes(strike, maturity, forward, rates, volatility, is_call)


def crossed_quotes(quotes: Quotes) -> list[str]:
    """Sentences on neighbours at one maturity whose call prices rise, fall too fast, or bend down.

    Checked on undiscounted calls at the quotes' volatilities; where a strike is quoted twice, on
    the mean of its volatilities.
    """
    found = []
    for maturity in np.unique(quotes.maturity):
        own = np.flatnonzero(quotes.maturity == maturity)
        strikes = np.unique(quotes.strike[own])
        rows = [own[quotes.strike[own] == strike] for strike in strikes]
        forward = quotes.forward[own[0]]
        volatilities = np.array([quotes.volatility[each].mean() for each in rows])
        calls = black_scholes.price(forward, strikes, maturity, 0.0, volatilities)
        slopes = np.diff(calls) / np.diff(strikes)
        slack = ROUNDING * forward / np.diff(strikes)
        where = f"at maturity {maturity:g}"
        for i, slope in enumerate(slopes):
            if slope > slack[i] or slope < -1 - slack[i]:
                wrong = "rise with the strike" if slope > 0 else "fall faster than the strike rises"
                found.append(f"{_rows(rows[i : i + 2])} {where}: call prices {wrong}")
        for i, (left, right) in enumerate(itertools.pairwise(slopes)):
            if right - left < -(slack[i] + slack[i + 1]):
                found.append(
                    f"{_rows(rows[i : i + 3])} {where}: call prices are not convex in the strike "
                    f"(the middle quote is too dear for its neighbours)"
                )
    return found


def _rows(groups: Sequence[np.ndarray]) -> str:
    names = [str(row) for group in groups for row in group]
    return f"rows {', '.join(names[:-1])} and {names[-1]}"


def _columns(quotes: Any) -> dict[str, list[Any]]:
    if isinstance(quotes, Mapping):
        columns = {str(name): list(values) for name, values in quotes.items()}
    elif isinstance(quotes, Sequence) and quotes and all(isinstance(q, Mapping) for q in quotes):
        names = list(quotes[0])
        for row, own in enumerate(quotes):
            if set(own) != set(names):
                raise ToolError(
                    "ragged_table", "quotes",
                    f"row {row} has columns {', '.join(map(str, own))}; row 0 has "
                    f"{', '.join(map(str, names))}",
                    "give every row the same columns",
                )  # fmt: skip
        columns = {str(name): [own[name] for own in quotes] for name in names}
    else:
        raise ToolError(
            "not_a_table", "quotes", f"quotes must be columns by name or rows as dicts, not "
            f"{str(quotes)[:60]!r}", 'such as {"strike": [...], "maturity": [...], ...}',
        )  # fmt: skip
    for name in columns:
        if name not in COLUMNS:
            near = difflib.get_close_matches(name, COLUMNS, 1)
            raise ToolError(
                "unknown_column", "quotes", f"quotes has a column {name!r}, which is not known",
                f"did you mean {near[0]!r}?" if near else f"known: {', '.join(COLUMNS)}",
            )  # fmt: skip
    for name in ("strike", "maturity"):
        if name not in columns:
            raise ToolError("missing_column", "quotes", f"quotes has no column {name!r}", "add it")
    if ("volatility" in columns) == ("price" in columns):
        both = "both" if "price" in columns else "neither"
        raise ToolError(
            "missing_column", "quotes", f"quotes has {both} of the columns volatility and price",
            "give exactly one of them",
        )  # fmt: skip
    lengths = {name: len(values) for name, values in columns.items()}
    if len(set(lengths.values())) > 1 or not lengths["strike"]:
        raise ToolError(
            "ragged_table", "quotes", f"the columns of quotes have lengths {lengths}",
            "give every column one entry a quote",
        )  # fmt: skip
    return columns


def _numbers(columns: Mapping[str, list[Any]], name: str, above: float | None = None) -> np.ndarray:
    for row, value in enumerate(columns[name]):
        if isinstance(value, bool) or not isinstance(value, (int, float, np.number)):
            raise ToolError(
                "not_a_number", "quotes", f"row {row}: {name} is {value!r}, not a number",
                "give numbers without quotation marks",
            )  # fmt: skip
        if not math.isfinite(value) or (above is not None and value <= above):
            bound = "finite" if above is None else f"finite and above {above:g}"
            raise ToolError(
                "out_of_range", "quotes", f"row {row}: {name} is {value} and must be {bound}",
                "correct or drop the row",
            )  # fmt: skip
    return np.array(columns[name], dtype=np.float64)


def _types(columns: Mapping[str, list[Any]], count: int) -> np.ndarray:
    if "option_type" not in columns:
        if "price" in columns:
            raise ToolError(
                "missing_column", "quotes", "quotes has prices but no column 'option_type'",
                'add a column of "call" and "put"',
            )  # fmt: skip
        return np.ones(count, bool)
    for row, value in enumerate(columns["option_type"]):
        if value not in ("call", "put"):
            raise ToolError(
                "unknown_choice",
                "quotes",
                f"row {row}: option_type is {value!r}",
                'say "call" or "put"',
            )
    return np.array([value == "call" for value in columns["option_type"]])


def _one_value_a_maturity(maturity: np.ndarray, values: np.ndarray, name: str) -> None:
    for each in np.unique(maturity):
        rows = np.flatnonzero(maturity == each)
        off = rows[np.abs(values[rows] / values[rows[0]] - 1) > 1e-9]
        if len(off):
            raise ToolError(
                "inconsistent_column", "quotes",
                f"rows {rows[0]} and {off[0]} share maturity {each:g} and differ in {name}: "
                f"{values[rows[0]]:.10g} and {values[off[0]]:.10g}",
                f"give one {name} a maturity",
            )  # fmt: skip


def _imply(
    price: np.ndarray,
    strike: np.ndarray,
    maturity: np.ndarray,
    forward: np.ndarray,
    rate: np.ndarray,
    is_call: np.ndarray,
) -> np.ndarray:
    """Volatilities of discounted prices; an option on the forward yields the rate."""
    terms = {"dividend": rate, "is_call": is_call}
    solved = solve_implied_volatility(price, forward, strike, maturity, rate, **terms)
    for row, status in enumerate(solved.status):
        if status != SOLVED:
            bounds = price_bounds(forward, strike, maturity, rate, **terms)
            low, high = bounds.lower[row], bounds.upper[row]
            code = "no_volatility" if status == AT_LOWER_BOUND else "outside_arbitrage_bounds"
            raise ToolError(
                code, "quotes",
                f"row {row}: {STATUS[int(status)]} (the {'call' if is_call[row] else 'put'} at "
                f"strike {strike[row]:g} costs {price[row]:g}; its bounds are {low:.6g} and "
                f"{high:.6g})",
                "correct or drop the row; prices are discounted, a year's volatility is implied",
            )  # fmt: skip
    return np.asarray(solved.volatility)
