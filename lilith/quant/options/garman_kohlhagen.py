"""European options on a currency (M. Garman and S. Kohlhagen, J. Int. Money and Finance 2, 1983).

Spot and strike are in units of domestic currency for one of foreign; the foreign rate plays the
part of the dividend yield. Units, signs and limits are those of ``black_scholes``.
"""

from __future__ import annotations

import jax
from jax.typing import ArrayLike

from lilith.quant.options import black_scholes
from lilith.quant.precision import double_precision

_RATES = {"rho": "rho_domestic", "phi": "rho_foreign"}
GREEKS = tuple(_RATES.get(name, name) for name in black_scholes.GREEKS)


@double_precision
def price(
    spot: ArrayLike,
    strike: ArrayLike,
    time: ArrayLike,
    domestic_rate: ArrayLike,
    foreign_rate: ArrayLike,
    volatility: ArrayLike,
    *,
    is_call: ArrayLike = True,
) -> jax.Array:
    """Price, in domestic currency, of options on one unit of foreign currency; broadcasts.

    Args:
      spot, strike: domestic for foreign currency, at least 0.
      time: to expiry, in years, at least 0.
      domestic_rate, foreign_rate: continuously compounded, per year.
      volatility: per square root of a year, at least 0.
      is_call: True for a call on the foreign currency, False for a put.

    Returns:
      Prices; NaN where an argument is negative that may not be, or is NaN.
    """
    return black_scholes.price(
        spot, strike, time, domestic_rate, volatility, dividend=foreign_rate, is_call=is_call
    )


@double_precision(static=("names",))
def greeks(
    spot: ArrayLike,
    strike: ArrayLike,
    time: ArrayLike,
    domestic_rate: ArrayLike,
    foreign_rate: ArrayLike,
    volatility: ArrayLike,
    *,
    is_call: ArrayLike = True,
    names: tuple[str, ...] = GREEKS,
) -> dict[str, jax.Array]:
    """Price and Greeks; as :func:`black_scholes.greeks`, with rho_domestic and rho_foreign.

    Raises:
      ValueError: a name is not in ``GREEKS``.
    """
    unknown = [name for name in names if name not in GREEKS]
    if unknown:
        raise ValueError(f"there is no Greek {unknown[0]!r}; known: {', '.join(GREEKS)}")
    values = black_scholes.greeks(
        spot, strike, time, domestic_rate, volatility, dividend=foreign_rate, is_call=is_call
    )
    named = {_RATES.get(name, name): value for name, value in values.items()}
    return {name: named[name] for name in names}
