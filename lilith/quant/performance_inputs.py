"""What performance figures are computed from: returns or prices that can be what they are called,
and dates without holes."""

from __future__ import annotations

import datetime
import itertools
from collections.abc import Sequence

import numpy as np

from lilith.quant.tool import Parameter
from lilith.quant.tool_values import ToolError

LONGEST_CLOSURE = 5  # days between two rows of daily data: a long weekend
MOST_WEEKDAYS_WITHOUT_ROW = 0.1  # of the weekdays; holidays are 3% to 7% of them
NAMED_AT_MOST = 5  # of a list of offenders

KIND = Parameter(
    "kind",
    "string",
    "what the numbers are: periodic simple returns, or prices, which are converted",
    default="returns",
    choices=("returns", "prices"),
)
MISSING_DAYS = Parameter(
    "missing_days",
    "string",
    "what holes between the dates are: an error, or allowed",
    default="error",
    choices=("error", "allow"),
)
PERIODS_PER_YEAR = Parameter(
    "periods_per_year",
    "number",
    "periods in a year: 252 trading days, 52 weeks, 12 months",
    unit="periods per year",
    default=252.0,
    above=0.0,
)


def as_returns(field: str, values: np.ndarray, kind: str) -> np.ndarray:
    """Simple returns [T] of ``values`` [T], or [T - 1] of prices.

    Raises:
      ToolError: a price is not positive, a return is below -100%, the values look like the other
        kind, or fewer than two returns remain.
    """
    if kind == "prices":
        check_prices(field, values)
        values = np.diff(values) / values[:-1]
    else:
        _check_returns(field, values)
    if len(values) < 2:
        needed = "three prices" if kind == "prices" else "two returns"
        given = f"{len(values) + (kind == 'prices')} {kind}"
        raise ToolError(
            "too_few_observations",
            field,
            f"{field} has {given}: one return has no spread and no ratio",
            f"give at least {needed}",
        )
    return values


def check_prices(field: str, prices: np.ndarray, column: str = "") -> None:
    """Refuse a price [T] that is not positive; ``column`` is its name in a table.

    Raises:
      ToolError: there is one.
    """
    wrong = np.flatnonzero(prices <= 0)
    if wrong.size:
        hint = "give positive prices"
        if (prices < 0).any():
            hint += ', or say kind="returns" if these are returns'
        at = int(wrong[0])
        raise ToolError(
            "price_not_positive",
            field,
            f"{field}{column}[{at}] is {prices[at]:g}, and a price must be above 0",
            hint,
        )


def _check_returns(field: str, returns: np.ndarray) -> None:
    if len(returns) > 1 and (returns > 0).all() and np.median(returns) > 0.5:
        raise ToolError(
            "prices_as_returns",
            field,
            f"{field} looks like prices: all {len(returns)} values are positive and the middle one "
            f"is {np.median(returns):g}, as a return {np.median(returns):.0%} a period",
            'say kind="prices" to convert them, or give returns as fractions (0.01 is 1%)',
        )
    wrong = np.flatnonzero(returns < -1)
    if wrong.size:
        at = int(wrong[0])
        raise ToolError(
            "return_below_minus_one",
            field,
            f"{field}[{at}] is {returns[at]:g}, a loss of more than 100%",
            "give returns as fractions (-0.02 is -2%), not percent or log returns",
        )


def check_equal_length(field: str, count: int, other: str, other_count: int) -> None:
    """Refuse ``field`` where it has not as many entries as ``other``."""
    if count != other_count:
        raise ToolError(
            "length_mismatch",
            field,
            f"{field} has {count} entries and {other} has {other_count}",
            f"give {field} one entry for each of {other}, on the same days",
        )


def check_spacing(
    field: str, dates: Sequence[str], periods_per_year: float, missing_days: str
) -> list[str]:
    """Warnings about holes between rising ISO ``dates``; none where these are allowed.

    Rows are daily where the middle distance is a day: then a hole of more than five days, or more
    than a tenth of the weekdays without a row (of all days, above 300 periods a year), is an error.
    Otherwise a distance over 1.6 times the middle one is.

    Raises:
      ToolError: there is a hole, and ``missing_days`` is "error".
    """
    days = [datetime.date.fromisoformat(day) for day in dates]
    gaps = [(later - earlier).days for earlier, later in itertools.pairwise(days)]
    if not gaps or missing_days == "allow":
        return []
    usual = sorted(gaps)[len(gaps) // 2]
    daily = usual == 1
    every_day = daily and periods_per_year > 300
    longest = 1 if every_day else LONGEST_CLOSURE if daily else 1.6 * usual
    holes = [
        f"{days[i]} to {days[i + 1]} ({gap} days)" for i, gap in enumerate(gaps) if gap > longest
    ]
    if holes:
        raise _missing_days(
            field, f"{_first(holes)}, where rows are {usual} day{'s' * (usual > 1)} apart"
        )
    if not daily:
        return []
    absent = _weekdays_without_row(days)
    weekdays = len(absent) + sum(day.weekday() < 5 for day in days)
    if len(absent) > MOST_WEEKDAYS_WITHOUT_ROW * weekdays:
        raise _missing_days(
            field, f"{len(absent)} of {weekdays} weekdays have no row: {_first(absent)}"
        )
    if absent:
        return [
            f"{field}: {len(absent)} of {weekdays} weekdays have no row, taken for holidays: "
            f"{_first(absent)}"
        ]
    return []


def _weekdays_without_row(days: Sequence[datetime.date]) -> list[str]:
    absent = []
    for earlier, later in itertools.pairwise(days):
        between = (earlier + datetime.timedelta(i) for i in range(1, (later - earlier).days))
        absent += [day.isoformat() for day in between if day.weekday() < 5]
    return absent


def _first(names: Sequence[str]) -> str:
    more = len(names) - NAMED_AT_MOST
    return ", ".join(names[:NAMED_AT_MOST]) + (f" and {more} more" if more > 0 else "")


def _missing_days(field: str, what: str) -> ToolError:
    return ToolError(
        "missing_days",
        field,
        f"{field} has holes: {what}",
        'add the missing rows, or say missing_days="allow" if nothing was traded then',
    )
