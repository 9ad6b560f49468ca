"""Nonlinear least squares for small fits: Levenberg and Marquardt from many starts at once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

ITERATIONS = 200


class Fit(NamedTuple):
    """The best of the starts: its point [n], sum of squares, and whether it came to rest."""

    x: Any
    cost: Any
    converged: Any


def levenberg_marquardt(residuals: Callable[[Any], Any], starts: Any) -> Fit:
    """Minimise the sum of squares of ``residuals(x)`` [m], m at least n, from ``starts`` [s, n].

    The damping is Marquardt's (scaled by the diagonal), divided by 5 after a step that helps and
    multiplied by 4 after one that does not, for a fixed number of iterations. A start is at rest
    when its last step was below 1e-9 of the point's scale, or gained less than 1e-9 of the cost
    (or 1e-20). Not-a-number residuals count as infinitely bad.
    """

    def cost_of(x: Any) -> Any:
        cost = jnp.sum(residuals(x) ** 2)
        return jnp.where(jnp.isfinite(cost), cost, jnp.inf)

    def iterate(state: tuple[Any, ...], _: None) -> tuple[tuple[Any, ...], None]:
        x, cost, damping, _ = state
        jacobian, own = jax.jacfwd(lambda y: (residuals(y),) * 2, has_aux=True)(x)
        jacobian = jnp.where(jnp.isfinite(jacobian), jacobian, 0.0)
        normal = jacobian.T @ jacobian
        scale = jnp.diagonal(normal)
        scale = jnp.maximum(scale, 1e-12 * jnp.max(scale) + jnp.finfo(x.dtype).tiny)
        slope = jacobian.T @ jnp.where(jnp.isfinite(own), own, 0.0)
        step = -jnp.linalg.solve(normal + damping * jnp.diag(scale), slope)
        trial = cost_of(x + step)
        better = trial < cost
        short = jnp.max(jnp.abs(step) / (1 + jnp.abs(x))) < 1e-9
        still = short | (better & (cost - trial <= 1e-9 * cost + 1e-20))
        next_x = jnp.where(better, x + step, x)
        damping = jnp.clip(jnp.where(better, damping / 5, damping * 4), 1e-15, 1e10)
        return (next_x, jnp.where(better, trial, cost), damping, still), None

    def run(start: Any) -> Fit:
        state = (start, cost_of(start), jnp.asarray(1e-3, start.dtype), jnp.asarray(False))
        (x, cost, _, still), _ = jax.lax.scan(iterate, state, None, length=ITERATIONS)
        return Fit(x, cost, still)

    found = jax.vmap(run)(starts)
    best = jnp.argmin(found.cost)
    return Fit(found.x[best], found.cost[best], found.converged[best])
