"""The inverses of Black's and Bachelier's formulas in the total volatility.

A first guess from closed forms is within a quarter of the root everywhere; each of the steps that
follow is Householder's of third order (A. Householder, The Numerical Treatment of a Single
Nonlinear Equation, 1970) on the logarithm of the price, so that the error goes to its fourth
power. That both prices are best inverted in their logarithm, and the upper half of Black's in
that of its distance to the upper bound, is the analysis of P. Jaeckel, "Let's be rational",
Wilmott 75 (2015) and "Implied normal volatility", Wilmott 90 (2017). Guesses and steps are ours.
"""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp

from lilith.quant import special
from lilith.quant.options.normalised_black import mills_difference, out_of_the_money

_STEPS = 3
_BELOW_ONE = 1 - 1e-6  # where a guess would be infinite at 1
# Numerator and denominator in log(1 + L) of what corrects the guess for Bachelier's formula: a
# least-squares fit, within 5e-4 for prices of any size.
_GUESS = ((0.2043655, -0.0790408, 0.1822893), (0.5484345, -0.1438961, 0.1851675))


def black_total_volatility(x: jax.Array, value: jax.Array, complement: jax.Array) -> jax.Array:
    """The total volatility of a call with log-moneyness ``x`` at most 0.

    Args:
      x: log(A / B), at most 0.
      value: the price in units of A, above 0 and below 1.
      complement: 1 - value, given for what it has lost where the value is near 1.
    """
    upper = value > 0.5
    target = math.sqrt(2 * math.pi) * jnp.where(upper, complement, value)

    def step(_: int, total: jax.Array) -> jax.Array:
        ratio = x / total
        d1, d2 = ratio + 0.5 * total, ratio - 0.5 * total
        option = out_of_the_money(x, total)
        quotient = jnp.where(upper, option.complement_quotient, option.value_quotient)
        residual = jnp.log(quotient / target) - 0.5 * d1 * d1
        slope = jnp.where(upper, -1.0, 1.0) / quotient
        second = d1 * d2 / total
        third = second * second - 3 * (ratio / total) ** 2 - 0.25
        return _householder(total, residual, slope, second, third)

    return jax.lax.fori_loop(0, _STEPS, step, _black_guess(x, value))


def _black_guess(x: jax.Array, value: jax.Array) -> jax.Array:
    """Within a quarter, and within 2e-3 near the money in the lower half of the range."""
    largest = jnp.finfo(x.dtype).max
    distance = jnp.minimum(jnp.expm1(-x), 1e-8 * largest)  # of the strike, in units of A
    per_distance = jnp.where(x < 0, -x / jnp.where(x < 0, distance, 1.0), 1.0)
    normal = _normal_guess(distance, value) * per_distance
    # At the money value = erf(total / sqrt 8), where Bachelier's formula is linear in it.
    near = (x > -1) & (value <= 0.5)
    linear = jnp.where(near, normal / math.sqrt(2 * math.pi), jnp.minimum(value, _BELOW_ONE))
    saturating = math.sqrt(8) * jax.lax.erf_inv(linear)
    # Else the best of three lower bounds. Without its second term the price is N(d1).
    d1 = jax.scipy.special.ndtri(jnp.minimum(value, _BELOW_ONE))
    root = jnp.sqrt(d1 * d1 - 2 * x)
    one_term = jnp.where(d1 > 0, d1 + root, -2 * x / jnp.where(d1 > 0, 1.0, root - d1))
    bound = jnp.maximum(jnp.maximum(normal, one_term), saturating)
    return jnp.where(near, saturating, bound)


def normal_total_volatility(distance: jax.Array, value: jax.Array) -> jax.Array:
    """The total normal volatility of an option out of the money by ``distance`` >= 0."""
    target = math.sqrt(2 * math.pi) * value

    def step(_: int, total: jax.Array) -> jax.Array:
        d = -distance / total
        quotient = total * normal_quotient(d)
        residual = jnp.log(quotient / target) - 0.5 * d * d
        second = d * d / total
        third = second * second - 3 * second / total
        return _householder(total, residual, 1 / quotient, second, third)

    return jax.lax.fori_loop(0, _STEPS, step, _normal_guess(distance, value))


def normal_quotient(d: jax.Array) -> jax.Array:
    """1 + d N(d) / n(d) for d at most 0: Bachelier's price over total volatility and n(d)."""
    return mills_difference(d, d, jnp.ones_like(d))[0]


def _normal_guess(distance: jax.Array, value: jax.Array) -> jax.Array:
    """Bachelier's total volatility within 5e-4."""
    most = jnp.finfo(value.dtype).max
    ratio = jnp.minimum(0.5 * distance / value, 0.01 * most)
    logarithm = special.log1p(ratio)
    grows = jnp.where(ratio > 0, ratio / jnp.where(ratio > 0, logarithm, 1.0), 1.0)
    slow = special.log1p(logarithm)
    above, below = (1 + slow * (a + slow * (b + slow * c)) for a, b, c in _GUESS)
    return value * grows * jnp.sqrt(2 * math.pi + 2 * logarithm) * (below / above)


def _householder(
    total: jax.Array, residual: jax.Array, slope: jax.Array, second: jax.Array, third: jax.Array
) -> jax.Array:
    """One step on residual = log of a price to target; ``slope`` = its derivative.

    ``second`` and ``third`` are the price's second and third derivative over its first.
    """
    newton = -residual / slope
    curvature = second - slope
    change = third - 3 * second * slope + 2 * slope * slope
    change = (
        newton * (1 + 0.5 * curvature * newton) / (1 + newton * (curvature + change * newton / 6))
    )
    return jnp.clip(total + change, 0.5 * total, 2 * total)
