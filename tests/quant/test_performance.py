"""Performance figures: reference cases, our own mpmath numbers, limits, gradients, and the tool."""

from __future__ import annotations

import json
import math
import pathlib
from typing import Any

import jax
import jax.numpy as jnp
import mpmath
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lilith.quant import performance as core
from lilith.quant.drawdown import (
    cumulative_return,
    drawdown_series,
    longest_drawdown,
    maximum_drawdown,
    ulcer_index,
)
from lilith.quant.performance_summary import performance_summary
from lilith.quant.performance_tools import backtest_metrics
from lilith.quant.tail_risk import (
    conditional_value_at_risk,
    cornish_fisher_is_monotone,
    value_at_risk,
)

RETURNS = [0.012, -0.031, 0.0, 0.018, -0.004, 0.027, -0.015, 0.006, -0.022, 0.009, 0.014, -0.001]
BENCHMARK = [0.01, -0.02, 0.002, 0.011, -0.006, 0.02, -0.01, 0.0, -0.017, 0.013, 0.008, 0.003]
# What make_golden() printed: mpmath, 50 digits.
GOLDEN = {
    "total_return": 0.01146189240732369,
    "cagr": 0.27039865671907626,
    "annual_volatility": 0.27003282628733727,
    "sharpe": 0.9015180393463299,
    "sortino": 1.2868262782854696,
    "calmar": 8.72253731351859,
    "omega": 1.1572829613839286,
    "max_drawdown": -0.031,
    "ulcer_index": 0.018989045775017983,
    "profit_factor": 1.178082191780822,
    "tail_ratio": 0.8262910798122065,
    "skew_biased": -0.44960815458967196,
    "kurtosis_excess_biased": -0.6420971951674324,
    "skew_unbiased": -0.516560442086945,
    "kurtosis_excess_unbiased": -0.2868877656549203,
    "var_historical": -0.0213,
    "cvar_historical": -0.0265,
    "var_normal": -0.020716460032841805,
    "cvar_normal": -0.02876975627380103,
    "var_cornish_fisher": -0.022537054429375293,
    "cvar_cornish_fisher": -0.03074057411181113,
    "alpha": -0.10955855138958179,
    "alpha_compounded": -0.10379166287408363,
    "beta": 1.3348915854386314,
    "correlation": 0.9685614432973118,
    "tracking_error": 0.09390469055958231,
    "information_ratio": -0.22363100154912383,
}


def make_golden(returns: list[float], market: list[float]) -> dict[str, mpmath.mpf]:
    """Every figure by its definition, at 252 periods a year, 3% risk-free, 90% confidence."""
    mpmath.mp.dps = 50
    r, b = [mpmath.mpf(x) for x in returns], [mpmath.mpf(x) for x in market]
    n, year = len(r), mpmath.mpf(252)
    rate = mpmath.power(1 + mpmath.mpf(0.03), 1 / year) - 1
    mean = mpmath.fsum(r) / n
    moment = [mpmath.fsum((x - mean) ** k for x in r) / n for k in range(5)]
    deviation = mpmath.sqrt(moment[2] * n / (n - 1))
    wealth, peak, falls = mpmath.mpf(1), mpmath.mpf(1), []
    for x in r:
        wealth *= 1 + x
        peak = max(peak, wealth)
        falls.append(wealth / peak - 1)
    growth = wealth ** (year / n) - 1
    downside = mpmath.sqrt(mpmath.fsum(min(x - rate, 0) ** 2 for x in r) / n)
    ordered = sorted(r)

    def quantile(level: mpmath.mpf) -> mpmath.mpf:
        position = level * (n - 1)
        low = int(mpmath.floor(position))
        return ordered[low] + (position - low) * (ordered[min(low + 1, n - 1)] - ordered[low])

    value = quantile(mpmath.mpf(1) / 10)
    tail = [x for x in r if x <= value]
    z = mpmath.sqrt(2) * mpmath.erfinv(2 * mpmath.mpf(1) / 10 - 1)
    skew, kurtosis = moment[3] / moment[2] ** mpmath.mpf(1.5), moment[4] / moment[2] ** 2 - 3

    def expanded(p: mpmath.mpf) -> mpmath.mpf:
        q = mpmath.sqrt(2) * mpmath.erfinv(2 * p - 1)
        return mean + deviation * (
            q + (q**2 - 1) * skew / 6 + (q**3 - 3 * q) * kurtosis / 24
            - (2 * q**3 - 5 * q) * skew**2 / 36
        )  # fmt: skip

    center = mpmath.fsum(b) / n
    covariance = mpmath.fsum((x - mean) * (y - center) for x, y in zip(r, b))
    beta = covariance / mpmath.fsum((y - center) ** 2 for y in b)
    active = [x - y for x, y in zip(r, b)]
    gap = mpmath.fsum(active) / n
    error = mpmath.sqrt(mpmath.fsum((x - gap) ** 2 for x in active) / (n - 1))
    alpha = mean - rate - beta * (center - rate)
    root = mpmath.sqrt(year)
    below = mpmath.mpf(1) / 10
    return {
        "total_return": wealth - 1,
        "cagr": growth,
        "annual_volatility": deviation * root,
        "sharpe": (mean - rate) / deviation * root,
        "sortino": (mean - rate) / downside * root,
        "calmar": growth / -min(falls),
        "omega": mpmath.fsum(max(x - rate, 0) for x in r)
        / mpmath.fsum(max(rate - x, 0) for x in r),
        "max_drawdown": min(falls),
        "ulcer_index": mpmath.sqrt(mpmath.fsum(x**2 for x in falls) / n),
        "profit_factor": mpmath.fsum(x for x in r if x > 0) / -mpmath.fsum(x for x in r if x < 0),
        "tail_ratio": abs(quantile(1 - below) / value),
        "skew_biased": skew,
        "kurtosis_excess_biased": kurtosis,
        "skew_unbiased": skew * mpmath.sqrt(n * (n - 1)) / (n - 2),
        "kurtosis_excess_unbiased": (n - 1) * ((n + 1) * kurtosis + 6) / ((n - 2) * (n - 3)),
        "var_historical": value,
        "cvar_historical": mpmath.fsum(tail) / len(tail),
        "var_normal": mean + deviation * z,
        "cvar_normal": mean - deviation * mpmath.npdf(z) / below,
        "var_cornish_fisher": expanded(below),
        "cvar_cornish_fisher": mpmath.quad(expanded, mpmath.linspace(0, below, 9)) / below,
        "alpha": alpha * year,
        "alpha_compounded": (1 + alpha) ** year - 1,
        "beta": beta,
        "correlation": covariance
        / mpmath.sqrt(mpmath.fsum((y - center) ** 2 for y in b) * moment[2] * n),
        "tracking_error": error * root,
        "information_ratio": gap / error * root,
    }


def figures_of(returns: Any, **how: Any) -> dict[str, Any]:
    return performance_summary(
        returns, BENCHMARK, risk_free_rate=0.03, required_return=0.03, confidence=0.9, **how
    )


def test_golden_numbers_are_what_the_definitions_give() -> None:
    made = make_golden(RETURNS, BENCHMARK)
    assert made.keys() == GOLDEN.keys()
    for name, value in made.items():
        assert float(value) == pytest.approx(GOLDEN[name], rel=1e-13), name


def test_figures_match_mpmath() -> None:
    figures = figures_of(RETURNS)
    assert all(value.dtype in (np.float64, np.int64, np.bool_) for value in figures.values())
    for name, value in GOLDEN.items():
        # Kurtosis is a difference of nearly equal numbers; quadrature gives the last one.
        tolerance = 1e-9 if name == "cvar_cornish_fisher" else 1e-12
        assert figures[name] == pytest.approx(value, rel=tolerance), name


def test_reference_cases(lilith_data: pathlib.Path) -> None:
    cases = json.loads((lilith_data / "quant_reference" / "reference_cases.json").read_text())
    known = [case for case in cases["cases"] if case["kind"] == "backtest_metrics"]
    assert known
    for case in known:
        inputs, expected = case["inputs"], dict(case["expected"])
        answers = {
            "": backtest_metrics(**inputs)["result"],
            "_ddof0": backtest_metrics(**inputs, ddof=0)["result"],
            "_rf2pct_geometric": backtest_metrics(**inputs, risk_free_rate=0.02)["result"],
        }
        for name, value in expected.items():
            suffix = next((own for own in ("_ddof0", "_rf2pct_geometric") if own in name), "")
            got = answers[suffix][name.removesuffix(suffix)]
            assert got == pytest.approx(value, rel=case["suggested_rel_tol"]), name


def test_loss_on_the_first_day_is_a_drawdown_from_the_baseline() -> None:
    deepest = maximum_drawdown([-0.1, 0.05, 0.02])
    assert deepest.depth == pytest.approx(-0.1, rel=1e-15)
    assert (deepest.peak, deepest.trough, deepest.recovery) == (0, 1, -1)
    np.testing.assert_allclose(
        drawdown_series([-0.1, 0.05, 0.02]), [-0.1, -0.055, -0.0361], rtol=1e-14
    )


@pytest.mark.parametrize(
    ("returns", "deepest", "longest"),
    [
        # peak, trough, recovery and periods, peak, recovery; -1 is none
        ([0.1, 0.1, 0.0], (-1, -1, -1), (0, -1, -1)),
        ([0.1, -0.5, 0.0, 1.0, 0.1], (1, 2, 4), (2, 1, 4)),  # -50% and +100% is back, exactly
        ([-0.05, 1 / 0.95 - 1, -0.01], (0, 1, 2), (1, 0, 2)),  # back but for rounding
        ([-0.1, 0.2, -0.05, -0.01, -0.01, 0.0], (0, 1, 2), (4, 2, -1)),
        ([-0.5, 0.0, -1.0, 0.3], (0, 3, -1), (4, 0, -1)),  # all is lost, and nothing comes back
        ([0.0, 0.0, -0.1, 1.0], (2, 3, 4), (1, 2, 4)),  # the last peak, not the first equal one
    ],
)
def test_drawdown_dates(
    returns: list[float], deepest: tuple[int, ...], longest: tuple[int, ...]
) -> None:
    found = maximum_drawdown(returns)
    assert (found.peak, found.trough, found.recovery) == deepest
    assert tuple(longest_drawdown(returns)) == longest


def test_small_returns_keep_their_digits() -> None:
    tiny = np.full(50, 1e-13)
    assert core.total_return(tiny) == pytest.approx(
        math.expm1(50 * math.log1p(1e-13)), rel=1e-14, abs=0
    )
    near_one = np.array([100.0, 100.0 + 2.0**-40])
    assert core.returns_from_prices(near_one)[0] == 2.0**-40 / 100


def test_value_at_risk_at_a_level_of_an_observation_is_that_observation() -> None:
    # 1 - 0.9 is a hair below 0.1: the tail must hold two of eleven values all the same.
    returns = np.concatenate([[-0.9, -0.1], np.linspace(0.01, 0.05, 9)])
    assert value_at_risk(returns, confidence=0.9) == returns[1]
    assert conditional_value_at_risk(returns, confidence=0.9) == pytest.approx(returns[:2].mean())


def test_cornish_fisher_is_monotone_for_tails_a_little_fat_and_not_for_ours() -> None:
    levels = (np.arange(200) + 0.5) / 200
    normal = np.array([float(mpmath.erfinv(2 * x - 1)) for x in levels])
    assert cornish_fisher_is_monotone(normal + 0.1 * normal**3)
    assert not cornish_fisher_is_monotone(normal)  # kurtosis a hair below 3 in any sample
    assert not cornish_fisher_is_monotone(RETURNS)


def test_limits_are_nan_or_infinite_and_never_raise() -> None:
    constant = np.full(12, 0.01)
    assert np.isnan(core.sharpe_ratio(constant))
    assert core.annual_volatility(constant) == 0
    assert core.sortino_ratio(constant) == np.inf
    assert core.omega_ratio(constant) == np.inf
    assert core.profit_factor(constant) == np.inf
    assert core.calmar_ratio(constant) == np.inf
    assert np.isnan(core.omega_ratio(0 * constant))
    assert np.isnan(core.win_rate(0 * constant))
    assert core.win_rate(0 * constant, include_zero=True) == 0
    assert np.isnan(core.market_regression(RETURNS, constant).beta)
    assert np.isnan(core.information_ratio(RETURNS, RETURNS))
    assert core.cagr(np.array([0.1, -1.0, 0.2])) == -1
    impossible = np.array([0.1, -1.1, 0.2])
    assert np.isnan([core.total_return(impossible), core.sharpe_ratio(impossible)]).all()
    assert np.isnan([core.win_rate(impossible), core.cagr(impossible)]).all()
    prices_like_constant = core.returns_from_prices(100 * 1.01 ** np.arange(13.0))
    assert np.ptp(prices_like_constant) > 0  # rounding only, which is no volatility
    assert np.isnan(core.sharpe_ratio(prices_like_constant))


def test_batches_and_jit_and_vmap_give_the_same() -> None:
    batch = np.stack([RETURNS, RETURNS[::-1], BENCHMARK])
    together = performance_summary(batch)
    for name, value in performance_summary(batch[1]).items():
        np.testing.assert_allclose(together[name][1], value, rtol=1e-13, err_msg=name)
    with jax.enable_x64(True):
        found = jax.jit(jax.vmap(lambda own: (core.sharpe_ratio(own), maximum_drawdown(own))))(
            jnp.asarray(batch)
        )
    np.testing.assert_allclose(found[0], together["sharpe"], rtol=1e-13)
    np.testing.assert_allclose(found[1].depth, together["max_drawdown"], rtol=1e-13)
    np.testing.assert_array_equal(found[1].trough, together["drawdown_trough"])


def test_float32_stays_float32() -> None:
    figures = performance_summary(
        np.asarray(RETURNS, np.float32), np.asarray(BENCHMARK, np.float32)
    )
    exact = performance_summary(RETURNS, BENCHMARK)
    for name, value in figures.items():
        assert value.dtype != np.float64, name
        if value.dtype == np.float32:
            assert value == pytest.approx(exact[name], rel=2e-4, abs=2e-5), name


@pytest.mark.parametrize(
    "metric",
    [
        core.sharpe_ratio, core.sortino_ratio, core.calmar_ratio, core.omega_ratio, ulcer_index,
        conditional_value_at_risk,
        lambda r: core.market_regression(r, jnp.asarray(BENCHMARK)).beta,
    ],
)  # fmt: skip
def test_gradients(metric: Any) -> None:
    """Against central differences at a smooth point; finite at constant and at lost wealth."""
    point = np.array(RETURNS)
    step = 1e-6
    with jax.enable_x64(True):
        gradient = jax.jit(jax.grad(metric))
        found = gradient(jnp.asarray(point))
        for at in (0, 1, 5, 8):
            moved = step * np.eye(len(point))[at]
            slope = (metric(point + moved) - metric(point - moved)) / (2 * step)
            assert float(found[at]) == pytest.approx(float(slope), rel=2e-5, abs=1e-5)
        for edge in (np.full(12, 0.01), np.zeros(12), np.r_[-1.0, point[1:]]):
            assert jnp.isfinite(gradient(jnp.asarray(edge))).all()


def test_rolling_sharpe_is_the_sharpe_ratio_of_each_window() -> None:
    returns = np.array(RETURNS)
    rolling = core.rolling_sharpe(returns, window=5, risk_free_rate=0.02)
    assert np.isnan(rolling[:4]).all()
    for end in (5, 8, 12):
        alone = core.sharpe_ratio(returns[end - 5 : end], risk_free_rate=0.02)
        assert rolling[end - 1] == pytest.approx(alone, rel=1e-12)
    # A quiet window after a wild one: running sums would have lost it.
    wild = np.concatenate([[1e6, 1e6, 1e6], returns[:9]])
    assert core.rolling_sharpe(wild, window=5)[-1] == pytest.approx(
        core.rolling_sharpe(returns, window=5)[8], rel=1e-12
    )
    assert np.isnan(core.rolling_sharpe(returns, window=13)).all()


def test_compounding_of_yearly_rates() -> None:
    assert core.periodic_rate(0.02) == pytest.approx(1.02 ** (1 / 252) - 1, rel=1e-12)
    assert core.periodic_rate(0.02, compounding="simple") == 0.02 / 252
    assert core.periodic_rate(0.02, compounding="continuous") == pytest.approx(
        math.expm1(0.02 / 252), rel=1e-14
    )
    with pytest.raises(ValueError, match="monthly"):
        core.periodic_rate(0.02, compounding="monthly")


def test_months_compound_to_the_whole() -> None:
    groups = np.repeat([0, 1, 2], 4)
    months = core.compound_by_group(RETURNS, groups, count=3)
    assert np.prod(1 + months) - 1 == pytest.approx(core.total_return(RETURNS), rel=1e-12)
    assert months[1] == pytest.approx(core.total_return(RETURNS[4:8]), rel=1e-13)


series = st.lists(st.floats(-0.3, 0.3), min_size=12, max_size=12).map(np.array)


@settings(max_examples=40, deadline=None)
@given(series, st.floats(0.1, 3.0))
def test_properties_of_any_returns(returns: np.ndarray, factor: float) -> None:
    figures = performance_summary(returns)
    assert -1 <= figures["max_drawdown"] <= 0
    assert figures["max_drawdown"] <= np.min(returns, initial=0) + 1e-15
    assert figures["ulcer_index"] <= -figures["max_drawdown"] + 1e-15
    assert figures["cvar_historical"] <= figures["var_historical"] + 1e-15
    assert figures["cvar_normal"] <= figures["var_normal"] + 1e-15
    assert figures["worst"] <= figures["var_historical"] <= figures["best"]
    assert 1 + cumulative_return(returns)[-1] == pytest.approx(np.prod(1 + returns), rel=1e-12)
    if figures["annual_volatility"] > 1e-6:
        scaled = core.sharpe_ratio(returns * factor)
        assert scaled == pytest.approx(figures["sharpe"], rel=1e-8, abs=1e-9)
        assert core.omega_ratio(returns * factor) == pytest.approx(figures["omega"], rel=1e-8)
    order = performance_summary(returns[::-1])
    for name in ("sharpe", "omega", "var_historical", "total_return", "win_rate_excl_zero"):
        assert order[name] == pytest.approx(figures[name], rel=1e-9, abs=1e-9, nan_ok=True)
