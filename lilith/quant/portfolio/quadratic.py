"""Convex quadratic programs with the limits of portfolios: their public form."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from lilith.quant.portfolio.answer import COMPILER_OPTIONS
from lilith.quant.portfolio.kkt import Program, Trading
from lilith.quant.portfolio.solver import optimum, quick_first
from lilith.quant.precision import double_precision


class Limits(NamedTuple):
    """What weights may be. None leaves a kind of limit out; infinities leave a single one out.

    Attributes:
      lower, upper: bounds of each weight, scalars or [n]. Long-only is the default.
      groups: [G, n], each row the assets' part in a group, usually 0 or 1.
      group_lower, group_upper: bounds of ``groups @ weights``, scalars or [G].
      previous: the weights held now, [n]; turnover: the most that ``sum |weights - previous|``
        may be (both sides counted: selling 10% to buy another 10% is 0.2). Both or neither.
    """

    lower: Any = 0.0
    upper: Any = None
    groups: Any = None
    group_lower: Any = None
    group_upper: Any = None
    previous: Any = None
    turnover: Any = None


class Optimum(NamedTuple):
    """The answer of a quadratic program.

    Attributes:
      x: [n], NaN where ``status`` is not 0.
      multipliers: of the equalities and then of the groups' lower and upper bounds, in the
        objective's units.
      residual: the natural KKT residual, the largest violation of stationarity, feasibility and
        complementarity, for a quadratic term scaled to a mean diagonal of 1.
      status: 0 converged, 1 not converged, 2 infeasible, 3 unbounded.
      iterations: Cholesky factors taken.
    """

    x: Array
    multipliers: Array
    residual: Array
    status: Array
    iterations: Array


@quick_first
@double_precision(static=("safeguard",), compiler_options=COMPILER_OPTIONS)
def quadratic_program(
    quadratic: Any,
    linear: Any,
    limits: Limits = Limits(),  # noqa: B008 (immutable)
    equality: Any = None,
    equality_values: Any = None,
    *,
    safeguard: bool = True,
) -> Optimum:
    """Minimise ½ x'Px + q'x where ``equality @ x = equality_values``, within limits.

    Args:
      quadratic: P, [n, n], symmetric positive semidefinite; linear: q, [n].
      equality: [m, n]; equality_values: [m]; None for the budget, weights that sum to one.
      safeguard: whether to compile the interior point method too. Calls with values see to it.
    """
    p, q = _symmetric(jnp.asarray(quadratic)), jnp.asarray(linear)
    if equality is None:
        equality, equality_values = jnp.ones((1, q.shape[0]), q.dtype), jnp.ones(1, q.dtype)
    program, units = assemble(p, q, limits, jnp.asarray(equality), jnp.asarray(equality_values))
    answer = optimum(program, safeguard)
    return Optimum(
        answer.x, answer.multipliers * units, answer.residual, answer.status, answer.iterations
    )


def assemble(
    hessian: Array,
    linear: Array,
    limits: Limits,
    equality: Array,
    equality_values: Array,
    ray: Array | None = None,
) -> tuple[Program, Array]:
    """The program, scaled, and the factors that give its multipliers the objective's units.

    Args:
      ray: [n]; where given, the program is homogenised: ``ray @ x = 1`` while every other
        right-hand side is multiplied by a free scale.
    """
    n, dtype = linear.shape[0], linear.dtype
    rows, offset, kinds = [equality], [equality_values], [jnp.ones_like(equality_values)]
    present = [jnp.ones_like(equality_values)]
    if limits.groups is not None:
        for sign, bound, equal, there in _sides(limits, dtype):
            rows.append(sign * limits.groups)
            offset.append(sign * bound)
            kinds.append(equal)
            present.append(there)
    count = sum(part.shape[0] for part in offset)
    constant = None
    if ray is not None:
        rows.append((ray / _size(ray))[None])
        offset.append(jnp.zeros(1, dtype))
        kinds.append(jnp.ones(1, dtype))
        present.append(jnp.ones(1, dtype))
        constant = jnp.zeros(count + 1, dtype).at[count].set(1.0)
    matrix = jnp.concatenate(rows)
    lengths = jax.lax.stop_gradient(jnp.sqrt(jnp.sum(matrix * matrix, axis=1)))
    lengths = jnp.where(lengths > 0, lengths, 1.0)
    scale = jax.lax.stop_gradient(jnp.trace(hessian) / n + jnp.max(jnp.abs(linear)))
    scale = jnp.where(scale > 0, scale, 1.0)
    program = Program(
        hessian / scale,
        linear / scale,
        matrix / lengths[:, None],
        jnp.concatenate(offset) / lengths,
        jnp.concatenate(kinds),
        jnp.concatenate(present),
        None if constant is None else constant / lengths,
        _each(limits.lower, n, dtype),
        _each(limits.upper, n, dtype),
        _trading(limits, n, dtype),
    )
    return program, scale / lengths


def _trading(limits: Limits, n: int, dtype: Any) -> Trading | None:
    held = _each(limits.previous, n, dtype)
    if held is None or limits.turnover is None:
        return None
    return Trading(held, jnp.asarray(limits.turnover, dtype))


def _sides(limits: Limits, dtype: Any) -> list[tuple[float, Array, Array, Array]]:
    """Of each kind of group bound: sign, finite values, whether equal to the other, whether so."""
    groups = jnp.asarray(limits.groups).shape[0]
    below = _each(limits.group_lower, groups, dtype)
    above = _each(limits.group_upper, groups, dtype)
    equal = jnp.zeros(groups, bool) if below is None or above is None else below == above
    sides = []
    for sign, bound in ((1.0, below), (-1.0, above)):
        if bound is not None:
            there = jnp.isfinite(bound) & ~(equal & (sign < 0))
            finite = jnp.where(jnp.isfinite(bound), bound, 0.0)
            sides.append((sign, finite, (equal & there).astype(dtype), there.astype(dtype)))
    return sides


def _each(value: Any, count: int, dtype: Any) -> Array | None:
    return None if value is None else jnp.broadcast_to(jnp.asarray(value, dtype), (count,))


def _size(vector: Array) -> Array:
    size = jax.lax.stop_gradient(jnp.max(jnp.abs(vector)))
    return jnp.where(size > 0, size, 1.0)


def _symmetric(matrix: Array) -> Array:
    return (matrix + matrix.T) / 2
