"""American and Bermudan options by least squares on simulated paths (Longstaff and Schwartz, 2001).

On a first set of paths the value of waiting is regressed, date by date from the last, on
Chebyshev polynomials of spot / strike, over the paths in the money. The rule "exercise when the
payoff exceeds that value" then prices a second, independent set of paths. Any rule is at most as
good as the best one, so the mean is a lower bound, up to its standard error.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from lilith.quant.options.monte_carlo import random_key
from lilith.quant.options.shapes import broadcast_options, check_counts, map_options
from lilith.quant.precision import QUICK_COMPILATION, double_precision
from lilith.quant.special import safe_sqrt

DEGREE = 3  # of the polynomials: four functions with the constant
RIDGE = (
    1e-12  # of the Gram matrix's mean diagonal: keeps a date with few paths in the money solvable
)


class BermudanEstimate(NamedTuple):
    """A price from simulated exercise.

    Attributes:
      price: from the second paths: a lower bound on average.
      standard_error: of the price.
      in_sample_price: from the paths that the rule was fitted on, biased upward by foresight.
      exercised_early: share of the second paths that stop before expiry.
      paths: in each of the two sets.
    """

    price: Any
    standard_error: Any
    in_sample_price: Any
    exercised_early: Any
    paths: Any


def price(
    spot: Any,
    strike: Any,
    time: Any,
    rate: Any,
    volatility: Any,
    *,
    dividend: Any = 0.0,
    is_call: Any = False,
    exercise_dates: int = 50,
    paths: int = 100_000,
    seed: Any = 0,
) -> BermudanEstimate:
    """Price of an option that can be exercised at i time / exercise_dates, i = 1..exercise_dates.

    Also exercised at once if that is worth more. With many dates it approaches an American one.

    Args:
      spot, strike, time, rate, volatility, dividend, is_call: as in ``black_scholes.price``; they
        broadcast, and all options share the random numbers. Puts unless said otherwise.
      paths: in each set, in antithetic pairs (an odd number gets one more).
      seed: a whole number below 2^64, or a JAX random key.

    Returns:
      a ``BermudanEstimate`` of the broadcast shape; NaN for a spot or strike <= 0, a negative time
      or volatility. Differentiable with the exercise rule held fixed.

    Raises:
      ValueError: fewer than one date or 100 paths, or a bad seed.
    """
    check_counts(exercise_dates=(exercise_dates, 1), paths=(paths, 100))
    options = (spot, strike, time, rate, volatility, dividend, is_call)
    return estimate(options, random_key(seed), dates=exercise_dates, pairs=(paths + 1) // 2)


@double_precision(static=("dates", "pairs"), compiler_options=QUICK_COMPILATION)
def estimate(options: tuple[Any, ...], key: Any, *, dates: int, pairs: int) -> BermudanEstimate:
    """The pure core: as ``price``, with a JAX random key and static counts."""
    return map_options(
        lambda own: _estimate(own, key, dates, pairs), broadcast_options(*options), 1
    )


def _estimate(options: tuple[Any, ...], key: Any, dates: int, pairs: int) -> BermudanEstimate:
    """One option."""
    *numbers, is_call = options
    spot, strike, time, rate, volatility, dividend = numbers
    valid = (spot > 0) & (strike > 0) & (time >= 0) & (volatility >= 0)
    spot, strike, time, rate, volatility, dividend = (
        jnp.where(valid, each, 1.0) for each in numbers
    )
    sign = jnp.where(is_call, 1.0, -1.0).astype(spot.dtype)
    discount = jnp.exp(-rate * time / dates)
    fit_key, price_key = jax.random.split(key)

    def ratios(own: Any) -> Any:
        """Spot / strike at each date [dates, 2 pairs]."""
        walk = _walk(own, time, rate - dividend, volatility, dates, pairs)
        return spot / strike * jnp.exp(walk)

    rules, in_sample = _fit(ratios(fit_key), sign, discount)
    rules = jax.lax.stop_gradient(rules)
    paid, early = _follow(rules, ratios(price_key), sign, discount)
    at_once = jnp.maximum(sign * (spot - strike), 0.0)
    pair_means = strike * paid.reshape(2, pairs).mean(axis=0)
    mean = pair_means.mean()
    spread = jnp.sum(jax.lax.stop_gradient(pair_means - mean) ** 2) / (pairs - 1) / pairs
    stops = at_once >= mean
    found = BermudanEstimate(
        price=jnp.maximum(mean, at_once),
        standard_error=jnp.where(stops, 0.0, jnp.sqrt(spread)),
        in_sample_price=jnp.maximum(strike * in_sample.mean(), at_once),
        exercised_early=jnp.where(stops, 1.0, early),
        paths=jnp.asarray(2 * pairs),
    )
    known = jax.tree.map(lambda each: jnp.where(valid, each, jnp.nan), found)
    return known._replace(paths=found.paths)


def _walk(key: Any, time: Any, carry: Any, volatility: Any, dates: int, pairs: int) -> Any:
    """Log returns since the start [dates, 2 pairs]: mirrored paths in the second half."""
    step = time / dates
    spread = volatility * safe_sqrt(step)
    normals = jax.random.normal(key, (dates, pairs), spread.dtype)
    moves = spread * jnp.concatenate([normals, -normals], axis=1)
    return jnp.cumsum(moves + (carry - volatility**2 / 2) * step, axis=0)


def _basis(ratio: Any, low: Any, high: Any) -> Any:
    """Chebyshev polynomials of ``ratio`` [..., DEGREE + 1], its range [low, high] to [-1, 1]."""
    wide = high > low
    x = jnp.where(wide, (2 * ratio - low - high) / jnp.where(wide, high - low, 1.0), 0.0)
    columns = [jnp.ones_like(x), x]
    for _ in range(DEGREE - 1):
        columns.append(2 * x * columns[-1] - columns[-2])
    return jnp.stack(columns, axis=-1)


def _fit(ratios: Any, sign: Any, discount: Any) -> tuple[tuple[Any, ...], Any]:
    """Each date's rule (coefficients, range) but the last's, and what the fitted paths earn."""
    payoffs = jnp.maximum(sign * (ratios - 1), 0.0)

    def earlier(later: Any, now: tuple[Any, Any]) -> tuple[Any, tuple[Any, ...]]:
        ratio, payoff = now
        held = discount * later
        inside = payoff > 0
        some = jnp.any(inside)
        low = jnp.where(some, jnp.min(jnp.where(inside, ratio, jnp.inf)), 1.0)
        high = jnp.where(some, jnp.max(jnp.where(inside, ratio, -jnp.inf)), 1.0)
        basis = _basis(ratio, low, high) * inside[:, None]
        gram = basis.T @ basis
        scale = jnp.trace(gram) / (DEGREE + 1) * RIDGE + (~some)
        weights = jnp.linalg.solve(gram + scale * jnp.eye(DEGREE + 1), basis.T @ held)
        stop = inside & (payoff >= basis @ weights)
        return jnp.where(stop, payoff, held), (weights, low, high)

    first, rules = jax.lax.scan(earlier, payoffs[-1], (ratios[:-1], payoffs[:-1]), reverse=True)
    return rules, discount * first


def _follow(rules: tuple[Any, ...], ratios: Any, sign: Any, discount: Any) -> tuple[Any, Any]:
    """Discounted payoffs over the strike [paths] under ``rules``, and the share stopped early."""
    running = jnp.ones(ratios.shape[1], bool)

    def later(state: tuple[Any, ...], now: tuple[Any, ...]) -> tuple[tuple[Any, ...], None]:
        running, earned, factor = state
        ratio, (weights, low, high) = now
        factor = factor * discount
        payoff = jnp.maximum(sign * (ratio - 1), 0.0)
        # Outside the fitted range the polynomial is held at the range's end.
        waiting = _basis(jnp.clip(ratio, low, high), low, high) @ weights
        stop = running & (payoff > 0) & (payoff >= waiting)
        return (running & ~stop, jnp.where(stop, factor * payoff, earned), factor), None

    state = (running, jnp.zeros_like(ratios[0]), jnp.ones_like(discount))
    (running, earned, factor), _ = jax.lax.scan(later, state, (ratios[:-1], rules))
    last = factor * discount * jnp.maximum(sign * (ratios[-1] - 1), 0.0)
    return jnp.where(running, last, earned), 1 - jnp.mean(running, dtype=factor.dtype)
