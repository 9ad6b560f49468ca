"""Value at risk and its conditional mean, each by three methods.

Both are returns: a loss is negative, and -0.02 at 95% confidence says that one period in twenty
loses 2% or more. Returns are ``[..., T]`` and results ``[...]``.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.scipy.special import ndtri

from lilith.quant.precision import double_precision
from lilith.quant.statistics import (
    Scalar,
    excess_kurtosis,
    mean,
    quantile,
    skewness,
    standard_deviation,
)

METHODS = ("historical", "normal", "cornish_fisher")


@double_precision(static=("method",))
def value_at_risk(
    returns: jax.Array,
    *,
    confidence: Scalar = 0.95,
    method: str = "historical",
    ddof: Scalar = 1,
) -> jax.Array:
    """The return that is undercut with probability 1 - ``confidence`` (in (0, 1), else NaN).

    Methods: ``historical`` interpolates the sample's quantile linearly; ``normal`` is m + s z with
    the standard normal's quantile z; ``cornish_fisher`` replaces z by its expansion in the sample's
    skewness S and excess kurtosis K (both biased), z + (z^2 - 1) S/6 + (z^3 - 3z) K/24 -
    (2z^3 - 5z) S^2/36 (Cornish and Fisher, 1938). ``ddof`` is that of s.

    Raises:
      ValueError: ``method`` is not one of these.
    """
    if method == "historical":
        return quantile(returns, 1 - jnp.asarray(confidence, returns.dtype))
    tail = _tail(returns, confidence, ddof, method)
    z, skew, kurtosis = tail.z, tail.skew, tail.kurtosis
    expanded = (
        z
        + (z**2 - 1) * skew / 6
        + (z**3 - 3 * z) * kurtosis / 24
        - (2 * z**3 - 5 * z) * skew**2 / 36
    )
    return tail.mean + tail.deviation * expanded


@double_precision(static=("method",))
def conditional_value_at_risk(
    returns: jax.Array,
    *,
    confidence: Scalar = 0.95,
    method: str = "historical",
    ddof: Scalar = 1,
) -> jax.Array:
    """Mean return given one no better than the value at risk of the same ``method``.

    ``historical`` is the mean of the observations at or below it. The others average the quantile
    function over (0, 1 - ``confidence``), for which there is a closed form: with density phi at z,
    m - s phi / (1 - confidence) (1 + z S/6 + (z^2 - 1) K/24 - (2z^2 - 1) S^2/36); S = K = 0 where
    the method is ``normal``.

    Raises:
      ValueError: ``method`` is not one of these.
    """
    if method == "historical":
        return mean_to(returns, value_at_risk(returns, confidence=confidence))
    tail = _tail(returns, confidence, ddof, method)
    z, skew, kurtosis = tail.z, tail.skew, tail.kurtosis
    factor = (
        1 + z * skew / 6 + (z**2 - 1) * kurtosis / 24 - (2 * z**2 - 1) * skew**2 / 36
    )  # minus the integral of the expansion's terms against the density, over phi
    density = jnp.exp(-(z**2) / 2) / jnp.sqrt(2 * jnp.pi)
    return tail.mean - tail.deviation * density / tail.probability * factor


def mean_to(returns: jax.Array, value: jax.Array) -> jax.Array:
    """Mean of the returns at or below ``value`` [...]; NaN where there are none."""
    tail = returns <= value[..., None]
    return jnp.sum(jnp.where(tail, returns, 0), axis=-1) / jnp.sum(tail, axis=-1)


class _Tail(NamedTuple):
    mean: jax.Array
    deviation: jax.Array
    skew: jax.Array
    kurtosis: jax.Array
    z: jax.Array
    probability: jax.Array


def _tail(returns: jax.Array, confidence: Scalar, ddof: Scalar, method: str) -> _Tail:
    if method not in METHODS:
        raise ValueError(f"method is {method!r}; it is one of {', '.join(METHODS)}")
    probability = 1 - jnp.asarray(confidence, returns.dtype)
    center = mean(returns)
    zero = jnp.zeros_like(center)
    expand = method == "cornish_fisher"
    return _Tail(
        center,
        standard_deviation(returns, ddof=ddof),
        skewness(returns) if expand else zero,
        excess_kurtosis(returns) if expand else zero,
        ndtri(probability),
        probability,
    )


@double_precision
def cornish_fisher_is_monotone(returns: jax.Array) -> jax.Array:
    """Whether the expanded quantile rises everywhere, as a quantile must, for these moments.

    Its derivative 1 + z S/3 + (z^2 - 1) K/8 - (6z^2 - 5) S^2/36 is a parabola in z, which is
    positive throughout if it opens upward and has no real root (Maillard, 2012).
    """
    skew, kurtosis = skewness(returns), excess_kurtosis(returns)
    square = kurtosis / 8 - skew**2 / 6
    constant = 1 - kurtosis / 8 + 5 * skew**2 / 36
    discriminant = (skew / 3) ** 2 - 4 * square * constant
    return (square >= 0) & (discriminant <= 0)
