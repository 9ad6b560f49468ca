"""The tool backtest_metrics: what it answers, and what it refuses, in words."""

from __future__ import annotations

import datetime
import json
from typing import Any

import numpy as np
import pytest

from lilith.quant.performance_tools import backtest_metrics

RETURNS = [0.012, -0.031, 0.0, 0.018, -0.004, 0.027, -0.015, 0.006, -0.022, 0.009]
PRICES = [100 * float(x) for x in np.cumprod([1, *(1 + np.array(RETURNS))])]


def weekdays(count: int, first: str = "2024-03-04") -> list[str]:
    day, found = datetime.date.fromisoformat(first), []
    while len(found) < count:
        if day.weekday() < 5:
            found.append(day.isoformat())
        day += datetime.timedelta(1)
    return found


def refused(*args: Any, **how: Any) -> dict[str, Any]:
    answer = backtest_metrics(*args, **how)
    assert not answer["ok"], answer
    error = answer["error"]
    assert all(error[part] for part in ("code", "field", "message", "hint"))
    return error


def test_answer_is_json_and_states_units_and_conventions() -> None:
    answer = backtest_metrics(RETURNS, benchmark=RETURNS[::-1], dates=weekdays(10))
    assert json.loads(json.dumps(answer)) == answer
    result = answer["result"]
    for name, value in result.items():
        if isinstance(value, float):
            assert name in answer["units"], name
    assert answer["conventions"]["ddof"] == 1
    assert answer["conventions"]["periods_per_year"] == 252
    assert result["zero_periods"] == 1
    assert result["win_rate_excl_zero"] == pytest.approx(5 / 9)
    assert result["win_rate_incl_zero"] == pytest.approx(5 / 10)


def test_drawdown_dates_are_given_where_dates_are() -> None:
    days = weekdays(10)
    result = backtest_metrics(RETURNS, dates=days)["result"]
    assert result["drawdown"]["peak"] == {"period": 1, "date": days[0]}
    assert result["drawdown"]["trough"] == {"period": 2, "date": days[1]}
    assert result["longest_drawdown"]["peak"]["period"] in (1, 6)
    undated = backtest_metrics(RETURNS)["result"]["drawdown"]
    assert undated["peak"] == {"period": 1, "date": None}
    # Prices have a date for the baseline.
    falling = backtest_metrics([100.0, 90.0, 95.0], kind="prices", dates=days[:3])["result"]
    assert falling["drawdown"]["peak"] == {"period": 0, "date": days[0]}
    assert falling["drawdown"]["recovery"] is None


def test_prices_are_converted_when_told_so() -> None:
    ours, theirs = backtest_metrics(PRICES, kind="prices"), backtest_metrics(RETURNS)
    for name in ("sharpe", "total_return", "max_drawdown", "cvar95_historical"):
        assert ours["result"][name] == pytest.approx(theirs["result"][name], rel=1e-9)


def test_value_at_risk_is_named_by_level_and_method() -> None:
    result = backtest_metrics(RETURNS, confidence=0.975)["result"]
    for method in ("historical", "normal", "cornish_fisher"):
        assert result[f"cvar97.5_{method}"] < 0
        assert result[f"var97.5_{method}"] < 0
    assert "var95_historical" not in result


def test_monthly_table_and_series() -> None:
    days = weekdays(10, "2023-12-26")
    answer = backtest_metrics(RETURNS, dates=days, include_series=True, rolling_window=4,
                              missing_days="allow")  # fmt: skip
    months = answer["result"]["monthly_returns"]
    split = sum(day < "2024" for day in days)
    assert list(months) == ["2023", "2024"]
    assert months["2023"]["12"] == months["2023"]["year"]
    assert months["2023"]["12"] == pytest.approx(np.prod(1 + np.array(RETURNS[:split])) - 1)
    series = answer["result"]["series"]
    assert series["rolling_sharpe"][:3] == [None] * 3
    assert None not in series["rolling_sharpe"][3:]
    assert series["equity"][-1] == pytest.approx(1 + answer["result"]["total_return"])
    assert min(series["drawdown"]) == answer["result"]["max_drawdown"]
    assert answer["warnings"] == [text for text in answer["warnings"] if "null" not in text]


def test_constant_returns_have_no_sharpe_ratio_and_a_reason() -> None:
    answer = backtest_metrics([0.01] * 10)
    assert answer["ok"]
    assert answer["result"]["sharpe"] is None
    why = "the returns are constant (0.01), so their standard deviation is 0"
    assert answer["diagnostics"]["null_reasons"]["sharpe"] == why
    assert f"result.sharpe is null: {why}" in answer["warnings"]
    rounded = backtest_metrics([100 * 1.01**k for k in range(11)], kind="prices")
    assert rounded["result"]["sharpe"] is None
    assert rounded["result"]["skew_unbiased"] is None


def test_required_return_is_the_risk_free_rate_where_it_is_not_given() -> None:
    plain = backtest_metrics(RETURNS, risk_free_rate=0.03)
    told = backtest_metrics(RETURNS, risk_free_rate=0.03, required_return=0.03)
    zero = backtest_metrics(RETURNS, risk_free_rate=0.03, required_return=0.0)
    assert plain["conventions"]["required_return"] == 0.03
    assert plain["result"]["sortino"] == told["result"]["sortino"] < zero["result"]["sortino"]


@pytest.mark.parametrize(
    ("code", "names", "call"),
    [
        ("missing_value", "returns[1]", {"returns": [0.01, float("nan"), 0.02]}),
        ("missing_value", "returns[1]", {"returns": [0.01, None, 0.02]}),
        ("not_finite", "returns[2] is inf", {"returns": [0.01, 0.02, float("inf")]}),
        ("not_a_number", "'0.02'", {"returns": [0.01, "0.02", 0.03]}),
        ("prices_as_returns", "103", {"returns": [101.0, 103.0, 104.0]}),
        ("prices_as_returns", "1.02", {"returns": [1.01, 1.02, 1.03]}),
        ("return_below_minus_one", "-1.5", {"returns": [0.1, -1.5, 0.1]}),
        ("price_not_positive", "-0.02", {"returns": [0.01, -0.02, 0.01], "kind": "prices"}),
        ("too_few_observations", "1 returns", {"returns": [0.01]}),
        ("too_few_observations", "2 prices", {"returns": [100.0, 101.0], "kind": "prices"}),
        ("too_few_entries", "returns", {"returns": []}),
        ("length_mismatch", "benchmark has 9", {"returns": RETURNS, "benchmark": RETURNS[1:]}),
        ("length_mismatch", "dates has 9", {"returns": RETURNS, "dates": weekdays(9)}),
        ("out_of_range", "periods_per_year is 0", {"returns": RETURNS, "periods_per_year": 0}),
        ("out_of_range", "periods_per_year is -1", {"returns": RETURNS, "periods_per_year": -1}),
        ("out_of_range", "confidence is 95", {"returns": RETURNS, "confidence": 95}),
        ("unknown_choice", "'price'", {"returns": RETURNS, "kind": "price"}),
        ("unknown_argument", "'benchmrk'", {"returns": RETURNS, "benchmrk": RETURNS}),
        ("window_too_long", "126", {"returns": RETURNS, "include_series": True}),
    ],
)  # fmt: skip
def test_refusals_name_the_field_and_the_value(code: str, names: str, call: dict[str, Any]) -> None:
    error = refused(**call)
    assert error["code"] == code
    assert names in error["message"]


def test_hints_say_what_to_do() -> None:
    assert 'kind="prices"' in refused([101.0, 103.0, 104.0])["hint"]
    assert 'kind="returns"' in refused([0.01, -0.02], kind="prices")["hint"]
    assert "fractions" in refused([0.5, -1.5, 2.0])["hint"]


def test_dates_out_of_order_twice_or_with_holes() -> None:
    days = weekdays(10)
    swapped = [*days[:3], days[4], days[3], *days[5:]]
    assert refused(RETURNS, dates=swapped)["code"] == "dates_not_rising"
    twice = [*days[:4], days[3], *days[5:]]
    assert days[3] in refused(RETURNS, dates=twice)["message"]
    assert refused(RETURNS, dates=[*days[:9], "2024-02-30"])["code"] == "not_a_date"

    far = [*days[:5], *weekdays(5, "2024-03-20")]  # a hole of twelve days
    error = refused(RETURNS, dates=far)
    assert (error["code"], error["field"]) == ("missing_days", "dates")
    assert "2024-03-08 to 2024-03-20 (12 days)" in error["message"]
    assert 'missing_days="allow"' in error["hint"]
    assert backtest_metrics(RETURNS, dates=far, missing_days="allow")["ok"]

    spotted = [day for day in weekdays(12) if day not in ("2024-03-06", "2024-03-13")]
    assert "2 of 12 weekdays" in refused(RETURNS, dates=spotted)["message"]
    one = [day for day in weekdays(11) if day != "2024-03-06"]
    answer = backtest_metrics(RETURNS, dates=one)
    assert answer["ok"]
    assert any("2024-03-06" in text for text in answer["warnings"])
    # A market that never closes misses a week-end.
    assert refused(RETURNS, dates=days, periods_per_year=365)["code"] == "missing_days"
    months = [f"2024-{month:02}-28" for month in (1, 2, 3, 4, 6, 7, 8, 9, 10, 11)]
    error = refused(RETURNS, dates=months, periods_per_year=12)
    assert "2024-04-28 to 2024-06-28" in error["message"]


def test_schema_lists_every_choice() -> None:
    properties = backtest_metrics.schema()["function"]["parameters"]["properties"]
    assert properties["kind"]["enum"] == ["returns", "prices"]
    assert properties["periods_per_year"]["exclusiveMinimum"] == 0
    assert backtest_metrics.schema()["function"]["parameters"]["required"] == ["returns"]
