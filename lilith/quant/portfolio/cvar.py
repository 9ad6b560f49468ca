"""Minimum conditional value at risk over scenarios: a linear program, by scipy's HiGHS.

Rockafellar and Uryasev, "Optimization of conditional value-at-risk" (J. Risk 2, 2000): with losses
l = -R w, CVaR is the least over a of a + mean(max(l - a, 0)) / (1 - confidence). Host code: it is
not traceable by JAX.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from scipy import sparse
from scipy.optimize import linprog

from lilith.quant.portfolio.answer import Portfolio, portfolio_of
from lilith.quant.portfolio.estimate import covariance as sample_covariance
from lilith.quant.portfolio.estimate import expected_returns as mean_returns
from lilith.quant.portfolio.feasibility import inequalities
from lilith.quant.portfolio.quadratic import Limits
from lilith.quant.portfolio.solver import CONVERGED, INFEASIBLE, NOT_CONVERGED, UNBOUNDED


class TailPortfolio(NamedTuple):
    """A portfolio of least tail loss.

    Attributes:
      portfolio: weights and moments (see :class:`Portfolio`), times ``periods_per_year``.
      cvar: the expected loss beyond the value at risk, per period, a loss being positive.
      var: the value at risk that the program chose, per period.
    """

    portfolio: Portfolio
    cvar: float
    var: float


def minimum_cvar(
    returns: Any,
    *,
    confidence: float = 0.95,
    limits: Limits = Limits(),  # noqa: B008 (immutable)
    target: float | None = None,
    risk_free_rate: float = 0.0,
    periods_per_year: float = 1.0,
) -> TailPortfolio:
    """The weights whose worst ``1 - confidence`` of scenarios lose least on average.

    Args:
      returns: [T, n], each row an equally likely scenario.
      confidence: above 0 and below 1. target: the least mean return, in annualised units, or None.
      risk_free_rate, periods_per_year: for the moments that are reported.

    Returns:
      NaN weights and a status other than 0 where there is no optimum. The KKT residual is the
      linear program's: stationarity, feasibility and complementarity of HiGHS's multipliers.

    Raises:
      ValueError: ``confidence`` is not between 0 and 1.
    """
    returns = np.asarray(returns, np.float64)
    if not 0 < confidence < 1:
        raise ValueError(f"confidence is {confidence:g} and must be above 0 and below 1")
    scenarios, n = returns.shape
    cost, matrix, bounds, size = _program(returns, confidence, limits, target, periods_per_year)
    budget = sparse.csr_array(np.concatenate([np.ones(n), np.zeros(size - n)])[None])
    kinds: list[tuple[float | None, float | None]] = [(None, None)] * (size - scenarios)
    answer = linprog(
        cost,
        A_ub=matrix,
        b_ub=bounds,
        A_eq=budget,
        b_eq=[1.0],
        bounds=kinds + [(0, None)] * scenarios,
        method="highs",
    )
    status = {0: CONVERGED, 2: INFEASIBLE, 3: UNBOUNDED}.get(answer.status, NOT_CONVERGED)
    weights, residual, var, cvar = np.full(n, np.nan), np.nan, np.nan, np.nan
    if status == CONVERGED:
        weights, residual = _clean(answer.x[:n], limits), _residual(answer, cost, matrix, budget)
        var, cvar = float(answer.x[size - scenarios - 1]), float(answer.fun)
    portfolio = portfolio_of(
        weights,
        sample_covariance(returns, periods_per_year=periods_per_year),
        mean_returns(returns, periods_per_year=periods_per_year),
        risk_free_rate=risk_free_rate,
        kkt_residual=residual,
        status=status,
        iterations=int(answer.nit or 0),
    )
    return TailPortfolio(portfolio, cvar, var)


def _program(
    returns: np.ndarray, confidence: float, limits: Limits, target: float | None, periods: float
) -> tuple[np.ndarray, Any, np.ndarray, int]:
    """Cost, inequality matrix and bounds over (weights, trades, value at risk, excesses)."""
    scenarios, n = returns.shape
    names = [str(i) for i in range(n)]
    groups = [] if limits.groups is None else [str(i) for i in range(len(limits.groups))]
    found, own = inequalities(limits, names, groups)
    size = own + 1 + scenarios
    tail = np.full(scenarios, 1.0 / ((1.0 - confidence) * scenarios))
    cost = np.concatenate([np.zeros(own), [1.0], tail])
    excess = [
        sparse.csr_array(-returns),
        sparse.csr_array((scenarios, own - n)),
        sparse.csr_array(-np.ones((scenarios, 1))),
        -sparse.eye_array(scenarios, format="csr"),
    ]
    rows = [sparse.hstack(excess, format="csr")]
    bounds = [np.zeros(scenarios)]
    if found:
        matrix = np.array([row.coefficients for row in found])
        rows.append(sparse.csr_array(np.pad(matrix, ((0, 0), (0, 1 + scenarios)))))
        bounds.append(np.array([row.bound for row in found]))
    if target is not None:
        mean = np.concatenate([-returns.mean(axis=0) * periods, np.zeros(size - n)])
        rows.append(sparse.csr_array(mean[None]))
        bounds.append(np.array([-target]))
    return cost, sparse.vstack(rows, format="csr"), np.concatenate(bounds), size


def _clean(weights: np.ndarray, limits: Limits) -> np.ndarray:
    """Weights with the solver's last digits outside their bounds taken off."""
    return np.clip(
        weights,
        -np.inf if limits.lower is None else limits.lower,
        np.inf if limits.upper is None else limits.upper,
    )


def _residual(answer: Any, cost: np.ndarray, matrix: Any, budget: Any) -> float:
    """The largest violation of the optimality conditions of the linear program."""
    pull = matrix.T @ answer.ineqlin.marginals + budget.T @ answer.eqlin.marginals
    stationarity = cost - pull - answer.lower.marginals - answer.upper.marginals
    complementarity = answer.ineqlin.marginals * answer.ineqlin.residual
    return float(
        max(
            np.abs(stationarity).max(),
            np.abs(complementarity).max(),
            -answer.ineqlin.residual.min(),
            np.abs(answer.eqlin.residual).max(),
            answer.ineqlin.marginals.max(),
        )
    )
