"""A primal-dual interior point method for portfolio programs, for where an active set cycles.

Mehrotra's predictor and corrector (SIAM J. Optim. 2, 1992) from an infeasible start. Slacks and
multipliers of all inequalities lie in one vector: lower bounds, upper bounds, rows, the two sides
of every trade, the turnover limit. The split variables t >= |x - previous scale| of the turnover
limit are eliminated: they leave a diagonal, one row and one number.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from lilith.quant.portfolio import kkt
from lilith.quant.portfolio.active_set import Point, homogeneous, slack_of_rows
from lilith.quant.portfolio.kkt import Program

MOST_STEPS = 60


class Iterate(NamedTuple):
    """A point with the split trades and, stacked over all inequalities, slacks and multipliers."""

    x: Array  # [n]
    scale: Array
    trades: Array  # [n], or empty without a turnover limit
    slack: Array  # [I]
    multipliers: Array  # [I]


class _Layout(NamedTuple):
    """Where each kind of inequality lies in the stacked vectors."""

    lower: slice
    upper: slice
    rows: slice
    up: slice
    down: slice
    turnover: slice


def _layout(program: Program) -> _Layout:
    n, k = program.linear.shape[0], program.offset.shape[0]
    split = 0 if program.trading is None else n
    counts = (
        0 if program.lower is None else n,
        0 if program.upper is None else n,
        k,
        split,
        split,
        min(split, 1),
    )
    ends = [sum(counts[: i + 1]) for i in range(len(counts))]
    return _Layout(*(slice(end - count, end) for end, count in zip(ends, counts)))


def _bounds(program: Program) -> list[tuple[str, Array, float]]:
    """Name, finite values and sign of the bounds there are."""
    pairs = (("lower", program.lower, 1.0), ("upper", program.upper, -1.0))
    return [
        (name, jnp.where(jnp.isfinite(bound), bound, 0.0), sign)
        for name, bound, sign in pairs
        if bound is not None
    ]


def _fixed(program: Program) -> Array:
    """Variables whose bounds are one number: they have no interior and are eliminated."""
    if program.lower is None or program.upper is None:
        return jnp.zeros(program.linear.shape, bool)
    return program.lower == program.upper


def _inequalities(program: Program) -> Array:
    """[I] bool: the stacked entries that are inequalities; equalities among rows are not."""
    parts = [
        jnp.isfinite(bound) & ~_fixed(program)
        for bound in (program.lower, program.upper)
        if bound is not None
    ]
    parts.append((program.present > 0) & (program.equality == 0))
    if program.trading is not None:
        parts.append(jnp.ones(2 * program.linear.shape[0] + 1, bool))
    return jnp.concatenate(parts)


def _measure(program: Program, x: Array, scale: Array, trades: Array, constant: bool) -> Array:
    """Every inequality's left-hand side, [I]; without the constants, its linear part."""
    parts = [sign * (x - known * scale) for _, known, sign in _bounds(program)]
    if constant:
        parts.append(slack_of_rows(program, x, scale))
    else:
        parts.append(program.rows @ x - program.offset * scale)
    if program.trading is not None:
        trade = x - program.trading.previous * scale
        parts += [trades - trade, trades + trade]
        parts.append((program.trading.limit * scale - trades.sum())[None])
    return jnp.concatenate(parts)


def _adjoint(program: Program, forces: Array) -> tuple[Array, Array, Array]:
    """The transpose of the linear part of :func:`_measure`: on x, on the scale, on the trades."""
    at = _layout(program)
    rows = forces[at.rows]
    on_x, on_scale = program.rows.T @ rows, -(program.offset @ rows)
    for name, known, sign in _bounds(program):
        own = sign * forces[getattr(at, name)]
        on_x, on_scale = on_x + own, on_scale - known @ own
    if program.trading is None:
        return on_x, on_scale, forces[at.up]
    up, down, limit = forces[at.up], forces[at.down], forces[at.turnover][0]
    on_scale += program.trading.previous @ (up - down) + program.trading.limit * limit
    return on_x - up + down, on_scale, up + down - limit


def _hessian(program: Program, weights: list[tuple[Array, Array]]) -> Array:
    """P plus diagonals ``weight (x - anchor scale)²``, with the scale's border if it is free."""
    diagonal = jnp.stack([weight for weight, _ in weights]).sum(axis=0)
    total = program.hessian + jnp.diag(diagonal)
    if not homogeneous(program):
        return total
    border = -jnp.stack([weight * anchor for weight, anchor in weights]).sum(axis=0)
    corner = jnp.stack([(weight * anchor) @ anchor for weight, anchor in weights]).sum()
    top = jnp.concatenate([total, border[:, None]], axis=1)
    return jnp.concatenate([top, jnp.append(border, corner)[None]], axis=0)


class _System(NamedTuple):
    """One step's factored system and what the eliminated trades need."""

    factors: kkt.Factors
    stiffness: Array  # [I], multipliers / slacks
    tilt: Array  # [n], (up - down) / (up + down)
    total: Array  # [n], up + down


def _factorise(program: Program, at: _Layout, iterate: Iterate, real: Array) -> _System:
    stiffness = jnp.where(real, iterate.multipliers / iterate.slack, 0.0)
    softness = jnp.where(real, iterate.slack / iterate.multipliers, 0.0)
    zero = jnp.zeros_like(iterate.x)
    weights = [(stiffness[getattr(at, name)], known) for name, known, _ in _bounds(program)]
    weights = weights or [(zero, zero)]
    rows, offset, diagonal = program.rows, program.offset, softness[at.rows]
    active, tilt, total = program.present > 0, zero, zero
    if program.trading is not None:
        up, down = stiffness[at.up], stiffness[at.down]
        total, tilt = up + down, (up - down) / (up + down)
        weights.append((4 * up * down / total, program.trading.previous))
        rows = jnp.concatenate([rows, -tilt[None]], axis=0)
        offset = jnp.append(offset, -(program.trading.limit + tilt @ program.trading.previous))
        diagonal = jnp.append(diagonal, softness[at.turnover] + jnp.sum(1 / total))
        active = jnp.append(active, True)
    if homogeneous(program):
        rows = jnp.concatenate([rows, -offset[:, None]], axis=1)
    fixed = _fixed(program)
    value = zero if program.lower is None else jnp.where(fixed, program.lower, 0.0)
    factors = kkt.factorise(_hessian(program, weights), rows, fixed, value, active, diagonal)
    return _System(factors, stiffness, tilt, total)


def _direction(
    program: Program, at: _Layout, system: _System, iterate: Iterate, real: Array, centre: Array
) -> Iterate:
    """The Newton direction towards slack × multiplier changing by ``centre``."""
    n = iterate.x.shape[0]
    x, scale, trades = iterate.x, iterate.scale, iterate.trades
    measured = _measure(program, x, scale, trades, True)
    gap = measured - jnp.where(real, iterate.slack, 0.0)
    pulls = _adjoint(program, iterate.multipliers)
    push = jnp.where(real, centre / iterate.slack - system.stiffness * gap, 0.0)
    gaps = jnp.where(real, centre / iterate.multipliers, 0.0) - gap
    ahead = _adjoint(program, push.at[at.rows].set(0.0).at[at.turnover].set(0.0))
    forces = pulls[0] - program.hessian @ x - program.linear + ahead[0]
    on_scale, load = pulls[1] + ahead[1], pulls[2] + ahead[2]
    gaps_of_rows = gaps[at.rows]
    if program.trading is not None:
        lean = system.tilt * load
        forces, on_scale = forces + lean, on_scale - program.trading.previous @ lean
        gaps_of_rows = jnp.append(gaps_of_rows, gaps[at.turnover] + jnp.sum(load / system.total))
    fixed = system.factors.fixed
    forces = jnp.where(fixed, system.factors.value * scale - x, forces)
    forces = jnp.append(forces, on_scale) if homogeneous(program) else forces
    step, multipliers = kkt.solve(system.factors, forces, gaps_of_rows, 0)
    dx, dscale = step[:n], step[n] if homogeneous(program) else jnp.zeros_like(scale)
    dtrades = trades
    if program.trading is not None:
        trade = dx - program.trading.previous * dscale
        dtrades = (load - multipliers[-1]) / system.total + system.tilt * trade
    dslack = jnp.where(real, _measure(program, dx, dscale, dtrades, False) + gap, 0.0)
    dual = jnp.where(real, centre / iterate.slack - system.stiffness * dslack, 0.0)
    k = program.offset.shape[0]
    dual = dual.at[at.rows].set(multipliers[:k]).at[at.turnover].set(multipliers[k:])
    return Iterate(dx, dscale, dtrades, dslack, dual)


def _longest(iterate: Iterate, step: Iterate, real: Array) -> Array:
    """The share of the step, at most 1, that keeps slacks and multipliers positive."""
    falls = jnp.maximum(
        jnp.where(real, -step.slack / iterate.slack, 0.0),
        jnp.where(real, -step.multipliers / iterate.multipliers, 0.0),
    )
    return 1.0 / jnp.maximum(1.0, jnp.max(falls))


def _begin(program: Program, real: Array) -> Iterate:
    """Weights amid their bounds and slacks away from 0."""
    n = program.linear.shape[0]
    share = jnp.full_like(program.linear, 1.0 / n)
    x = share
    for _, known, sign in _bounds(program):
        x = jnp.where(sign * (x - known) > 0, x, known + sign * share)
    x = jnp.where(_fixed(program), x if program.lower is None else program.lower, x)
    scale = jnp.ones((), x.dtype)
    trades = jnp.zeros(0, x.dtype)
    if program.trading is not None:
        trades = jnp.abs(x - program.trading.previous) + share
    least = jnp.asarray(1.0 / n, x.dtype)
    slack = jnp.where(real, jnp.maximum(_measure(program, x, scale, trades, True), least), 1.0)
    slope = jnp.max(jnp.abs(program.hessian @ x + program.linear))
    return Iterate(x, scale, trades, slack, jnp.where(real, jnp.maximum(slope, least), 0.0))


def interior_point(program: Program, needed: Array, tolerance: Any) -> tuple:
    """A point near the optimum, in at most 60 steps; none are made where ``needed`` is False.

    Returns:
      The point, whether it converged, the steps, and whether its multipliers prove that no x
      satisfies the constraints.
    """
    at, real = _layout(program), _inequalities(program)
    count = jnp.maximum(jnp.sum(real), 1)
    tiny = jnp.finfo(program.linear.dtype).tiny

    def errors(iterate: Iterate) -> Array:
        measured = _measure(program, iterate.x, iterate.scale, iterate.trades, True)
        gap = jnp.where(_wanted(program, real), measured - iterate.slack * real, 0.0)
        pulls = _adjoint(program, iterate.multipliers)
        dual = pulls[0] - program.hessian @ iterate.x - program.linear
        dual = jnp.where(_fixed(program), 0.0, dual)
        worst = jnp.maximum(jnp.max(jnp.abs(gap)), jnp.max(jnp.abs(dual)))
        return jnp.maximum(worst, iterate.slack @ (iterate.multipliers * real) / count)

    def unsettled(state: tuple) -> Array:
        _, _, error, step, stalled = state
        return needed & (error > 1e-3 * tolerance**1.5) & (step < MOST_STEPS) & ~stalled

    def advance(state: tuple) -> tuple:
        iterate, kept, best, step, _ = state
        system = _factorise(program, at, iterate, real)
        product = jnp.where(real, iterate.slack * iterate.multipliers, 0.0)

        def stage(_: Any, state: tuple) -> tuple:
            """The predictor, and from how far it goes the centre that the corrector aims at."""
            centre, _ = state
            step = _direction(program, at, system, iterate, real, centre)
            share = _longest(iterate, step, real)
            slack = iterate.slack + share * step.slack
            ahead = jnp.where(real, slack * (iterate.multipliers + share * step.multipliers), 0.0)
            drop = jnp.sum(ahead) / jnp.maximum(jnp.sum(product), tiny)
            centre = jnp.sum(product) / count * drop**3 - product - step.slack * step.multipliers
            return jnp.where(real, centre, 0.0), step

        _, last = jax.lax.fori_loop(0, 2, stage, (-product, iterate))
        share = jnp.minimum(1.0, 0.995 * _longest(iterate, last, real))
        share = jnp.where(jnp.any(real), share, 1.0)
        moved = jax.tree.map(lambda own, change: own + share * change, iterate, last)
        error = errors(moved)
        better = (error < best) | (best >= tolerance) & ~jnp.isnan(error)
        kept = jax.tree.map(lambda own, other: jnp.where(better, own, other), moved, kept)
        return moved, kept, jnp.where(better, error, best), step + 1, ~better

    begin = _begin(program, real)
    start = (begin, begin, jnp.full_like(begin.scale, jnp.inf), jnp.int32(0), jnp.asarray(False))
    _, iterate, error, steps, _ = jax.lax.while_loop(unsettled, advance, start)
    limit = iterate.multipliers[at.turnover]
    point = Point(
        iterate.x,
        iterate.scale,
        iterate.multipliers[at.rows],
        limit[0] if program.trading is not None else jnp.zeros_like(iterate.scale),
    )
    return point, error <= tolerance, steps, _impossible(program, iterate)


def _wanted(program: Program, real: Array) -> Array:
    """Entries whose residual counts: the inequalities and the rows that are equalities."""
    return real.at[_layout(program).rows].set(program.present > 0)


def _impossible(program: Program, iterate: Iterate) -> Array:
    """Whether the multipliers, as a direction, are Farkas' certificate of infeasibility."""
    at = _layout(program)
    on_x, on_scale, on_trades = _adjoint(program, iterate.multipliers)
    size = jnp.max(jnp.abs(iterate.multipliers))
    held = _fixed(program)
    left = jnp.max(jnp.abs(jnp.where(held, 0.0, on_x)))
    if program.trading is not None:
        left = jnp.maximum(left, jnp.max(jnp.abs(on_trades)))
    if program.constant is None:
        value = iterate.x if program.lower is None else program.lower
        worth = -on_scale - jnp.sum(jnp.where(held, on_x * value, 0.0))
    else:
        left = jnp.maximum(left, jnp.abs(on_scale))
        worth = iterate.multipliers[at.rows] @ program.constant
    return (worth > 1e-3 * size) & (left < 1e-4 * worth)
