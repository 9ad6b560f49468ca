"""The first-order autoregression y_t = m + phi (y_{t-1} - m) + e_t, e_t ~ N(0, s2), |phi| < 1.

The likelihood is exact: the first observation has the stationary distribution N(m, s2 / (1 -
phi^2)) (Hamilton, 1994, 5.2). Series are ``[..., T]``, oldest first.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp

from lilith.quant.precision import double_precision
from lilith.quant.special import log1p
from lilith.quant.statistics import Scalar, mean, standard_deviation
from lilith.quant.time_series.maximum_likelihood import BAD_INPUT, Estimate, maximize

MEANS = ("constant", "zero")
_NEAR_UNIT_ROOT = 1e-6  # of |phi|


class AR1Fit(NamedTuple):
    """Estimates of an AR(1), each [...] unless said otherwise.

    Attributes:
      mean, phi, variance: m, phi and s2; the mean is 0 where it is not estimated.
      standard_errors: of (mean, phi, variance) from the observed information, [..., 3]; 0 for a
        mean that is not estimated, NaN where status is not 0.
      standard_errors_robust: the same from the sandwich, [..., 3].
      log_likelihood: at the maximum.
      decrement, iterations, status: of :class:`Estimate`.
    """

    mean: jax.Array
    phi: jax.Array
    variance: jax.Array
    standard_errors: jax.Array
    standard_errors_robust: jax.Array
    log_likelihood: jax.Array
    decrement: jax.Array
    iterations: jax.Array
    status: jax.Array


def _log_densities(parameters: jax.Array, series: jax.Array) -> jax.Array:
    """Of each observation given those before it, [T]; parameters are (phi, s2, m)."""
    phi, variance, center = parameters
    own = series - center
    stationary = (1 - phi) * (1 + phi)
    inside = (stationary > 0) & (variance > 0)
    stationary, variance = jnp.where(inside, stationary, 1), jnp.where(inside, variance, 1)
    first = stationary * own[:1] ** 2 / variance - jnp.log(stationary)
    later = (own[1:] - phi * own[:-1]) ** 2 / variance
    terms = math.log(2 * math.pi) + jnp.log(variance) + jnp.concatenate([first, later])
    return jnp.where(inside, -0.5 * terms, jnp.nan)


@double_precision
def ar1_log_likelihood(
    series: jax.Array, phi: Scalar, variance: Scalar, mean: Scalar = 0.0
) -> jax.Array:
    """Exact Gaussian log-likelihood [...]; NaN outside |phi| < 1, variance > 0.

    ``variance`` is that of the innovations; parameters broadcast against the leading axes.
    """
    shape = jnp.broadcast_shapes(
        series.shape[:-1], jnp.shape(phi), jnp.shape(variance), jnp.shape(mean)
    )
    parameters = jnp.stack(
        [jnp.broadcast_to(jnp.asarray(own, series.dtype), shape) for own in (phi, variance, mean)],
        axis=-1,
    )
    series = jnp.broadcast_to(series, (*shape, series.shape[-1]))
    density = jnp.vectorize(_log_densities, signature="(k),(t)->(t)")
    return jnp.sum(density(parameters, series), axis=-1)


@double_precision(static=("mean_model", "most_iterations"))
def ar1_fit(
    series: jax.Array, *, mean_model: str = "constant", most_iterations: int = 100
) -> AR1Fit:
    """Maximum likelihood by Newton's method in (atanh phi, log s2, m), on standardised data.

    ``mean_model`` is constant (estimated) or zero.

    Raises:
      ValueError: ``mean_model`` is neither, or there are fewer than 4 observations.
    """
    if mean_model not in MEANS:
        raise ValueError(f"mean_model is {mean_model!r}; it is one of {', '.join(MEANS)}")
    if series.shape[-1] < 4:
        raise ValueError(f"an AR(1) needs at least 4 observations and has {series.shape[-1]}")
    fit = jnp.vectorize(
        lambda own: tuple(_fit(own, mean_model == "constant", most_iterations)),
        signature="(t)->(),(),(),(p),(p),(),(),(),()",
    )
    return AR1Fit(*fit(series))


def _fit(series: jax.Array, with_mean: bool, most_iterations: int) -> AR1Fit:
    shift = mean(series) if with_mean else jnp.zeros((), series.dtype)
    scale = standard_deviation(series, ddof=0) if with_mean else _root_mean_square(series)
    constant = ~(scale > jnp.finfo(scale.dtype).eps * jnp.max(jnp.abs(series)))
    safe = jnp.where(constant, 1, scale)
    unit = jnp.where(constant, jnp.nan, (series - shift) / safe)

    def to_parameters(free: jax.Array) -> jax.Array:
        center = free[2] if with_mean else jnp.zeros((), free.dtype)
        return jnp.stack([jnp.tanh(free[0]), jnp.exp(free[1]), center])

    def log_densities(own: jax.Array, data: jax.Array) -> jax.Array:
        return _log_densities(own if with_mean else jnp.append(own, 0.0), data)

    lagged = jnp.sum(unit[1:] * unit[:-1]) / jnp.sum(unit[:-1] ** 2)
    lagged = jnp.clip(lagged, -0.95, 0.95)
    start = jnp.stack([jnp.arctanh(lagged), log1p(-(lagged**2)), jnp.zeros_like(lagged)])
    count = 3 if with_mean else 2
    found = maximize(
        log_densities,
        lambda free: to_parameters(free)[:count],
        start[None, :count],
        unit,
        is_interior=lambda own: jnp.abs(own[0]) < 1 - _NEAR_UNIT_ROOT,
        most_iterations=most_iterations,
    )
    return _rescaled(found, shift, safe, with_mean, series.shape[-1])


def _root_mean_square(series: jax.Array) -> jax.Array:
    largest = jnp.max(jnp.abs(series))
    safe = jnp.where(largest > 0, largest, 1)
    return largest * jnp.sqrt(jnp.mean((series / safe) ** 2) + (largest == 0))


def _rescaled(
    found: Estimate, shift: jax.Array, scale: jax.Array, with_mean: bool, count: int
) -> AR1Fit:
    """The fit of standardised data as that of the data themselves."""
    units = jnp.stack([jnp.ones_like(scale), scale**2, scale])[: 2 + with_mean]
    plain, robust = (
        jnp.sqrt(jnp.diagonal(own)) * units for own in (found.covariance, found.covariance_robust)
    )
    center = shift + scale * found.parameters[2] if with_mean else jnp.zeros_like(shift)

    def mean_first(errors: jax.Array) -> jax.Array:
        lead = errors[2:] if with_mean else jnp.zeros(1, errors.dtype)
        return jnp.concatenate([lead, errors[:2]])

    return AR1Fit(
        jnp.where(found.status == BAD_INPUT, jnp.nan, center),
        found.parameters[0],
        found.parameters[1] * scale**2,
        mean_first(plain),
        mean_first(robust),
        found.log_likelihood - count * jnp.log(scale),
        found.decrement,
        found.iterations,
        found.status,
    )


@double_precision(static=("count",))
def ar1_simulate(
    key: jax.Array, phi: Scalar, variance: Scalar, mean: Scalar = 0.0, *, count: int
) -> jax.Array:
    """A path [count] from the stationary distribution on. ``key`` is of ``jax.random.key``."""
    phi, variance = jnp.asarray(phi), jnp.asarray(variance)
    shocks = jax.random.normal(key, (count,), phi.dtype) * jnp.sqrt(variance)
    shocks = shocks.at[0].divide(jnp.sqrt((1 - phi) * (1 + phi)))

    def step(last: jax.Array, shock: jax.Array) -> tuple[jax.Array, jax.Array]:
        now = phi * last + shock
        return now, now

    return mean + jax.lax.scan(step, jnp.zeros((), phi.dtype), shocks, unroll=8)[1]


@double_precision(static=("horizon",))
def ar1_forecast(
    last: jax.Array, phi: Scalar, variance: Scalar, mean: Scalar = 0.0, *, horizon: int
) -> tuple[jax.Array, jax.Array]:
    """Mean and variance [..., horizon] of y at 1 .. ``horizon`` steps past ``last`` [...].

    m + phi^h (last - m), and s2 (1 + phi^2 + ... + phi^(2h - 2)); parameters are taken as known.
    """
    phi, variance, mean = (jnp.asarray(own)[..., None] for own in (phi, variance, mean))
    steps = jnp.arange(1, horizon + 1)
    power = phi**steps
    spread = jnp.cumsum(phi ** (2 * (steps - 1)), axis=-1)
    return mean + power * (jnp.asarray(last)[..., None] - mean), variance * spread
