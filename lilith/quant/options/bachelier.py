"""European options on a forward that moves normally (L. Bachelier, 1900).

The volatility is in currency per square root of a year; forward and strike may be negative. With
m = forward - strike, s = volatility sqrt(time) and d = m / s the undiscounted call is worth
m N(d) + s n(d); out of the money this is s n(d) (1 + d N(d) / n(d)), whose last factor has a form
without cancellation. Conventions at total volatility 0 are those of ``black_scholes``.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from lilith.quant import special
from lilith.quant.options.black_scholes import as_floating
from lilith.quant.options.normalised_implied import normal_quotient, normal_total_volatility
from lilith.quant.precision import double_precision

GREEKS = (
    "price", "delta", "gamma", "theta", "vega", "rho", "vanna", "volga", "dual_delta", "dual_gamma",
)  # fmt: skip
_LARGEST_D = 50.0  # N is 0 or 1, and n is 0, to all digits


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
    """Price of European options; arguments broadcast.

    Args:
      forward, strike: in currency, of any sign.
      time: to expiry, in years, at least 0.
      rate: at which the payoff is discounted, continuously compounded, per year.
      volatility: in currency per square root of a year, at least 0.
      is_call: True for a call, False for a put.

    Returns:
      Prices in currency; NaN where time or volatility is negative, or an argument is NaN.
    """
    return _greeks(forward, strike, time, rate, volatility, is_call)["price"]


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
    """Price and Greeks by their formulas; names as in ``black_scholes``, rho at a fixed forward.

    Raises:
      ValueError: a name is not in ``GREEKS``.
    """
    unknown = [name for name in names if name not in GREEKS]
    if unknown:
        raise ValueError(f"there is no Greek {unknown[0]!r}; known: {', '.join(GREEKS)}")
    values = _greeks(forward, strike, time, rate, volatility, is_call)
    return {name: values[name] for name in names}


@double_precision
def implied_volatility(
    price: ArrayLike,
    forward: ArrayLike,
    strike: ArrayLike,
    time: ArrayLike,
    rate: ArrayLike,
    *,
    is_call: ArrayLike = True,
) -> jax.Array:
    """The normal volatility at which :func:`price` is ``price``; arguments broadcast.

    Relative errors are a few eps times 1 + price / (vega volatility). Derivatives are those of the
    implicit function; 0 where there is no solution.

    Returns:
      Volatilities in currency per square root of a year; 0 where the price is the discounted
      payoff on the forward, NaN below it, at time 0 and for invalid arguments.
    """
    numbers = as_floating(price, forward, strike, time, rate)
    return _solve(*jnp.broadcast_arrays(*numbers, jnp.asarray(is_call, bool)))


def _greeks(
    forward: ArrayLike,
    strike: ArrayLike,
    time: ArrayLike,
    rate: ArrayLike,
    volatility: ArrayLike,
    is_call: ArrayLike,
) -> dict[str, jax.Array]:
    numbers = as_floating(forward, strike, time, rate, volatility)
    forward, strike, time, rate, volatility, is_call = jnp.broadcast_arrays(
        *numbers, jnp.asarray(is_call, bool)
    )
    valid = (time >= 0) & (volatility >= 0) & ~jnp.isnan(forward - strike + rate)
    time, volatility = jnp.where(valid, time, 1.0), jnp.where(valid, volatility, 1.0)
    some = time > 0
    root = jnp.where(some, jnp.sqrt(jnp.where(some, time, 1.0)), 0.0)
    total, gain = volatility * root, jnp.where(valid, forward - strike, 0.0)
    discount = jnp.exp(-jnp.where(valid, rate, 0.0) * time)
    d, sign = _d(gain, total), jnp.where(is_call, 1.0, -1.0).astype(gain.dtype)
    density = discount * special.norm_pdf(d)
    per_total = jnp.where(total > 0, 1 / jnp.where(total > 0, total, 1.0), 0.0)
    per_time = jnp.where(some, 1 / jnp.where(some, time, 1.0), 0.0)
    live = jnp.where(jnp.abs(d) < _LARGEST_D, d, 0.0)
    value = discount * _undiscounted(gain, total, is_call)
    delta = discount * sign * special.ndtr(sign * d)
    values = {
        "price": value,
        "delta": delta,
        "gamma": density * per_total,
        "theta": rate * value - 0.5 * density * volatility * root * per_time,
        "vega": density * root,
        "rho": -time * value,
        "vanna": -density * root * live * per_total,
        "volga": density * root * root * live * live * per_total,
        "dual_delta": -delta,
        "dual_gamma": density * per_total,
    }
    return {name: jnp.where(valid, own, jnp.nan) for name, own in values.items()}


def _d(gain: jax.Array, total: jax.Array) -> jax.Array:
    """gain / total within +-50, with finite derivatives; 0 where both are 0."""
    live = (total > 0) & (jnp.abs(gain) < _LARGEST_D * total)
    ratio = jnp.where(live, gain, 0.0) / jnp.where(live, total, 1.0)
    return jnp.where(live, ratio, _LARGEST_D * jnp.sign(gain))


@jax.custom_jvp
def _undiscounted(gain: jax.Array, total: jax.Array, is_call: jax.Array) -> jax.Array:
    """The price without discount of ``gain`` = forward - strike at a total normal volatility."""
    some = total > 0
    d = jnp.maximum(-jnp.abs(gain) / jnp.where(some, total, 1.0), -special.FAR)
    time_value = total * special.norm_pdf(d) * normal_quotient(d)
    own = jnp.where(is_call, gain, -gain)
    return jnp.maximum(own, 0.0) + jnp.where(some, time_value, 0.0)


@_undiscounted.defjvp
def _undiscounted_jvp(primals, tangents):
    gain, total, is_call = primals
    d_gain, d_total, _ = tangents
    d, sign = _d(gain, total), jnp.where(is_call, 1.0, -1.0).astype(gain.dtype)
    change = sign * special.ndtr(sign * d) * d_gain + special.norm_pdf(d) * d_total
    return _undiscounted(gain, total, is_call), change


@jax.custom_jvp
def _solve(
    price: jax.Array,
    forward: jax.Array,
    strike: jax.Array,
    time: jax.Array,
    rate: jax.Array,
    is_call: jax.Array,
) -> jax.Array:
    valid = jnp.isfinite(price + forward + strike + time + rate) & (time > 0)
    price, time = jnp.where(valid, price, 0.0), jnp.where(valid, time, 1.0)
    gain = jnp.where(valid, forward - strike, 0.0)
    undiscounted = price * jnp.exp(jnp.where(valid, rate, 0.0) * time)
    own = jnp.where(is_call, gain, -gain)
    time_value = undiscounted - jnp.maximum(own, 0.0)
    solved = time_value > 0
    total = normal_total_volatility(jnp.abs(gain), jnp.where(solved, time_value, 1.0))
    rounding = 4 * jnp.finfo(price.dtype).eps * jnp.maximum(own, 0.0)
    at_bound = jnp.where(time_value >= -rounding, 0.0, jnp.nan)
    return jnp.where(valid, jnp.where(solved, total / jnp.sqrt(time), at_bound), jnp.nan)


@_solve.defjvp
def _solve_jvp(primals, tangents):
    *numbers, is_call = primals
    volatility = _solve(*primals)
    solved = volatility > 0
    safe = jnp.where(solved, volatility, 1.0)
    others = tuple(jnp.where(solved, value, 1.0) for value in numbers[1:])

    def model(*own: jax.Array) -> dict[str, jax.Array]:
        forward, strike, time, rate = own
        return _greeks(forward, strike, time, rate, safe, is_call)

    _, changes = jax.jvp(model, others, tuple(tangents[1:-1]))
    vega = model(*others)["vega"]
    usable = solved & (vega > 0)
    slope = (tangents[0] - changes["price"]) / jnp.where(usable, vega, 1.0)
    return volatility, jnp.where(usable, slope, 0.0)
