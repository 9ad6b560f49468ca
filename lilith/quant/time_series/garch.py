"""GARCH(1,1): y_t = m + e_t, e_t ~ N(0, h_t), h_t = omega + alpha e_{t-1}^2 + beta h_{t-1}.

Omega > 0, alpha and beta at least 0, alpha + beta < 1 (Bollerslev, 1986). Before the sample both
e^2 and h are taken as one value, the backcast, as arch does: h_1 = omega + (alpha + beta) backcast.
It is either ``variance``, the mean of the squared residuals, or ``exponential``, their mean with
weights 0.94^t over the first 75 (arch's default); a fit keeps that of the residuals from the sample
mean. Series are ``[..., T]``, oldest first.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp

from lilith.quant.precision import QUICK_COMPILATION, double_precision
from lilith.quant.statistics import Scalar, mean
from lilith.quant.time_series.maximum_likelihood import BAD_INPUT, Estimate, maximize

MEANS = ("constant", "zero")
BACKCASTS = ("exponential", "variance")
_SMOOTHING, _MOST_SMOOTHED = 0.94, 75
_NEAR_BOUNDARY = 1e-6  # of alpha, beta and 1 - alpha - beta
_START_ALPHAS = (0.03, 0.1, 0.25)
_START_PERSISTENCES = (0.5, 0.8, 0.95, 0.99)


class GARCHFit(NamedTuple):
    """Estimates of a GARCH(1,1), each [...] unless said otherwise.

    Attributes:
      mean, omega, alpha, beta: the mean is 0 where it is not estimated.
      standard_errors: of (mean, omega, alpha, beta) from the observed information, [..., 4]; 0 for
        a mean that is not estimated, NaN where status is not 0.
      standard_errors_robust: the same from the sandwich (Bollerslev and Wooldridge), [..., 4].
      log_likelihood: at the maximum.
      variances: conditional, h_1 .. h_T, [..., T].
      next_variance: h_{T+1}.
      decrement, iterations, status: of :class:`Estimate`.
    """

    mean: jax.Array
    omega: jax.Array
    alpha: jax.Array
    beta: jax.Array
    standard_errors: jax.Array
    standard_errors_robust: jax.Array
    log_likelihood: jax.Array
    variances: jax.Array
    next_variance: jax.Array
    decrement: jax.Array
    iterations: jax.Array
    status: jax.Array


@double_precision(static=("kind",))
def garch_backcast(residuals: jax.Array, *, kind: str = "exponential") -> jax.Array:
    """The value [...] that e^2 and h take before the sample of ``residuals`` [..., T].

    Raises:
      ValueError: ``kind`` is not exponential or variance.
    """
    if kind not in BACKCASTS:
        raise ValueError(f"backcast is {kind!r}; it is one of {', '.join(BACKCASTS)}")
    squares = residuals**2
    if kind == "variance":
        return jnp.mean(squares, axis=-1)
    count = min(residuals.shape[-1], _MOST_SMOOTHED)
    weights = _SMOOTHING ** jnp.arange(count, dtype=residuals.dtype)
    return jnp.sum(squares[..., :count] * weights, axis=-1) / jnp.sum(weights)


@double_precision
def garch_variances(
    residuals: jax.Array, omega: Scalar, alpha: Scalar, beta: Scalar, backcast: Scalar
) -> jax.Array:
    """h_1 .. h_{T+1} of ``residuals`` [..., T]: [..., T + 1], the last the forecast."""
    squares = jnp.moveaxis(residuals**2, -1, 0)
    omega, alpha, beta, backcast = (
        jnp.asarray(own, residuals.dtype) for own in (omega, alpha, beta, backcast)
    )
    shape = jnp.broadcast_shapes(
        squares.shape[1:], omega.shape, alpha.shape, beta.shape, backcast.shape
    )
    first = jnp.broadcast_to(omega + (alpha + beta) * backcast, shape)

    def step(variance: jax.Array, square: jax.Array) -> tuple[jax.Array, jax.Array]:
        following = omega + alpha * square + beta * variance
        return following, following

    later = jax.lax.scan(step, first, squares, unroll=8)[1]
    return jnp.moveaxis(jnp.concatenate([first[None], later]), 0, -1)


@double_precision
def garch_log_likelihood(
    residuals: jax.Array, omega: Scalar, alpha: Scalar, beta: Scalar, backcast: Scalar
) -> jax.Array:
    """Gaussian log-likelihood [...] of residuals y - m [..., T]; NaN where omega, alpha or beta
    is negative or alpha + beta >= 1."""
    variances = garch_variances(residuals, omega, alpha, beta, backcast)[..., :-1]
    omega, alpha, beta = jnp.asarray(omega), jnp.asarray(alpha), jnp.asarray(beta)
    valid = (omega >= 0) & (alpha >= 0) & (beta >= 0) & (alpha + beta < 1)
    density = jnp.sum(_normal_log_density(residuals, variances), axis=-1)
    return jnp.where(valid, density, jnp.nan)


def _normal_log_density(residuals: jax.Array, variances: jax.Array) -> jax.Array:
    positive = variances > 0
    variances = jnp.where(positive, variances, 1)
    density = -0.5 * (math.log(2 * math.pi) + jnp.log(variances) + residuals**2 / variances)
    return jnp.where(positive, density, jnp.nan)


@double_precision(
    static=("mean_model", "backcast", "most_iterations"), compiler_options=QUICK_COMPILATION
)
def garch_fit(
    series: jax.Array,
    *,
    mean_model: str = "constant",
    backcast: str = "exponential",
    most_iterations: int = 100,
) -> GARCHFit:
    """Maximum likelihood by Newton's method on standardised data.

    The free coordinates are log omega, the logit of the persistence alpha + beta, the logit of
    alpha's share of it, and m: every step is stationary. ``mean_model`` is constant (estimated
    jointly) or zero. The first step starts from the best of twelve pairs of alpha and persistence.

    Raises:
      ValueError: ``mean_model`` or ``backcast`` is unknown, or there are fewer than 10
        observations.
    """
    if mean_model not in MEANS:
        raise ValueError(f"mean_model is {mean_model!r}; it is one of {', '.join(MEANS)}")
    if series.shape[-1] < 10:
        raise ValueError(f"a GARCH needs at least 10 observations and has {series.shape[-1]}")
    fit = jnp.vectorize(
        lambda own: tuple(_fit(own, mean_model == "constant", backcast, most_iterations)),
        signature="(t)->(),(),(),(),(p),(p),(),(t),(),(),(),()",
    )
    return GARCHFit(*fit(series))


def _to_parameters(free: jax.Array) -> jax.Array:
    """(log omega, logit persistence, logit share, m) to (omega, alpha, beta, m)."""
    persistence, share = jax.nn.sigmoid(free[1]), jax.nn.sigmoid(free[2])
    rest = jax.nn.sigmoid(-free[2])
    return jnp.concatenate(
        [jnp.stack([jnp.exp(free[0]), persistence * share, persistence * rest]), free[3:]]
    )


def _starts(dtype: jnp.dtype, with_mean: bool) -> jax.Array:
    """Free coordinates [12, k] for data of variance 1."""
    pairs = [(a, p) for a in _START_ALPHAS for p in _START_PERSISTENCES]
    rows = [
        [math.log(1 - p), math.log(p / (1 - p)), math.log(a / (p - a)), *([0.0] * with_mean)]
        for a, p in pairs
    ]
    return jnp.asarray(rows, dtype)


def _fit(series: jax.Array, with_mean: bool, backcast: str, most_iterations: int) -> GARCHFit:
    shift = mean(series) if with_mean else jnp.zeros((), series.dtype)
    centered = series - shift
    largest = jnp.max(jnp.abs(centered))
    constant = ~(largest > 4 * jnp.finfo(series.dtype).eps * jnp.max(jnp.abs(series)))
    largest = jnp.where(constant, 1, largest)
    scale = largest * jnp.sqrt(jnp.mean((centered / largest) ** 2) + constant)
    unit = jnp.where(constant, jnp.nan, centered / scale)
    before = garch_backcast(unit, kind=backcast)

    def log_densities(own: jax.Array, data: tuple[jax.Array, jax.Array]) -> jax.Array:
        residuals = data[0] - own[3] if with_mean else data[0]
        variances = garch_variances(residuals, own[0], own[1], own[2], data[1])
        return _normal_log_density(residuals, variances[:-1])

    def is_interior(own: jax.Array) -> jax.Array:
        rest = 1 - own[1] - own[2]
        return jnp.minimum(jnp.minimum(own[1], own[2]), rest) > _NEAR_BOUNDARY

    found = maximize(
        log_densities,
        _to_parameters,
        _starts(series.dtype, with_mean),
        (unit, before),
        is_interior=is_interior,
        most_iterations=most_iterations,
    )
    return _rescaled(found, unit, before, shift, scale, with_mean)


def _rescaled(
    found: Estimate,
    unit: jax.Array,
    before: jax.Array,
    shift: jax.Array,
    scale: jax.Array,
    with_mean: bool,
) -> GARCHFit:
    """The fit of standardised data as that of the data themselves."""
    omega, alpha, beta = found.parameters[:3]
    center = found.parameters[3] if with_mean else jnp.zeros_like(shift)
    variances = garch_variances(unit - center, omega, alpha, beta, before) * scale**2
    units = jnp.stack([scale**2, jnp.ones_like(scale), jnp.ones_like(scale), scale])

    def mean_first(covariance: jax.Array) -> jax.Array:
        errors = jnp.sqrt(jnp.diagonal(covariance)) * units[: 3 + with_mean]
        lead = errors[3:] if with_mean else jnp.zeros(1, errors.dtype)
        return jnp.concatenate([lead, errors[:3]])

    return GARCHFit(
        jnp.where(found.status == BAD_INPUT, jnp.nan, shift + scale * center),
        omega * scale**2,
        alpha,
        beta,
        mean_first(found.covariance),
        mean_first(found.covariance_robust),
        found.log_likelihood - len(unit) * jnp.log(scale),
        variances[:-1],
        variances[-1],
        found.decrement,
        found.iterations,
        found.status,
    )


@double_precision(static=("horizon",))
def garch_forecast(
    next_variance: jax.Array, omega: Scalar, alpha: Scalar, beta: Scalar, *, horizon: int
) -> jax.Array:
    """Expected h_{T+1} .. h_{T+horizon} [..., horizon] from h_{T+1} [...].

    Each is omega + (alpha + beta) times the one before; they tend to omega / (1 - alpha - beta).
    """
    omega, persistence = jnp.asarray(omega), jnp.asarray(alpha + beta)
    first = jnp.asarray(next_variance)
    first = jnp.broadcast_to(
        first, jnp.broadcast_shapes(first.shape, omega.shape, persistence.shape)
    )

    def step(variance: jax.Array, _: None) -> tuple[jax.Array, jax.Array]:
        return omega + persistence * variance, variance

    return jnp.moveaxis(jax.lax.scan(step, first, None, length=horizon)[1], 0, -1)


@double_precision(static=("count", "burn_in"))
def garch_simulate(
    key: jax.Array,
    omega: Scalar,
    alpha: Scalar,
    beta: Scalar,
    mean: Scalar = 0.0,
    *,
    count: int,
    burn_in: int = 500,
) -> tuple[jax.Array, jax.Array]:
    """A path of y and of h, each [count], after ``burn_in`` steps from the long-run variance.

    ``key`` is of ``jax.random.key``.
    """
    omega, alpha, beta = jnp.asarray(omega), jnp.asarray(alpha), jnp.asarray(beta)
    shocks = jax.random.normal(key, (count + burn_in,), omega.dtype)

    def step(variance: jax.Array, shock: jax.Array) -> tuple[jax.Array, tuple]:
        residual = jnp.sqrt(variance) * shock
        return omega + alpha * residual**2 + beta * variance, (residual, variance)

    _, (residuals, variances) = jax.lax.scan(step, omega / (1 - alpha - beta), shocks, unroll=8)
    return mean + residuals[burn_in:], variances[burn_in:]
