"""An active-set Newton method for portfolio programs, and derivatives of the optimum.

The optimality conditions are one equation: x equals the proximal point of x + pull, where pull is
minus the gradient of the Lagrangian and the proximal operator clips to the bounds and, under a
binding turnover limit, holds the previous weights. It is piecewise linear. A Newton step on it
solves one KKT system for the pieces that the current point lies in (the primal-dual active set
method: Hintermüller, Ito and Kunisch, SIAM J. Optim. 13, 2002); at the optimum's pieces one step
ends within rounding of it, and the same system gives the optimum's derivatives.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from lilith.quant.portfolio import kkt
from lilith.quant.portfolio.kkt import Program

MOST_STEPS = 16
FREE, PREVIOUS, LOWER, UPPER = range(4)


class Point(NamedTuple):
    """A primal and dual point of a program.

    Attributes:
      x: [n]; scale: scalar, 1 where the program is not homogenised.
      rows: the rows' multipliers, [K]; turnover: the turnover limit's, scalar.
    """

    x: Array
    scale: Array
    rows: Array
    turnover: Array


class Pieces(NamedTuple):
    """Where a point lies: which limits bind.

    Attributes:
      place: [n] integers, where a variable is fixed: one of FREE, PREVIOUS, LOWER, UPPER.
      side: [n], the sign of the trade, 0 where held.
      active: [K] bool, rows that bind; trading: scalar bool, whether the turnover limit does.
    """

    place: Array
    side: Array
    active: Array
    trading: Array


def slack_of_rows(program: Program, x: Array, scale: Array) -> Array:
    """rows x - offset scale - constant, [K]."""
    constant = 0.0 if program.constant is None else program.constant
    return program.rows @ x - program.offset * scale - constant


def pieces_of(program: Program, point: Point) -> tuple[Pieces, Array, Array, Array]:
    """Where a point lies, and how far it is from optimal.

    Returns:
      Its pieces, its natural residual (a maximum over all conditions), and what
      :func:`conditions` says of them.
    """
    x, scale = point.x, point.scale
    pull = program.rows.T @ point.rows - program.hessian @ x - program.linear
    target = x + pull
    place = jnp.full(x.shape, FREE, jnp.int32)
    side = jnp.zeros_like(x)
    trading, excess = jnp.asarray(False), jnp.zeros_like(scale)
    if program.trading is not None:
        held = program.trading.previous * scale
        trade = target - held
        stays = (jnp.abs(trade) <= point.turnover) & (point.turnover > 0)
        place = jnp.where(stays, jnp.int32(PREVIOUS), place)
        side = jnp.where(stays, 0.0, jnp.sign(trade))
        target = jnp.where(stays, held, target - jnp.maximum(point.turnover, 0.0) * side)
        excess = jnp.abs(x - held).sum() - program.trading.limit * scale
        trading = point.turnover + excess > 0
    same = _same_bounds(program)
    for code, bound, sign in ((LOWER, program.lower, -1.0), (UPPER, program.upper, 1.0)):
        if bound is not None:
            known = _finite(bound)
            out = jnp.isfinite(bound) & ((sign * (target - known * scale) > 0) | same)
            place = jnp.where(out, jnp.int32(code), place)
            target = jnp.where(out, known * scale, target)
            if program.trading is not None:
                side = jnp.where(out, jnp.sign(known - program.trading.previous), side)
    slack = slack_of_rows(program, x, scale)
    present, equal = program.present > 0, program.equality > 0
    active = present & (equal | (point.rows - slack > 0))
    pieces = Pieces(place, side, active, trading)
    residual = jnp.max(jnp.abs(x - target))
    residual = jnp.maximum(
        residual, jnp.max(jnp.abs(jnp.where(active, slack, present * point.rows)))
    )
    residual = jnp.maximum(residual, jnp.abs(jnp.where(trading, excess, point.turnover)))
    forces, gaps = conditions(program, point, pieces)
    if homogeneous(program):
        residual = jnp.maximum(residual, jnp.abs(forces[-1]))
    return pieces, residual, forces, gaps


def homogeneous(program: Program) -> bool:
    """Whether the scale is a variable."""
    return program.constant is not None


def conditions(program: Program, point: Point, pieces: Pieces) -> tuple[Array, Array]:
    """The optimality conditions of fixed pieces: forces [N] and gaps [K + 1], 0 at the optimum.

    Signs are those of the right-hand sides of :func:`kkt.solve`.
    """
    x, scale = point.x, point.scale
    rows, offset = _all_rows(program, pieces)
    multipliers = jnp.append(point.rows, point.turnover)
    pull = rows.T @ multipliers - program.hessian @ x - program.linear
    value, fixed = fixed_values(program, pieces.place), pieces.place != FREE
    forces = jnp.where(fixed, value * scale - x, pull)
    slack = rows @ x - offset * scale
    if program.constant is not None:
        slack -= jnp.append(program.constant, 0.0)
        owed = value @ pull - offset @ multipliers
        forces = jnp.append(forces, owed)
    active = jnp.append(pieces.active, pieces.trading)
    return forces, jnp.where(active, -slack, -multipliers)


def correct(
    program: Program, point: Point, pieces: Pieces, forces: Array, gaps: Array, refinements: int
) -> Point:
    """The change of the point that answers ``forces`` and ``gaps`` on fixed pieces."""
    n = point.x.shape[0]
    rows, offset = _all_rows(program, pieces)
    hessian = program.hessian
    if homogeneous(program):
        rows = jnp.concatenate([rows, -offset[:, None]], axis=1)
        hessian = jnp.pad(hessian, ((0, 1), (0, 1)))
    active = jnp.append(pieces.active, pieces.trading)
    value, fixed = fixed_values(program, pieces.place), pieces.place != FREE
    factors = kkt.factorise(hessian, rows, fixed, value, active, jnp.zeros_like(gaps))
    # Multipliers of rows that do not bind are known; their forces go to the right-hand side.
    known = rows.T @ jnp.where(active, 0.0, gaps)
    own = jnp.where(fixed, 0.0, known[:n])
    forces += jnp.concatenate([own, known[n:] + value @ known[:n]])
    step, multipliers = kkt.solve(factors, forces, gaps, refinements)
    multipliers = jnp.where(active, multipliers, gaps)
    scale = step[n] if homogeneous(program) else jnp.zeros_like(point.scale)
    return Point(step[:n], scale, multipliers[:-1], multipliers[-1])


def newton(program: Program, start: Point, pieces: Pieces, tolerance: Any) -> tuple:
    """Newton steps from ``start`` and its pieces.

    Returns:
      The best point met, where its variables are fixed, its natural residual, and the steps.
    """

    def unsettled(state: tuple) -> Array:
        _, _, best, step, stalled = state
        return (best > tolerance) & (step < MOST_STEPS) & ~stalled

    def advance(state: tuple) -> tuple:
        (point, pieces, forces, gaps), kept, best, step, _ = state
        change = correct(program, point, pieces, forces, gaps, 1)
        point = jax.tree.map(jnp.add, point, change)
        pieces, residual, forces, gaps = pieces_of(program, point)
        better = residual < best
        stalled = (best < 1e3 * tolerance) & ~(residual < 0.5 * best) | jnp.isnan(residual)
        kept = jax.tree.map(
            lambda own, other: jnp.where(better, own, other), (point, pieces.place), kept
        )
        best = jnp.where(better, residual, best)
        return (point, pieces, forces, gaps), kept, best, step + 1, stalled

    first = (start, pieces, *conditions(program, start, pieces))
    worst = jnp.full_like(start.scale, jnp.inf)
    state = (first, (start, pieces.place), worst, jnp.int32(0), jnp.asarray(False))
    _, (point, place), best, steps, _ = jax.lax.while_loop(unsettled, advance, state)
    return point, place, best, steps


def _same_bounds(program: Program) -> Array:
    if program.lower is None or program.upper is None:
        return jnp.asarray(False)
    return program.lower == program.upper


def _finite(bound: Array) -> Array:
    return jnp.where(jnp.isfinite(bound), bound, 0.0)


def fixed_values(program: Program, place: Array) -> Array:
    """What the fixed variables are per unit of scale, and 0 for the free ones."""
    value = jnp.zeros_like(program.linear)
    held = None if program.trading is None else program.trading.previous
    sources = ((PREVIOUS, held), (LOWER, program.lower), (UPPER, program.upper))
    for code, source in sources:
        if source is not None:
            value = jnp.where(place == code, _finite(source), value)
    return value


def _all_rows(program: Program, pieces: Pieces) -> tuple[Array, Array]:
    """The program's rows and the turnover limit's, turnover scale - sides (x - previous scale)."""
    rows = jnp.concatenate([program.rows, -pieces.side[None]], axis=0)
    if program.trading is None:
        return rows, jnp.append(program.offset, 0.0)
    own = -(program.trading.limit + pieces.side @ program.trading.previous)
    return rows, jnp.append(program.offset, own)
