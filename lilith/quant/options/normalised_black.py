"""Black's formula in the form that all of its uses share, with relative accuracy everywhere.

A call pays a share worth A today against cash worth B today (both discounted); with
x = log(A / B) and the total volatility s = sigma sqrt(time), it is worth

    A N(d1) - B N(d2),   d1 = x / s + s / 2,   d2 = x / s - s / 2.

The two terms nearly cancel for an option out of the money or of small s. With Mills' ratio
Y(z) = N(z) / n(z) and A n(d1) = B n(d2), the same is A n(d1) [Y(d1) - Y(d2)], and the difference of
two near values of Y is taken as its divided difference (see ``special.polynomial_difference``),
which has no cancellation. The scale by n(d1) is that of P. Jaeckel, "Let's be rational", Wilmott
75 (2015); the divided difference is ours.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp

from lilith.quant import special

_NEAR = -special.ERFCX_LOWEST * math.sqrt(2)  # d1 up to here: the divided difference
_NEAR_THE_MONEY = 0.05  # log-moneyness below which A - B is taken from it
_LARGEST_D = 50.0  # N(d) is 0 or 1, and n(d) is 0, to all digits
_LARGEST_TOTAL = 200.0  # total volatility: the option is worth its upper bound to all digits
_LARGEST_RATIO = 2 * _LARGEST_TOTAL
_DENSITY_AT_0 = 1 / math.sqrt(2 * math.pi)


class OutOfTheMoney(NamedTuple):
    """A call with A below B, in units of A, its upper bound.

    Attributes:
      value: of the option.
      complement: 1 - value, accurate also where it is small.
      value_quotient, complement_quotient: the two over n(d1), which is the derivative of ``value``
        by the total volatility; finite also where all underflow.
      density: n(d1).
      upper, upper_complement: N(d1) and N(-d1).
      mills_low: N(d2) / n(d2).
    """

    value: jax.Array
    complement: jax.Array
    value_quotient: jax.Array
    complement_quotient: jax.Array
    density: jax.Array
    upper: jax.Array
    upper_complement: jax.Array
    mills_low: jax.Array


def out_of_the_money(x: jax.Array, total: jax.Array) -> OutOfTheMoney:
    """Value of an option with log-moneyness ``x`` at most 0 and total volatility above 0."""
    ratio = x / total
    d1, d2 = ratio + 0.5 * total, ratio - 0.5 * total
    density = special.norm_pdf(d1)
    quotient, mills_low = mills_difference(d1, d2, total)
    # Above d1 = 1 the value is near 1, and 1 - value = n(d1) [Y(-d1) + Y(d2)] is the natural form.
    mills_minus_d1 = math.sqrt(2 * math.pi) * special.half_erfcx(jnp.maximum(d1, 0.0))
    far = d1 > _NEAR
    complement_quotient = mills_minus_d1 + mills_low
    value = jnp.where(far, 1 - density * complement_quotient, density * quotient)
    lower = density * mills_minus_d1
    upper = density * (quotient + mills_low)
    some = jnp.where(density > 0, density, jnp.inf)
    return OutOfTheMoney(
        value,
        jnp.where(far, density * complement_quotient, 1 - value),
        jnp.where(far, value / some, quotient),
        jnp.where(far, complement_quotient, (1 - value) / some),
        density,
        jnp.where(far, 1 - lower, upper),
        jnp.where(far, lower, 1 - upper),
        mills_low,
    )


def mills_difference(
    high: jax.Array, low: jax.Array, gap: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Y(high) - Y(low), and Y(low), of Mills' ratio Y = N / n; ``gap`` = high - low, exactly.

    Needs low at most 0 and high at most 1.06 (a higher one is taken as 1.06). For equal
    arguments the first over ``gap`` is the derivative of Y.
    """
    y_high = jnp.maximum(-math.sqrt(0.5) * high, special.ERFCX_LOWEST)
    y_low = jnp.maximum(-math.sqrt(0.5) * low, y_high)
    pole_high = 1 / (y_high + special.ERFCX_POLE)
    pole_low = 1 / (y_low + special.ERFCX_POLE)
    series_low, quotient = special.polynomial_difference(
        1 - special.ERFCX_SCALE * pole_high, 1 - special.ERFCX_SCALE * pole_low
    )
    scaled_low = series_low / (y_low + special.ERFCX_SHIFT)  # erfcx(y_low)
    # The series falls with t, so both terms are positive.
    slope = scaled_low - special.ERFCX_SCALE * pole_high * pole_low * quotient
    shift_high = (2 / math.sqrt(math.pi)) * (y_high + special.ERFCX_SHIFT)
    mills_low = series_low / (math.sqrt(2 / math.pi) * (y_low + special.ERFCX_SHIFT))
    return gap * slope / shift_high, mills_low


def d_values(x: jax.Array, total: jax.Array) -> tuple[jax.Array, jax.Array]:
    """d1 and d2, finite (within +-50, where N and n are exact) and with finite derivatives.

    With ``total`` 0 they are +-50 by the sign of ``x``, and 0 for ``x`` = 0.
    """
    live = (total > 0) & (jnp.abs(x) < _LARGEST_RATIO * total)
    ratio = jnp.where(live, x, 0.0) / jnp.where(live, total, 1.0)
    ratio = jnp.where(live, ratio, _LARGEST_RATIO * jnp.sign(x))
    half = 0.5 * jnp.minimum(total, _LARGEST_TOTAL)
    return (
        jnp.clip(ratio + half, -_LARGEST_D, _LARGEST_D),
        jnp.clip(ratio - half, -_LARGEST_D, _LARGEST_D),
    )


class Valuation(NamedTuple):
    """A European option and what its Greeks are made of.

    Attributes:
      price: A N(d1) - B N(d2) for a call, B N(-d2) - A N(-d1) for a put.
      share, cash: the derivatives of the price by A and, times -1, by B: N(d1) and N(d2) for a
        call, -N(-d1) and -N(-d2) for a put.
      density_share, density_cash: n(d1) and n(d2).
    """

    price: jax.Array
    share: jax.Array
    cash: jax.Array
    density_share: jax.Array
    density_cash: jax.Array


def discounted_price(
    share: jax.Array, cash: jax.Array, x: jax.Array, total: jax.Array, is_call: jax.Array
) -> jax.Array:
    """The price alone of :func:`valuation`."""
    return valuation(share, cash, x, total, is_call).price


@jax.custom_jvp
def valuation(
    share: jax.Array, cash: jax.Array, x: jax.Array, total: jax.Array, is_call: jax.Array
) -> Valuation:
    """A call (or put) on ``share`` = A against ``cash`` = B, both discounted and at least 0.

    ``x`` is log(A / B), given besides them because its rounding matters where A is near B;
    ``total`` is at least 0. Where ``total`` is 0 the price is the payoff.
    """
    some, below = total > 0, x < 0
    distance = jnp.minimum(jnp.abs(x), special.FAR)
    own = out_of_the_money(-distance, jnp.where(some, jnp.minimum(total, _LARGEST_TOTAL), 1.0))
    larger = jnp.where(below, cash, share)
    smaller = jnp.where(below, share, cash)
    ratio = jnp.where(larger > 0, smaller / jnp.where(larger > 0, larger, 1.0), 1.0)
    density_low = own.density * ratio  # A n(d1) = B n(d2)
    lower = density_low * own.mills_low
    time_value = smaller * jnp.where(some, own.value, 0.0)
    # Out of the money the leg that is received is worth `upper` of itself, in it 1 - `lower`.
    at_strike = jnp.where(x == 0, 0.5, 0.0)
    upper, lower = (jnp.where(some, value, at_strike) for value in (own.upper, lower))
    rest = jnp.where(some, own.upper_complement, 1 - at_strike)
    out = is_call == below
    received, paid = jnp.where(out, upper, 1 - lower), jnp.where(out, lower, rest)
    densities = (
        jnp.where(some, value, at_strike * (2 * _DENSITY_AT_0))
        for value in (own.density, density_low)
    )
    high, low = densities
    return Valuation(
        jnp.where(is_call, 1, -1) * payoff(share, cash, x, is_call) + time_value,
        jnp.where(is_call, received, -paid),
        jnp.where(is_call, paid, -received),
        jnp.where(below, high, low),
        jnp.where(below, low, high),
    )


def payoff(share: jax.Array, cash: jax.Array, x: jax.Array, is_call: jax.Array) -> jax.Array:
    """A - B where the option is in the money, else 0: relatively accurate also for A near B."""
    near = jnp.abs(x) < _NEAR_THE_MONEY
    difference = jnp.where(near, cash * _small_expm1(x), share - cash)
    return jnp.where(is_call == (x > 0), difference, 0.0)


def _small_expm1(x: jax.Array) -> jax.Array:
    """exp(x) - 1 for small x: Taylor's series, which costs a third of the function."""
    value = jnp.ones_like(x)
    for divisor in range(9, 1, -1):
        value = 1 + value * x * (1 / divisor)
    return value * x


@valuation.defjvp
def _valuation_jvp(primals, tangents):
    share, _, x, total, _ = primals
    d_share, d_cash, d_x, d_total, _ = tangents
    own = valuation(*primals)
    (d1, d2), (d_d1, d_d2) = jax.jvp(d_values, (x, total), (d_x, d_total))
    # By x itself the derivative is 0: A n(d1) = B n(d2).
    by_volatility = share * own.density_share * d_total
    return own, Valuation(
        own.share * d_share - own.cash * d_cash + by_volatility,
        own.density_share * d_d1,
        own.density_cash * d_d2,
        -d1 * own.density_share * d_d1,
        -d2 * own.density_cash * d_d2,
    )
