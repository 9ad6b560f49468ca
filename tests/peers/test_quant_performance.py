"""Our performance figures and time series beside quantstats, empyrical, statsmodels and arch."""

from __future__ import annotations

import warnings

import jax
import numpy as np
import pytest

from lilith.quant.performance_summary import performance_summary
from lilith.quant.statistics import autocorrelation, jarque_bera, ljung_box
from lilith.quant.time_series import ar1, garch

empyrical = pytest.importorskip("empyrical")
quantstats = pytest.importorskip("quantstats")
pandas = pytest.importorskip("pandas")
arch = pytest.importorskip("arch")
statsmodels = pytest.importorskip("statsmodels.api")

COUNT = 750
GENERATOR = np.random.default_rng(21)
MARKET = GENERATOR.standard_t(5, COUNT) * 0.007 + 0.0004
RETURNS = 0.7 * MARKET + GENERATOR.normal(0.0002, 0.006, COUNT)
DAYS = pandas.bdate_range("2020-01-02", periods=COUNT)
STRATEGY, BENCHMARK = pandas.Series(RETURNS, DAYS), pandas.Series(MARKET, DAYS)


@pytest.fixture(scope="module")
def figures() -> dict[str, float]:
    return performance_summary(RETURNS, MARKET)


def test_like_quantstats(figures: dict[str, float]) -> None:
    stats = quantstats.stats
    theirs = {
        "total_return": stats.comp(STRATEGY),
        "annual_volatility": stats.volatility(STRATEGY),
        "sharpe": stats.sharpe(STRATEGY),
        "sortino": stats.sortino(STRATEGY),
        "max_drawdown": stats.max_drawdown(STRATEGY),
        "omega": stats.omega(STRATEGY),
        "profit_factor": stats.profit_factor(STRATEGY),
        "win_rate_excl_zero": stats.win_rate(STRATEGY),
        "best": stats.best(STRATEGY),
        "worst": stats.worst(STRATEGY),
        "skew_unbiased": stats.skew(STRATEGY),
        "kurtosis_excess_unbiased": stats.kurtosis(STRATEGY),
        "var_normal": stats.value_at_risk(STRATEGY),
        "cvar_normal": stats.cvar(STRATEGY),
        "cvar_historical": stats.cvar(STRATEGY, method="historical"),
        "tail_ratio": stats.tail_ratio(STRATEGY),
        # Theirs divides by T - 1.
        "ulcer_index": stats.ulcer_index(STRATEGY) * ((COUNT - 1) / COUNT) ** 0.5,
        "alpha": stats.greeks(STRATEGY, BENCHMARK)["alpha"],
        "beta": stats.greeks(STRATEGY, BENCHMARK)["beta"],
        # Theirs is per period.
        "information_ratio": stats.information_ratio(STRATEGY, BENCHMARK) * 252**0.5,
    }
    for name, value in theirs.items():
        assert figures[name] == pytest.approx(float(value), rel=1e-10), name


def test_like_empyrical(figures: dict[str, float]) -> None:
    theirs = {
        "cagr": empyrical.cagr(STRATEGY),
        "total_return": empyrical.cum_returns_final(STRATEGY),
        "annual_volatility": empyrical.annual_volatility(STRATEGY),
        "sharpe": empyrical.sharpe_ratio(STRATEGY),
        "sortino": empyrical.sortino_ratio(STRATEGY),
        "calmar": empyrical.calmar_ratio(STRATEGY),
        "omega": empyrical.omega_ratio(STRATEGY),
        "max_drawdown": empyrical.max_drawdown(STRATEGY),
        "var_historical": empyrical.value_at_risk(STRATEGY),
        "cvar_historical": empyrical.conditional_value_at_risk(STRATEGY),
        "tail_ratio": empyrical.tail_ratio(STRATEGY),
        "beta": empyrical.beta(STRATEGY, BENCHMARK),
        "alpha_compounded": empyrical.alpha(STRATEGY, BENCHMARK),
    }
    for name, value in theirs.items():
        assert figures[name] == pytest.approx(float(value), rel=1e-10), name


def test_statistics_like_statsmodels() -> None:
    from statsmodels.stats.diagnostic import acorr_ljungbox
    from statsmodels.stats.stattools import jarque_bera as their_jarque_bera
    from statsmodels.tsa.stattools import acf

    np.testing.assert_allclose(
        autocorrelation(RETURNS, lags=12), acf(RETURNS, nlags=12)[1:], rtol=1e-10, atol=1e-13
    )
    table = acorr_ljungbox(RETURNS, lags=12)
    statistic, p_value = ljung_box(RETURNS, lags=12)
    np.testing.assert_allclose(statistic, table["lb_stat"], rtol=1e-10)
    np.testing.assert_allclose(p_value, table["lb_pvalue"], rtol=1e-9)
    assert jarque_bera(RETURNS) == pytest.approx(their_jarque_bera(RETURNS)[:2], rel=1e-9)


@pytest.mark.parametrize("mean_model", ["constant", "zero"])
def test_garch_like_arch(mean_model: str) -> None:
    path, _ = garch.garch_simulate(jax.random.key(1), 0.05, 0.08, 0.9, 0.03, count=1000)
    ours = garch.garch_fit(path, mean_model=mean_model)
    model = arch.arch_model(path, mean=mean_model.capitalize(), vol="GARCH", rescale=False)
    theirs = model.fit(disp="off", tol=1e-14)
    plain = model.fit(disp="off", tol=1e-14, cov_type="classic")
    used = [0, 1, 2, 3] if mean_model == "constant" else [1, 2, 3]
    found = np.array([ours.mean, ours.omega, ours.alpha, ours.beta])[used]
    assert ours.status == 0
    assert ours.log_likelihood >= theirs.loglikelihood - 1e-9
    np.testing.assert_allclose(found, theirs.params, rtol=2e-5)
    # Theirs are differences of the likelihood, and their scores are centred.
    np.testing.assert_allclose(ours.standard_errors[used], plain.std_err, rtol=2e-3)
    np.testing.assert_allclose(ours.standard_errors_robust[used], theirs.std_err, rtol=2e-3)
    np.testing.assert_allclose(np.sqrt(ours.variances), theirs.conditional_volatility, rtol=2e-5)
    forecast = garch.garch_forecast(
        ours.next_variance, ours.omega, ours.alpha, ours.beta, horizon=10
    )
    np.testing.assert_allclose(forecast, theirs.forecast(horizon=10).variance.values[-1], rtol=2e-5)


def test_garch_likelihood_and_backcast_are_archs() -> None:
    path, _ = garch.garch_simulate(jax.random.key(2), 0.05, 0.08, 0.9, count=400)
    residuals = path - path.mean()
    model = arch.arch_model(path, mean="Constant", vol="GARCH", rescale=False)
    fixed = model.fix([path.mean(), 0.04, 0.1, 0.85])
    before = garch.garch_backcast(residuals)
    assert before == pytest.approx(model.volatility.backcast(residuals), rel=1e-12)
    found = garch.garch_log_likelihood(residuals, 0.04, 0.1, 0.85, before)
    assert found == pytest.approx(fixed.loglikelihood, rel=1e-12)


@pytest.mark.parametrize("mean_model", ["constant", "zero"])
def test_ar1_like_statsmodels(mean_model: str) -> None:
    path = ar1.ar1_simulate(jax.random.key(4), 0.6, 2.0, 0.5, count=500)
    ours = ar1.ar1_fit(path, mean_model=mean_model)
    model = statsmodels.tsa.ARIMA(path, order=(1, 0, 0), trend="c" if mean_model == "constant"
                                  else "n")  # fmt: skip
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = model.fit(cov_type="oim", method_kwargs={"pgtol": 1e-12, "factr": 10})
        robust = model.fit(cov_type="robust", method_kwargs={"pgtol": 1e-12, "factr": 10})
    used = [0, 1, 2] if mean_model == "constant" else [1, 2]
    found = np.array([ours.mean, ours.phi, ours.variance])[used]
    assert ours.log_likelihood >= theirs.llf - 1e-9
    np.testing.assert_allclose(found, theirs.params, rtol=2e-5)
    np.testing.assert_allclose(ours.standard_errors[used], theirs.bse, rtol=5e-3)
    np.testing.assert_allclose(ours.standard_errors_robust[used], robust.bse, rtol=5e-3)
    level, spread = ar1.ar1_forecast(path[-1], ours.phi, ours.variance, ours.mean, horizon=5)
    forecast = theirs.get_forecast(5)
    np.testing.assert_allclose(level, forecast.predicted_mean, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(spread, forecast.se_mean**2, rtol=1e-4)
    exact = model.filter([*([ours.mean] if mean_model == "constant" else []), ours.phi,
                          ours.variance])  # fmt: skip
    assert ours.log_likelihood == pytest.approx(exact.llf, rel=1e-11)
