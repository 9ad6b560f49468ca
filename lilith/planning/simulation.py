"""When the project ends: thousands of runs of the levelled network at once, in JAX.

Every task takes a drawn time, risks happen or not, the people keep the order of the levelled
schedule and their days off. The same seed gives the same runs.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from scipy.special import betainc
from scipy.stats import rankdata

from lilith.planning.project import Estimate

_BLOCK = 1024  # runs at a time
_CELLS = 1024  # of a tabulated quantile function
_ROWS = 4  # risks and downtimes are padded to multiples of it
_TIE = 1e-7  # of a day: shorter waits are rounding
LOW, HIGH = 0.1, 0.9  # quantiles of the tornado

Values = Array | np.ndarray


class Work(NamedTuple):
    """The network as arrays. Times are working days since the start.

    Attributes:
      source, target, lag: [E], links in the topological order of their source.
      by_start: bool [E], whether a link leaves the start of its source.
      not_before: [T].
      team: [T], the row of each task in ``done`` and ``day``.
      done: [M, D + 1], working days of a team before each day.
      day: [M, D + 1], the day on which a team's working day of that number is.
    """

    source: Values
    target: Values
    lag: Values
    by_start: Values
    not_before: Values
    team: Values
    done: Values
    day: Values


@dataclass(frozen=True)
class Simulation:
    """What the runs show.

    Attributes:
      finish: [runs], working days.
      criticality: share of the runs in which the task drives the finish, [T].
      correlation: Spearman's, between the time of a task and the finish, [T]; NaN where one of
        them does not vary.
      low, high: the finish when a task takes its P10 or P90 and all others their mean, [T].
    """

    finish: np.ndarray
    criticality: np.ndarray
    correlation: np.ndarray
    low: np.ndarray
    high: np.ndarray


def quantiles(estimates: Sequence[Estimate], distribution: str) -> np.ndarray:
    """Quantile functions, tabulated at (1 - cos(pi k / K)) / 2 for k to K = 1024: [T, K + 1].

    Beta-PERT has the shapes 1 + 4 (m - o) / (p - o) and 1 + 4 (p - m) / (p - o), so that its mean
    is PERT's; the triangle has its peak at m.
    """
    points = [(own.optimistic, own.likely, own.pessimistic) for own in estimates]
    low, mode, high = np.array(points, np.float64).T[:, :, None]
    width = high - low
    peak = np.divide(mode - low, width, out=np.zeros_like(low), where=width > 0)
    level = (1 - np.cos(np.pi * np.arange(_CELLS + 1) / _CELLS)) / 2
    if distribution == "triangular":
        rising = np.sqrt(level * peak)
        share = np.where(level <= peak, rising, 1 - np.sqrt((1 - level) * (1 - peak)))
        return low + width * share
    shapes, which = np.unique(peak[:, 0], return_inverse=True)
    reached = betainc(1 + 4 * shapes[:, None], 5 - 4 * shapes[:, None], level)
    share = np.stack([np.interp(level, own, level) for own in reached])[which]
    return low + width * share


def _drawn(table: Values, uniform: Values) -> Array:
    """Values of tabulated quantile functions [T, K + 1] at [T, n]."""
    place = jnp.arccos(1 - 2 * uniform) * (_CELLS / jnp.pi)
    cell = jnp.clip(place.astype(jnp.int32), 0, _CELLS - 1)
    left = jnp.take_along_axis(table, cell, axis=1)
    right = jnp.take_along_axis(table, cell + 1, axis=1)
    return left + (right - left) * (place - cell)


def _worked(work: Work, task: Array, ready: Array, length: Array) -> tuple[Array, Array]:
    """Start and finish of ``length`` days of work from ``ready`` on, when the team is there."""
    team = work.team[task]
    done, day = work.done[team], work.day[team]
    last = done.shape[-1] - 1
    whole = jnp.clip(jnp.floor(ready + _TIE).astype(jnp.int32), 0, last - 1)
    free = jnp.maximum(ready - whole, 0.0)
    there = done[whole + 1] > done[whole]
    before = done[whole] + jnp.where(there, free, 0.0)
    start = jnp.where(there, ready, day[jnp.clip(done[whole].astype(jnp.int32), 0, last)])
    total = before + length
    number = jnp.clip(jnp.ceil(total - _TIE).astype(jnp.int32) - 1, 0, last)
    finish = day[number] + (total - number)
    none = length <= _TIE
    return jnp.where(none, ready, start), jnp.where(none, ready, finish)


def _leaves(work: Work, link: Array, starts: Array, lengths: Array) -> Array:
    """When a link lets its target start, [n]."""
    task = work.source[link]
    start, finish = _worked(work, task, starts[task], lengths[task])
    return jnp.where(work.by_start[link], start, finish) + work.lag[link]


@jax.jit
def _passes(work: Work, lengths: Array) -> tuple[Array, Array]:
    """Forward passes for [T, n] lengths: when each task is ready [T, n], and its finish."""
    ready = jnp.broadcast_to(work.not_before[:, None], lengths.shape)

    def follow(ready: Array, link: Array) -> tuple[Array, None]:
        target = work.target[link]
        leaves = _leaves(work, link, ready, lengths)
        return ready.at[target].set(jnp.maximum(ready[target], leaves)), None

    ready, _ = jax.lax.scan(follow, ready, jnp.arange(len(work.source)))
    tasks = jnp.arange(len(lengths))
    _, finish = jax.vmap(functools.partial(_worked, work))(tasks, ready, lengths)
    return ready, finish


@jax.jit
def _block(
    key: Array, work: Work, table: Array, happens: Array, delays: Array
) -> tuple[Array, Array, Array]:
    """One block of runs: their finish [n], how often each task drives it [T, n], lengths [T, n].

    ``happens`` [K] are probabilities of risks, ``delays`` [K, T] what each adds.
    """
    tasks, risks = jax.random.split(key)
    lengths = _drawn(table, jax.random.uniform(tasks, (len(table), _BLOCK), table.dtype))
    hits = jax.random.uniform(risks, (len(happens), _BLOCK), table.dtype) < happens[:, None]
    lengths = lengths + delays.T @ hits.astype(table.dtype)
    ready, finish = _passes(work, lengths)
    end = finish.max(0)

    def back(drives: Array, link: Array) -> tuple[Array, None]:
        source, target = work.source[link], work.target[link]
        leaves = _leaves(work, link, ready, lengths)
        held = drives[target] & (leaves >= ready[target] - _TIE)
        return drives.at[source].set(drives[source] | held), None

    backwards = jnp.arange(len(work.source))[::-1]
    drives, _ = jax.lax.scan(back, finish >= end - _TIE, backwards)
    return end, drives, lengths


def simulate(
    work: Work,
    estimates: Sequence[Estimate],
    *,
    runs: int,
    seed: int,
    distribution: str = "pert",
    risks: Sequence[tuple[float, Mapping[int, float]]] = (),
) -> Simulation:
    """Run the project ``runs`` times.

    Args:
      estimates: of the T tasks of ``work``, in working days.
      risks: the probability of each, and the days it adds to tasks, by their number.
    """
    count = len(estimates)
    table = quantiles(estimates, distribution)
    rows = -(-max(len(risks), 1) // _ROWS) * _ROWS  # few programs are compiled
    happens, delays = np.zeros(rows), np.zeros((rows, count))
    for i, (chance, added) in enumerate(risks):
        happens[i] = chance
        for task, days in added.items():
            delays[i, task] = days
    ends, drives, lengths = [], np.zeros(count), []
    with jax.enable_x64(True):
        key = jax.random.key(seed)
        for i in range(-(-runs // _BLOCK)):
            found = _block(jax.random.fold_in(key, i), work, table, happens, delays)
            keep = min(_BLOCK, runs - i * _BLOCK)
            end, driving, length = (np.asarray(own)[..., :keep] for own in found)
            ends.append(end)
            drives += driving.sum(1)
            lengths.append(length.astype(np.float32))
        mean = np.array([
            own.mean if distribution == "pert" else own.triangular_mean for own in estimates
        ])  # fmt: skip
        low, high = (
            ends_at(work, mean, np.asarray(_drawn(table, np.full((count, 1), level)))[:, 0])
            for level in (LOW, HIGH)
        )
    finish = np.concatenate(ends)
    return Simulation(
        finish, drives / runs, _rank_correlation(np.concatenate(lengths, 1), finish), low, high
    )


def ends_at(work: Work, mean: np.ndarray, other: np.ndarray) -> np.ndarray:
    """The finish when one task after another takes ``other`` [S] and the rest ``mean`` [T]: [S]."""
    ends = []
    for first in range(0, len(other), _BLOCK):
        lengths = np.repeat(mean[:, None], min(_BLOCK, len(mean)), 1)
        own = np.arange(first, min(first + _BLOCK, len(other)))
        lengths[own, own - first] = other[own]
        ends.append(np.asarray(_passes(work, lengths)[1].max(0))[: len(own)])
    return np.concatenate(ends)


def _rank_correlation(lengths: np.ndarray, finish: np.ndarray) -> np.ndarray:
    """Spearman's correlation of each row of ``lengths`` with ``finish``; NaN for constants."""
    last = rankdata(finish) - (len(finish) + 1) / 2
    found = np.full(len(lengths), np.nan)
    if np.ptp(finish) <= _TIE:
        return found
    for i, row in enumerate(lengths):
        if np.ptp(row) > 0:
            ranks = rankdata(row) - (len(row) + 1) / 2
            found[i] = (ranks @ last) / np.sqrt((ranks @ ranks) * (last @ last))
    return found


@functools.partial(jax.jit, static_argnames=("runs",))
def _totals(key: Array, table: Array, runs: int) -> Array:
    return _drawn(table, jax.random.uniform(key, (len(table), runs), table.dtype)).sum(0)


def totals(
    estimates: Sequence[Estimate], *, runs: int, seed: int, distribution: str = "pert"
) -> np.ndarray:
    """Sums of one draw each of ``estimates``, [runs]."""
    spare = [Estimate(0, 0, 0)] * (-len(estimates) % _ROWS)
    table = quantiles([*estimates, *spare], distribution)
    with jax.enable_x64(True):
        return np.asarray(_totals(jax.random.key(seed), table, runs))
