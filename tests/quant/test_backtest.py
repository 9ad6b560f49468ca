"""The backtest: no look-ahead, costs, cash, leverage, shorts, ruin; and its tool."""

from __future__ import annotations

import json
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lilith.quant.backtest_tools import backtest as tool
from lilith.quant.backtesting import BAD_INPUT, RUINED, Costs, backtest

ROWS, ASSETS = 9, 2
GENERATOR = np.random.default_rng(7)
PRICES = 100 * np.cumprod(1 + GENERATOR.normal(0, 0.03, (ROWS, ASSETS)), axis=0)
SIGNALS = GENERATOR.uniform(-1, 1, (ROWS, ASSETS))
COSTS = Costs(fee_bps=7.0, slippage_bps=5.0)
RATES = {"cash_rate": 1e-4, "borrow_rate": 3e-4, "short_rate": 2e-4}


def by_the_book(
    signals: np.ndarray, prices: np.ndarray, costs: Costs, rates: dict[str, float]
) -> list[float]:
    """The same account kept in money and shares, one day after another."""
    wealth, holdings, equity = 1.0, np.zeros(prices.shape[1]), [1.0]
    for t in range(len(prices) - 1):
        wanted = signals[t] * wealth  # in money, decided and traded at the prices of day t
        traded = np.abs(wanted - holdings * prices[t]).sum()
        share = 1 - traded / wealth * (costs.fee_bps + costs.slippage_bps) / 10_000
        wealth *= share
        holdings = signals[t] * wealth / prices[t]
        cash = wealth - (holdings * prices[t]).sum()
        cash += max(cash, 0) * rates["cash_rate"] + min(cash, 0) * rates["borrow_rate"]
        cash -= rates["short_rate"] * -np.minimum(holdings * prices[t], 0).sum()
        wealth = cash + (holdings * prices[t + 1]).sum()
        equity.append(wealth)
    return equity


def test_equity_is_that_of_an_account_kept_by_hand() -> None:
    found = backtest(2 * SIGNALS, PRICES, COSTS, **RATES)
    expected = by_the_book(2 * SIGNALS, PRICES, COSTS, RATES)
    np.testing.assert_allclose(found.equity, expected, rtol=1e-12)
    np.testing.assert_allclose(np.cumprod(1 + found.returns), expected[1:], rtol=1e-12)
    assert found.status == 0


@pytest.mark.parametrize("day", range(ROWS))
def test_the_future_changes_nothing(day: int) -> None:
    """Other prices and signals after ``day`` leave all that was earned until then, to the bit."""
    prices, signals = PRICES.copy(), SIGNALS.copy()
    prices[day + 1 :] = prices[day + 1 :][::-1] * 3
    signals[day + 1 :] = -signals[day + 1 :] + 0.7
    before, after = (
        backtest(s, p, COSTS, **RATES) for s, p in ((SIGNALS, PRICES), (signals, prices))
    )
    np.testing.assert_array_equal(before.equity[: day + 1], after.equity[: day + 1])
    np.testing.assert_array_equal(before.returns[:day], after.returns[:day])
    # What was traded on that day was decided on that day.
    np.testing.assert_array_equal(before.turnover[: day + 1], after.turnover[: day + 1])
    if day < ROWS - 2:
        assert (before.returns[day + 1 :] != after.returns[day + 1 :]).any()


def test_a_signal_earns_from_its_day_to_the_next() -> None:
    prices = np.array([100.0, 110.0, 99.0, 99.0])
    for day, earned in enumerate((0.1, -0.1, 0.0)):
        signal = np.zeros(4)
        signal[day] = 1.0
        found = backtest(signal, prices)
        assert found.returns[day] == pytest.approx(earned, abs=1e-15)
        assert np.count_nonzero(found.returns) == (earned != 0)
    late = backtest(np.array([0.0, 0.0, 0.0, 1.0]), prices)  # the last row is not traded
    assert not late.returns.any()
    assert not late.turnover.any()


def test_costs_and_turnover() -> None:
    flat = np.full(5, 100.0)
    found = backtest([1.0, 1.0, -1.0, 0.0, 0.5], flat, Costs(fee_bps=10, slippage_bps=5))
    np.testing.assert_allclose(found.turnover, [1, 0, 2, 1], atol=1e-15)
    np.testing.assert_allclose(found.returns, [-0.0015, 0, -0.003, -0.0015], atol=1e-15)
    # A weight of a half drifts as prices move, and is traded back.
    drifting = backtest([0.5, 0.5, 0.5], [100.0, 150.0, 150.0])
    assert drifting.turnover[1] == pytest.approx(0.75 / 1.25 - 0.5, rel=1e-14)


def test_cash_leverage_and_shorts() -> None:
    flat = np.full(3, 100.0)
    idle = backtest([0.25, 0.25, 0], flat, cash_rate=0.01, borrow_rate=0.02)
    np.testing.assert_allclose(idle.returns, 0.0075, rtol=1e-13)
    levered = backtest([3.0, 3.0, 0], flat, cash_rate=0.01, borrow_rate=0.02)
    np.testing.assert_allclose(levered.returns, -0.04, rtol=1e-13)
    np.testing.assert_allclose(levered.leverage, 3)
    np.testing.assert_allclose(levered.cash, -2)
    short = backtest([-1.0, -1.0, 0], [100.0, 90.0, 99.0], short_rate=0.001)
    np.testing.assert_allclose(short.returns, [0.099, -0.101], rtol=1e-13)


def test_a_lost_account_stays_lost() -> None:
    found = backtest([-1.0, -1.0, 1.0, 1.0], [100.0, 250.0, 100.0, 300.0], COSTS)
    assert found.status == RUINED
    np.testing.assert_array_equal(found.equity, [1, 0, 0, 0])
    np.testing.assert_array_equal(found.turnover[1:], 0)
    dear = backtest([1.0, 1.0], [100.0, 100.0], Costs(fee_bps=20_000))
    assert dear.equity[-1] == 0


def test_bad_values_are_nan_with_a_status_and_shapes_are_refused() -> None:
    holed = PRICES.copy()
    holed[3, 1] = np.nan
    assert backtest(SIGNALS, holed).status == BAD_INPUT
    assert np.isnan(backtest(SIGNALS, holed).equity[-1])
    assert backtest([1.0, 1.0, 1.0], [100.0, -5.0, 100.0]).status == BAD_INPUT
    with pytest.raises(ValueError, match="9, 1"):
        backtest(SIGNALS[:, :1], PRICES)


def test_strategies_in_a_batch_under_vmap_and_jit() -> None:
    many = np.stack([SIGNALS, -SIGNALS, 0.5 * SIGNALS])
    together = backtest(many, PRICES, COSTS, **RATES)
    alone = backtest(many[1], PRICES, COSTS, **RATES)
    np.testing.assert_allclose(together.equity[1], alone.equity, rtol=1e-13)
    with jax.enable_x64(True):
        mapped = jax.jit(jax.vmap(lambda own: backtest(own, jnp.asarray(PRICES)).returns))(
            jnp.asarray(many)
        )
    np.testing.assert_allclose(mapped, backtest(many, PRICES).returns, rtol=1e-12, atol=1e-15)


def test_final_wealth_has_a_gradient_in_signals_and_prices() -> None:
    def wealth(signals: Any, prices: Any) -> Any:
        return backtest(signals, prices, COSTS, **RATES).equity[-1]

    with jax.enable_x64(True):
        slopes = jax.jit(jax.grad(wealth, (0, 1)))(jnp.asarray(SIGNALS), jnp.asarray(PRICES))
    step = 1e-6
    for row, column in ((0, 0), (4, 1), (ROWS - 1, 0)):
        moved = np.zeros((ROWS, ASSETS))
        moved[row, column] = step
        by_signal = (wealth(SIGNALS + moved, PRICES) - wealth(SIGNALS - moved, PRICES)) / (2 * step)
        by_price = (wealth(SIGNALS, PRICES + moved) - wealth(SIGNALS, PRICES - moved)) / (2 * step)
        assert float(slopes[0][row, column]) == pytest.approx(float(by_signal), abs=1e-7)
        assert float(slopes[1][row, column]) == pytest.approx(float(by_price), abs=1e-8)
    assert not np.asarray(slopes[0])[-1].any()


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1), st.floats(0, 50))
def test_costs_never_help_and_order_of_assets_does_not_matter(seed: int, bps: float) -> None:
    generator = np.random.default_rng(seed)
    prices = 50 * np.cumprod(1 + generator.normal(0, 0.02, (ROWS, ASSETS)), axis=0)
    signals = generator.uniform(-1, 1, (ROWS, ASSETS))
    free, paid = backtest(signals, prices), backtest(signals, prices, Costs(fee_bps=bps))
    assert (paid.equity <= free.equity + 1e-15).all()
    swapped = backtest(signals[:, ::-1], prices[:, ::-1], Costs(fee_bps=bps))
    np.testing.assert_allclose(swapped.equity, paid.equity, rtol=1e-13)
    scaled = backtest(signals, prices * 17.0, Costs(fee_bps=bps))
    np.testing.assert_allclose(scaled.equity, paid.equity, rtol=1e-12)


DAYS = ["2024-01-02", "2024-01-03", "2024-01-04", "2024-01-05", "2024-01-08"]
TABLE = {"date": DAYS, "A": [100.0, 101, 99, 103, 104], "B": [50.0, 49, 51, 52, 50]}
WEIGHTS = {"B": [0.5, 0.5, 0, 0, 0], "A": [0.5, 0.0, 1, 1, 0]}


def test_tool_answers_in_json_and_matches_columns_by_name() -> None:
    answer = tool(WEIGHTS, TABLE, costs={"fee_bps": 10})
    assert json.loads(json.dumps(answer)) == answer
    assert answer["ok"]
    assert answer["result"]["dates"] == DAYS
    signals = np.array([WEIGHTS["A"], WEIGHTS["B"]]).T
    prices = np.array([TABLE["A"], TABLE["B"]], float).T
    expected = backtest(signals, prices, Costs(fee_bps=10))
    np.testing.assert_allclose(answer["result"]["equity"], expected.equity, rtol=1e-13)
    assert answer["result"]["total_return"] == pytest.approx(expected.equity[-1] - 1, rel=1e-12)
    assert answer["conventions"]["fee_bps"] == 10
    yearly = tool([0.0] * 5, TABLE["A"], cash_rate=0.05)
    assert yearly["result"]["returns"][0] == pytest.approx(1.05 ** (1 / 252) - 1, rel=1e-12)
    assert yearly["result"]["sharpe"] is None
    lost = tool([-1.0, 0, 0], [100.0, 300.0, 100.0])
    assert any("lost at period 1" in text for text in lost["warnings"])


@pytest.mark.parametrize(
    ("code", "field", "names", "call"),
    [
        ("missing_value", "prices", "prices[B][2024-01-04]",
         {"prices": {**TABLE, "B": [50.0, 49, None, 52, 50]}}),
        ("missing_value", "signals", "signals[A][2]",
         {"signals": {**WEIGHTS, "A": [0, 0, float("nan"), 0, 0]}}),
        ("not_a_number", "prices", "'52'", {"prices": {**TABLE, "B": [50.0, 49, 51, "52", 50]}}),
        ("not_finite", "prices", "inf", {"prices": {**TABLE, "B": [50.0, 49, 51, np.inf, 50]}}),
        ("price_not_positive", "prices", "prices[B][1] is -0.02",
         {"prices": {**TABLE, "B": [0.01, -0.02, 0.01, 0.0, 0.03]}}),
        ("missing_days", "dates", "2024-01-04 to 2024-01-15",
         {"prices": {**TABLE, "date": [*DAYS[:3], "2024-01-15", "2024-01-16"]}}),
        ("dates_not_rising", "prices", "2024-01-03",
         {"prices": {**TABLE, "date": [*DAYS[:2], *DAYS[1:4]]}}),
        ("dates_differ", "signals", "2024-01-09",
         {"signals": {**WEIGHTS, "date": [*DAYS[:4], "2024-01-09"]}}),
        ("unmatched_asset", "prices", "'C'", {"signals": {**WEIGHTS, "C": [0.0] * 5}}),
        ("unmatched_asset", "signals", "1 columns", {"signals": [0.0] * 5}),
        ("length_mismatch", "signals", "4", {"signals": {"A": [0.0] * 4, "B": [0.0] * 4}}),
        ("too_much_leverage", "signals", "row 1 sum to 1.5",
         {"signals": {"A": [0, 1.0, 0, 0, 0], "B": [0, -0.5, 0, 0, 0]}}),
        ("negative_costs", "costs", "costs.fee_bps is -3", {"costs": {"fee_bps": -3}}),
        ("not_a_number", "costs", "'3'", {"costs": {"slippage_bps": "3"}}),
        ("unknown_key", "costs", "'commission'", {"costs": {"commission": 3}}),
        ("out_of_range", "periods_per_year", "0", {"periods_per_year": 0}),
        ("out_of_range", "short_rate", "-0.1", {"short_rate": -0.1}),
        ("too_few_observations", "prices", "2 rows",
         {"signals": [[0.0], [0.0]], "prices": [[1.0], [2.0]]}),
    ],
)  # fmt: skip
def test_tool_refuses(code: str, field: str, names: str, call: dict[str, Any]) -> None:
    answer = tool(**{"signals": WEIGHTS, "prices": TABLE, **call})
    assert not answer["ok"], answer
    error = answer["error"]
    assert (error["code"], error["field"]) == (code, field)
    assert names in error["message"]
    assert error["hint"]
    assert tool(WEIGHTS, TABLE, max_leverage=2.0)["ok"]


def test_the_package_offers_the_tool_whatever_was_imported_before() -> None:
    import lilith.quant

    assert lilith.quant.backtest is tool
