"""Sample statistics: moments that survive a large offset, quantiles, autocorrelation, tests.

Arrays are ``[..., T]``, the observations on the last axis; results lose that axis. Moments take two
passes, so data around 1e8 keep their digits. A NaN among the observations makes every result NaN.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax.scipy.special import gammaincc

from lilith.quant.precision import double_precision
from lilith.quant.special import safe_sqrt

Scalar = float | jax.Array  # a parameter that broadcasts against the results


@double_precision
def mean(data: jax.Array) -> jax.Array:
    """Arithmetic mean; the second pass returns what rounding took from the first."""
    first = jnp.mean(data, axis=-1, keepdims=True)
    return (first + jnp.mean(data - first, axis=-1, keepdims=True))[..., 0]


def deviations(data: jax.Array) -> jax.Array:
    """``data`` less its mean, [..., T]."""
    return data - mean(data)[..., None]


@double_precision
def standard_deviation(data: jax.Array, *, ddof: Scalar = 1) -> jax.Array:
    """Square root of the summed squared deviations over T - ``ddof``; NaN where T <= ddof.

    The gradient at constant data, which has none, is 0.
    """
    count = data.shape[-1] - jnp.asarray(ddof, data.dtype)
    # Scaled by the largest deviation: squares neither overflow nor vanish.
    own = deviations(data)
    scale = _scale(own)
    squares = jnp.sum((own / scale[..., None]) ** 2, axis=-1)
    root = scale * safe_sqrt(squares / jnp.where(count > 0, count, 1))
    return jnp.where(count > 0, root, jnp.nan)


def _scale(own: jax.Array) -> jax.Array:
    """The largest absolute deviation, and 1 where there is none; results do not depend on it."""
    largest = jnp.max(jnp.abs(own), axis=-1)
    return jax.lax.stop_gradient(jnp.where(largest == 0, 1, largest))


def _unit_deviations(data: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Deviations scaled to at most 1, and whether they are no more than rounding of the mean."""
    own = deviations(data)
    rounding = jnp.finfo(data.dtype).eps * jnp.max(jnp.abs(data), axis=-1)
    return own / _scale(own)[..., None], jnp.max(jnp.abs(own), axis=-1) <= rounding


def safe_divide(numerator: jax.Array, denominator: jax.Array) -> jax.Array:
    """Quotient; at a denominator of 0 it is infinite (NaN for 0/0) and its gradient is 0."""
    zero = denominator == 0
    limit = jnp.where(numerator == 0, jnp.nan, jnp.sign(numerator) * jnp.inf)
    return jnp.where(zero, limit, numerator / jnp.where(zero, 1, denominator))


def standardized_moment(data: jax.Array, order: int) -> jax.Array:
    """Central moment of ``order`` over the population variance to the ``order`` / 2.

    NaN where the spread is no larger than the rounding of the mean: the data are constant.
    """
    unit, constant = _unit_deviations(data)
    variance = jnp.where(constant, 1, jnp.mean(unit**2, axis=-1))
    return jnp.where(constant, jnp.nan, jnp.mean(unit**order, axis=-1) / variance ** (order / 2))


@double_precision(static=("bias",))
def skewness(data: jax.Array, *, bias: bool = True) -> jax.Array:
    """Third standardized moment g1; without ``bias`` G1 = g1 sqrt(T (T - 1)) / (T - 2).

    NaN for constant data, and for G1 of fewer than 3 observations (Joanes and Gill, 1998).
    """
    count = data.shape[-1]
    biased = standardized_moment(data, 3)
    if bias:
        return biased
    return biased * (count * (count - 1)) ** 0.5 / (count - 2) if count > 2 else biased * jnp.nan


@double_precision(static=("bias",))
def excess_kurtosis(data: jax.Array, *, bias: bool = True) -> jax.Array:
    """Fourth standardized moment less 3, g2; without ``bias`` G2 (Joanes and Gill, 1998).

    G2 = (T - 1) / ((T - 2)(T - 3)) ((T + 1) g2 + 6). NaN for constant data, and for G2 of fewer
    than 4 observations.
    """
    count = data.shape[-1]
    biased = standardized_moment(data, 4) - 3
    if bias:
        return biased
    if count < 4:
        return biased * jnp.nan
    return (count - 1) / ((count - 2) * (count - 3)) * ((count + 1) * biased + 6)


@double_precision
def quantile(data: jax.Array, levels: jax.Array) -> jax.Array:
    """Linearly interpolated quantiles (Hyndman and Fan's type 7), [..., *levels.shape].

    ``levels`` are in [0, 1]; NaN outside. A level within rounding of an observation's own takes
    that observation: 1 - 0.9 of eleven values is the second one, not a hair below it.
    """
    ordered = jnp.sort(data, axis=-1)
    last = data.shape[-1] - 1
    levels = jnp.asarray(levels, data.dtype)
    position = levels * last
    nearest = jnp.round(position)
    rounding = 4 * jnp.finfo(data.dtype).eps * max(last, 1)
    position = jnp.where(jnp.abs(position - nearest) <= rounding, nearest, position)
    low = jnp.clip(jnp.floor(position), 0, last).astype(int)
    below, above = ordered[..., low], ordered[..., jnp.minimum(low + 1, last)]
    value = below + (position - low) * (above - below)
    known = (levels >= 0) & (levels <= 1)
    # The sort puts NaN last, where the quantile may not look.
    missing = jnp.isnan(data).any(axis=-1).reshape(data.shape[:-1] + (1,) * levels.ndim)
    return jnp.where(known & ~missing, value, jnp.nan)


@double_precision
def jarque_bera(data: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Statistic T / 6 (g1^2 + g2^2 / 4) and its chi-squared (2) p-value, exp(-statistic / 2)."""
    statistic = data.shape[-1] / 6 * (skewness(data) ** 2 + excess_kurtosis(data) ** 2 / 4)
    return statistic, jnp.exp(-statistic / 2)


@double_precision(static=("lags",))
def autocorrelation(data: jax.Array, *, lags: int) -> jax.Array:
    """Autocorrelations at lags 1 .. ``lags``, [..., lags]: sums over T - k terms, divided by T c0.

    NaN for constant data and for lags of T and beyond.
    """
    unit, constant = _unit_deviations(data)
    count = data.shape[-1]
    total = jnp.where(constant, 1, jnp.sum(unit**2, axis=-1))
    covariances = [
        jnp.sum(unit[..., k:] * unit[..., : count - k], axis=-1)
        if k < count
        else jnp.full_like(total, jnp.nan)
        for k in range(1, lags + 1)
    ]
    found = jnp.stack(covariances, axis=-1) / total[..., None]
    return jnp.where(constant[..., None], jnp.nan, found)


@double_precision(static=("lags",))
def ljung_box(data: jax.Array, *, lags: int) -> tuple[jax.Array, jax.Array]:
    """Q(k) = T (T + 2) sum of r_i^2 / (T - i) for i <= k, and its chi-squared (k) p-value.

    Both are [..., lags], for k = 1 .. ``lags`` (Ljung and Box, 1978).
    """
    count = data.shape[-1]
    order = jnp.arange(1, lags + 1, dtype=data.dtype)
    squares = autocorrelation(data, lags=lags) ** 2 / (count - order)
    statistic = count * (count + 2) * jnp.cumsum(squares, axis=-1)
    return statistic, gammaincc(order / 2, statistic / 2)


@double_precision(static=("lags",))
def describe(
    data: jax.Array, levels: jax.Array, *, lags: int, ddof: Scalar = 1
) -> dict[str, jax.Array]:
    """Every statistic of this module at once, by name, in one compiled program.

    ``levels`` [L] are those of ``percentiles`` [..., L], in [0, 1]; autocorrelation, ljung_box and
    ljung_box_p_value are [..., lags]; the others [...].
    """
    statistic, p_value = jarque_bera(data)
    box, box_p_value = ljung_box(data, lags=lags)
    return {
        "mean": mean(data),
        "median": quantile(data, jnp.asarray(0.5, data.dtype)),
        "std": standard_deviation(data, ddof=ddof),
        "std_ddof0": standard_deviation(data, ddof=0),
        "std_ddof1": standard_deviation(data, ddof=1),
        "skew_biased": skewness(data),
        "skew_unbiased": skewness(data, bias=False),
        "kurtosis_excess_biased": excess_kurtosis(data),
        "kurtosis_excess_unbiased": excess_kurtosis(data, bias=False),
        "minimum": jnp.min(data, axis=-1),
        "maximum": jnp.max(data, axis=-1),
        "percentiles": quantile(data, levels),
        "jarque_bera": statistic,
        "jarque_bera_p_value": p_value,
        "autocorrelation": autocorrelation(data, lags=lags),
        "ljung_box": box,
        "ljung_box_p_value": box_p_value,
    }
