"""Portfolios: estimation, optimisation, risk parity, Black-Litterman, CVaR, the frontier.

Every optimiser is ours, in JAX: compiled, batched by ``jax.vmap`` and differentiable through the
optimum. Answers carry the KKT residual, the covariance's condition number and risk contributions.
"""

from lilith.quant.portfolio.answer import Portfolio, portfolio_of
from lilith.quant.portfolio.black_litterman import Posterior, black_litterman, implied_returns
from lilith.quant.portfolio.cvar import TailPortfolio, minimum_cvar
from lilith.quant.portfolio.estimate import (
    Shrunk,
    covariance,
    expected_returns,
    ledoit_wolf,
    returns_from_prices,
)
from lilith.quant.portfolio.frontier import Frontier, efficient_frontier, plot
from lilith.quant.portfolio.hierarchical import hierarchical_order, hierarchical_risk_parity
from lilith.quant.portfolio.mean_variance import (
    maximum_sharpe,
    mean_variance_utility,
    minimum_variance,
    target_return,
)
from lilith.quant.portfolio.quadratic import Limits, Optimum, quadratic_program
from lilith.quant.portfolio.risk_parity import equal_risk_contribution, risk_budgeting
from lilith.quant.portfolio.solver import STATUS
from lilith.quant.portfolio.spectrum import condition_number

__all__ = [
    "minimum_variance",
    "maximum_sharpe",
    "target_return",
    "mean_variance_utility",
    "equal_risk_contribution",
    "risk_budgeting",
    "hierarchical_order",
    "hierarchical_risk_parity",
    "black_litterman",
    "implied_returns",
    "minimum_cvar",
    "efficient_frontier",
    "plot",
    "expected_returns",
    "covariance",
    "ledoit_wolf",
    "returns_from_prices",
    "quadratic_program",
    "condition_number",
    "portfolio_of",
    "Limits",
    "Portfolio",
    "Optimum",
    "Posterior",
    "TailPortfolio",
    "Frontier",
    "Shrunk",
    "STATUS",
]
