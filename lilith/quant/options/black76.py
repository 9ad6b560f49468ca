"""European options on a forward or futures price (F. Black, J. Financial Economics 3, 1976).

The formula is that of Black and Scholes with the dividend yield equal to the rate. Units, signs
and limits are those of ``black_scholes``; derivatives are by the forward, at a fixed forward.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from lilith.quant.options import black_scholes
from lilith.quant.precision import double_precision

GREEKS = tuple(name for name in black_scholes.GREEKS if name != "phi")


@double_precision
def price(
    forward: ArrayLike,
    strike: ArrayLike,
    time: ArrayLike,
    rate: ArrayLike,
    volatility: ArrayLike,
    *,
    is_call: ArrayLike = True,
) -> jax.Array:
    """Price of European options on a forward; arguments broadcast.

    Args:
      forward, strike: in currency, at least 0.
      time: to expiry, in years, at least 0.
      rate: at which the payoff is discounted, continuously compounded, per year.
      volatility: of the forward, per square root of a year, at least 0.
      is_call: True for a call, False for a put.

    Returns:
      Prices in currency; NaN where an argument is negative that may not be, or is NaN.
    """
    return black_scholes.price(
        forward, strike, time, rate, volatility, dividend=rate, is_call=is_call
    )


@double_precision(static=("names",))
def greeks(
    forward: ArrayLike,
    strike: ArrayLike,
    time: ArrayLike,
    rate: ArrayLike,
    volatility: ArrayLike,
    *,
    is_call: ArrayLike = True,
    names: tuple[str, ...] = GREEKS,
) -> dict[str, jax.Array]:
    """Price and Greeks; as :func:`black_scholes.greeks`, with delta and the like by the forward.

    Rho is at a fixed forward: minus time times the price.

    Raises:
      ValueError: a name is not in ``GREEKS``.
    """
    unknown = [name for name in names if name not in GREEKS]
    if unknown:
        raise ValueError(f"there is no Greek {unknown[0]!r}; known: {', '.join(GREEKS)}")
    values = black_scholes.greeks(
        forward, strike, time, rate, volatility, dividend=rate, is_call=is_call
    )
    values["rho"] = -jnp.asarray(time) * values["price"]
    return {name: values[name] for name in names}
