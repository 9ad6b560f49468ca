"""Performance figures beside quantstats and empyrical; GARCH and AR(1) beside arch, statsmodels."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from benchmarks.harness import interleaved, median

YEARS = 10
OBSERVATIONS = 1000
SERIES = 100  # fitted under one vmap


def run(quick: bool) -> list[dict[str, Any]]:
    """One row a comparison; seconds are medians, taken in turn."""
    repeats = 5 if quick else 9
    warnings.simplefilter("ignore")
    return [*_metrics(repeats), *_fits(repeats), *_first_calls()]


def _row(
    what: str, ours: Callable[[], Any], peer: Callable[[], Any], peer_name: str, repeats: int,
    note: str, target: str = "faster",
) -> dict[str, Any]:  # fmt: skip
    seconds = interleaved({"ours": ours, "peer": peer}, repeats)
    mine, theirs = median(seconds["ours"]), median(seconds["peer"])
    return {
        "what": what,
        "ours": mine,
        "peer": theirs,
        "peer_name": peer_name,
        "ratio": theirs / mine,
        "target": target,
        "note": note,
    }


def _metrics(repeats: int) -> list[dict[str, Any]]:
    import empyrical
    import pandas
    import quantstats

    from lilith.quant.performance_summary import performance_summary

    returns = np.random.default_rng(0).standard_t(4, 252 * YEARS) * 0.008 + 0.0004
    dated = pandas.Series(returns, pandas.bdate_range("2014-01-02", periods=len(returns)))
    stats = quantstats.stats
    of_quantstats = (
        stats.comp, stats.volatility, stats.sharpe, stats.sortino, stats.max_drawdown, stats.omega,
        stats.profit_factor, stats.win_rate, stats.best, stats.worst, stats.skew, stats.kurtosis,
        stats.value_at_risk, stats.cvar, stats.tail_ratio, stats.ulcer_index, stats.cagr,
        stats.calmar,
    )  # fmt: skip
    of_empyrical = (
        empyrical.cagr, empyrical.cum_returns_final, empyrical.annual_volatility,
        empyrical.sharpe_ratio, empyrical.sortino_ratio, empyrical.calmar_ratio,
        empyrical.omega_ratio, empyrical.max_drawdown, empyrical.value_at_risk,
        empyrical.conditional_value_at_risk, empyrical.tail_ratio,
    )  # fmt: skip
    many = np.random.default_rng(1).normal(0.0004, 0.01, (1000, 252))
    performance_summary(returns)
    return [
        _row(
            f"performance figures of {YEARS} years of days, s",
            lambda: performance_summary(returns),
            lambda: [metric(dated) for metric in of_quantstats],
            "quantstats", repeats, f"36 figures of ours, {len(of_quantstats)} of theirs",
        ),
        _row(
            f"performance figures of {YEARS} years of days, s",
            lambda: performance_summary(returns),
            lambda: [metric(returns) for metric in of_empyrical],
            "empyrical", repeats, f"36 figures of ours, {len(of_empyrical)} of theirs",
        ),
        _row(
            "the same of 1,000 strategies of a year, s",
            lambda: performance_summary(many),
            lambda: [[metric(own) for metric in of_empyrical] for own in many],
            "empyrical, a loop", min(repeats, 5), "one call of ours",
        ),
    ]  # fmt: skip


def _fits(repeats: int) -> list[dict[str, Any]]:
    import arch
    from statsmodels.tsa.arima.model import ARIMA

    from lilith.quant.time_series.ar1 import ar1_fit, ar1_simulate
    from lilith.quant.time_series.garch import garch_fit, garch_simulate

    many = np.stack([
        garch_simulate(jax.random.key(seed), 0.05, 0.08, 0.9, 0.03, count=OBSERVATIONS)[0]
        for seed in range(SERIES)
    ])  # fmt: skip
    path = ar1_simulate(jax.random.key(0), 0.6, 1.0, 0.2, count=OBSERVATIONS)

    def with_arch(series: np.ndarray) -> Any:
        return arch.arch_model(series, rescale=False).fit(disp="off")

    theirs = with_arch(many[0])
    gain = float(garch_fit(many[0]).log_likelihood - theirs.loglikelihood)
    return [
        _row(
            f"GARCH(1,1) fit, {OBSERVATIONS} observations, s",
            lambda: garch_fit(many[0]), lambda: with_arch(many[0]), "arch", repeats,
            f"both standard errors; our log-likelihood less arch's: {gain:.1e}",
        ),
        _row(
            f"{SERIES} GARCH(1,1) fits, s",
            lambda: garch_fit(many), lambda: [with_arch(own) for own in many],
            "arch, a loop", min(repeats, 5), "one vmapped call of ours",
        ),
        _row(
            f"AR(1) exact fit, {OBSERVATIONS} observations, s",
            lambda: ar1_fit(path), lambda: ARIMA(path, order=(1, 0, 0)).fit(),
            "statsmodels", min(repeats, 5), "both standard errors",
        ),
    ]  # fmt: skip


def _first_calls() -> list[dict[str, Any]]:
    """Seconds of the first call for a new length, compilation included."""
    from lilith.quant.performance_tools import backtest_metrics
    from lilith.quant.time_series.garch import garch_fit

    generator = np.random.default_rng(2)
    rows = []
    for what, call, length in (
        ("first backtest_metrics of a new length, s", backtest_metrics, 747),
        ("first GARCH fit of a new length, s", garch_fit, 749),
    ):
        data = generator.normal(0, 0.01, length)
        begin = time.perf_counter()
        call(data)
        rows.append({
            "what": what, "ours": time.perf_counter() - begin, "peer": None, "peer_name": "",
            "ratio": None, "target": "under 1.5 s", "note": "compilation included",
        })  # fmt: skip
    return rows
