"""The solver: an active-set Newton method, an interior point where it cycles, derivatives.

The active-set method from a cold start settles almost every portfolio in three to eight Cholesky
factors; where it cycles, an interior point method gives it a start near the optimum. The answer is
the best point of the active-set method, exact to rounding, and derivatives of any order come from
the KKT system at the optimum's active set (the implicit function theorem), not from iterations.
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from lilith.quant.portfolio.active_set import (
    FREE,
    Pieces,
    Point,
    conditions,
    correct,
    fixed_values,
    newton,
    pieces_of,
)
from lilith.quant.portfolio.interior_point import interior_point
from lilith.quant.portfolio.kkt import Program

CONVERGED, NOT_CONVERGED, INFEASIBLE, UNBOUNDED = range(4)
STATUS = {
    CONVERGED: "converged",
    NOT_CONVERGED: "not converged",
    INFEASIBLE: "infeasible",
    UNBOUNDED: "unbounded",
}


class Solution(NamedTuple):
    """:func:`optimum`'s answer: the weights (x per scale), the point itself, and how it ended."""

    x: Array
    scale: Array
    multipliers: Array
    turnover: Array
    residual: Array
    status: Array
    iterations: Array


@functools.partial(jax.custom_jvp, nondiff_argnums=(1,))
def optimum(program: Program, safeguard: bool) -> Solution:
    """Solve a scaled program. Differentiable to any order in all its numbers.

    Without ``safeguard`` only the active-set method is compiled; where it cycles the answer is
    NaN, "not converged".
    """
    eps = float(jnp.finfo(program.linear.dtype).eps)
    loose = 30 * eps ** (2 / 3)
    cold, bare = _cold(program)
    if not safeguard:
        point, place, residual, steps = newton(program, cold, bare, 8 * eps)
        status = _status(program, point, residual <= 10 * loose, jnp.asarray(False))
        return _finish(program, point, place, residual, status, steps)
    none = jnp.full_like(cold.scale, jnp.inf)

    def unsettled(state: tuple) -> Array:
        turn, _, residual, _, _ = state
        return (turn < 2) & ~(residual <= loose)

    def warm(turn: Array) -> tuple:
        # Under vmap both branches run, and the interior point has to know that it is not needed.
        point, sure, steps, impossible = interior_point(program, turn > 0, loose)
        pieces, residual, _, _ = pieces_of(program, point)
        return point, pieces, jnp.where(sure, residual, jnp.inf), steps, impossible

    def attempt(state: tuple) -> tuple:
        turn, (kept, kept_place), best, steps, _ = state
        start, pieces, near, more, impossible = jax.lax.cond(
            turn == 0, lambda _: (cold, bare, none, jnp.int32(0), jnp.asarray(False)), warm, turn
        )
        point, place, reached, corrections = newton(program, start, pieces, 8 * eps)
        inside = near <= reached
        point, place = _where(inside, (start, pieces.place), (point, place))
        reached = jnp.where(inside, near, reached)
        better = (reached < best) | (turn == 0)
        kept, kept_place = _where(better, (point, place), (kept, kept_place))
        best = jnp.where(better, reached, best)
        steps += more + corrections
        return turn + 1, (kept, kept_place), best, steps, impossible & (best > loose)

    state = (jnp.int32(0), (cold, bare.place), none, jnp.int32(0), jnp.asarray(False))
    _, (point, place), residual, steps, impossible = jax.lax.while_loop(unsettled, attempt, state)
    status = _status(program, point, residual <= 10 * loose, impossible)
    return _finish(program, point, place, residual, status, steps)


def quick_first(core: Any) -> Any:
    """Call a core with values without its safeguard, and again with it only where it is needed.

    Most programs never need the interior point method, and half of the time to compile is its.
    """

    @functools.wraps(core)
    def call(*args: Any, **kwargs: Any) -> Any:
        if any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves((args, kwargs))):
            return core(*args, **kwargs)
        answer = core(*args, **kwargs, safeguard=False)
        return core(*args, **kwargs) if int(answer.status) != CONVERGED else answer

    return call


def _where(choice: Array, own: Any, other: Any) -> Any:
    return jax.tree.map(lambda a, b: jnp.where(choice, a, b), own, other)


def _cold(program: Program) -> tuple[Point, Pieces]:
    """Equal weights, and pieces in which nothing but the equalities binds."""
    n, dtype = program.linear.shape[0], program.linear.dtype
    zero, none = jnp.zeros((), dtype), jnp.zeros(n, dtype)
    point = Point(none + 1.0 / n, zero + 1.0, jnp.zeros_like(program.offset), zero)
    equal = program.equality * program.present > 0
    return point, Pieces(jnp.full(n, FREE, jnp.int32), none, equal, jnp.asarray(False))


def _status(program: Program, point: Point, good: Array, impossible: Array) -> Array:
    """Which of the four ends it is."""
    size = jnp.max(jnp.abs(point.x))
    ray = point.x / size
    flat = jnp.max(jnp.abs(program.hessian @ ray)) < 1e-6
    endless = (size > 1e6) & flat
    if program.constant is not None:
        endless = point.scale <= 1e-9 * size
    status = jnp.where(impossible, INFEASIBLE, NOT_CONVERGED)
    status = jnp.where(good, CONVERGED, status)
    return jnp.where(endless & ~impossible, UNBOUNDED, status).astype(jnp.int32)


def _finish(
    program: Program, point: Point, place: Array, residual: Array, status: Array, steps: Array
) -> Solution:
    """Weights exactly at the bounds that bind, NaN where there is no answer."""
    x = jnp.where(place == FREE, point.x / point.scale, fixed_values(program, place))
    for bound, clip in ((program.lower, jnp.maximum), (program.upper, jnp.minimum)):
        x = x if bound is None else clip(x, bound)
    x = jnp.where(status == CONVERGED, x, jnp.nan)
    return Solution(x, point.scale, point.rows, point.turnover, residual, status, steps)


@optimum.defjvp
def _optimum_jvp(safeguard: bool, primals: tuple, tangents: tuple) -> tuple:
    (program,), (change,) = primals, tangents
    answer = optimum(program, safeguard)
    point = Point(answer.x * answer.scale, answer.scale, answer.multipliers, answer.turnover)
    pieces, *_ = pieces_of(program, point)
    pieces = jax.tree.map(jax.lax.stop_gradient, pieces)
    _, (forces, gaps) = jax.jvp(lambda own: conditions(own, point, pieces), primals, (change,))
    step = correct(program, point, pieces, forces, gaps, 2)
    moved = (step.x - answer.x * step.scale) / answer.scale
    still: Any = np.zeros((), jax.dtypes.float0)
    return answer, Solution(
        moved, step.scale, step.rows, step.turnover, jnp.zeros_like(answer.residual), still, still
    )
