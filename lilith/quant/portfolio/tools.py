"""The portfolio tools: portfolio_optimize and efficient_frontier."""

from __future__ import annotations

from typing import Any

import numpy as np

from lilith.quant.portfolio import methods
from lilith.quant.portfolio.frontier import efficient_frontier as frontier_of
from lilith.quant.portfolio.frontier import plot
from lilith.quant.portfolio.inputs import Moments, checked_path, moments
from lilith.quant.portfolio.limits import read_limits
from lilith.quant.portfolio.methods import METHODS, Request
from lilith.quant.portfolio.solver import CONVERGED, STATUS
from lilith.quant.tool import Answer, Parameter, tool

_RETURNS = Parameter(
    "returns",
    "table",
    "Returns or prices, a column an asset, oldest row first",
    unit="fractions per period (0.01 is 1%), or prices",
    default=None,
)
_ESTIMATION = (
    Parameter("kind", "string", "What the table holds", default="returns",
              choices=("returns", "prices")),
    Parameter("risk_free_rate", "number", "The risk-free rate", default=0.0,
              unit="per year, 0.05 is 5%"),
    Parameter("periods_per_year", "number", "Rows of the table in a year", default=252.0, above=0),
    Parameter("covariance", "covariance",
              "An estimator's name (sample, exponential, ledoit_wolf, "
              "ledoit_wolf_constant_correlation), or the annual covariance matrix itself",
              default="sample"),
    Parameter("expected_returns", "expected_returns",
              "An estimator's name (sample, exponential), or the annual expected returns",
              default="sample"),
    Parameter("halflife", "number", "After how many periods an exponential weight is a half",
              default=63.0, above=0),
    Parameter("repair_covariance", "boolean",
              "Whether to make an asymmetric or indefinite covariance positive definite",
              default=False),
)  # fmt: skip
_LIMITS = (
    Parameter("bounds", "bounds",
              "Least and largest weight: [lower, upper] for all, a list of pairs, or "
              "{name: [lower, upper]}; null is no bound", default=(0.0, 1.0)),
    Parameter("groups", "object",
              'Limits on sums of weights: {group: {"assets": [names or numbers], "min": 0.1, '
              '"max": 0.4}}', default=None),
    Parameter("turnover", "number",
              "The most that the sum of absolute changes from previous_weights may be",
              default=None, minimum=0),
    Parameter("previous_weights", "numbers", "The weights held now, for turnover", default=None),
)  # fmt: skip
UNITS = {
    "weights": "fractions of the portfolio",
    "expected_return": "per year",
    "volatility": "per year",
    "sharpe": "per year",
    "risk_contributions": "shares of the variance; they sum to 1",
}


@tool(
    "Weights of a portfolio of assets, from their returns or prices, or from expected returns and "
    "a covariance.",
    _RETURNS,
    Parameter("method", "string", "What the weights optimise", default="max_sharpe",
              choices=tuple(METHODS)),
    *_ESTIMATION,
    *_LIMITS,
    Parameter("target_return", "number", "The least expected return, for target_return; optional "
              "for min_cvar", unit="per year", default=None),
    Parameter("risk_aversion", "number", "For utility and black_litterman: mean - "
              "risk_aversion / 2 × variance", default=1.0, above=0),
    Parameter("budgets", "numbers", "Each asset's share of the risk, for risk_budget",
              default=None),
    Parameter("confidence", "number", "For min_cvar: the tail is the worst 1 - confidence",
              default=0.95, above=0, below=1),
    Parameter("linkage", "string", "How hierarchical_risk_parity joins clusters",
              default="single", choices=("single", "complete", "average", "ward")),
    Parameter("views", "matrix", "For black_litterman: a portfolio a row, its weight of each asset",
              default=None),
    Parameter("view_returns", "numbers", "For black_litterman: what each view is expected to "
              "return", unit="per year", default=None),
    Parameter("market_weights", "numbers", "For black_litterman: the prior is the expected "
              "returns at which these weights are optimal", default=None),
    Parameter("tau", "number", "For black_litterman: the prior's uncertainty, as a part of the "
              "covariance", default=0.05, above=0),
)  # fmt: skip
def portfolio_optimize(
    returns: Any,
    method: str,
    kind: str,
    risk_free_rate: float,
    periods_per_year: float,
    covariance: Any,
    expected_returns: Any,
    halflife: float,
    repair_covariance: bool,
    bounds: Any,
    groups: Any,
    turnover: float | None,
    previous_weights: Any,
    target_return: float | None,
    risk_aversion: float,
    budgets: Any,
    confidence: float,
    linkage: str,
    views: Any,
    view_returns: Any,
    market_weights: Any,
    tau: float,
) -> Answer:
    """Estimate, optimise, explain."""
    options = {
        "target_return": target_return,
        "risk_aversion": risk_aversion,
        "budgets": budgets,
        "confidence": confidence,
        "linkage": linkage,
        "views": views,
        "view_returns": view_returns,
        "market_weights": market_weights,
        "tau": tau,
    }
    known = moments(
        returns,
        kind,
        expected_returns,
        covariance,
        halflife=halflife,
        periods_per_year=periods_per_year,
        repair=repair_covariance,
    )
    limits = read_limits(bounds, groups, turnover, previous_weights, known.names)
    request = Request(known, limits, risk_free_rate, periods_per_year, options)
    return _answer(method, request, METHODS[method](request))


def _answer(method: str, request: Request, found: methods.Found) -> Answer:
    portfolio, known = found.portfolio, request.known
    result: dict[str, Any] = {"assets": list(known.names)} if known.named else {}
    result |= {
        "weights": portfolio.weights,
        "expected_return": portfolio.expected_return,
        "volatility": portfolio.volatility,
        "sharpe": portfolio.sharpe,
        "risk_contributions": portfolio.risk_contributions,
        **found.result,
    }
    warnings = known.warnings + found.warnings
    if known.mean is None:
        warnings.append(
            "result.expected_return and result.sharpe are null: neither returns nor "
            "expected_returns were given"
        )
    elif not np.isfinite(portfolio.sharpe):
        warnings.append("result.sharpe is null: the volatility is 0, as of constant returns")
    if not np.isfinite(portfolio.risk_contributions).all():
        warnings.append("result.risk_contributions are null: there is no risk to share")
    if not np.isfinite(portfolio.kkt_residual):
        warnings.append(
            f"diagnostics.kkt_residual is null: {method} is a recursion, not an optimum"
        )
    if not np.isfinite(portfolio.condition_number):
        warnings.append(
            "diagnostics.condition_number is null: the covariance is singular to double "
            "precision, and weights of least variance may not be the only ones"
        )
    elif portfolio.condition_number > 1e8:
        warnings.append(
            f"the covariance is ill-conditioned ({portfolio.condition_number:.3g}): small changes "
            "of the data move the weights much"
        )
    return Answer(
        result,
        {name: unit for name, unit in {**UNITS, **found.units}.items() if name in result},
        {
            "method": found.convention,
            "weights": "sum to 1",
            "sharpe": "(expected_return - risk_free_rate) / volatility",
            **known.conventions,
        },
        {
            "kkt_residual": portfolio.kkt_residual,
            "condition_number": portfolio.condition_number,
            "iterations": portfolio.iterations,
            "status": STATUS[int(portfolio.status)],
            **known.diagnostics,
        },
        warnings,
    )


@tool(
    "The efficient frontier: least-variance portfolios for rising expected returns, with the "
    "minimum-variance and the tangency portfolio; a plot on request.",
    _RETURNS,
    Parameter("points", "integer", "How many portfolios", default=25, minimum=2, maximum=500),
    *_ESTIMATION,
    *_LIMITS,
    Parameter("plot_path", "string", "Where to write a picture (.png, .svg or .pdf)",
              default=None),
)  # fmt: skip
def efficient_frontier(
    returns: Any,
    points: int,
    kind: str,
    risk_free_rate: float,
    periods_per_year: float,
    covariance: Any,
    expected_returns: Any,
    halflife: float,
    repair_covariance: bool,
    bounds: Any,
    groups: Any,
    turnover: float | None,
    previous_weights: Any,
    plot_path: str | None,
) -> Answer:
    """Estimate, then solve every point under one vmap."""
    known = moments(
        returns,
        kind,
        expected_returns,
        covariance,
        halflife=halflife,
        periods_per_year=periods_per_year,
        repair=repair_covariance,
    )
    limits = read_limits(bounds, groups, turnover, previous_weights, known.names)
    request = Request(known, limits, risk_free_rate, periods_per_year, {})
    mean = request.mean("efficient_frontier")
    found = frontier_of(
        mean, known.covariance, points=points, risk_free_rate=risk_free_rate, limits=limits.limits
    )
    worst = int(np.argmax(found.portfolios.status))
    if found.portfolios.status[worst] != CONVERGED:
        raise methods.explained(request, int(found.portfolios.status[worst]))
    warnings = list(known.warnings)
    tangent = int(found.tangency.status) == CONVERGED
    if not tangent:
        warnings.append(
            "result.tangency is null: no portfolio within the limits attains a largest Sharpe "
            f"ratio over the risk-free rate {risk_free_rate:g}"
        )
    if plot_path is not None:
        checked_path(plot_path)
        plot(
            found,
            plot_path,
            mean,
            known.covariance,
            names=known.names if known.named else None,
            risk_free_rate=risk_free_rate,
        )
    return _frontier_answer(known, found, tangent, warnings, plot_path)


def _frontier_answer(
    known: Moments, found: Any, tangent: bool, warnings: list[str], plot_path: str | None
) -> Answer:
    def point(portfolio: Any) -> dict[str, Any]:
        return {name: getattr(portfolio, name) for name in UNITS}

    result: dict[str, Any] = {"assets": list(known.names)} if known.named else {}
    result |= {name: getattr(found.portfolios, name) for name in UNITS}
    result["minimum_variance"] = point(found.minimum_variance)
    result["tangency"] = point(found.tangency) if tangent else None
    if plot_path is not None:
        result["plot"] = plot_path
    return Answer(
        result,
        UNITS,
        {"points": "equally spaced in expected return, rising", **known.conventions},
        {
            "kkt_residual": found.portfolios.kkt_residual.max(),
            "condition_number": found.minimum_variance.condition_number,
            "status": STATUS[CONVERGED],
            **known.diagnostics,
        },
        warnings,
    )
