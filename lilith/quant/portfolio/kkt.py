"""Convex quadratic programs of portfolios in one structured form, and their KKT linear systems.

The structure that is kept: bounds are diagonal, turnover is a diagonal and one row however many
assets there are (its split variables are eliminated), and the homogenised program of the maximum
Sharpe ratio is the same program with one border column. Every linear system therefore costs one
Cholesky factor of the size of the covariance.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.scipy.linalg import solve_triangular

PROXIMAL = 1e5  # times the precision: keeps a singular Hessian's Cholesky factor defined


class Trading(NamedTuple):
    """``sum |x - previous scale| <= limit scale``: the weights held, [n], and a scalar."""

    previous: Array
    limit: Array


class Program(NamedTuple):
    """min ½ x'Px + q'x over x and scale, N = n variables (n + 1 when ``constant`` is given).

    Subject to ``rows x - offset scale - constant`` being 0 (where ``equality``) or at least 0,
    ``lower scale <= x <= upper scale`` and the turnover limit of ``trading``; the scale is 1, or a
    free variable when ``constant`` is given.

    Attributes:
      hessian: P, [n, n], positive semidefinite; linear: q, [n].
      rows: [K, n]; offset: [K]; equality: [K], 1 or 0; present: [K], 0 for a row to ignore.
      constant: [K] or None.
      lower, upper: [n] or None, with infinities allowed. trading: the turnover limit or None.
    """

    hessian: Array
    linear: Array
    rows: Array
    offset: Array
    equality: Array
    present: Array
    constant: Array | None
    lower: Array | None
    upper: Array | None
    trading: Trading | None


class Factors(NamedTuple):
    """A factored KKT system; see :func:`factorise`."""

    hessian: Array  # [N, N]
    rows: Array  # [K, N]
    few: Array  # [K, N], the live rows on the free variables and the scale
    fixed: Array  # [n] bool
    value: Array  # [n], of the fixed ones, per unit of scale
    live: Array  # [K] bool
    diagonal: Array  # [K]
    weight: Array  # [K], of the augmentation
    cholesky: Array  # [N, N]
    half: Array  # [N, K], the inverse factor times the reduced rows
    schur: Array  # [K, K] Cholesky factor


def factorise(
    hessian: Array, rows: Array, fixed: Array, value: Array, active: Array, diagonal: Array
) -> Factors:
    """Factor the system that :func:`solve` solves.

    Fixed variables follow the scale: ``x_i = value_i scale``. They are eliminated by masks, so
    that shapes never depend on how many there are. Rows without slack are added to the Hessian
    (an augmented Lagrangian, which changes no solution): the Hessian needs to be positive definite
    only along them.

    Args:
      hessian: [N, N]; rows: [K, N] with N = n, or n + 1 with the scale's column last.
      fixed, value: [n]. active: [K] bool; diagonal: [K], at least 0.
    """
    value = jnp.where(fixed, value, 0.0)
    few = jnp.where(active[:, None], _reduce(rows, fixed, value), 0.0)
    size = jnp.sum(few * few, axis=1)
    small = jnp.finfo(hessian.dtype).eps
    live = active & ((size > 1e4 * small**2) | (diagonal > 0))
    few = jnp.where(live[:, None], few, 0.0)
    weight = jnp.where(live & (diagonal == 0), 1.0, 0.0).astype(hessian.dtype)
    system = _reduced_hessian(hessian, fixed, value) + few.T @ (weight[:, None] * few)
    cholesky = jax.lax.linalg.cholesky(system, symmetrize_input=False)
    half = solve_triangular(cholesky, few.T, lower=True)
    slack = jnp.where(live, diagonal, 1.0) + 1e3 * small
    schur = jax.lax.linalg.cholesky(half.T @ half + jnp.diag(slack), symmetrize_input=False)
    return Factors(hessian, rows, few, fixed, value, live, diagonal, weight, cholesky, half, schur)


def solve(factors: Factors, forces: Array, gaps: Array, refinements: int = 1) -> tuple:
    """The step (x, rows' multipliers) of a factored KKT system.

    For free variables and for the scale (with what fixed variables owe to it) the equations are
    ``hessian dx - rows' dy = forces``; for fixed ones ``dx_i - value_i dscale = forces_i``; for
    live rows ``rows dx + diagonal dy = gaps``; others keep ``dy = 0``.

    Args:
      forces: [N]; gaps: [K].
      refinements: rounds of iterative refinement.

    Returns:
      dx [N] and dy [K].
    """
    if not refinements:
        return _solve_once(factors, forces, gaps)

    def refine(_: Any, state: tuple[Array, Array]) -> tuple[Array, Array]:
        step, multipliers = state
        left_forces, left_gaps = _apply(factors, step, multipliers)
        more, other = _solve_once(factors, forces - left_forces, gaps - left_gaps)
        return step + more, multipliers + other

    nothing = (jnp.zeros_like(forces), jnp.zeros_like(gaps))
    return jax.lax.fori_loop(0, refinements + 1, refine, nothing)


def _reduce(matrix: Array, fixed: Array, value: Array) -> Array:
    """Columns of ``matrix`` [.., N] for the free variables and the scale."""
    n = fixed.shape[0]
    free = jnp.where(fixed, 0.0, matrix[:, :n])
    if matrix.shape[1] == n:
        return free
    return jnp.concatenate([free, matrix[:, n:] + (matrix[:, :n] @ value)[:, None]], axis=1)


def _reduced_hessian(hessian: Array, fixed: Array, value: Array) -> Array:
    """The Hessian of the free variables and the scale, 1 on the diagonal of the fixed ones."""
    n, small = fixed.shape[0], jnp.finfo(hessian.dtype).eps
    inner = jnp.where(fixed[:, None] | fixed, 0.0, hessian[:n, :n])
    inner += jnp.diag(jnp.where(fixed, 1.0, 0.0) + PROXIMAL * small).astype(hessian.dtype)
    if hessian.shape[0] == n:
        return inner
    owed = hessian[:n, n] + hessian[:n, :n] @ value
    corner = hessian[n, n] + value @ (owed + hessian[:n, n]) + PROXIMAL * small
    border = jnp.where(fixed, 0.0, owed)
    top = jnp.concatenate([inner, border[:, None]], axis=1)
    return jnp.concatenate([top, jnp.append(border, corner)[None]], axis=0)


def _pull(factors: Factors, vector: Array) -> Array:
    """The transpose of :func:`_expand`: forces on the free variables and on the scale."""
    n = factors.fixed.shape[0]
    free = jnp.where(factors.fixed, 0.0, vector[:n])
    if vector.shape[0] == n:
        return free
    return jnp.append(free, vector[n] + vector[:n] @ factors.value)


def _expand(factors: Factors, vector: Array, own: Array) -> Array:
    """All variables from the free ones and the scale; ``own`` [n] is the fixed ones' addition."""
    n = factors.fixed.shape[0]
    scale = vector[n:] if vector.shape[0] > n else jnp.zeros(1, vector.dtype)
    x = jnp.where(factors.fixed, own + factors.value * scale, vector[:n])
    return jnp.concatenate([x, vector[n:]])


def _solve_once(factors: Factors, forces: Array, gaps: Array) -> tuple[Array, Array]:
    n = factors.fixed.shape[0]
    own = jnp.where(factors.fixed, forces[:n], 0.0)
    known = jnp.concatenate([own, jnp.zeros_like(forces[n:])])
    right = jnp.where(factors.fixed, 0.0, forces[:n])
    right = jnp.concatenate([right, forces[n:]]) - _pull(factors, factors.hessian @ known)
    gaps = jnp.where(factors.live, gaps - factors.rows @ known, 0.0)
    right += factors.few.T @ (factors.weight * gaps)
    middle = solve_triangular(factors.cholesky, right, lower=True)
    rest = gaps - factors.half.T @ middle
    lower = solve_triangular(factors.schur, rest, lower=True)
    multipliers = solve_triangular(factors.schur, lower, lower=True, trans=1)
    middle += factors.half @ multipliers
    return _expand(
        factors, solve_triangular(factors.cholesky, middle, lower=True, trans=1), own
    ), jnp.where(factors.live, multipliers, 0.0)


def _apply(factors: Factors, step: Array, multipliers: Array) -> tuple[Array, Array]:
    """The exact system's left-hand sides."""
    n = factors.fixed.shape[0]
    total = _pull(factors, factors.hessian @ step - factors.rows.T @ multipliers)
    scale = step[n:] if step.shape[0] > n else jnp.zeros(1, step.dtype)
    fixed = step[:n] - factors.value * scale
    forces = jnp.concatenate([jnp.where(factors.fixed, fixed, total[:n]), total[n:]])
    return forces, factors.rows @ step + factors.diagonal * multipliers
