"""Risk budgets, hierarchical risk parity: golden numbers, exact shares, gradients, properties."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from portfolio_cases import COVARIANCE, budgeted, market, quick_jit

from lilith.quant.portfolio import (
    equal_risk_contribution,
    hierarchical_order,
    hierarchical_risk_parity,
    risk_budgeting,
)

N = 5
SEEDS = st.integers(0, 10_000)
BUDGETS = np.array([0.4, 0.3, 0.2, 0.1])
# 20 digits of `budgeted` for COVARIANCE with BUDGETS, and with equal ones.
GOLDEN = {
    "budgets": [
        "0.47407057190133390233", "0.23334853273159150974", "0.18320152069157857591",
        "0.10937937467549601202",
    ],
    "equal": [
        "0.36726988689549257783", "0.23008411815794809513", "0.21534363603998016192",
        "0.18730235890657916512",
    ],
}  # fmt: skip


@pytest.mark.parametrize("name", GOLDEN)
def test_golden_numbers_and_their_generator(name: str) -> None:
    budgets = BUDGETS if name == "budgets" else np.full(4, 0.25)
    assert budgeted(COVARIANCE, budgets) == GOLDEN[name]
    answer = (
        risk_budgeting(COVARIANCE, 7 * BUDGETS)  # normalised
        if name == "budgets"
        else equal_risk_contribution(COVARIANCE)
    )
    np.testing.assert_allclose(answer.weights, [float(x) for x in GOLDEN[name]], rtol=1e-13)
    np.testing.assert_allclose(answer.risk_contributions, budgets, rtol=1e-13)
    assert answer.kkt_residual < 1e-13
    assert int(answer.status) == 0


@settings(max_examples=30, deadline=None)
@given(
    SEEDS,
    st.lists(st.floats(1e-4, 1.0), min_size=N, max_size=N),
    st.lists(st.floats(-6, 6), min_size=N, max_size=N),
)
def test_shares_are_the_budgets_whatever_the_scales(seed, budgets, scales) -> None:
    _, covariance = market(N, seed)
    spread = 10.0 ** np.array(scales)
    covariance = covariance * np.outer(spread, spread)
    answer = risk_budgeting(covariance, np.array(budgets))
    assert int(answer.status) == 0
    shares = np.array(budgets) / np.sum(budgets)
    np.testing.assert_allclose(answer.risk_contributions, shares, rtol=1e-11)
    assert (answer.weights > 0).all()
    assert abs(answer.weights.sum() - 1) < 1e-14


@pytest.mark.parametrize("correlation", [-0.2499, -0.2, 0.0, 0.5, 0.9999])
def test_equal_correlations_give_inverse_volatilities(correlation: float) -> None:
    spread = np.array([0.1, 0.2, 0.3, 0.4, 0.5])
    matrix = np.full((N, N), correlation) + (1 - correlation) * np.eye(N)
    answer = equal_risk_contribution(matrix * np.outer(spread, spread))
    np.testing.assert_allclose(answer.weights, (1 / spread) / (1 / spread).sum(), rtol=1e-10)
    np.testing.assert_allclose(answer.risk_contributions, 0.2, rtol=1e-12)


@settings(max_examples=15, deadline=None)
@given(SEEDS, st.permutations(range(N)), st.floats(1e-6, 1e6))
def test_order_and_scale_do_not_matter(seed: int, order: list[int], scale: float) -> None:
    _, covariance = market(N, seed)
    one = equal_risk_contribution(covariance)
    other = equal_risk_contribution(scale * covariance[np.ix_(order, order)])
    np.testing.assert_allclose(one.weights[list(order)], other.weights, rtol=1e-11)
    np.testing.assert_allclose(other.volatility, np.sqrt(scale) * one.volatility, rtol=1e-11)


def test_what_has_no_answer_is_nan_with_a_status() -> None:
    flat = np.diag([0.04, 0.0, 0.01, 0.02, 0.03])
    for answer in (
        equal_risk_contribution(flat),
        risk_budgeting(market(N, 0)[1], np.array([1.0, -1, 1, 1, 1])),
    ):
        assert int(answer.status) == 1
        assert np.isnan(answer.weights).all()


def test_gradients_forward_and_reverse_are_those_of_differences() -> None:
    _, covariance = market(N, 3)
    draw = np.random.default_rng(0)
    shift = draw.normal(size=(N, N)) * 0.01
    with jax.enable_x64(True):
        covariance, shift = jnp.asarray(covariance), jnp.asarray(shift + shift.T)
        budgets, tilt = jnp.full(N, 0.2), jnp.asarray(draw.normal(size=N)) * 0.05
        aim = jnp.arange(N) * 1.0

        def value(covariance, budgets):
            return risk_budgeting(covariance, budgets).weights @ aim

        slopes = quick_jit(jax.grad(value, (0, 1)))(covariance, budgets)
        exact = jnp.vdot(slopes[0], shift) + slopes[1] @ tilt
        _, forward = quick_jit(lambda c, b: jax.jvp(value, (c, b), (shift, tilt)))(
            covariance, budgets
        )
        run, step = quick_jit(value), 1e-6
        up, down = (float(run(covariance + h * shift, budgets + h * tilt)) for h in (step, -step))
    np.testing.assert_allclose(float(exact), (up - down) / (2 * step), rtol=1e-7)
    np.testing.assert_allclose(float(forward), float(exact), rtol=1e-12)


def test_constants_inside_another_jit_are_computed_in_float64_on_the_spot() -> None:
    _, covariance = market(N, 0)
    truth = equal_risk_contribution(covariance).weights
    inside = jax.jit(lambda x: x * equal_risk_contribution(covariance).weights)(1.0)
    np.testing.assert_allclose(inside, truth, rtol=1e-6)


def _paper(covariance: np.ndarray, order: np.ndarray) -> np.ndarray:
    """Recursive bisection as López de Prado writes it, with lists."""

    def variance(items: list[int]) -> float:
        part = covariance[np.ix_(items, items)]
        w = 1 / np.diag(part)
        w /= w.sum()
        return float(w @ part @ w)

    weights = np.ones(len(order))
    clusters = [list(order)]
    while clusters:
        clusters = [
            c[a:b]
            for c in clusters
            for a, b in ((0, len(c) // 2), (len(c) // 2, len(c)))
            if len(c) > 1
        ]
        for left, right in zip(clusters[::2], clusters[1::2]):
            first, second = variance(left), variance(right)
            weights[left] *= second / (first + second)
            weights[right] *= first / (first + second)
    return weights


@pytest.mark.parametrize("n", [1, 2, 7, 16])
def test_the_hierarchy_is_the_papers(n: int) -> None:
    for seed in range(3):
        _, covariance = market(n, seed)
        order = hierarchical_order(covariance)
        assert sorted(order) == list(range(n))
        answer = hierarchical_risk_parity(covariance, order)
        np.testing.assert_allclose(answer.weights, _paper(covariance, order), rtol=1e-13)
        assert np.isnan(answer.kkt_residual)
        assert abs(answer.weights.sum() - 1) < 1e-14


def test_twins_lie_together_and_asset_order_does_not_matter() -> None:
    base = np.array([[1.0, 0.1, 0.9], [0.1, 1.0, 0.1], [0.9, 0.1, 1.0]])
    order = list(hierarchical_order(base))
    assert abs(order.index(0) - order.index(2)) == 1
    _, covariance = market(7, 5)
    turn = np.array([3, 1, 6, 0, 2, 5, 4])
    turned = covariance[np.ix_(turn, turn)]
    one, other = (hierarchical_risk_parity(c, hierarchical_order(c)) for c in (covariance, turned))
    np.testing.assert_allclose(one.volatility, other.volatility, rtol=0.2)
    ordered = hierarchical_risk_parity(turned, np.argsort(turn)[hierarchical_order(covariance)])
    np.testing.assert_allclose(ordered.weights, one.weights[turn], rtol=1e-12)


def test_hierarchical_order_refuses_what_it_can_not_cluster() -> None:
    with pytest.raises(ValueError, match="variance 1 is 0"):
        hierarchical_order(np.diag([1.0, 0.0]))
    with pytest.raises(ValueError, match="linkage is 'median'"):
        hierarchical_order(np.eye(2), linkage="median")
