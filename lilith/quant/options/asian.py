"""Asian options: calls and puts on the arithmetic or the geometric average of the spot.

The arithmetic discrete average is integrated exactly: with log returns R_1..R_n,
S_1 + ... + S_n = S_0 e^(Y_1), where Y_n = R_n and Y_k = R_k + ln(1 + e^(Y_(k+1))) (Carverhill and
Clewlow, 1990; Benhamou, 2002). Each density is carried backward by the trapezoidal rule, which
converges faster than any power here, and the last step is a Black-Scholes formula. The continuous
average is the limit of trapezoidal averages, extrapolated in powers of the interval.
"""

from __future__ import annotations

import itertools
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from lilith.quant.options.shapes import broadcast_options, check_counts, map_options
from lilith.quant.precision import double_precision
from lilith.quant.special import ndtr, safe_sqrt

WIDTH = 9.5  # standard deviations of the log of the spot that the grid covers on either side
FINENESS = 2.4  # grid points in a standard deviation of one step's log return
LEVELS = (6, 12, 24, 48)  # intervals of the averages that are extrapolated to the continuous one
BATCH = 4  # options integrated at once


@double_precision(static=("fixings",))
def arithmetic_discrete(
    spot: Any,
    strike: Any,
    time: Any,
    rate: Any,
    volatility: Any,
    *,
    dividend: Any = 0.0,
    is_call: Any = True,
    fixings: int = 12,
) -> Any:
    """Price of an option on the arithmetic average of spots at i time / fixings, i = 1..fixings.

    Args:
      spot, strike: in one currency; strike may be 0 or less.
      time: years to expiry and the last fixing.
      rate, dividend: continuously compounded, a year.
      volatility: a year.
      is_call: booleans. All of these broadcast; the first five and dividend are differentiable.
      fixings: how many, a static count of at least 1.

    Returns:
      prices, accurate to about 1e-12 of the spot; NaN for a spot <= 0, a negative time or
      volatility. At time or volatility 0 the average is certain.
    """
    check_counts(fixings=(fixings, 1))
    weights = np.ones(fixings + 1)
    weights[0] = 0.0
    return _average_option(
        (spot, strike, time, rate, volatility, dividend, is_call), weights / fixings
    )


@double_precision
def arithmetic_continuous(
    spot: Any,
    strike: Any,
    time: Any,
    rate: Any,
    volatility: Any,
    *,
    dividend: Any = 0.0,
    is_call: Any = True,
) -> Any:
    """Price of an option on the mean of the spot over [0, time]; else as ``arithmetic_discrete``.

    Good to about 1e-9 of the spot for volatility sqrt(time) up to 1.
    """
    options = (spot, strike, time, rate, volatility, dividend, is_call)
    prices = []
    for intervals in LEVELS:
        weights = np.ones(intervals + 1)
        weights[[0, -1]] = 0.5
        prices.append(_average_option(options, weights / intervals))
    # The trapezoidal average's price has an error in even powers of the interval (Romberg).
    for order in range(1, len(LEVELS)):
        gain = 4.0**order
        pairs = itertools.pairwise(prices)
        prices = [(gain * fine - coarse) / (gain - 1) for coarse, fine in pairs]
    return prices[0]


@double_precision(static=("fixings",))
def geometric_discrete(
    spot: Any,
    strike: Any,
    time: Any,
    rate: Any,
    volatility: Any,
    *,
    dividend: Any = 0.0,
    is_call: Any = True,
    fixings: int = 12,
) -> Any:
    """Closed form for the geometric average at i time / fixings; as ``arithmetic_discrete``.

    The log of the average is normal with mean ln S + m (n + 1) / (2 n) and variance
    volatility^2 time (n + 1) (2 n + 1) / (6 n^2), m = (rate - dividend - volatility^2 / 2) time
    (Kemna and Vorst, 1990).
    """
    check_counts(fixings=(fixings, 1))
    mean = (fixings + 1) / (2 * fixings)
    variance = (fixings + 1) * (2 * fixings + 1) / (6 * fixings**2)
    return _lognormal(
        broadcast_options(spot, strike, time, rate, volatility, dividend, is_call), mean, variance
    )


@double_precision
def geometric_continuous(
    spot: Any,
    strike: Any,
    time: Any,
    rate: Any,
    volatility: Any,
    *,
    dividend: Any = 0.0,
    is_call: Any = True,
) -> Any:
    """Closed form for the geometric mean over [0, time] (Kemna and Vorst, 1990)."""
    return _lognormal(
        broadcast_options(spot, strike, time, rate, volatility, dividend, is_call), 0.5, 1.0 / 3.0
    )


def _lognormal(options: tuple[Any, ...], mean: float, variance: float) -> Any:
    """An option on exp(N(ln S + mean m, variance volatility^2 time))."""
    spot, strike, time, rate, volatility, dividend, is_call = options
    valid = (spot > 0) & (time >= 0) & (volatility >= 0)
    drift = (rate - dividend - volatility**2 / 2) * time
    forward = spot * jnp.exp(mean * drift + variance * volatility**2 * time / 2)
    spread = safe_sqrt(variance * volatility**2 * time)
    value = jnp.exp(-rate * time) * _black(forward, strike, spread, is_call)
    return jnp.where(valid, value, jnp.nan)


def _black(forward: Any, strike: Any, spread: Any, is_call: Any) -> Any:
    """The undiscounted Black formula; the payoff where the spread is 0 or the strike is not > 0."""
    sign = jnp.where(is_call, 1.0, -1.0).astype(jnp.result_type(forward))
    risky = (spread > 0) & (strike > 0) & (forward > 0)
    own_forward, own_strike, own_spread = (
        jnp.where(risky, each, 1.0) for each in (forward, strike, spread)
    )
    d_plus = jnp.log(own_forward / own_strike) / own_spread + own_spread / 2
    optional = sign * (
        own_forward * ndtr(sign * d_plus) - own_strike * ndtr(sign * (d_plus - own_spread))
    )
    return jnp.where(risky, optional, jnp.maximum(sign * (forward - strike), 0.0))


def _average_option(arguments: tuple[Any, ...], weights: np.ndarray) -> Any:
    """An option on the sum of weights[i] S(i time / n), i = 0..n."""
    options = broadcast_options(*arguments)
    return map_options(lambda own: _integrate(own, weights), options, BATCH)


def _integrate(options: tuple[Any, ...], weights: np.ndarray) -> Any:
    """One option."""
    spot, strike, time, rate, volatility, dividend, is_call = options
    count = len(weights) - 1
    valid = (spot > 0) & (time >= 0) & (volatility >= 0)
    risky = valid & (time > 0) & (volatility > 0)
    moments = time * jnp.arange(count + 1, dtype=spot.dtype) / count
    certain = spot * jnp.sum(
        jnp.asarray(weights, spot.dtype) * jnp.exp((rate - dividend) * moments)
    )
    sign = jnp.where(is_call, 1.0, -1.0).astype(spot.dtype)
    payoff = jnp.maximum(sign * (certain - strike), 0.0)

    step = jnp.where(risky, time, 1.0) / count
    own_volatility = jnp.where(risky, volatility, 0.2)
    carry = (rate - dividend) * step
    spread = own_volatility * jnp.sqrt(step)
    later, mass = _density_of_later(weights, carry - spread**2 / 2, spread, spot.dtype)
    forward = spot * jnp.exp(carry + later)
    held = _black(forward, strike - weights[0] * spot, spread, is_call)
    value = jnp.where(risky, jnp.sum(mass * held), payoff)
    return jnp.where(valid, jnp.exp(-rate * time) * value, jnp.nan)


def _density_of_later(weights: np.ndarray, drift: Any, spread: Any, dtype: Any) -> tuple[Any, Any]:
    """ln(w_1 + w_2 e^(R_2) + w_3 e^(R_2 + R_3) + ...) on a grid, and its probabilities there.

    ``drift`` and ``spread`` are the mean and standard deviation of a log return R.
    """
    count = len(weights) - 1
    if count == 1:
        return jnp.log(jnp.full(1, weights[1], dtype)), jnp.ones(1, dtype)
    points = math.ceil(2 * WIDTH * math.sqrt(count) * FINENESS) + 1
    half = WIDTH * spread * math.sqrt(count)
    # Calls weigh the upper tail by e^Y, which moves it by the variance.
    offsets = jnp.linspace(-half, half + spread**2 * count, points, dtype=dtype)
    spacing = offsets[1] - offsets[0]

    def density(distance: Any) -> Any:
        return jnp.exp(-0.5 * (distance / spread) ** 2) * (
            spacing / (spread * math.sqrt(2 * math.pi))
        )

    @jax.checkpoint
    def earlier(state: tuple[Any, Any], weight: Any) -> tuple[Any, None]:
        centre, mass = state
        summed = jnp.log(weight + jnp.exp(centre + offsets))
        moved = drift + jnp.log(weight + jnp.exp(centre))
        kernel = density((moved + offsets - drift)[:, None] - summed)
        return (moved, kernel @ mass), None

    centre = drift + math.log(weights[-1])
    state = (centre, density(offsets))
    middle = jnp.asarray(weights[-2:1:-1], dtype)  # w_(n-1) down to w_2
    (centre, mass), _ = jax.lax.scan(earlier, state, middle)
    return jnp.log(weights[1] + jnp.exp(centre + offsets)), mass
