"""Mean-variance portfolios: minimum variance, maximum Sharpe, target return, utility.

All are convex quadratic programs of :mod:`lilith.quant.portfolio.quadratic`; weights sum to one
within :class:`Limits`, and are differentiable in every number that goes in. ``safeguard`` says
whether the interior point method is compiled too; calls with values see to it themselves.
"""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
from jax import Array

from lilith.quant.portfolio.answer import COMPILER_OPTIONS, Portfolio, describe
from lilith.quant.portfolio.quadratic import Limits, assemble
from lilith.quant.portfolio.solver import optimum, quick_first
from lilith.quant.precision import double_precision

LONG_ONLY = Limits()


@quick_first
@double_precision(static=("safeguard",), compiler_options=COMPILER_OPTIONS)
def minimum_variance(
    covariance: Any,
    expected_returns: Any = None,
    *,
    risk_free_rate: Any = 0.0,
    limits: Limits = LONG_ONLY,
    safeguard: bool = True,
) -> Portfolio:
    """The weights with the least variance (Markowitz, J. Finance 7, 1952).

    Args:
      covariance: [n, n]. expected_returns: [n] or None, for the answer's return and Sharpe only.
      risk_free_rate: in the expected returns' units. limits: see :class:`Limits`.
    """
    covariance, mean = _inputs(covariance, expected_returns)
    return _solve(
        covariance, jnp.zeros_like(covariance[0]), mean, risk_free_rate, limits, None, safeguard
    )


@quick_first
@double_precision(static=("safeguard",), compiler_options=COMPILER_OPTIONS)
def mean_variance_utility(
    expected_returns: Any,
    covariance: Any,
    risk_aversion: Any,
    *,
    risk_free_rate: Any = 0.0,
    limits: Limits = LONG_ONLY,
    safeguard: bool = True,
) -> Portfolio:
    """The weights with the largest ``mean - risk_aversion / 2 × variance``.

    Args:
      expected_returns: [n]; covariance: [n, n]; risk_aversion: scalar above 0.
    """
    covariance, mean = _inputs(covariance, expected_returns)
    return _solve(covariance, -mean / risk_aversion, mean, risk_free_rate, limits, None, safeguard)


@quick_first
@double_precision(static=("safeguard",), compiler_options=COMPILER_OPTIONS)
def target_return(
    expected_returns: Any,
    covariance: Any,
    target: Any,
    *,
    risk_free_rate: Any = 0.0,
    limits: Limits = LONG_ONLY,
    safeguard: bool = True,
) -> Portfolio:
    """The weights with the least variance whose expected return is at least ``target``.

    A target below the minimum-variance portfolio's return does not bind: that portfolio is the
    answer. One above what the limits allow is infeasible (status 2).
    """
    covariance, mean = _inputs(covariance, expected_returns)
    return least_variance_at(mean, covariance, target, risk_free_rate, limits, 0.0, safeguard)


@quick_first
@double_precision(static=("safeguard",), compiler_options=COMPILER_OPTIONS)
def maximum_sharpe(
    expected_returns: Any,
    covariance: Any,
    *,
    risk_free_rate: Any = 0.0,
    limits: Limits = LONG_ONLY,
    safeguard: bool = True,
) -> Portfolio:
    """The weights with the largest (mean - risk-free rate) / volatility: the tangency portfolio.

    The ratio does not change along rays, so that the program is made homogeneous: least variance
    at an excess return of 1, all limits multiplied by a free scale, weights = x / scale
    (Schaible's transform; Cornuejols and Tütüncü, Optimization Methods in Finance, 8.2). Status 2
    where no weights within the limits have an expected return above the risk-free rate, 3 where
    the ratio only grows towards infinite positions.
    """
    covariance, mean = _inputs(covariance, expected_returns)
    return _solve(
        covariance,
        jnp.zeros_like(mean),
        mean,
        risk_free_rate,
        limits,
        mean - risk_free_rate,
        safeguard,
    )


def least_variance_at(
    mean: Array,
    covariance: Array,
    target: Any,
    risk_free_rate: Any,
    limits: Limits,
    tilt: Any = 0.0,
    safeguard: bool = True,
) -> Portfolio:
    """:func:`target_return` on arrays; ``tilt`` times the expected return adds to the aim."""
    bound = jnp.reshape(jnp.asarray(target, mean.dtype), (1,))
    if limits.groups is None:
        rows, lower, upper = mean[None], bound, None
    else:
        count = jnp.asarray(limits.groups).shape[0]
        rows = jnp.concatenate([jnp.asarray(limits.groups, mean.dtype), mean[None]])
        lower = jnp.append(_or(limits.group_lower, -jnp.inf, count, mean.dtype), bound)
        upper = jnp.append(_or(limits.group_upper, jnp.inf, count, mean.dtype), jnp.inf)
    limits = limits._replace(groups=rows, group_lower=lower, group_upper=upper)
    return _solve(covariance, -tilt * mean, mean, risk_free_rate, limits, None, safeguard)


def _or(bound: Any, otherwise: float, count: int, dtype: Any) -> Array:
    return jnp.broadcast_to(jnp.asarray(otherwise if bound is None else bound, dtype), (count,))


def _inputs(covariance: Any, expected_returns: Any) -> tuple[Array, Any]:
    covariance = jnp.asarray(covariance)
    mean = None if expected_returns is None else jnp.asarray(expected_returns)
    return (covariance + covariance.T) / 2, mean


def _solve(
    covariance: Array,
    linear: Array,
    mean: Array | None,
    risk_free_rate: Any,
    limits: Limits,
    ray: Array | None,
    safeguard: bool,
) -> Portfolio:
    one = jnp.ones(1, covariance.dtype)
    budget = jnp.ones((1, covariance.shape[0]), covariance.dtype)
    program, _ = assemble(covariance, linear, limits, budget, one, ray)
    answer = optimum(program, safeguard)
    return describe(
        answer.x,
        covariance,
        mean,
        risk_free_rate,
        answer.residual,
        answer.status,
        answer.iterations,
    )
