"""Risk parity: weights whose risk contributions are equal, or in given proportions.

With correlation C, volatilities s and budgets b the weights are u / s, up to their sum, for the
one positive solution of C u = b / u: the optimum of ½ u'Cu - b'log u (Spinu, "An algorithm for
computing risk parity weights", 2013), found by Newton steps.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.scipy.linalg import cho_solve

from lilith.quant.portfolio.answer import COMPILER_OPTIONS, Portfolio, describe
from lilith.quant.portfolio.solver import CONVERGED, NOT_CONVERGED
from lilith.quant.precision import double_precision

MOST_STEPS = 100


@double_precision(compiler_options=COMPILER_OPTIONS)
def risk_budgeting(
    covariance: Any, budgets: Any, expected_returns: Any = None, *, risk_free_rate: Any = 0.0
) -> Portfolio:
    """Long-only weights whose shares of the variance are ``budgets`` (normalised to sum to one).

    Args:
      covariance: [n, n], with positive variances; budgets: [n], each above 0.
      expected_returns: [n] or None, for the answer's return and Sharpe only.

    Returns:
      A portfolio; its ``kkt_residual`` is the largest |share / budget - 1|.
    """
    covariance, budgets = jnp.asarray(covariance), jnp.asarray(budgets)
    mean = None if expected_returns is None else jnp.asarray(expected_returns)
    return _parity((covariance + covariance.T) / 2, budgets, mean, risk_free_rate)


@double_precision(compiler_options=COMPILER_OPTIONS)
def equal_risk_contribution(
    covariance: Any, expected_returns: Any = None, *, risk_free_rate: Any = 0.0
) -> Portfolio:
    """Long-only weights of which each contributes the same risk; see :func:`risk_budgeting`."""
    covariance = jnp.asarray(covariance)
    mean = None if expected_returns is None else jnp.asarray(expected_returns)
    budgets = jnp.ones_like(covariance[0])
    return _parity((covariance + covariance.T) / 2, budgets, mean, risk_free_rate)


def _parity(
    covariance: Array, budgets: Array, mean: Array | None, risk_free_rate: Any
) -> Portfolio:
    variances = jnp.diagonal(covariance)
    total = jnp.sum(budgets)
    sound = jnp.all(variances > 0) & jnp.all(budgets > 0) & jnp.isfinite(total)
    spreads = jnp.sqrt(jnp.where(variances > 0, variances, 1.0))
    shares = jnp.where(sound, budgets / jnp.where(sound, total, 1.0), 1.0 / budgets.shape[0])
    correlation = covariance / (spreads[:, None] * spreads)
    positions, residual, steps = balance(correlation, shares)
    good = sound & (residual <= 1e4 * jnp.finfo(shares.dtype).eps)
    raw = positions / spreads
    weights = jnp.where(good, raw / jnp.sum(raw), jnp.nan)
    status = jnp.where(good, CONVERGED, NOT_CONVERGED).astype(jnp.int32)
    return describe(weights, covariance, mean, risk_free_rate, residual, status, steps)


@jax.custom_jvp
def balance(correlation: Array, budgets: Array) -> tuple[Array, Array, Array]:
    """The u > 0 with ``u (correlation u) = budgets``, its largest relative error, and the steps.

    Newton's method on a self-concordant function; a step that would change a position by much is
    shortened to 1 / (1 + the largest relative change).
    """
    tolerance = 4 * float(jnp.finfo(budgets.dtype).eps)

    def error_of(u: Array) -> Array:
        return jnp.max(jnp.abs(u * (correlation @ u) / budgets - 1.0))

    def unsettled(state: tuple) -> Array:
        _, _, best, step, stalled = state
        return (best > tolerance) & (step < MOST_STEPS) & ~stalled

    def advance(state: tuple) -> tuple:
        u, kept, best, step, _ = state
        change = cho_solve(_curvature(correlation, budgets, u), budgets / u - correlation @ u)
        largest = jnp.max(jnp.abs(change / u))
        u += change / jnp.where(largest < 0.3, 1.0, 1.0 + largest)
        error = error_of(u)
        better = error < best
        stalled = (best < 1e4 * tolerance) & ~(error < 0.5 * best) | jnp.isnan(error)
        kept = jnp.where(better, u, kept)
        return u, kept, jnp.where(better, error, best), step + 1, stalled

    start = jnp.sqrt(budgets)
    size = jnp.maximum(start @ (correlation @ start), jnp.finfo(budgets.dtype).eps)
    start = start / jnp.sqrt(size)
    state = (start, start, error_of(start), jnp.int32(0), jnp.asarray(False))
    _, u, error, steps, _ = jax.lax.while_loop(unsettled, advance, state)
    return u, error, steps


def _curvature(correlation: Array, budgets: Array, u: Array) -> tuple[Array, bool]:
    system = correlation + jnp.diag(budgets / (u * u))
    return jax.lax.linalg.cholesky(system, symmetrize_input=False), True


@balance.defjvp
def _balance_jvp(primals: tuple, tangents: tuple) -> tuple:
    (correlation, budgets), (turn, shift) = primals, tangents
    u, error, steps = balance(correlation, budgets)
    change = cho_solve(_curvature(correlation, budgets, u), shift / u - turn @ u)
    return (u, error, steps), (change, jnp.zeros_like(error), np.zeros((), jax.dtypes.float0))
