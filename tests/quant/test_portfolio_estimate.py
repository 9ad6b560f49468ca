"""Means, covariances, shrinkage, and Black-Litterman: golden numbers and definitions."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
import mpmath as mp
import numpy as np
import pytest

from lilith.quant.portfolio import (
    Limits,
    black_litterman,
    covariance,
    expected_returns,
    implied_returns,
    ledoit_wolf,
    mean_variance_utility,
    returns_from_prices,
)

RETURNS = np.array(
    [
        [0.01, -0.02, 0.015],
        [0.005, 0.01, -0.01],
        [-0.012, 0.004, 0.02],
        [0.03, -0.001, 0.007],
        [-0.02, 0.013, -0.005],
        [0.002, 0.006, 0.001],
    ]
)
SIGMA = np.array([[0.04, 0.01, 0.0], [0.01, 0.09, 0.02], [0.0, 0.02, 0.16]])
# 20 digits of `shrunk` below: the intensity, then the lower triangle by rows.
GOLDEN = {
    "identity": [
        "0.79096284194307866994", "0.00018105349842275786885", "-0.000017628800329467032168",
        "0.0001518753951106459332", "3.553631686967662611e-6", "-0.000015399070643526537981",
        "0.00015087666202215175351",
    ],
    "constant_correlation": [
        "0.63058102712021003339", "0.00025591666666666666667", "-0.000068684437676620963745",
        "0.00011633333333333333333", "-0.000030471226622678280709", "-0.000051992425702625677683",
        "0.00011155555555555555556",
    ],
}  # fmt: skip


def shrunk(x: np.ndarray, target: str) -> list[str]:
    """Ledoit and Wolf's estimators, every sum written out, in 40 digits."""
    with mp.workdps(40):
        t, n = x.shape
        all_of = range(n)
        v = [[mp.mpf(repr(float(e))) for e in row] for row in x]
        m = [mp.fsum(r[i] for r in v) / t for i in all_of]
        y = [[r[i] - m[i] for i in all_of] for r in v]
        s = [[mp.fsum(r[i] * r[j] for r in y) / t for j in all_of] for i in all_of]

        def spread(i: int, j: int, k: int, l: int) -> mp.mpf:
            """The covariance of the estimates of entries (i, j) and (k, l), times T."""
            terms = ((r[i] * r[j] - s[i][j]) * (r[k] * r[l] - s[k][l]) for r in y)
            return mp.fsum(terms) / t

        excess = mp.fsum(spread(i, j, i, j) for i in all_of for j in all_of)
        if target == "identity":
            mu = mp.fsum(s[i][i] for i in all_of) / n
            f = [[mu if i == j else mp.mpf(0) for j in all_of] for i in all_of]
        else:
            d = [mp.sqrt(s[i][i]) for i in all_of]
            pairs = [(i, j) for i in all_of for j in all_of if i != j]
            r = mp.fsum(s[i][j] / (d[i] * d[j]) for i, j in pairs) / len(pairs)
            f = [[s[i][i] if i == j else r * d[i] * d[j] for j in all_of] for i in all_of]
            excess -= mp.fsum(spread(i, i, i, i) for i in all_of)
            excess -= mp.fsum(
                r / 2 * (d[j] / d[i] * spread(i, i, i, j) + d[i] / d[j] * spread(j, j, i, j))
                for i, j in pairs
            )
        gap = mp.fsum((f[i][j] - s[i][j]) ** 2 for i in all_of for j in all_of)
        k = max(mp.mpf(0), min(mp.mpf(1), excess / gap / t))
        mixed = [k * f[i][j] + (1 - k) * s[i][j] for i in all_of for j in range(i + 1)]
        return [mp.nstr(value, 20) for value in [k, *mixed]]


@pytest.mark.parametrize("target", GOLDEN)
def test_ledoit_wolf_golden_numbers_and_their_generator(target: str) -> None:
    assert shrunk(RETURNS, target) == GOLDEN[target]
    intensity, *entries = (float(x) for x in GOLDEN[target])
    answer = ledoit_wolf(RETURNS, target=target, periods_per_year=12)
    np.testing.assert_allclose(answer.shrinkage, intensity, rtol=1e-13)
    np.testing.assert_allclose(
        answer.covariance[np.tril_indices(3)], 12 * np.array(entries), rtol=1e-12
    )
    method = "ledoit_wolf" + ("_constant_correlation" if target != "identity" else "")
    same = covariance(RETURNS, method=method, periods_per_year=12)
    np.testing.assert_array_equal(same, answer.covariance)


def test_sample_moments_grow_with_time_and_divide_by_one_less() -> None:
    np.testing.assert_allclose(
        covariance(RETURNS, periods_per_year=252), 252 * np.cov(RETURNS.T), rtol=1e-13
    )
    np.testing.assert_allclose(
        expected_returns(RETURNS, periods_per_year=252), 252 * RETURNS.mean(axis=0), rtol=1e-13
    )


def test_an_offset_does_not_cost_digits() -> None:
    """One-pass formulas lose 16 digits here."""
    draw = np.random.default_rng(0).integers(-8, 9, size=(50, 3)) * 2.0**-10
    plain, moved = covariance(draw), covariance(draw + 2.0**20)
    np.testing.assert_allclose(moved, plain, rtol=1e-12)


def test_means_of_offset_data_are_right_to_the_last_digit() -> None:
    draw = 1e6 + np.random.default_rng(1).normal(size=(301, 40))
    truth = np.array([math.fsum(column) / 301 for column in draw.T])
    assert np.abs(expected_returns(draw) - truth).max() <= np.spacing(1e6)


def test_exponential_weights_halve_and_are_unbiased() -> None:
    weights = 0.5 ** (np.arange(5, -1, -1) / 2.0)
    weights /= weights.sum()
    mean = weights @ RETURNS
    centred = RETURNS - mean
    truth = (centred.T * weights) @ centred / (1 - (weights**2).sum())
    np.testing.assert_allclose(
        expected_returns(RETURNS, method="exponential", halflife=2.0), mean, rtol=1e-13
    )
    got = covariance(RETURNS, method="exponential", halflife=2.0)
    np.testing.assert_allclose(got, truth, rtol=1e-12)
    slow = covariance(RETURNS, method="exponential", halflife=1e12)
    np.testing.assert_allclose(slow, np.cov(RETURNS.T), rtol=1e-9)


def test_prices_become_simple_returns() -> None:
    prices = 100 * np.cumprod(1 + np.vstack([np.zeros(3), RETURNS]), axis=0)
    np.testing.assert_allclose(returns_from_prices(prices), RETURNS, atol=1e-15)


def test_shrinkage_ends() -> None:
    alike = np.outer([1.0, -1, 1, -1], [0.01, 0.01])
    answer = ledoit_wolf(alike)
    assert 0 <= answer.shrinkage <= 1
    constant = ledoit_wolf(np.full((5, 2), 0.01))
    assert constant.shrinkage == 0
    np.testing.assert_array_equal(constant.covariance, 0)


def test_unknown_estimators_are_named() -> None:
    with pytest.raises(ValueError, match="method is 'shrunk'"):
        covariance(RETURNS, method="shrunk")
    with pytest.raises(ValueError, match="target is 'zero'"):
        ledoit_wolf(RETURNS, target="zero")


def test_estimates_have_gradients() -> None:
    with jax.enable_x64(True):
        x = jnp.asarray(RETURNS)
        for method in ("sample", "exponential", "ledoit_wolf", "ledoit_wolf_constant_correlation"):
            slope = jax.grad(lambda x, m=method: jnp.sum(covariance(x, method=m) ** 2))(x)
            step = 1e-6
            at = [
                float(jnp.sum(covariance(x.at[1, 2].add(h), method=method) ** 2))
                for h in (step, -step)
            ]
            np.testing.assert_allclose(slope[1, 2], (at[0] - at[1]) / (2 * step), rtol=1e-5)


VIEWS, VIEWED = np.array([[1.0, -1.0, 0.0], [0.0, 0.0, 1.0]]), np.array([0.02, 0.09])
PRIOR = np.array([0.05, 0.07, 0.1])


def _posterior(omega: np.ndarray | None, tau: float) -> tuple[np.ndarray, np.ndarray]:
    """Bayes in 40 digits, by precisions: (1 / (tau Sigma) + P' 1 / Omega P) and its mean."""
    with mp.workdps(40):

        def exact(a):
            return mp.matrix([[mp.mpf(repr(float(x))) for x in row] for row in np.atleast_2d(a)])

        sigma, p = exact(SIGMA) * mp.mpf(repr(tau)), exact(VIEWS)
        spread = p * sigma * p.T
        noise = mp.diag([spread[0, 0], spread[1, 1]]) if omega is None else exact(omega)
        precision = sigma**-1 + p.T * noise**-1 * p
        mean = precision**-1 * (sigma**-1 * exact(PRIOR).T + p.T * noise**-1 * exact(VIEWED).T)
        shift = precision**-1
        return (
            np.array([float(x) for x in mean]),
            np.array([[float(shift[i, j]) for j in range(3)] for i in range(3)]),
        )


@pytest.mark.parametrize("omega", [None, np.array([[0.001, 0.0002], [0.0002, 0.004]])])
def test_black_litterman_is_bayes(omega) -> None:
    mean, uncertainty = _posterior(omega, 0.05)
    answer = black_litterman(SIGMA, PRIOR, VIEWS, VIEWED, tau=0.05, view_covariance=omega)
    np.testing.assert_allclose(answer.expected_returns, mean, rtol=1e-13)
    np.testing.assert_allclose(answer.uncertainty, uncertainty, atol=1e-16)
    np.testing.assert_allclose(answer.covariance, SIGMA + uncertainty, rtol=1e-13)


def test_certain_views_hold_and_empty_confidence_returns_the_prior() -> None:
    sure = black_litterman(SIGMA, PRIOR, VIEWS, VIEWED, view_covariance=np.zeros(2))
    np.testing.assert_allclose(VIEWS @ sure.expected_returns, VIEWED, rtol=1e-12)
    unsure = black_litterman(SIGMA, PRIOR, VIEWS, VIEWED, view_covariance=np.full(2, 1e12))
    np.testing.assert_allclose(unsure.expected_returns, PRIOR, rtol=1e-9)


def test_the_market_is_optimal_at_its_implied_returns() -> None:
    market = np.array([0.5, 0.3, 0.2])
    prior = implied_returns(SIGMA, market, 2.5)
    np.testing.assert_allclose(prior, 2.5 * SIGMA @ market, rtol=1e-15)
    held = mean_variance_utility(prior, SIGMA, 2.5, limits=Limits(lower=None))
    np.testing.assert_allclose(held.weights, market, rtol=1e-12)
