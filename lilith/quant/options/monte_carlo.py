"""Monte Carlo under Black-Scholes: antithetic paths, control variates, scrambled Sobol points.

Every answer carries its standard error. With pseudo-random numbers it comes from the spread of
the samples (of the means of pairs, for antithetic paths), after the control's regression; with
Sobol points from the spread of independent scramblings. Prices have pathwise derivatives through
``jax.grad``, right for payoffs without jumps: all here but discretely monitored barriers.
"""

from __future__ import annotations

import functools
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import scipy.special
import scipy.stats

from lilith.quant.options import barrier as barrier_form
from lilith.quant.options import lookback as lookback_form
from lilith.quant.options import payoffs
from lilith.quant.options.shapes import (
    broadcast_options,
    check_choice,
    check_counts,
    map_options,
)
from lilith.quant.precision import double_precision
from lilith.quant.special import safe_sqrt

SAMPLINGS = ("pseudo", "antithetic", "sobol")
BLOCK = 2**17  # samples simulated at once, which bounds the memory


class Estimate(NamedTuple):
    """A simulated price.

    Attributes:
      price: discounted mean of the payoff, less the control's part.
      standard_error: of the price.
      control_coefficient: the regression's slope on the control; 0 without one.
      correlation: of payoff and control; the error shrinks by sqrt(1 - correlation^2).
      paths: how many were simulated, each of an antithetic pair counted.
    """

    price: Any
    standard_error: Any
    control_coefficient: Any
    correlation: Any
    paths: Any


class Plan(NamedTuple):
    """What is simulated, apart from the option's numbers: a static argument."""

    payoff: payoffs.Payoff
    steps: int
    samples: int  # in a block, or a scrambling of Sobol points
    blocks: int
    sampling: str
    control_variate: bool


def european(
    spot: Any,
    strike: Any,
    time: Any,
    rate: Any,
    volatility: Any,
    *,
    dividend: Any = 0.0,
    is_call: Any = True,
    paths: int = 100_000,
    seed: Any = 0,
    sampling: str = "antithetic",
    control_variate: bool = True,
    replicates: int = 16,
) -> Estimate:
    """A European option, in one exact step; the closed form's check.

    Args:
      spot, strike, time, rate, volatility, dividend, is_call: as in ``black_scholes.price``; they
        broadcast, and all options share the random numbers.
      paths: at least so many are simulated; the answer says how many.
      seed: a whole number below 2^64, or a JAX random key for "pseudo" and "antithetic".
      sampling: "pseudo", "antithetic" (pairs of a path and its mirror image) or "sobol".
      control_variate: whether to regress on a payoff of the same path with a known mean.
      replicates: independent scramblings of the Sobol points, at least 2.

    Returns:
      an ``Estimate`` of the broadcast shape.

    Raises:
      ValueError: a count or a name out of its range.
    """
    options = (spot, strike, time, rate, volatility, dividend, spot, is_call)
    chosen = (paths, seed, sampling, control_variate, replicates)
    return _estimate(payoffs.European(), 1, options, chosen)


def asian_option(
    spot: Any,
    strike: Any,
    time: Any,
    rate: Any,
    volatility: Any,
    *,
    dividend: Any = 0.0,
    is_call: Any = True,
    average: str = "arithmetic",
    fixings: int = 12,
    paths: int = 100_000,
    seed: Any = 0,
    sampling: str = "antithetic",
    control_variate: bool = True,
    replicates: int = 16,
) -> Estimate:
    """An option on the "arithmetic" or "geometric" average of spots at i time / fixings.

    The arithmetic one is controlled by the geometric one's closed form (Kemna and Vorst, 1990).
    Other arguments as for ``european``.
    """
    check_choice("average", average, payoffs.AVERAGES)
    options = (spot, strike, time, rate, volatility, dividend, spot, is_call)
    chosen = (paths, seed, sampling, control_variate, replicates)
    return _estimate(payoffs.Asian(average), fixings, options, chosen)


def barrier(
    spot: Any,
    strike: Any,
    level: Any,
    time: Any,
    rate: Any,
    volatility: Any,
    *,
    dividend: Any = 0.0,
    is_call: Any = True,
    kind: str = "down-out",
    steps: int = 50,
    continuous: bool = True,
    paths: int = 100_000,
    seed: Any = 0,
    sampling: str = "antithetic",
    control_variate: bool = True,
    replicates: int = 16,
) -> Estimate:
    """A barrier option without rebate, watched all the time or at i time / steps.

    Args:
      level: of the barrier, a positive spot; a spot at or past it at the start has touched it.
      kind: "down-out", "down-in", "up-out" or "up-in".
      continuous: watched all the time, by the exact chance that each step's Brownian bridge stays
        clear; else at the steps only (and then ``jax.grad`` misses the jump at the barrier).

    Other arguments as for ``european``.
    """
    check_choice("kind", kind, barrier_form.KINDS)
    options = (spot, strike, time, rate, volatility, dividend, level, is_call)
    chosen = (paths, seed, sampling, control_variate, replicates)
    return _estimate(payoffs.Barrier(kind, continuous), steps, options, chosen)


def lookback(
    spot: Any,
    strike: Any,
    time: Any,
    rate: Any,
    volatility: Any,
    *,
    dividend: Any = 0.0,
    is_call: Any = True,
    kind: str = "floating",
    steps: int = 50,
    continuous: bool = True,
    paths: int = 100_000,
    seed: Any = 0,
    sampling: str = "antithetic",
    control_variate: bool = True,
    replicates: int = 16,
) -> Estimate:
    """A lookback option on the extreme of the spot, today's included.

    Args:
      strike: of a "fixed" lookback; a "floating" one ignores it.
      kind: "floating": a call pays S_T less the minimum, a put the maximum less S_T; "fixed": a
        call pays the maximum less the strike, a put the strike less the minimum.
      continuous: the extreme over all times, each step's drawn from its Brownian bridge; else
        over i time / steps.

    Other arguments as for ``european``.
    """
    check_choice("kind", kind, lookback_form.KINDS)
    options = (spot, strike, time, rate, volatility, dividend, spot, is_call)
    chosen = (paths, seed, sampling, control_variate, replicates)
    return _estimate(payoffs.Lookback(kind, continuous), steps, options, chosen)


def random_key(seed: Any) -> Any:
    """A JAX key of a whole number below 2^64, the same in every precision; keys pass unchanged."""
    if isinstance(seed, jax.Array) and jax.dtypes.issubdtype(seed.dtype, jax.dtypes.prng_key):
        return seed
    _check_seed(seed)
    words = np.array([int(seed) >> 32, int(seed) & 0xFFFFFFFF], np.uint32)
    return jax.random.wrap_key_data(jnp.asarray(words))


def _check_seed(seed: Any) -> None:
    if isinstance(seed, bool) or not isinstance(seed, (int, np.integer)) or not 0 <= seed < 2**64:
        raise ValueError(f"seed is {seed!r}; it must be a whole number from 0 to 2^64 - 1")


def _estimate(
    payoff: payoffs.Payoff,
    steps: int,
    options: tuple[Any, ...],
    chosen: tuple[int, Any, str, bool, int],
) -> Estimate:
    paths, seed, sampling, control_variate, replicates = chosen
    check_choice("sampling", sampling, SAMPLINGS)
    least = 2 if sampling == "sobol" else 1
    check_counts(paths=(paths, 8), steps=(steps, 1), replicates=(replicates, least))
    if sampling == "sobol":
        _check_seed(seed)
        samples = 2 ** math.ceil(math.log2(max(paths / replicates, 1)))
        plan = Plan(payoff, steps, samples, replicates, sampling, control_variate)
        draws: Any = sobol_normals(plan, seed)
    else:
        wanted = math.ceil(paths / 2) if sampling == "antithetic" else paths
        blocks = math.ceil(wanted / BLOCK)
        plan = Plan(payoff, steps, math.ceil(wanted / blocks), blocks, sampling, control_variate)
        draws = random_key(seed)
    return simulate(options, draws, plan=plan)


@functools.lru_cache(maxsize=2)
def sobol_normals(plan: Plan, seed: int) -> tuple[np.ndarray, np.ndarray | None]:
    """Brownian increments and uniform numbers from scrambled Sobol points (Owen's scrambling).

    The path is built from its principal components, so that the first, most even dimensions carry
    most of its variance.

    Returns:
      standard normal increments [blocks, steps, samples], and uniforms of that shape or None.
    """
    steps = plan.steps
    dimensions = steps * (2 if plan.payoff.needs_uniforms else 1)
    moments = np.arange(1, steps + 1) / steps
    values, vectors = np.linalg.eigh(np.minimum.outer(moments, moments))
    path = (vectors * np.sqrt(np.maximum(values, 0.0)))[:, ::-1]
    increments = np.diff(path, axis=0, prepend=0.0) * math.sqrt(steps)  # [steps, components]
    normals, uniforms = [], []
    for source in np.random.SeedSequence(seed).spawn(plan.blocks):
        engine = scipy.stats.qmc.Sobol(dimensions, rng=np.random.default_rng(source))
        # A half of the last bit keeps the points off 0, where the normal quantile is infinite.
        points = engine.random_base2(int(math.log2(plan.samples))).T + 2.0 ** -(engine.bits + 1)
        normals.append(increments @ scipy.special.ndtri(points[:steps]))
        uniforms.append(points[steps:])
    return np.stack(normals), np.stack(uniforms) if plan.payoff.needs_uniforms else None


@double_precision(static=("plan",))
def simulate(options: tuple[Any, ...], draws: Any, *, plan: Plan) -> Estimate:
    """The pure core: an ``Estimate`` for ``options`` from a random key or Sobol ``draws``.

    Args:
      options: spot, strike, time, rate, volatility, dividend, level, is_call; they broadcast.
      draws: a JAX key, or what ``sobol_normals`` gives.
      plan: static.
    """
    return map_options(lambda own: _simulate(own, draws, plan), broadcast_options(*options), 1)


def _simulate(numbers: tuple[Any, ...], draws: Any, plan: Plan) -> Estimate:
    """One option."""
    given = payoffs.Option(*numbers)
    valid = (given.spot > 0) & (given.time >= 0) & (given.volatility >= 0) & (given.level > 0)
    option = jax.tree.map(lambda each: jnp.where(valid, each, jnp.ones_like(each)), given)
    if plan.sampling == "sobol":
        blocks: Any = draws
    else:
        blocks = jax.random.split(draws, plan.blocks)

    def block(_: None, own: Any) -> tuple[None, tuple[Any, ...]]:
        return None, _moments(*_samples(option, own, plan))

    _, moments = jax.lax.scan(block, None, blocks)
    estimate = _combine(moments, plan.payoff.control_mean(option, plan.steps), plan)
    known = jax.tree.map(lambda each: jnp.where(valid, each, jnp.nan), estimate)
    return known._replace(paths=estimate.paths)


def _samples(option: payoffs.Option, draws: Any, plan: Plan) -> tuple[Any, Any]:
    """Discounted payoffs and controls [samples]; each of an antithetic pair's mean."""
    dtype = option.spot.dtype
    signs = jnp.array([[1.0], [-1.0]] if plan.sampling == "antithetic" else [[1.0]], dtype)
    zeros = jnp.zeros((len(signs), plan.samples), dtype)
    variance = option.volatility**2 * option.time / plan.steps
    drift = (option.rate - option.dividend) * option.time / plan.steps - variance / 2
    spread = option.volatility * safe_sqrt(option.time / plan.steps)

    def advance(state: tuple[Any, Any], own: Any) -> tuple[tuple[Any, Any], None]:
        before, kept = state
        normal, uniform = own if plan.sampling == "sobol" else _draw(own, plan, dtype)
        after = before + drift + spread * (signs * normal.astype(dtype))
        step = payoffs.Step(before, after, variance, uniform)
        return (after, plan.payoff.update(kept, option, step)), None

    each = draws if plan.sampling == "sobol" else jax.random.split(draws, plan.steps)
    state = (zeros, plan.payoff.start(option, zeros))
    (end, kept), _ = jax.lax.scan(advance, state, each)
    discount = jnp.exp(-option.rate * option.time)
    paid, control = plan.payoff.pays(kept, option, end)
    return discount * jnp.mean(paid, axis=0), discount * jnp.mean(control, axis=0)


def _draw(key: Any, plan: Plan, dtype: Any) -> tuple[Any, Any]:
    """A normal number a sample; a uniform one in (0, 1] too if the payoff needs it."""
    if not plan.payoff.needs_uniforms:
        return jax.random.normal(key, (plan.samples,), dtype), None
    normal_key, uniform_key = jax.random.split(key)
    uniform = 1 - jax.random.uniform(uniform_key, (plan.samples,), dtype)
    return jax.random.normal(normal_key, (plan.samples,), dtype), uniform


def _moments(paid: Any, control: Any) -> tuple[Any, ...]:
    """Means, and sums of squares and products about them."""
    mean_paid, mean_control = jnp.mean(paid), jnp.mean(control)
    paid, control = paid - mean_paid, control - mean_control
    return (
        mean_paid, mean_control, jnp.sum(paid**2), jnp.sum(control**2), jnp.sum(paid * control)
    )  # fmt: skip


def _combine(moments: tuple[Any, ...], control_mean: Any, plan: Plan) -> Estimate:
    """Blocks of equal size into one estimate. Slopes and errors are constants to ``jax.grad``."""
    paid, control, paid_squares, control_squares, products = moments  # each [blocks]
    constant = jax.lax.stop_gradient
    paid_gap, control_gap = constant(paid - paid.mean()), constant(control - control.mean())
    total_paid = constant(paid_squares.sum()) + plan.samples * jnp.sum(paid_gap**2)
    total_control = constant(control_squares.sum()) + plan.samples * jnp.sum(control_gap**2)
    total_product = constant(products.sum()) + plan.samples * jnp.sum(paid_gap * control_gap)
    varies = total_control > 0
    slope = jnp.where(varies, total_product / jnp.where(varies, total_control, 1.0), 0.0)
    if not plan.control_variate:
        slope = jnp.zeros_like(slope)
    price = jnp.mean(paid) - slope * (jnp.mean(control) - control_mean)
    if plan.sampling == "sobol":
        own = paid_gap - slope * control_gap
        error = safe_sqrt(jnp.sum(own**2) / (plan.blocks - 1) / plan.blocks)
    else:
        count = plan.samples * plan.blocks
        left = total_paid - 2 * slope * total_product + slope**2 * total_control
        error = safe_sqrt(left / (count - (2 if plan.control_variate else 1)) / count)
    both = total_paid * total_control
    known = both > 0
    correlation = jnp.where(known, total_product / safe_sqrt(jnp.where(known, both, 1.0)), 0.0)
    mirrored = 2 if plan.sampling == "antithetic" else 1
    paths = plan.samples * plan.blocks * mirrored
    return Estimate(price, error, slope, correlation, jnp.asarray(paths))
