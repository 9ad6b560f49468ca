"""Sums, products and exp(x) - 1 to about twice the precision, as unevaluated sums of two numbers.

Only what log-moneyness needs where log(spot / strike) and the carry nearly cancel. Sources: T.
Dekker, Numerische Mathematik 18 (1971); D. Knuth, The Art of Computer Programming 2, 4.2.2.

No step has the form (c + x) - c with a constant c: XLA would simplify it to x.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

from lilith.quant import special

_HALVINGS = 6
# log 2 in parts: the first two so short that their products with any exponent are exact.
_LOG2 = {
    "float64": (0.6931471805592082, 7.371002565161996e-13, 5.8029889835956905e-25),
    "float32": (0.693115234375, 3.194436430931091e-05, 1.8206359985041462e-09),
}


class DoubleDouble(NamedTuple):
    """``high`` + ``low``, with ``low`` below the last place of ``high``."""

    high: jax.Array
    low: jax.Array


def add(a: jax.Array, b: jax.Array) -> DoubleDouble:
    """a + b, exactly."""
    high = a + b
    part = high - a
    return DoubleDouble(high, (a - (high - part)) + (b - part))


def multiply(a: jax.Array, b: jax.Array) -> DoubleDouble:
    """a * b, exactly (barring underflow)."""
    high = a * b
    a_short, b_short = special.shortened(a), special.shortened(b)
    a_rest, b_rest = a - a_short, b - b_short
    low = ((a_short * b_short - high) + a_short * b_rest + a_rest * b_short) + a_rest * b_rest
    return DoubleDouble(high, low)


def expm1(x: DoubleDouble) -> DoubleDouble:
    """exp(x) - 1, to about 1e-21 (1e-11 in float32) of itself for x near 0."""
    first, second, third = _LOG2[str(x.high.dtype)]
    power = jnp.round(x.high / first)
    rest = add(x.high - power * first, x.low - power * second)
    scale = 0.5**_HALVINGS
    r, r_low = rest.high * scale, (rest.low - power * third) * scale
    square = multiply(r, r)
    tail = r * square.high * (1 / 6 + r * (1 / 24 + r * (1 / 120 + r * (1 / 720 + r * (1 / 5040)))))
    u = add(r, 0.5 * square.high)
    u = add(u.high, u.low + (0.5 * square.low + r_low * (1 + r) + tail))
    for _ in range(_HALVINGS):  # exp(2 r) - 1 = u (2 + u)
        square = multiply(u.high, u.high)
        double = add(2 * u.high, square.high)
        u = add(double.high, double.low + (2 * u.low + square.low + 2 * u.high * u.low))
    factor = _power_of_two(power)
    scaled = add(factor - 1, factor * u.high)
    return add(scaled.high, scaled.low + factor * u.low)


def _power_of_two(exponent: jax.Array) -> jax.Array:
    """2^exponent exactly, which XLA's exp2 is not, with the exponent kept in the normal range."""
    double = exponent.dtype == jnp.float64
    bias, mantissa_bits = (1023, 52) if double else (127, 23)
    whole = jnp.clip(exponent, 1 - bias, bias).astype(jnp.int64 if double else jnp.int32)
    return jax.lax.bitcast_convert_type((whole + bias) << mantissa_bits, exponent.dtype)
