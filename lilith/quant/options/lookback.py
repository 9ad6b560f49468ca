"""Lookback options watched all the time, in closed form.

Floating strikes: Goldman, Sosin and Gatto (1979); fixed strikes: Conze and Viswanathan (1991), as
in Haug, "The Complete Guide to Option Pricing Formulas". All four come from the mean of what the
extreme of the path has beyond a bound.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from lilith.quant.options.shapes import broadcast_options, check_choice
from lilith.quant.precision import double_precision
from lilith.quant.special import ndtr

KINDS = ("floating", "fixed")


@double_precision(static=("kind",))
def price(
    spot: Any,
    strike: Any,
    time: Any,
    rate: Any,
    volatility: Any,
    *,
    dividend: Any = 0.0,
    is_call: Any = True,
    kind: str = "floating",
) -> Any:
    """Price of a lookback option that starts now.

    Args:
      spot, strike: in one currency; a "floating" option ignores the strike.
      time: years; rate, dividend: continuously compounded, a year; volatility: a year.
      is_call: booleans. All of these broadcast; the first five and dividend are differentiable.
      kind: "floating": a call pays S_T less the minimum, a put the maximum less S_T; "fixed": a
        call pays the maximum less the strike, a put the strike less the minimum, at least 0.

    Returns:
      prices; NaN for a spot <= 0, a negative time or volatility.

    Raises:
      ValueError: an unknown kind.
    """
    check_choice("kind", kind, KINDS)
    spot, strike, time, rate, volatility, dividend, is_call = broadcast_options(
        spot, strike, time, rate, volatility, dividend, is_call
    )
    valid = (spot > 0) & (time >= 0) & (volatility >= 0)
    carry = rate - dividend
    forward = spot * jnp.exp(carry * time)
    highest = is_call if kind == "fixed" else ~is_call
    sign = jnp.where(highest, 1.0, -1.0).astype(spot.dtype)
    if kind == "fixed":
        bound = jnp.where(highest, jnp.maximum(spot, strike), jnp.minimum(spot, strike))
        certain = jnp.maximum(sign * (spot - strike), 0.0)
    else:
        bound = spot
        certain = sign * (spot - forward)
    value = certain + _mean_beyond(spot, bound, forward, time, carry, volatility, sign)
    return jnp.where(valid, jnp.exp(-rate * time) * value, jnp.nan)


def _mean_beyond(
    spot: Any, bound: Any, forward: Any, time: Any, carry: Any, volatility: Any, sign: Any
) -> Any:
    """E[(sign (extreme - bound))+] of the maximum (sign 1) or minimum (-1), not beyond at once."""
    risky = (time > 0) & (volatility > 0) & (spot > 0) & (bound > 0)
    own_time, own_volatility, own_spot, own_bound = (
        jnp.where(risky, each, 1.0) for each in (time, volatility, spot, bound)
    )
    own_carry = jnp.where(risky, carry, 0.0)
    spread = own_volatility * jnp.sqrt(own_time)
    distance = jnp.log(own_spot / own_bound)
    power = 2 * own_carry / own_volatility**2
    d_plus = distance / spread + (power + 1) * spread / 2
    vanilla = sign * (
        own_spot * jnp.exp(own_carry * own_time) * ndtr(sign * d_plus)
        - own_bound * ndtr(sign * (d_plus - spread))
    )
    beyond = vanilla - sign * own_spot * _reflected(power, distance, spread, sign)
    return jnp.where(risky, beyond, jnp.maximum(sign * (forward - bound), 0.0))


def _reflected(power: Any, distance: Any, spread: Any, sign: Any) -> Any:
    """f(power) / power, f(p) = e^(-p x) N(h (d - p s)) - e^(p s^2 / 2) N(h d), d = d_plus(p).

    f(0) = 0, so near 0 the quotient is the mean of f' over [0, power], by Gauss and Legendre.
    """

    def f(own: Any) -> Any:
        d_plus = distance / spread + (own + 1) * spread / 2
        mirrored = jnp.exp(-own * distance) * ndtr(sign * (d_plus - own * spread))
        return mirrored - jnp.exp(own * spread**2 / 2) * ndtr(sign * d_plus)

    near = jnp.abs(power) * (spread + spread**2 + jnp.abs(distance)) < 1.0
    close = jnp.where(near, power, 0.5)
    points, weights = np.polynomial.legendre.leggauss(12)
    slopes = [
        weight / 2 * jax.jvp(f, (close * (1 + point) / 2,), (jnp.ones_like(close),))[1]
        for point, weight in zip(points.tolist(), weights.tolist())
    ]
    far = jnp.where(near, 1.0, power)
    return jnp.where(near, sum(slopes), f(far) / far)
