"""Implied volatility, as accurate as the price determines it, with a status and derivatives.

The relative error of the answer is a few eps times (1 + condition), where condition = price /
(vega volatility) is the relative change of the volatility for one of the price. For that the
price is first turned into that of the option out of the money, and log(spot / strike) is added to
the carry in twice the precision, because near the money their sum must be right to its last place.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from lilith.quant import special
from lilith.quant.options import black_scholes, double_double
from lilith.quant.options.blocks import in_blocks
from lilith.quant.options.normalised_black import out_of_the_money
from lilith.quant.options.normalised_implied import black_total_volatility
from lilith.quant.precision import QUICK_COMPILATION, double_precision

SOLVED, AT_LOWER_BOUND, BELOW_LOWER_BOUND, AT_UPPER_BOUND, ABOVE_UPPER_BOUND = range(5)
EXPIRED, INVALID = 5, 6
STATUS = {
    SOLVED: "solved",
    AT_LOWER_BOUND: "the price is the payoff on the forward: the volatility is 0, or too small to "
    "show in the price",
    BELOW_LOWER_BOUND: "the price is below the payoff on the forward, the lower no-arbitrage bound",
    AT_UPPER_BOUND: "the price is the upper no-arbitrage bound, which only an infinite volatility "
    "reaches",
    ABOVE_UPPER_BOUND: "the price is above the upper no-arbitrage bound: the discounted spot for a "
    "call, the discounted strike for a put",
    EXPIRED: "the time is 0, where the price does not depend on the volatility",
    INVALID: "an argument is not finite, spot or strike is not above 0, or the time is negative",
}
_ROUNDING = 4  # eps of the price: nearer to a bound than this, it is at it


class ImpliedVolatility(NamedTuple):
    """The answer of :func:`solve_implied_volatility`, arrays of one shape.

    Attributes:
      volatility: per square root of a year; NaN unless ``status`` is SOLVED, or AT_LOWER_BOUND
        (0 there).
      status: a key of ``STATUS``.
      condition: price / (vega volatility); eps times 1 + it is the attainable relative error.
        Infinite at a bound, NaN outside.
    """

    volatility: jax.Array
    status: jax.Array
    condition: jax.Array


class Bounds(NamedTuple):
    """No-arbitrage bounds of European options, in currency."""

    lower: jax.Array
    upper: jax.Array


@in_blocks()
@double_precision(compiler_options=QUICK_COMPILATION)
def implied_volatility(
    price: ArrayLike,
    spot: ArrayLike,
    strike: ArrayLike,
    time: ArrayLike,
    rate: ArrayLike,
    *,
    dividend: ArrayLike = 0.0,
    is_call: ArrayLike = True,
) -> jax.Array:
    """The volatility at which :func:`black_scholes.price` is ``price``; arguments broadcast.

    Derivatives are those of the implicit function, to any order; 0 where there is no solution.

    Args:
      price: of the option, in currency.
      spot, strike, time, rate, dividend, is_call: as for :func:`black_scholes.price`.

    Returns:
      Volatilities per square root of a year. 0 where the price is the lower bound; NaN at and
      above the upper bound, below the lower one, at time 0 and for invalid arguments
      (:func:`solve_implied_volatility` says which).
    """
    return _solve_all(price, spot, strike, time, rate, dividend, is_call).volatility


@in_blocks()
@double_precision(compiler_options=QUICK_COMPILATION)
def solve_implied_volatility(
    price: ArrayLike,
    spot: ArrayLike,
    strike: ArrayLike,
    time: ArrayLike,
    rate: ArrayLike,
    *,
    dividend: ArrayLike = 0.0,
    is_call: ArrayLike = True,
) -> ImpliedVolatility:
    """As :func:`implied_volatility`, with a status and the condition number of each answer."""
    return _solve_all(price, spot, strike, time, rate, dividend, is_call)


@double_precision
def price_bounds(
    spot: ArrayLike,
    strike: ArrayLike,
    time: ArrayLike,
    rate: ArrayLike,
    *,
    dividend: ArrayLike = 0.0,
    is_call: ArrayLike = True,
) -> Bounds:
    """The prices between which a volatility exists: payoff on the forward, and one leg alone."""
    numbers = black_scholes.as_floating(spot, strike, time, rate, dividend)
    share, cash, difference, _ = _legs(*numbers)
    is_call = jnp.asarray(is_call, bool)
    lower = jnp.maximum(jnp.where(is_call, difference, -difference), 0.0)
    return Bounds(*jnp.broadcast_arrays(lower, jnp.where(is_call, share, cash)))


def _solve_all(*arguments: ArrayLike) -> ImpliedVolatility:
    *values, is_call = arguments
    numbers = black_scholes.as_floating(*values)
    return ImpliedVolatility(*_solve(*jnp.broadcast_arrays(*numbers, jnp.asarray(is_call, bool))))


def _legs(
    spot: jax.Array, strike: jax.Array, time: jax.Array, rate: jax.Array, dividend: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array]:
    """Discounted spot and strike, their difference and the logarithm of their ratio.

    The last two are right to a few eps of themselves, also where spot and strike nearly cancel.
    """
    share, cash = spot * jnp.exp(-dividend * time), strike * jnp.exp(-rate * time)
    net = double_double.add(rate, -dividend)
    carry = double_double.multiply(net.high, time)
    growth = double_double.expm1(double_double.DoubleDouble(carry.high, carry.low + net.low * time))
    # spot exp(carry) - strike = (spot - strike) + spot (exp(carry) - 1)
    plain = double_double.add(spot, -strike)
    grown = double_double.multiply(spot, growth.high)
    total = double_double.add(plain.high, grown.high)
    excess = (total.high + (total.low + (plain.low + grown.low + spot * growth.low))) / strike
    near = (excess > -0.5) & (excess < 1)
    x = jnp.where(near, special.log1p(jnp.where(near, excess, 0.0)), 0.0)
    x = jnp.where(near, x, special.log_ratio(spot, strike) + carry.high)
    return share, cash, jnp.where(near, cash * excess, share - cash), x


@jax.custom_jvp
def _solve(
    price: jax.Array,
    spot: jax.Array,
    strike: jax.Array,
    time: jax.Array,
    rate: jax.Array,
    dividend: jax.Array,
    is_call: jax.Array,
) -> tuple[jax.Array, jax.Array, jax.Array]:
    finite = jnp.isfinite(price + spot + strike + time + rate + dividend)
    sensible = finite & (spot > 0) & (strike > 0) & (time >= 0)
    valid = sensible & (time > 0)
    price, spot, strike, time = (
        jnp.where(valid, value, 1.0) for value in (price, spot, strike, time)
    )
    rate, dividend = jnp.where(valid, rate, 0.0), jnp.where(valid, dividend, 0.0)
    share, cash, difference, x = _legs(spot, strike, time, rate, dividend)
    in_the_money = is_call == (x > 0)
    # The option out of the money, in units of its upper bound.
    unit = jnp.where(x < 0, share, cash)
    value = (price - jnp.where(in_the_money, jnp.abs(difference), 0.0)) / unit
    complement = (jnp.where(is_call, share, cash) - price) / unit
    rounding = _ROUNDING * jnp.finfo(price.dtype).eps * price / unit
    status = _status(value, complement, jnp.where(in_the_money, rounding, 0.0), rounding)
    status = jnp.where(valid, status, jnp.where(sensible, EXPIRED, INVALID))
    solved = status == SOLVED
    x = jnp.where(solved, -jnp.abs(x), 0.0)
    total = black_total_volatility(
        x, jnp.where(solved, value, 0.5), jnp.where(solved, complement, 0.5)
    )
    sensitivity = out_of_the_money(x, total).value_quotient / total
    condition = price / (unit * jnp.where(solved, value, 1.0)) * sensitivity
    bound = (status == AT_LOWER_BOUND) | (status == AT_UPPER_BOUND)
    at_zero = jnp.where(status == AT_LOWER_BOUND, 0.0, jnp.nan)
    return (
        jnp.where(solved, total / jnp.sqrt(time), at_zero),
        status.astype(jnp.int32),
        jnp.where(solved, condition, jnp.where(bound, jnp.inf, jnp.nan)),
    )


def _status(
    value: jax.Array, complement: jax.Array, rounding_below: jax.Array, rounding_above: jax.Array
) -> jax.Array:
    """The status of finite prices, from their distances to the bounds and those distances' errors.

    A price below a bound by rounding alone is at it. One that is inside is always solved.
    """
    below = jnp.where(value < -rounding_below, BELOW_LOWER_BOUND, AT_LOWER_BOUND)
    above = jnp.where(complement < -rounding_above, ABOVE_UPPER_BOUND, AT_UPPER_BOUND)
    return jnp.where(value <= 0, below, jnp.where(complement <= 0, above, SOLVED))


@_solve.defjvp
def _solve_jvp(primals, tangents):
    """d volatility = (d price - what the other arguments do to the price) / vega."""
    *numbers, is_call = primals
    d_price, *d_others = tangents[:-1]
    volatility, status, condition = _solve(*primals)
    solved = status == SOLVED
    safe = jnp.where(solved, volatility, 1.0)
    others = [jnp.where(solved, value, 1.0) for value in numbers[1:]]

    def model(spot, strike, time, rate, dividend):
        return black_scholes.price(
            spot, strike, time, rate, safe, dividend=dividend, is_call=is_call
        )

    _, change = jax.jvp(model, tuple(others), tuple(d_others))
    *most, dividend = others
    vega = black_scholes.greeks(*most, safe, dividend=dividend, is_call=is_call, names=("vega",))[
        "vega"
    ]
    slope = jnp.where(solved & (vega > 0), (d_price - change) / jnp.where(vega > 0, vega, 1.0), 0.0)
    none = jnp.zeros(status.shape, jax.dtypes.float0)
    return (volatility, status, condition), (slope, none, jnp.zeros_like(condition))
