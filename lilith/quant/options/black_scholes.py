"""European options on a share with a dividend yield: price and Greeks (Black, Scholes, Merton).

Units and signs: times in years; rates, dividend yields and volatilities per year, continuously
compounded, as numbers (0.05 is 5%). Vega, volga, vanna and ultima are per 1.00 of volatility, rho
and phi per 1.00 of rate; theta, charm, veta and color are per year of calendar time, that is
minus the derivative by the time to expiry.

Where the total volatility sigma sqrt(time) is 0 the option is its payoff on the forward, and its
Greeks are the payoff's. At the kink itself (the forward at the strike) delta, rho and the like are
the means of both sides, vega is the derivative to the right, and what has no finite value there
(gamma, the diffusive part of theta) is 0. ``jax.grad`` of the price gives the same.

Formulas: F. Black and M. Scholes, J. Political Economy 81 (1973); R. Merton, Bell J. Economics 4
(1973); the higher Greeks are their derivatives (E. Haug, "Know your weapon", Wilmott 2003).
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from lilith.quant import special
from lilith.quant.options import normalised_black
from lilith.quant.options.blocks import in_blocks
from lilith.quant.precision import double_precision

GREEKS = (
    "price", "delta", "gamma", "theta", "vega", "rho", "phi",
    "vanna", "volga", "charm", "veta", "speed", "zomma", "color", "ultima",
    "dual_delta", "dual_gamma",
)  # fmt: skip


class Terms(NamedTuple):
    """What price and Greeks are made of.

    Attributes:
      share, cash: spot and strike, discounted by the dividend yield and the rate.
      share_factor, cash_factor: what they are discounted by.
      x: log(share / cash).
      root: sqrt(time), with derivative 0 (not infinite) at time 0.
      volatility: as given, with 1e15 for infinity.
      total: volatility * root.
      valid: whether spot, strike, time and volatility are at least 0 and none of all is NaN.
    """

    share: jax.Array
    cash: jax.Array
    x: jax.Array
    share_factor: jax.Array
    cash_factor: jax.Array
    root: jax.Array
    volatility: jax.Array
    total: jax.Array
    valid: jax.Array


def terms(
    spot: jax.Array,
    strike: jax.Array,
    time: jax.Array,
    rate: jax.Array,
    volatility: jax.Array,
    dividend: jax.Array,
) -> Terms:
    """The parts of the formula; invalid ones are replaced by harmless values and marked."""
    valid = (spot >= 0) & (strike >= 0) & (time >= 0) & (volatility >= 0)
    valid = valid & ~jnp.isnan(rate + dividend)
    spot, strike, time, volatility = (
        jnp.where(valid, value, 1.0) for value in (spot, strike, time, volatility)
    )
    rate, dividend = jnp.where(valid, rate, 0.0), jnp.where(valid, dividend, 0.0)
    volatility = jnp.minimum(volatility, special.FAR)
    either = (spot > 0) | (strike > 0)
    x = special.log_ratio(jnp.where(either, spot, 1.0), jnp.where(either, strike, 1.0))
    root = jnp.where(time > 0, jnp.sqrt(jnp.where(time > 0, time, 1.0)), 0.0)
    share_factor, cash_factor = jnp.exp(-dividend * time), jnp.exp(-rate * time)
    return Terms(
        spot * share_factor,
        strike * cash_factor,
        x + (rate - dividend) * time,
        share_factor,
        cash_factor,
        root,
        volatility,
        volatility * root,
        valid,
    )


@in_blocks()
@double_precision
def price(
    spot: ArrayLike,
    strike: ArrayLike,
    time: ArrayLike,
    rate: ArrayLike,
    volatility: ArrayLike,
    *,
    dividend: ArrayLike = 0.0,
    is_call: ArrayLike = True,
) -> jax.Array:
    """Price of European options; arguments broadcast against each other.

    Relatively accurate also for options far out of the money (a put has its own formula, not
    parity), and differentiable to any order. Exact at time, volatility, spot or strike 0.

    Args:
      spot, strike: in currency, at least 0.
      time: to expiry, in years, at least 0.
      rate, dividend: continuously compounded, per year.
      volatility: per square root of a year, at least 0; infinity is allowed.
      is_call: True for a call, False for a put.

    Returns:
      Prices in currency; NaN where an argument is negative that may not be, or is NaN.
    """
    numbers = as_floating(spot, strike, time, rate, volatility, dividend)
    parts, is_call = terms(*numbers), jnp.asarray(is_call, bool)
    value = normalised_black.discounted_price(*parts[:3], parts.total, is_call)
    return jnp.where(parts.valid, value, jnp.nan)


@in_blocks(static=("names",))
@double_precision(static=("names",))
def greeks(
    spot: ArrayLike,
    strike: ArrayLike,
    time: ArrayLike,
    rate: ArrayLike,
    volatility: ArrayLike,
    *,
    dividend: ArrayLike = 0.0,
    is_call: ArrayLike = True,
    names: tuple[str, ...] = GREEKS,
) -> dict[str, jax.Array]:
    """Price and Greeks by their formulas, in one pass; arguments as for :func:`price`.

    Besides the usual: phi = d price / d dividend; vanna = d delta / d volatility; volga = d vega /
    d volatility; charm, veta, color = minus d delta, d vega, d gamma / d time; speed = d gamma /
    d spot; zomma = d gamma / d volatility; ultima = d volga / d volatility; dual_delta and
    dual_gamma = first and second derivative by the strike.

    Args:
      names: which of ``GREEKS`` to compute (a tuple); fewer take less time.

    Returns:
      {name: array}, all of one shape; NaN where :func:`price` is.

    Raises:
      ValueError: a name is not in ``GREEKS``.
    """
    unknown = [name for name in names if name not in GREEKS]
    if unknown:
        raise ValueError(f"there is no Greek {unknown[0]!r}; known: {', '.join(GREEKS)}")
    numbers = as_floating(spot, strike, time, rate, volatility, dividend)
    parts, is_call = terms(*numbers), jnp.asarray(is_call, bool)
    spot, strike, time, rate, _, dividend = numbers
    values = _formulas(parts, spot, strike, time, rate, dividend, is_call)
    shape = jnp.broadcast_shapes(parts.valid.shape, is_call.shape)
    return {
        name: jnp.broadcast_to(jnp.where(parts.valid, values[name], jnp.nan), shape)
        for name in names
    }


def _formulas(
    parts: Terms,
    spot: jax.Array,
    strike: jax.Array,
    time: jax.Array,
    rate: jax.Array,
    dividend: jax.Array,
    is_call: jax.Array,
) -> dict[str, jax.Array]:
    """Every Greek; the compiler drops those that nobody asked for."""
    share, cash, x, yield_discount, discount, root, volatility, total, _ = parts
    value = normalised_black.valuation(share, cash, x, total, is_call)
    exercised_share, exercised_cash = value.share, value.cash
    d1, d2 = normalised_black.d_values(x, total)
    # Where the density is 0, so are the terms with it: keep what it multiplies finite.
    live = (total > 0) & (jnp.abs(d1) < 50) & (jnp.abs(d2) < 50)
    n1, n2 = value.density_share, value.density_cash
    per_total = jnp.where(live, 1 / jnp.where(live, total, 1.0), 0.0)
    per_time, per_spot, per_strike = (_inverse(value) for value in (time, spot, strike))
    ratio = jnp.where(live, x, 0.0) * per_total
    m1, m2 = ratio * per_total + 0.5, ratio * per_total - 0.5  # d1 and d2 over the total volatility
    drift = (rate - dividend) * per_total - 0.5 * d2 * per_time  # d d1 / d time
    gamma = yield_discount * n1 * per_total * per_spot
    vega = share * n1 * root
    volga = share * n1 * root * root * d1 * m2
    return {
        "price": value.price,
        "delta": yield_discount * exercised_share,
        "gamma": gamma,
        "theta": dividend * share * exercised_share
        - rate * cash * exercised_cash
        - 0.5 * share * n1 * volatility * root * per_time,
        "vega": vega,
        "rho": time * cash * exercised_cash,
        "phi": -time * share * exercised_share,
        "vanna": -yield_discount * n1 * root * m2,
        "volga": volga,
        "charm": yield_discount * (dividend * exercised_share - n1 * drift),
        "veta": vega * (dividend + d1 * drift - 0.5 * per_time),
        "speed": -gamma * per_spot * (m1 + 1),
        "zomma": gamma * root * per_total * (d1 * d2 - 1),
        "color": gamma * (dividend + d1 * drift + 0.5 * per_time),
        "ultima": -share * n1 * root**3 * per_total * (d1 * m2 * (1 - d1 * d2) + d1 * m1 + d2 * m2),
        "dual_delta": -discount * exercised_cash,
        "dual_gamma": discount * n2 * per_total * per_strike,
    }


def _inverse(value: jax.Array) -> jax.Array:
    """1 / value, and 0 where it is 0."""
    return jnp.where(value > 0, 1 / jnp.where(value > 0, value, 1.0), 0.0)


def as_floating(*values: ArrayLike) -> list[jax.Array]:
    """Arrays of one floating-point precision, float32 at least."""
    dtype = jnp.promote_types(jnp.result_type(1.0, *values), jnp.float32)
    return [jnp.asarray(value, dtype) for value in values]
