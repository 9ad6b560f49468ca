"""Wealth and drawdowns from periodic returns.

Returns are fractions per period, ``[..., T]``; wealth starts from a baseline of 1 before the first
return, so a loss on the first day is a drawdown. Points in time are counted on the wealth path of
T + 1 points: 0 is the baseline, k the end of the k-th period. A return below -1 makes what follows
NaN.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

from lilith.quant.precision import double_precision
from lilith.quant.special import safe_sqrt


class MaximumDrawdown(NamedTuple):
    """The deepest fall below a former peak, each field [...].

    Attributes:
      depth: at most 0, -0.2 is 20% below the peak.
      peak, trough, recovery: points in time (0 is the baseline); the peak is the last one before
        the fall, the trough the first of equals, the recovery the first point back at the peak.
        recovery is -1 where there is none yet; all three are -1 where wealth never fell.
    """

    depth: jax.Array
    peak: jax.Array
    trough: jax.Array
    recovery: jax.Array


class LongestDrawdown(NamedTuple):
    """The longest unbroken time below a former peak, each field [...].

    Attributes:
      periods: points under water, 0 where wealth never fell.
      peak: the point that it fell from (-1: never fell).
      recovery: the first point back at the peak (-1: none yet, or never fell).
    """

    periods: jax.Array
    peak: jax.Array
    recovery: jax.Array


class _Path(NamedTuple):
    wealth: jax.Array  # less 1, [..., T]
    drawdown: jax.Array  # [..., T]
    last_peak: jax.Array  # point in time, [..., T]


def _path(returns: jax.Array) -> _Path:
    """One pass over time. Wealth less 1 is what is accumulated: small returns keep their digits."""
    returns = jnp.where(returns < -1, jnp.nan, returns)
    # Wealth that comes back to its peak exactly but for rounding has recovered.
    rounding = 64 * jnp.finfo(returns.dtype).eps
    start = jnp.zeros(returns.shape[:-1], returns.dtype)

    def step(state: tuple, now: tuple) -> tuple[tuple, _Path]:
        wealth, peak, last_peak = state
        growth, point = now
        wealth = wealth + growth + wealth * growth
        gap = wealth - peak
        under = gap < -rounding * (1 + peak)
        last_peak = jnp.where(under, last_peak, point)
        peak = jnp.maximum(peak, wealth)
        drawdown = jnp.where(under | jnp.isnan(gap), gap / (1 + peak), 0)
        return (wealth, peak, last_peak), _Path(wealth, drawdown, last_peak)

    points = jnp.arange(1, returns.shape[-1] + 1)
    initial = (start, start, jnp.zeros(start.shape, points.dtype))
    _, path = jax.lax.scan(step, initial, (jnp.moveaxis(returns, -1, 0), points), unroll=8)
    return _Path(*(jnp.moveaxis(own, 0, -1) for own in path))


@double_precision
def cumulative_return(returns: jax.Array) -> jax.Array:
    """Compounded return since the baseline, [..., T]: wealth less 1."""
    return _path(returns).wealth


@double_precision
def drawdown_series(returns: jax.Array) -> jax.Array:
    """Wealth over its highest so far (the baseline included), less 1: [..., T], at most 0."""
    return _path(returns).drawdown


@double_precision
def maximum_drawdown(returns: jax.Array) -> MaximumDrawdown:
    """The deepest drawdown and when it was. The depth has a gradient."""
    return _deepest(_path(returns))


@double_precision
def longest_drawdown(returns: jax.Array) -> LongestDrawdown:
    """The longest time under water; the first of equals."""
    return _longest(_path(returns))


@double_precision
def ulcer_index(returns: jax.Array) -> jax.Array:
    """Root of the mean squared drawdown over the T periods (Martin, 1987)."""
    return _ulcer(_path(returns))


@double_precision
def drawdowns(returns: jax.Array) -> tuple[MaximumDrawdown, LongestDrawdown, jax.Array]:
    """The maximum drawdown, the longest one and the ulcer index from one pass over time."""
    path = _path(returns)
    return _deepest(path), _longest(path), _ulcer(path)


def _first(mask: jax.Array) -> jax.Array:
    """The first point in time of ``mask`` [..., T], T + 1 where there is none.

    A plain minimum: XLA's argmax is several times slower on a CPU.
    """
    count = mask.shape[-1]
    return jnp.min(jnp.where(mask, jnp.arange(1, count + 1), count + 1), axis=-1)


def _deepest(path: _Path) -> MaximumDrawdown:
    lowest = jnp.min(path.drawdown, axis=-1, keepdims=True)
    trough = _first(path.drawdown == lowest)
    at = jnp.minimum(trough, path.drawdown.shape[-1])[..., None] - 1
    depth = jnp.take_along_axis(path.drawdown, at, axis=-1)[..., 0]
    depth = jnp.where(jnp.isnan(lowest[..., 0]), jnp.nan, depth)
    peak = jnp.take_along_axis(path.last_peak, at, axis=-1)[..., 0]
    fell = depth < 0
    return MaximumDrawdown(
        depth,
        jnp.where(fell, peak, -1),
        jnp.where(fell, trough, -1),
        _recovery(path, trough, fell),
    )


def _longest(path: _Path) -> LongestDrawdown:
    under_water = jnp.arange(1, path.drawdown.shape[-1] + 1) - path.last_peak
    periods = jnp.max(under_water, axis=-1)
    end = _first(under_water == periods[..., None])
    fell = periods > 0
    return LongestDrawdown(periods, jnp.where(fell, end - periods, -1), _recovery(path, end, fell))


def _ulcer(path: _Path) -> jax.Array:
    return safe_sqrt(jnp.mean(path.drawdown**2, axis=-1))


def _recovery(path: _Path, after: jax.Array, fell: jax.Array) -> jax.Array:
    """The first point past ``after`` that is a peak; -1 where there is none."""
    points = jnp.arange(1, path.drawdown.shape[-1] + 1)
    back = _first((points > after[..., None]) & (path.last_peak == points))
    return jnp.where(fell & (back <= path.drawdown.shape[-1]), back, -1)
