"""Portfolios against cvxpy, PyPortfolioOpt, skfolio, Riskfolio-Lib and scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest

from lilith.quant import portfolio

pytest.importorskip("cvxpy")
pytest.importorskip("pypfopt")
pytest.importorskip("riskfolio")
pytest.importorskip("skfolio")
pytest.importorskip("sklearn")

N = 8
RATE = 0.01


@pytest.fixture(scope="module")
def returns() -> np.ndarray:
    draw = np.random.default_rng(4)
    loadings = draw.normal(size=(N, 2)) * 0.006 + 0.004
    noise = draw.normal(size=(400, N)) * draw.uniform(0.005, 0.02, N)
    return draw.normal(size=(400, 2)) @ loadings.T + noise + draw.uniform(0, 0.001, N)


@pytest.fixture(scope="module")
def moments(returns: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return (
        np.asarray(portfolio.expected_returns(returns, periods_per_year=252)),
        np.asarray(portfolio.covariance(returns, periods_per_year=252)),
    )


def test_ledoit_wolf_is_scikit_learns(returns: np.ndarray) -> None:
    from sklearn.covariance import LedoitWolf

    theirs = LedoitWolf().fit(returns)
    ours = portfolio.ledoit_wolf(returns)
    np.testing.assert_allclose(ours.shrinkage, theirs.shrinkage_, rtol=1e-12)
    np.testing.assert_allclose(ours.covariance, theirs.covariance_, rtol=1e-12, atol=1e-18)


def test_limits_of_every_kind_against_cvxpy(moments: tuple) -> None:
    import cvxpy

    mean, covariance = moments
    held, group = np.full(N, 1.0 / N), np.array([1.0, 1, 1, 0, 0, 0, 0, 0])
    limits = portfolio.Limits(0.02, 0.4, group[None], 0.2, 0.5, held, 0.7)
    w = cvxpy.Variable(N)
    limited = [
        cvxpy.sum(w) == 1, w >= 0.02, w <= 0.4, group @ w >= 0.2, group @ w <= 0.5,
        cvxpy.norm1(w - held) <= 0.7,
    ]  # fmt: skip
    risk = cvxpy.quad_form(w, cvxpy.psd_wrap(covariance))
    for objective, rows, ours in (
        (risk, [], portfolio.minimum_variance(covariance, limits=limits)),
        (risk - 2 / 5 * mean @ w, [],
         portfolio.mean_variance_utility(mean, covariance, 5.0, limits=limits)),
        (risk, [mean @ w >= 0.12], portfolio.target_return(mean, covariance, 0.12, limits=limits)),
    ):  # fmt: skip
        cvxpy.Problem(cvxpy.Minimize(objective), limited + rows).solve(solver="CLARABEL")
        np.testing.assert_allclose(ours.weights, w.value, atol=1e-5)


def test_maximum_sharpe_and_minimum_variance_against_pyportfolioopt(moments: tuple) -> None:
    from pypfopt import EfficientFrontier

    mean, covariance = moments
    theirs = EfficientFrontier(mean, covariance)
    theirs.max_sharpe(risk_free_rate=RATE)
    ours = portfolio.maximum_sharpe(mean, covariance, risk_free_rate=RATE)
    np.testing.assert_allclose(ours.weights, theirs.weights, atol=1e-4)
    assert ours.sharpe >= theirs.portfolio_performance(risk_free_rate=RATE)[2] - 1e-12
    other = EfficientFrontier(mean, covariance)
    other.min_volatility()
    least = portfolio.minimum_variance(covariance)
    np.testing.assert_allclose(least.weights, other.weights, atol=1e-4)


def test_risk_parity_against_riskfolio(returns: np.ndarray) -> None:
    import pandas
    import riskfolio

    book = riskfolio.Portfolio(returns=pandas.DataFrame(returns))
    book.assets_stats(method_mu="hist", method_cov="hist")
    theirs = book.rp_optimization(model="Classic", rm="MV", rf=0, b=None)["weights"].to_numpy()
    ours = portfolio.equal_risk_contribution(np.cov(returns.T))
    np.testing.assert_allclose(ours.weights, theirs, atol=1e-4)


def test_hierarchical_risk_parity_is_pyportfolioopts(returns: np.ndarray) -> None:
    import pandas
    from pypfopt import HRPOpt

    covariance = np.cov(returns.T)
    theirs = HRPOpt(cov_matrix=pandas.DataFrame(covariance)).optimize()
    order = portfolio.hierarchical_order(covariance)
    ours = portfolio.hierarchical_risk_parity(covariance, order)
    np.testing.assert_allclose(ours.weights, [theirs[i] for i in range(N)], rtol=1e-12)


def test_black_litterman_is_pyportfolioopts(moments: tuple) -> None:
    from pypfopt import BlackLittermanModel

    mean, covariance = moments
    views = np.zeros((2, N))
    views[0, :2], views[1, 3] = (1, -1), 1
    theirs = BlackLittermanModel(
        covariance, pi=mean, P=views, Q=np.array([0.02, 0.09]), tau=0.05, omega="default"
    )
    ours = portfolio.black_litterman(covariance, mean, views, [0.02, 0.09], tau=0.05)
    np.testing.assert_allclose(ours.expected_returns, theirs.bl_returns(), rtol=1e-10)
    np.testing.assert_allclose(ours.covariance, theirs.bl_cov(), rtol=1e-10, atol=1e-16)


def test_minimum_cvar_against_riskfolio_or_skfolio(returns: np.ndarray) -> None:
    from skfolio import RiskMeasure
    from skfolio.optimization import MeanRisk, ObjectiveFunction

    theirs = MeanRisk(
        objective_function=ObjectiveFunction.MINIMIZE_RISK, risk_measure=RiskMeasure.CVAR
    ).fit(returns)
    ours = portfolio.minimum_cvar(returns, confidence=0.95)

    def tail(weights: np.ndarray) -> float:
        return float(np.sort(-returns @ weights)[::-1][:20].mean())

    np.testing.assert_allclose(ours.cvar, tail(ours.portfolio.weights), rtol=1e-10)
    assert ours.cvar <= tail(theirs.weights_) + 1e-12
    np.testing.assert_allclose(ours.cvar, tail(theirs.weights_), rtol=1e-4)
