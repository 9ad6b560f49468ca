"""Options with one barrier, watched all the time, in closed form: four kinds of calls and of puts.

The rebate of an "out" option is paid when the barrier is touched, that of an "in" option at expiry
if it was not. A spot at or past the barrier at the start has touched it. The formula and its
source are in ``barrier_formula``.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from lilith.quant.options import black_scholes
from lilith.quant.options.barrier_formula import Option, closed_form, whole_and_beyond
from lilith.quant.options.blocks import in_blocks
from lilith.quant.precision import QUICK_COMPILATION, double_precision

GREEKS = ("price", "delta", "gamma", "theta", "vega", "rho")
KINDS = ("down-out", "down-in", "up-out", "up-in")
_LARGEST_TOTAL = 1e6  # total volatility: as good as infinite, and its powers are finite


@in_blocks(static=("kind",))
@double_precision(static=("kind",), compiler_options=QUICK_COMPILATION)
def price(
    spot: ArrayLike,
    strike: ArrayLike,
    level: ArrayLike,
    time: ArrayLike,
    rate: ArrayLike,
    volatility: ArrayLike,
    *,
    dividend: ArrayLike = 0.0,
    is_call: ArrayLike = True,
    rebate: ArrayLike = 0.0,
    kind: str = "down-out",
) -> jax.Array:
    """Price of barrier options, in currency; arguments broadcast.

    At total volatility 0 the spot grows at rate - dividend, and touches the barrier or does not.

    Args:
      spot, strike, time, rate, volatility, dividend, is_call: as for :func:`black_scholes.price`.
      level: of the barrier, at least 0 (infinity is allowed).
      rebate: in currency.
      kind: one of ``KINDS``: "down" or "up" says on which side of the spot the barrier is, "out"
        that the option dies there, "in" that it comes to life.

    Returns:
      Prices; NaN where an argument is negative that may not be, or is NaN.

    Raises:
      ValueError: ``kind`` is none of ``KINDS``.
    """
    if kind not in KINDS:
        raise ValueError(f"barrier kind {kind!r} is unknown; known: {', '.join(KINDS)}")
    option = _option(spot, strike, level, time, rate, volatility, dividend, rebate, is_call)
    valid = option.terms().valid & (option.level >= 0) & ~jnp.isnan(option.rebate)
    option = Option(*(jnp.where(valid, value, True) for value in option))
    down, out = kind.startswith("down"), kind.endswith("out")
    return jnp.where(valid, _price(option, down, out), jnp.nan)


@in_blocks(static=("kind",))
@double_precision(static=("kind",), compiler_options=QUICK_COMPILATION)
def greeks(
    spot: ArrayLike,
    strike: ArrayLike,
    level: ArrayLike,
    time: ArrayLike,
    rate: ArrayLike,
    volatility: ArrayLike,
    *,
    dividend: ArrayLike = 0.0,
    is_call: ArrayLike = True,
    rebate: ArrayLike = 0.0,
    kind: str = "down-out",
) -> dict[str, jax.Array]:
    """Price, delta, gamma, theta, vega and rho; arguments, units and errors as for :func:`price`.

    By automatic differentiation of :func:`price`; gamma from these by the Black-Scholes equation,
    which every living option satisfies. Theta is per year of calendar time.
    """
    option = _option(spot, strike, level, time, rate, volatility, dividend, rebate, is_call)

    def value(*numbers: jax.Array) -> jax.Array:
        *first, dividend, rebate = numbers
        return price(*first, dividend=dividend, rebate=rebate, is_call=option.is_call, kind=kind)

    numbers = option[:-1]
    directions = jnp.eye(len(numbers), dtype=option.spot.dtype)[jnp.array([0, 3, 5, 4])]

    def along(direction: jax.Array) -> jax.Array:
        tangents = tuple(own * jnp.ones_like(option.spot) for own in direction)
        return jax.jvp(value, numbers, tangents)[1]

    own = value(*numbers)
    delta, by_time, vega, rho = jax.vmap(along)(directions)
    carried = option.rate * own - (option.rate - option.dividend) * option.spot * delta
    variance = (option.spot * option.volatility) ** 2
    touched = _touched(option, kind.startswith("down"))
    curved = (variance > 0) & (option.time > 0) & jnp.isfinite(variance)
    curved = curved & ~(touched & kind.endswith("out"))
    gamma = jnp.where(curved, 2 * (by_time + carried) / jnp.where(curved, variance, 1.0), 0.0)
    found = dict(zip(GREEKS, (own, delta, gamma, -by_time, vega, rho)))
    return {name: jnp.where(jnp.isnan(own), jnp.nan, one) for name, one in found.items()}


def _unreachable(option: Option, down: bool) -> jax.Array:
    return (option.level == 0) if down else jnp.isinf(option.level) | (option.spot == 0)


def _touched(option: Option, down: bool) -> jax.Array:
    beyond = (option.spot <= option.level) if down else (option.spot >= option.level)
    return ~_unreachable(option, down) & beyond


def _option(*arguments: ArrayLike) -> Option:
    *numbers, is_call = arguments
    arrays = black_scholes.as_floating(*numbers)
    return Option(*jnp.broadcast_arrays(*arrays, jnp.asarray(is_call, bool)))


def _price(option: Option, down: bool, out: bool) -> jax.Array:
    """The formula, and around it the cases that it can not take."""
    level, parts = option.level, option.terms()
    unreachable, touched = _unreachable(option, down), _touched(option, down)
    # Below this powers in the formula would overflow: the spot moves without noise.
    still = parts.total < (1e-60 if parts.total.dtype == jnp.float64 else 1e-9)
    plain = unreachable | touched | still
    some = parts.root > 0
    most = _LARGEST_TOTAL / jnp.where(some, parts.root, 1.0)
    # What the formula can not take is replaced by an option that it can.
    low_or_high = 0.9 if down else 1.1
    harmless: tuple[ArrayLike, ...] = (
        1.0, 1.0, low_or_high, 1.0, 0.0, 1.0, 0.0, 0.0, option.is_call,
    )  # fmt: skip
    usual = option._replace(volatility=jnp.minimum(parts.volatility, most))
    usual = Option(*(jnp.where(plain, own, value) for own, value in zip(harmless, usual)))
    european, beyond = whole_and_beyond(option, jnp.where(plain, option.strike, level))
    formula = closed_form(usual, european, beyond, down, out)
    never, at_hit = _without_noise(option, parts, plain & ~touched & ~unreachable, touched, down)
    if out:
        known = jnp.where(never, european, option.rebate * at_hit)
    else:
        known = jnp.where(never, option.rebate * parts.cash_factor, european)
    return jnp.where(plain, known, formula)


def _without_noise(
    option: Option,
    parts: black_scholes.Terms,
    moves: jax.Array,
    touched: jax.Array,
    down: bool,
) -> tuple[jax.Array, jax.Array]:
    """Whether a spot that only grows at its carry never touches, and what 1 paid then is worth.

    ``moves`` marks the options with a barrier ahead; the others have touched it, or never do.
    """
    side = 1.0 if down else -1.0
    spot, level = (jnp.where(moves, value, 1.0) for value in (option.spot, option.level))
    to_level = jnp.log(level / spot)
    carry = jnp.where(moves, (option.rate - option.dividend) * option.time, 0.0)
    hits = moves & (side * (carry - to_level) <= 0)
    share = jnp.where(hits, to_level, 0.0) / jnp.where(hits, carry, 1.0)  # of the time to expiry
    at_hit = jnp.exp(-option.rate * option.time * share)
    return ~touched & ~hits, at_hit
