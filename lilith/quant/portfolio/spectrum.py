"""The condition number of a covariance, at a small part of the cost of its eigenvectors."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from lilith.quant.precision import double_precision

SMALL = 64  # up to here singular values are faster than a bisection
_POINTS = 33  # of a section, for each of the two ends: 5 bits a pass


@double_precision
def condition_number(covariance: Any) -> Array:
    """The largest over the least absolute eigenvalue; infinite where that is 0 to precision.

    A diagnostic: its gradient is 0.
    """
    matrix = jax.lax.stop_gradient(jnp.asarray(covariance))
    if matrix.shape[0] <= SMALL:
        values = jnp.linalg.svd(matrix, compute_uv=False)
        least, most = values[-1], values[0]
    else:
        low, high = extreme_eigenvalues(matrix)
        least, most = jnp.abs(low), jnp.maximum(jnp.abs(low), jnp.abs(high))
    floor = jnp.finfo(matrix.dtype).eps * most
    return jnp.where(least > floor, most / jnp.where(least > floor, least, 1.0), jnp.inf)


def extreme_eigenvalues(matrix: Array) -> tuple[Array, Array]:
    """The least and the largest eigenvalue of a symmetric matrix, by tridiagonal multisection.

    The count of negative pivots of T - x is the number of eigenvalues below x (Sturm); every pass
    counts at 33 points of both brackets at once.
    """
    n, dtype = matrix.shape[0], matrix.dtype
    _, diagonal, beside, _ = jax.lax.linalg.tridiagonal(matrix, lower=True)
    squares = jnp.concatenate([jnp.zeros(1, dtype), beside * beside])
    reach = jnp.abs(jnp.append(beside, 0.0)) + jnp.abs(jnp.concatenate([squares[:1], beside]))
    low, high = jnp.min(diagonal - reach), jnp.max(diagonal + reach)
    tiny = jnp.finfo(dtype).tiny

    def pivot(carry: tuple[Array, Array, Array], row: tuple[Array, Array]) -> tuple[Any, None]:
        last, count, points = carry
        own = row[0] - points - row[1] / jnp.where(jnp.abs(last) < tiny, -tiny, last)
        return (own, count + (own < 0), points), None

    def section(_: Any, brackets: Array) -> Array:
        shares = jnp.linspace(0, 1, _POINTS, dtype=dtype)
        points = brackets[:, :1] + (brackets[:, 1:] - brackets[:, :1]) * shares  # [2, points]
        begin = (jnp.ones_like(points), jnp.zeros(points.shape, jnp.int32), points)
        (_, count, _), _ = jax.lax.scan(pivot, begin, (diagonal, squares), unroll=10)
        above = count >= jnp.array([[1], [n]])  # the least, and all, eigenvalues lie below
        first = jnp.clip(jnp.argmax(above, axis=1), 1, _POINTS - 1)
        ends = jnp.stack([first - 1, first], axis=1)
        return jnp.take_along_axis(points, ends, axis=1)

    passes = 2 + jnp.finfo(dtype).nmant // 5
    brackets = jax.lax.fori_loop(0, passes, section, jnp.array([[low, high], [low, high]]))
    middle = brackets.mean(axis=1)
    return middle[0], middle[1]
