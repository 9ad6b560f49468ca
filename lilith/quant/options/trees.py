"""American and European options on binomial lattices, with Greeks read off the nodes.

Two lattices, both recombining: Cox, Ross and Rubinstein (1979), whose up and down moves are
``exp(+-volatility sqrt(dt))``, and Leisen and Reimer (1996), centred on the strike through the
second inversion of Peizer and Pratt, which converges as 1 / steps^2 for European options and
without the saw-tooth.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from lilith.quant.options.shapes import broadcast_options, check_choice
from lilith.quant.precision import double_precision

OK = 0
PROBABILITY_OUTSIDE = 1  # an up probability outside [0, 1]: the lattice allows arbitrage
INPUT_OUTSIDE = 2  # a spot or strike <= 0, volatility <= 0, negative time, or not a number
METHODS = ("crr", "leisen_reimer")
EXERCISES = ("american", "european")


class TreeGreeks(NamedTuple):
    """A lattice's price and sensitivities.

    Attributes:
      price, delta, gamma, theta: from the nodes of the first two steps; theta a year.
      vega, rho: by differentiation of the lattice, per 1.00 of volatility and of rate.
      status: OK, PROBABILITY_OUTSIDE or INPUT_OUTSIDE; the figures are NaN unless OK.
      probability: the risk-neutral probability of an up move.
    """

    price: Any
    delta: Any
    gamma: Any
    theta: Any
    vega: Any
    rho: Any
    status: Any
    probability: Any


class _Lattice(NamedTuple):
    log_up: Any
    log_down: Any
    probability: Any  # of an up move
    discount: Any  # over one step


def effective_steps(steps: int, method: str) -> int:
    """The steps that are built: a Leisen-Reimer lattice needs an odd number, so 200 makes 201.

    Raises:
      ValueError: fewer than two steps, or an unknown method.
    """
    check_choice("method", method, METHODS)
    if steps < 2:
        raise ValueError(f"steps is {steps}; a lattice needs at least 2")
    return steps + 1 if method == "leisen_reimer" and steps % 2 == 0 else steps


@double_precision(static=("exercise", "steps", "method"))
def price(
    spot: Any,
    strike: Any,
    time: Any,
    rate: Any,
    volatility: Any,
    *,
    dividend: Any = 0.0,
    is_call: Any = True,
    exercise: str = "american",
    steps: int = 200,
    method: str = "crr",
) -> Any:
    """Price of an option on a binomial lattice.

    Args:
      spot, strike: positive, in one currency.
      time: years to expiry; at 0 the price is the payoff.
      rate, dividend: continuously compounded, a year.
      volatility: a year, positive.
      is_call: booleans. All of these broadcast against each other.
      exercise: "american" or "european".
      steps: of the lattice, at least 2; "leisen_reimer" takes one more if it is even.
      method: "crr" or "leisen_reimer".

    Returns:
      prices of the broadcast shape; NaN where the up probability leaves [0, 1] or an input is out
      of range. ``greeks`` says which. Differentiable in the first six.

    Raises:
      ValueError: an unknown exercise or method, or fewer than 2 steps.
    """
    options = broadcast_options(spot, strike, time, rate, volatility, dividend, is_call)
    return _solve(options, exercise, steps, method)[0]


@double_precision(static=("exercise", "steps", "method"))
def greeks(
    spot: Any,
    strike: Any,
    time: Any,
    rate: Any,
    volatility: Any,
    *,
    dividend: Any = 0.0,
    is_call: Any = True,
    exercise: str = "american",
    steps: int = 200,
    method: str = "crr",
) -> TreeGreeks:
    """Price, Greeks and status of an option on a binomial lattice; arguments as for ``price``.

    Delta, gamma and theta are Hull's differences over the nodes after one and two steps; theta is
    corrected for the drift of the middle node, which a Leisen-Reimer lattice has. At expiry, where
    there are no nodes, all but the price are NaN.
    """
    options = broadcast_options(spot, strike, time, rate, volatility, dividend, is_call)
    value, nodes, status, lattice = _solve(options, exercise, steps, method)

    def moved(change: Any) -> Any:
        shifted = [*options[:3], options[3] + change[0], options[4] + change[1], *options[5:]]
        return _solve(tuple(shifted), exercise, steps, method)[0]

    zero = jnp.zeros_like(value)
    one = jnp.ones_like(value)
    _, rho = jax.jvp(moved, ((zero, zero),), ((one, zero),))
    _, vega = jax.jvp(moved, ((zero, zero),), ((zero, one),))
    step = options[2] / effective_steps(steps, method)
    known = (status == OK) & (step > 0)
    delta, gamma, theta = _node_greeks(value, nodes, options[0], lattice, step)
    delta, gamma, theta, vega, rho = (
        jnp.where(known, each, jnp.nan) for each in (delta, gamma, theta, vega, rho)
    )
    return TreeGreeks(value, delta, gamma, theta, vega, rho, status, lattice.probability)


def _solve(options: tuple[Any, ...], exercise: str, steps: int, method: str) -> tuple[Any, ...]:
    """Price, the nodes after one and two steps, status and lattice."""
    check_choice("exercise", exercise, EXERCISES)
    steps = effective_steps(steps, method)
    spot, strike, time, rate, volatility, dividend, is_call = options
    valid = (spot > 0) & (strike > 0) & (volatility > 0) & (time >= 0)
    valid &= jnp.isfinite(spot + strike + time + rate + volatility + dividend)
    live = valid & (time > 0)
    # At expiry, and where an input is bad, the lattice runs on numbers it can digest.
    safe = [
        jnp.where(live, given, filler)
        for given, filler in zip(options[:6], (1.0, 1.0, 1.0, 0.0, 0.2, 0.0))
    ]
    build = _crr if method == "crr" else _leisen_reimer
    lattice = build(safe, steps)
    possible = (lattice.probability >= 0) & (lattice.probability <= 1)
    nodes = _roll_back(safe[0], safe[1], is_call, lattice, steps, exercise == "american")
    sign = jnp.where(is_call, 1.0, -1.0).astype(spot.dtype)
    at_once = jnp.maximum(sign * (spot - strike), 0.0)
    value = jnp.where(live, nodes[0], at_once)
    status = jnp.where(valid, jnp.where(live & ~possible, PROBABILITY_OUTSIDE, OK), INPUT_OUTSIDE)
    return jnp.where(status == OK, value, jnp.nan), nodes[1:], status, lattice


def _crr(numbers: list[Any], steps: int) -> _Lattice:
    _, _, time, rate, volatility, dividend = numbers
    step = time / steps
    move = volatility * jnp.sqrt(step)
    up, down = jnp.exp(move), jnp.exp(-move)
    probability = (jnp.exp((rate - dividend) * step) - down) / (up - down)
    return _Lattice(move, -move, probability, jnp.exp(-rate * step))


def _leisen_reimer(numbers: list[Any], steps: int) -> _Lattice:
    spot, strike, time, rate, volatility, dividend = numbers
    step = time / steps
    carry = (rate - dividend) * step
    spread = volatility * jnp.sqrt(time)
    d_plus = (jnp.log(spot / strike) + (rate - dividend) * time) / spread + spread / 2
    log_p, log_q = _log_peizer_pratt(d_plus - spread, steps)  # ln p, ln(1 - p)
    log_p_spot, log_q_spot = _log_peizer_pratt(d_plus, steps)  # with the stock as the unit
    return _Lattice(
        carry + log_p_spot - log_p,
        carry + log_q_spot - log_q,
        jnp.exp(log_p),
        jnp.exp(-rate * step),
    )


def _log_peizer_pratt(z: Any, steps: int) -> tuple[Any, Any]:
    """ln p and ln(1 - p) of Peizer and Pratt's second inversion of the binomial distribution.

    p = 1/2 + sign(z)/2 sqrt(1 - exp(-x)), x = (z / (n + 1/3 + 1/(10 (n + 1))))^2 (n + 1/6). The
    smaller of the two is exp(-x) / (2 (1 + sqrt(1 - exp(-x)))), which keeps its digits.
    """
    x = (z / (steps + 1.0 / 3.0 + 0.1 / (steps + 1.0))) ** 2 * (steps + 1.0 / 6.0)
    # The square root has no derivative at x = 0, where p is linear in z: sqrt((1-e^-x)/x) is
    # smooth, and |z| carries the root of x.
    tiny = x < 1e-12
    ratio = jnp.where(tiny, 1.0 - x / 2, -jnp.expm1(-x) / jnp.where(tiny, 1.0, x))
    slope = jnp.sqrt(steps + 1.0 / 6.0) / (steps + 1.0 / 3.0 + 0.1 / (steps + 1.0))
    root = slope * z * jnp.sqrt(ratio)  # sign(z) sqrt(1 - exp(-x))
    size = jnp.abs(root)
    larger = jnp.log((1.0 + size) / 2)
    smaller = -x - jnp.log(2 * (1.0 + size))
    positive = z >= 0
    return jnp.where(positive, larger, smaller), jnp.where(positive, smaller, larger)


def _roll_back(
    spot: Any, strike: Any, is_call: Any, lattice: _Lattice, steps: int, american: bool
) -> tuple[Any, Any, Any]:
    """Values after 0 steps [...], 1 step [..., 2] and 2 steps [..., 3], lowest node first.

    The lattice has an even number of steps left at each turn of the loop, which takes two. Nodes
    keep their place in one array, whose ends fill with values that no later node needs.
    """
    sign = jnp.where(is_call, 1.0, -1.0).astype(spot.dtype)[..., None]
    p = lattice.probability[..., None]
    up_weight, down_weight = p * lattice.discount[..., None], (1 - p) * lattice.discount[..., None]
    log_up, log_down = lattice.log_up[..., None], lattice.log_down[..., None]
    drift = log_up + log_down  # of the middle node, over two steps

    def exercise_value(log_nodes: Any) -> Any:
        return sign * (spot[..., None] * jnp.exp(log_nodes) - strike[..., None])

    def back(values: Any, at_once: Any) -> Any:
        held = up_weight * values[..., 1:] + down_weight * values[..., :-1]
        return jnp.maximum(held, at_once) if american else held

    def log_nodes(step: int) -> Any:
        up = jnp.arange(step + 1, dtype=spot.dtype)
        return up * log_up + (step - up) * log_down

    values = jnp.maximum(exercise_value(log_nodes(steps)), 0.0)
    if steps % 2:
        steps -= 1
        values = back(values, exercise_value(log_nodes(steps)))
    outer, inner = jnp.exp(log_nodes(steps)), jnp.exp(log_nodes(steps - 1))
    price_of = spot[..., None]

    def two_steps(values: Any, turn: Any) -> tuple[Any, None]:
        at_once = sign * (price_of * inner * jnp.exp(-turn * drift) - strike[..., None])
        middle = back(values, at_once)
        at_once = sign * (price_of * outer * jnp.exp(-(turn + 1) * drift) - strike[..., None])
        inside = back(middle, at_once[..., 1:-1])
        return jnp.concatenate([values[..., :1], inside, values[..., -1:]], axis=-1), None

    turns = steps // 2 - 1
    values, _ = jax.lax.scan(two_steps, values, jnp.arange(turns, dtype=spot.dtype))
    second = values[..., turns : turns + 3]
    first = back(second, exercise_value(log_nodes(1)))
    return back(first, exercise_value(log_nodes(0)))[..., 0], first, second


def _node_greeks(
    value: Any, nodes: tuple[Any, Any], spot: Any, lattice: _Lattice, step: Any
) -> tuple[Any, Any, Any]:
    first, second = nodes
    up, down = jnp.exp(lattice.log_up), jnp.exp(lattice.log_down)
    delta = (first[..., 1] - first[..., 0]) / (spot * (up - down))
    high, middle, low = spot * up * up, spot * up * down, spot * down * down
    upper = (second[..., 2] - second[..., 1]) / (high - middle)
    lower = (second[..., 1] - second[..., 0]) / (middle - low)
    gamma = (upper - lower) / ((high - low) / 2)
    shift = middle - spot  # 0 on a CRR lattice
    stayed = second[..., 1] - delta * shift
    return delta, gamma, (stayed - value) / (2 * jnp.where(step > 0, step, 1.0))
