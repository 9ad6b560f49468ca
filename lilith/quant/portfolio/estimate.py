"""Expected returns and covariance from returns.

Everything here is per period of the returns times ``periods_per_year`` (1 leaves it per period):
means and covariances both grow linearly with time. Sums are two-pass: the mean is taken off first
and what its rounding left is taken off again.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax.numpy as jnp
from jax import Array

from lilith.quant.portfolio.answer import COMPILER_OPTIONS
from lilith.quant.precision import double_precision

COVARIANCES = ("sample", "exponential", "ledoit_wolf", "ledoit_wolf_constant_correlation")
MEANS = ("sample", "exponential")


class Shrunk(NamedTuple):
    """A shrunk covariance, [n, n], and the weight of the target in it, between 0 and 1."""

    covariance: Array
    shrinkage: Array


@double_precision(compiler_options=COMPILER_OPTIONS)
def returns_from_prices(prices: Any) -> Array:
    """Simple returns ``p[t] / p[t-1] - 1`` of prices [T, n], as [T - 1, n]."""
    prices = jnp.asarray(prices)
    return (prices[1:] - prices[:-1]) / prices[:-1]


@double_precision(static=("method",), compiler_options=COMPILER_OPTIONS)
def expected_returns(
    returns: Any, *, method: str = "sample", halflife: Any = 63.0, periods_per_year: Any = 1.0
) -> Array:
    """Arithmetic mean returns, [n].

    Args:
      returns: [T, n]. method: "sample", or "exponential" with weights that halve every
        ``halflife`` periods.
    """
    returns = jnp.asarray(returns)
    mean, _ = _centre(returns, _weights(returns, _known("method", method, MEANS), halflife))
    return mean * periods_per_year


@double_precision(static=("method",), compiler_options=COMPILER_OPTIONS)
def covariance(
    returns: Any, *, method: str = "sample", halflife: Any = 63.0, periods_per_year: Any = 1.0
) -> Array:
    """The covariance of returns, [n, n].

    Args:
      returns: [T, n] with T of at least 2.
      method: "sample" divides by T - 1. "exponential" weighs periods by ``halflife`` and divides
        by 1 - sum of squared weights, which is the sample covariance where weights are equal.
        The two of Ledoit and Wolf are those of :func:`ledoit_wolf`.
    """
    returns = jnp.asarray(returns)
    if _known("method", method, COVARIANCES).startswith("ledoit_wolf"):
        target = "constant_correlation" if method.endswith("correlation") else "identity"
        return _shrink(returns, target).covariance * periods_per_year
    weights = _weights(returns, method, halflife)
    _, centred = _centre(returns, weights)
    total = centred.T @ (weights[:, None] * centred)
    spread = 1.0 - jnp.sum(weights * weights)
    return (total + total.T) * (periods_per_year / (2.0 * spread))


@double_precision(static=("target",), compiler_options=COMPILER_OPTIONS)
def ledoit_wolf(returns: Any, *, target: str = "identity", periods_per_year: Any = 1.0) -> Shrunk:
    """A covariance shrunk to a structured target by the intensity of least expected error.

    Args:
      returns: [T, n].
      target: "identity" times the mean variance ("A well-conditioned estimator for
        large-dimensional covariance matrices", J. Multivariate Analysis 88, 2004; scikit-learn's
        LedoitWolf), or "constant_correlation" ("Honey, I shrunk the sample covariance matrix",
        J. Portfolio Management 30, 2004). Both shrink the covariance that divides by T.
    """
    shrunk = _shrink(jnp.asarray(returns), _known("target", target, _TARGETS))
    return Shrunk(shrunk.covariance * periods_per_year, shrunk.shrinkage)


def _known(name: str, value: str, known: tuple[str, ...]) -> str:
    if value not in known:
        raise ValueError(f"{name} is {value!r}; known: {', '.join(known)}")
    return value


def _weights(returns: Array, method: str, halflife: Any) -> Array:
    """Weights of the periods, oldest first, that sum to one."""
    count, dtype = returns.shape[0], returns.dtype
    if method == "sample":
        return jnp.full(count, 1.0 / count, dtype)
    ages = jnp.arange(count - 1, -1, -1, dtype=dtype)
    weights = jnp.exp2(-ages / halflife)
    return weights / jnp.sum(weights)


def _centre(returns: Array, weights: Array) -> tuple[Array, Array]:
    """The weighted mean, [n], and the returns about it."""
    first = weights @ returns
    left = weights @ (returns - first)
    return first + left, returns - first - left


def _shrink(returns: Array, target: str) -> Shrunk:
    count, n = returns.shape
    _, x = _centre(returns, jnp.full(count, 1.0 / count, returns.dtype))
    sample = x.T @ x / count
    squares = x * x
    # The summed variances of the entries of the sample covariance, times T.
    noise = squares.T @ squares / count - sample * sample
    if target == "identity":
        goal = jnp.eye(n, dtype=returns.dtype) * (jnp.trace(sample) / n)
        excess = jnp.sum(noise)
    else:
        goal, excess = _constant_correlation(x, sample, noise)
    distance = jnp.sum((sample - goal) ** 2)
    apart = distance > 0
    intensity = jnp.where(apart, excess / (count * jnp.where(apart, distance, 1.0)), 0.0)
    intensity = jnp.clip(intensity, 0.0, 1.0)
    return Shrunk(intensity * goal + (1.0 - intensity) * sample, intensity)


def _constant_correlation(x: Array, sample: Array, noise: Array) -> tuple[Array, Array]:
    """The target, and the entries' variance less their covariance with the target (pi - rho)."""
    count, n = x.shape
    variances = jnp.diagonal(sample)
    spreads = jnp.sqrt(jnp.where(variances > 0, variances, 1.0))
    outside = 1.0 - jnp.eye(n, dtype=x.dtype)
    correlation = sample / (spreads[:, None] * spreads)
    mean = jnp.sum(correlation * outside) / max(n * (n - 1), 1)
    goal = jnp.where(outside > 0, mean * spreads[:, None] * spreads, sample)
    # theta[i, j]: the covariance of the estimates of variance i and of entry (i, j), times T.
    theta = (x**3).T @ x / count - variances[:, None] * sample
    ratio = spreads / spreads[:, None]  # [i, j] = s_j / s_i
    along = jnp.trace(noise) + mean * jnp.sum(outside * ratio * theta)
    return goal, jnp.sum(noise) - along


_TARGETS = ("identity", "constant_correlation")
