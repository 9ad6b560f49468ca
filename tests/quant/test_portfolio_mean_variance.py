"""Minimum variance, maximum Sharpe, target return, utility: golden numbers and properties."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from portfolio_cases import COVARIANCE, MEAN, RATE, enumerated, feasible, market, quick_jit

from lilith.quant.portfolio import (
    Limits,
    efficient_frontier,
    maximum_sharpe,
    mean_variance_utility,
    minimum_variance,
    target_return,
)

N = 4
SEEDS = st.integers(0, 10_000)
# 20 digits of `enumerated` above, for MEAN, COVARIANCE, RATE and for the least variance.
GOLDEN_SHARPE = [
    "0.46629474662947466295", "0.0", "0.28126452812645281265", "0.25244072524407252441",
]  # fmt: skip
GOLDEN_VARIANCE = [
    "0.75925925925925925926", "0.0", "0.12962962962962962963", "0.11111111111111111111",
]  # fmt: skip


@pytest.mark.parametrize(
    ("golden", "mean"), [(GOLDEN_SHARPE, MEAN), (GOLDEN_VARIANCE, None)], ids=["sharpe", "variance"]
)
def test_golden_numbers_and_their_generator(golden: list[str], mean) -> None:
    assert enumerated(mean, COVARIANCE, RATE) == golden
    answer = (
        minimum_variance(COVARIANCE)
        if mean is None
        else maximum_sharpe(mean, COVARIANCE, risk_free_rate=RATE)
    )
    np.testing.assert_allclose(answer.weights, [float(x) for x in golden], rtol=1e-12)
    assert answer.kkt_residual < 1e-14
    np.testing.assert_allclose(answer.condition_number, np.linalg.cond(COVARIANCE), rtol=1e-12)


def test_every_answer_describes_itself() -> None:
    answer = maximum_sharpe(MEAN, COVARIANCE, risk_free_rate=RATE)
    w = answer.weights
    volatility = np.sqrt(w @ COVARIANCE @ w)
    np.testing.assert_allclose(answer.volatility, volatility, rtol=1e-14)
    np.testing.assert_allclose(answer.expected_return, MEAN @ w, rtol=1e-14)
    np.testing.assert_allclose(answer.sharpe, (MEAN @ w - RATE) / volatility, rtol=1e-14)
    shares = w * (COVARIANCE @ w) / volatility**2
    np.testing.assert_allclose(answer.risk_contributions, shares, rtol=1e-13)
    assert abs(answer.risk_contributions.sum() - 1) < 1e-14
    assert np.isnan(minimum_variance(COVARIANCE).expected_return)


def test_without_bounds_the_closed_forms() -> None:
    free = Limits(lower=None)
    inverse = np.linalg.inv(COVARIANCE)
    ones = np.ones(4)
    least = inverse @ ones / (ones @ inverse @ ones)
    np.testing.assert_allclose(minimum_variance(COVARIANCE, limits=free).weights, least, rtol=1e-12)
    raw = inverse @ (MEAN - RATE)
    best = maximum_sharpe(MEAN, COVARIANCE, risk_free_rate=RATE, limits=free)
    np.testing.assert_allclose(best.weights, raw / raw.sum(), rtol=1e-12)
    utility = mean_variance_utility(MEAN, COVARIANCE, 3.0, limits=free)
    shift = inverse @ (MEAN - ones * ((ones @ inverse @ MEAN) / (ones @ inverse @ ones)))
    np.testing.assert_allclose(utility.weights, least + shift / 3.0, rtol=1e-11)
    kkt = np.zeros((6, 6))
    kkt[:4, :4], kkt[:4, 4], kkt[:4, 5] = COVARIANCE, ones, MEAN
    kkt[4, :4], kkt[5, :4] = ones, MEAN
    truth = np.linalg.solve(kkt, [0, 0, 0, 0, 1, 0.11])[:4]
    aimed = target_return(MEAN, COVARIANCE, 0.11, limits=free)
    np.testing.assert_allclose(aimed.weights, truth, rtol=1e-11)


def test_the_ends_of_maximum_sharpe() -> None:
    above = maximum_sharpe(MEAN, COVARIANCE, risk_free_rate=0.2)
    assert int(above.status) == 2
    assert np.isnan(above.weights).all()
    endless = maximum_sharpe(MEAN, COVARIANCE, risk_free_rate=0.2, limits=Limits(lower=None))
    assert int(endless.status) == 3
    crowded = maximum_sharpe(MEAN, COVARIANCE, limits=Limits(lower=0.3))
    assert int(crowded.status) == 2


def test_a_target_above_the_best_is_infeasible_and_one_below_the_least_does_not_bind() -> None:
    assert int(target_return(MEAN, COVARIANCE, 0.13).status) == 2
    low = target_return(MEAN, COVARIANCE, 0.01)
    np.testing.assert_allclose(low.weights, minimum_variance(COVARIANCE).weights, atol=1e-14)


BOUNDS = (np.array([0.05, 0, 0, 0.1]), np.array([0.4, 0.5, 0.45, 0.6]))
HELD = np.full(N, 1.0 / N)
LIMITS = Limits(*BOUNDS, np.array([[1.0, 1, 0, 0]]), 0.15, 0.5, HELD, 0.6)


def _all(mean: np.ndarray, covariance: np.ndarray) -> dict:
    return {
        "variance": minimum_variance(covariance, mean, limits=LIMITS),
        "sharpe": maximum_sharpe(mean, covariance, risk_free_rate=0.01, limits=LIMITS),
        "utility": mean_variance_utility(mean, covariance, 4.0, limits=LIMITS),
    }


def _permitted(weights: np.ndarray) -> np.ndarray:
    weights = np.atleast_2d(weights)
    pair = weights[:, :2].sum(axis=1)
    trades = np.abs(weights - HELD).sum(axis=1)
    inside = (weights >= BOUNDS[0]).all(axis=1) & (weights <= BOUNDS[1]).all(axis=1)
    close = 1e-13
    return inside & (pair >= 0.15 - close) & (pair <= 0.5 + close) & (trades <= 0.6 + close)


@settings(max_examples=25, deadline=None)
@given(SEEDS)
def test_weights_sum_to_one_within_limits_and_nothing_permitted_is_better(seed: int) -> None:
    mean, covariance = market(N, seed)
    others = feasible(np.random.default_rng(seed), *BOUNDS, 60)
    others = np.concatenate([others, 0.4 * others + 0.6 * HELD])
    others = others[_permitted(others)]
    assert len(others) > 20
    variances = np.einsum("ki,ij,kj->k", others, covariance, others)
    gains = {
        "variance": -variances,
        "sharpe": (others @ mean - 0.01) / np.sqrt(variances),
        "utility": others @ mean - 2.0 * variances,
    }
    for name, answer in _all(mean, covariance).items():
        w, v = answer.weights, answer.volatility**2
        assert int(answer.status) == 0
        assert answer.kkt_residual < 1e-13
        assert abs(w.sum() - 1) < 1e-14
        assert _permitted(w).all()
        own = {"variance": -v, "sharpe": answer.sharpe, "utility": mean @ w - 2.0 * v}[name]
        assert (own >= gains[name] - 1e-13).all()


@settings(max_examples=15, deadline=None)
@given(SEEDS, st.floats(1e-6, 1e6))
def test_scaling_the_covariance_scales_the_risk_and_nothing_else(seed: int, scale: float) -> None:
    mean, covariance = market(N, seed)
    for solve in (
        lambda c: minimum_variance(c, mean, limits=LIMITS),
        lambda c: maximum_sharpe(mean, c, risk_free_rate=0.01, limits=LIMITS),
    ):
        one, other = solve(covariance), solve(scale * covariance)
        np.testing.assert_allclose(one.weights, other.weights, atol=1e-11)
        np.testing.assert_allclose(other.volatility, np.sqrt(scale) * one.volatility, rtol=1e-11)
        np.testing.assert_allclose(one.risk_contributions, other.risk_contributions, atol=1e-11)


@settings(max_examples=15, deadline=None)
@given(SEEDS, st.permutations(range(N)))
def test_the_order_of_the_assets_does_not_matter(seed: int, order: list[int]) -> None:
    mean, covariance = market(N, seed)
    turned = covariance[np.ix_(order, order)]
    for solve in (
        lambda m, c: minimum_variance(c, m),
        lambda m, c: maximum_sharpe(m, c, risk_free_rate=0.01),
    ):
        one, other = solve(mean, covariance), solve(mean[list(order)], turned)
        np.testing.assert_allclose(one.weights[list(order)], other.weights, atol=1e-12)


def test_a_thousand_portfolios_under_one_vmap() -> None:
    markets = [market(N, seed) for seed in range(1000)]
    mean, covariance = (np.stack([m[i] for m in markets]) for i in (0, 1))
    with jax.enable_x64(True):
        solve = quick_jit(jax.vmap(lambda m, c: maximum_sharpe(m, c, risk_free_rate=0.01)))
        answers = solve(mean, covariance)
    assert (np.asarray(answers.status) == 0).all()
    assert np.asarray(answers.kkt_residual).max() < 1e-13
    for i in (0, 499, 999):
        alone = maximum_sharpe(*markets[i], risk_free_rate=0.01)
        np.testing.assert_allclose(answers.weights[i], alone.weights, atol=1e-13)


def test_the_sharpe_ratio_is_flat_in_the_covariance_only_through_the_portfolio() -> None:
    """Envelope theorem: the optimal ratio's gradient is the ratio's at fixed weights."""
    with jax.enable_x64(True):
        covariance, mean = jnp.asarray(COVARIANCE), jnp.asarray(MEAN)
        answer = maximum_sharpe(mean, covariance, risk_free_rate=RATE)
        slope = quick_jit(
            jax.grad(lambda c: maximum_sharpe(mean, c, risk_free_rate=RATE, safeguard=False).sharpe)
        )(covariance)
        w = answer.weights
        excess = mean @ w - RATE
        truth = -0.5 * excess / answer.volatility**3 * jnp.outer(w, w)
    np.testing.assert_allclose(slope, truth, atol=1e-12)


def test_weights_follow_bounds_that_bind_and_ignore_those_that_do_not() -> None:
    with jax.enable_x64(True):
        covariance, mean = jnp.asarray(COVARIANCE), jnp.asarray(MEAN)

        def weights(upper):
            limits = Limits(0.0, upper)
            return maximum_sharpe(
                mean, covariance, risk_free_rate=RATE, limits=limits, safeguard=False
            ).weights

        slope = np.asarray(quick_jit(jax.jacrev(weights))(jnp.array([0.4, 0.9, 0.9, 0.9])))
        run, step = quick_jit(weights), 1e-6
        up, down = (np.asarray(run(jnp.array([0.4 + s, 0.9, 0.9, 0.9]))) for s in (step, -step))
    np.testing.assert_allclose(slope[0], [1, 0, 0, 0], atol=1e-14)
    np.testing.assert_allclose(slope[:, 0], (up - down) / (2 * step), atol=1e-8)
    np.testing.assert_array_equal(slope[:, 1:], 0)


def test_a_fixed_weight_follows_its_bound_even_where_it_is_the_optimum_anyway() -> None:
    with jax.enable_x64(True):

        def weight(bound):
            lower, upper = jnp.array([bound, 0, 0, 0]), jnp.array([bound, 1, 1, 1])
            limits = Limits(lower, upper)
            return minimum_variance(jnp.eye(4), limits=limits, safeguard=False).weights[0]

        slope = quick_jit(jax.grad(weight))(0.25)
    assert float(slope) == 1.0


def test_the_frontier_rises_and_holds_its_corner_portfolios() -> None:
    limits = Limits()
    found = efficient_frontier(MEAN, COVARIANCE, points=9, risk_free_rate=RATE, limits=limits)
    points = found.portfolios
    assert (points.status == 0).all()
    assert points.kkt_residual.max() < 1e-13
    assert (np.diff(points.expected_return) > 0).all()
    assert (np.diff(points.volatility) > 0).all()
    np.testing.assert_allclose(points.expected_return, found.targets, atol=1e-13)
    least = minimum_variance(COVARIANCE, MEAN, limits=limits)
    np.testing.assert_allclose(points.weights[0], least.weights, atol=1e-13)
    assert found.tangency.sharpe >= points.sharpe.max()
    inner = target_return(MEAN, COVARIANCE, found.targets[4], limits=limits)
    np.testing.assert_allclose(points.weights[4], inner.weights, atol=1e-12)
    np.testing.assert_allclose(points.weights[-1], [0, 0, 0, 1], atol=1e-12)
