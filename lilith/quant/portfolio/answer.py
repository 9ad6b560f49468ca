"""What every portfolio core answers."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax.numpy as jnp
from jax import Array

from lilith.quant.portfolio.spectrum import condition_number
from lilith.quant.precision import QUICK_COMPILATION, double_precision

# These programs are many small kernels around LAPACK calls. The memory-optimised schedule runs them
# one after another, where the default hands them between threads, which costs more than they do.
COMPILER_OPTIONS = {
    **QUICK_COMPILATION,
    "xla_cpu_scheduler_type": "CPU_SCHEDULER_TYPE_MEMORY_OPTIMIZED",
}


class Portfolio(NamedTuple):
    """Weights and what they imply, in the units (per year, say) of the inputs.

    Attributes:
      weights: [n], NaN where ``status`` is not 0.
      expected_return: scalar, NaN without expected returns; volatility: scalar.
      sharpe: (expected return - risk-free rate) / volatility, NaN at volatility 0.
      risk_contributions: [n], shares of the variance, ``w (Cov w) / w'Cov w``; their sum is 1.
      kkt_residual: the largest violation of the optimality conditions (natural residual, the
        covariance scaled to a mean variance of 1); NaN where no optimality defines the weights.
      condition_number: of the covariance, largest over least absolute eigenvalue.
      status: 0 converged, 1 not converged, 2 infeasible, 3 unbounded (or a maximum that no
        portfolio attains).
      iterations: Newton steps, each a Cholesky factor of the covariance's size.
    """

    weights: Array
    expected_return: Array
    volatility: Array
    sharpe: Array
    risk_contributions: Array
    kkt_residual: Array
    condition_number: Array
    status: Array
    iterations: Array


def describe(
    weights: Array,
    covariance: Array,
    expected_returns: Array | None,
    risk_free_rate: Any,
    residual: Array,
    status: Array,
    iterations: Array,
) -> Portfolio:
    """The :class:`Portfolio` of given weights."""
    marginal = covariance @ weights
    variance = weights @ marginal
    risky = variance > 0
    safe = jnp.where(risky, variance, 1.0)
    volatility = jnp.where(risky, jnp.sqrt(safe), variance * 0)  # NaN weights stay NaN
    nothing = jnp.full((), jnp.nan, weights.dtype)
    mean = nothing if expected_returns is None else expected_returns @ weights
    sharpe = jnp.where(risky, (mean - risk_free_rate) / jnp.sqrt(safe), jnp.nan)
    shares = jnp.where(risky, weights * marginal / safe, jnp.nan)
    return Portfolio(
        weights,
        mean,
        volatility,
        sharpe,
        shares,
        residual,
        condition_number(covariance),
        status,
        iterations,
    )


@double_precision(compiler_options=COMPILER_OPTIONS)
def portfolio_of(
    weights: Any,
    covariance: Any,
    expected_returns: Any = None,
    *,
    risk_free_rate: Any = 0.0,
    kkt_residual: Any = float("nan"),
    status: Any = 0,
    iterations: Any = 0,
) -> Portfolio:
    """The :class:`Portfolio` of weights that come from elsewhere.

    Args:
      weights: [n]; covariance: [n, n]; expected_returns: [n] or None.
    """
    return describe(
        jnp.asarray(weights),
        jnp.asarray(covariance),
        None if expected_returns is None else jnp.asarray(expected_returns),
        risk_free_rate,
        jnp.asarray(kkt_residual),
        jnp.asarray(status).astype(jnp.int32),
        jnp.asarray(iterations).astype(jnp.int32),
    )
