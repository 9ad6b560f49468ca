"""What each method of the portfolio tool does, and its errors in words."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from lilith.quant.portfolio.answer import Portfolio
from lilith.quant.portfolio.black_litterman import black_litterman, implied_returns
from lilith.quant.portfolio.cvar import minimum_cvar
from lilith.quant.portfolio.feasibility import conflict, highest_return
from lilith.quant.portfolio.hierarchical import hierarchical_order, hierarchical_risk_parity
from lilith.quant.portfolio.inputs import Moments, constant
from lilith.quant.portfolio.limits import NamedLimits
from lilith.quant.portfolio.mean_variance import (
    maximum_sharpe,
    mean_variance_utility,
    minimum_variance,
    target_return,
)
from lilith.quant.portfolio.risk_parity import risk_budgeting
from lilith.quant.portfolio.solver import CONVERGED, INFEASIBLE, STATUS, UNBOUNDED
from lilith.quant.tool_values import ToolError


class Request(NamedTuple):
    """What the tool was asked."""

    known: Moments
    limits: NamedLimits
    risk_free_rate: float
    periods_per_year: float
    options: dict[str, Any]

    def mean(self, method: str) -> np.ndarray:
        """The expected returns, or the error that there are none."""
        if self.known.mean is None:
            raise ToolError(
                "missing_argument",
                "expected_returns",
                f"{method} needs expected returns",
                "give returns, or annual expected_returns",
            )
        return self.known.mean

    def option(self, name: str, method: str) -> Any:
        """An argument that a method can not do without."""
        if self.options[name] is None:
            raise ToolError(
                "missing_argument", name, f"method {method!r} needs {name}", f"give {name}"
            )
        return self.options[name]


class Found(NamedTuple):
    """A portfolio, how it was found in words, and what else the result holds."""

    portfolio: Portfolio
    convention: str
    result: dict[str, Any] = {}  # noqa: RUF012 (never changed)
    units: dict[str, str] = {}  # noqa: RUF012
    warnings: list[str] = []  # noqa: RUF012


def explained(request: Request, status: int) -> ToolError:
    """Why a program has no answer, by the names of its limits."""
    limits, assets, groups = request.limits
    sentence = conflict(limits, assets, groups)
    if sentence is not None:
        return ToolError("infeasible", "bounds", sentence, "loosen one of them")
    if status == UNBOUNDED:
        return ToolError(
            "unbounded",
            "bounds",
            "the objective improves for ever towards larger long and short positions",
            "bound the weights, for instance bounds=[0, 1] or [-0.3, 1]",
        )
    return ToolError(
        "not_converged",
        None,
        f"the solver ended {STATUS[status]} on a covariance of {len(assets)} assets",
        "look for assets that are copies of each other, or shrink the covariance",
    )


def _checked(request: Request, portfolio: Portfolio) -> Portfolio:
    if int(portfolio.status) != CONVERGED:
        raise explained(request, int(portfolio.status))
    return portfolio


def minimise_variance(request: Request) -> Found:
    """min_variance."""
    known = request.known
    portfolio = minimum_variance(
        known.covariance,
        known.mean,
        risk_free_rate=request.risk_free_rate,
        limits=request.limits.limits,
    )
    return Found(_checked(request, portfolio), "least variance within the limits")


def maximise_sharpe(request: Request) -> Found:
    """max_sharpe."""
    mean, rate = request.mean("max_sharpe"), request.risk_free_rate
    _risky(request, "max_sharpe")
    portfolio = maximum_sharpe(
        mean, request.known.covariance, risk_free_rate=rate, limits=request.limits.limits
    )
    if int(portfolio.status) != CONVERGED:
        limits, assets, groups = request.limits
        if conflict(limits, assets, groups) is None:
            best = highest_return(mean, limits, assets, groups)
            if best <= rate or (mean <= rate).all():
                raise _no_excess(request, mean, min(best, float(mean.max())))
        raise explained(request, int(portfolio.status))
    return Found(portfolio, "largest (expected return - risk-free rate) / volatility")


def _no_excess(request: Request, mean: np.ndarray, best: float) -> ToolError:
    name = request.known.names[int(np.argmax(mean))]
    return ToolError(
        "no_excess_return",
        "risk_free_rate",
        f"no portfolio within the limits earns more than the risk-free rate "
        f"{request.risk_free_rate:g}: the best expected return is {best:.6g} ({name})",
        "hold the risk-free asset, lower risk_free_rate, or use min_variance",
    )


def reach_target(request: Request) -> Found:
    """target_return."""
    mean = request.mean("target_return")
    target = request.option("target_return", "target_return")
    limits, assets, groups = request.limits
    portfolio = target_return(
        mean,
        request.known.covariance,
        target,
        risk_free_rate=request.risk_free_rate,
        limits=limits,
    )
    if int(portfolio.status) != CONVERGED:
        if conflict(limits, assets, groups) is None:
            best = highest_return(mean, limits, assets, groups)
            if target > best - 1e-9 * max(1.0, abs(best)):
                raise ToolError(
                    "target_too_high",
                    "target_return",
                    f"target_return {target:g} is above {best:.6g}, the highest expected return "
                    "within the limits",
                    "lower it or loosen the limits",
                )
        raise explained(request, int(portfolio.status))
    warnings = []
    if portfolio.expected_return > target + 1e-9 * max(1.0, abs(target)):
        warnings.append(
            f"target_return {target:g} does not bind: the least variance within the limits comes "
            f"with the expected return {portfolio.expected_return:.6g}"
        )
    convention = f"least variance with an expected return of at least {target:g}"
    return Found(portfolio, convention, warnings=warnings)


def maximise_utility(request: Request) -> Found:
    """utility."""
    aversion = request.options["risk_aversion"]
    portfolio = mean_variance_utility(
        request.mean("utility"),
        request.known.covariance,
        aversion,
        risk_free_rate=request.risk_free_rate,
        limits=request.limits.limits,
    )
    convention = f"largest expected return - {aversion:g} / 2 × variance"
    return Found(_checked(request, portfolio), convention)


def _risky(request: Request, method: str) -> None:
    """Assets without variance have no place in ``method``."""
    covariance, returns = request.known.covariance, request.known.returns
    spreads = np.sqrt(np.maximum(np.diagonal(covariance), 0.0))
    still = spreads <= 1e-10 * max(float(spreads.max()), 1e-300)
    if returns is not None:
        still |= constant(returns)
    if still.any():
        name = request.known.names[int(np.argmax(still))]
        raise ToolError(
            "zero_variance",
            "covariance" if returns is None else "returns",
            f"{name} has variance 0 (constant returns), and {method} is not defined with it",
            "leave it out: hold it as the risk-free asset beside the portfolio",
        )


def _without_limits(request: Request, method: str) -> None:
    """Risk parity's weights follow from the risks alone: limits would change its meaning."""
    limits = request.limits.limits
    bounded = limits.upper is not None or (limits.lower is not None and (limits.lower > 0).any())
    given = {
        "bounds": bounded,
        "groups": limits.groups is not None,
        "turnover": limits.turnover is not None,
    }
    for field in (name for name, there in given.items() if there):
        raise ToolError(
            "limits_not_supported",
            field,
            f"{method} determines every weight, and {field} would contradict it",
            f"leave {field} out, or use min_variance or utility with {field}",
        )


def equal_risk(request: Request) -> Found:
    """risk_parity."""
    found = _parity(request, "risk_parity", np.ones(len(request.known.names)))
    return found._replace(convention="equal risk contributions, long only")


def budget_risk(request: Request) -> Found:
    """risk_budget."""
    budgets, names = request.option("budgets", "risk_budget"), request.known.names
    if len(budgets) != len(names):
        raise ToolError(
            "wrong_length",
            "budgets",
            f"budgets has {len(budgets)} entries for {len(names)} assets",
            "give one share an asset",
        )
    if (budgets <= 0).any():
        at = int(np.argmax(budgets <= 0))
        raise ToolError(
            "budget_not_positive",
            "budgets",
            f"the risk budget of {names[at]} is {budgets[at]:g} and must be above 0",
            "leave assets without risk out",
        )
    return _parity(request, "risk_budget", budgets)


def _parity(request: Request, method: str, budgets: np.ndarray) -> Found:
    _without_limits(request, method)
    _risky(request, method)
    known = request.known
    portfolio = risk_budgeting(
        known.covariance, budgets, known.mean, risk_free_rate=request.risk_free_rate
    )
    if int(portfolio.status) != CONVERGED:
        raise ToolError(
            "not_converged",
            "covariance",
            f"the risk shares are reached only to {float(portfolio.kkt_residual):.2g}; the "
            f"covariance has condition number {float(portfolio.condition_number):.3g}",
            'shrink it (covariance="ledoit_wolf") or leave out assets that hedge exactly',
        )
    return Found(portfolio, "risk contributions in proportion to budgets, long only")


def split_hierarchy(request: Request) -> Found:
    """hierarchical_risk_parity."""
    _without_limits(request, "hierarchical_risk_parity")
    _risky(request, "hierarchical_risk_parity")
    known, linkage = request.known, request.options["linkage"]
    order = hierarchical_order(known.covariance, linkage=linkage)
    portfolio = hierarchical_risk_parity(
        known.covariance, order, known.mean, risk_free_rate=request.risk_free_rate
    )
    return Found(
        portfolio,
        f"recursive bisection by inverse variance, {linkage} linkage of the distance "
        "sqrt((1 - correlation) / 2)",
        {"order": [known.names[i] for i in order] if known.named else order},
        {"order": "assets in the order of their clusters"},
    )


def blend_views(request: Request) -> Found:
    """black_litterman."""
    known, options, n = request.known, request.options, len(request.known.names)
    views = request.option("views", "black_litterman")
    values = request.option("view_returns", "black_litterman")
    if views.shape != (len(values), n):
        raise ToolError(
            "wrong_shape",
            "views",
            f"views is {views.shape[0]} by {views.shape[1]} for {len(values)} view_returns and "
            f"{n} assets",
            "give a row a view and a column an asset",
        )
    if not views.any(axis=1).all():
        row = int(np.argmin(views.any(axis=1)))
        raise ToolError("empty_view", "views", f"views[{row}] is all zeros", "leave it out")
    market, aversion = options["market_weights"], options["risk_aversion"]
    if market is None:
        prior = request.mean("black_litterman")
    elif len(market) != n:
        raise ToolError(
            "wrong_length",
            "market_weights",
            f"market_weights has {len(market)} entries for {n} assets",
            "give one weight an asset",
        )
    else:
        rate = request.risk_free_rate
        prior = implied_returns(known.covariance, market, aversion, risk_free_rate=rate)
    posterior = black_litterman(known.covariance, prior, views, values, tau=options["tau"])
    if not np.isfinite(posterior.expected_returns).all():
        raise ToolError(
            "singular_views",
            "views",
            f"the {len(values)} views have a singular covariance (rank "
            f"{np.linalg.matrix_rank(views)})",
            "leave out views that repeat others",
        )
    portfolio = mean_variance_utility(
        posterior.expected_returns,
        posterior.covariance,
        aversion,
        risk_free_rate=request.risk_free_rate,
        limits=request.limits.limits,
    )
    return Found(
        _checked(request, portfolio),
        f"posterior of tau {options['tau']:g} and He-Litterman view uncertainty; largest "
        f"expected return - {aversion:g} / 2 × variance",
        {"prior_returns": prior, "posterior_returns": posterior.expected_returns},
        {"prior_returns": "per year", "posterior_returns": "per year"},
    )


def minimise_tail(request: Request) -> Found:
    """min_cvar."""
    known, confidence = request.known, request.options["confidence"]
    if known.returns is None:
        raise ToolError(
            "missing_argument",
            "returns",
            "min_cvar works on scenarios, not on a covariance",
            "give returns or prices",
        )
    tail = minimum_cvar(
        known.returns,
        confidence=confidence,
        limits=request.limits.limits,
        target=request.options["target_return"],
        risk_free_rate=request.risk_free_rate,
        periods_per_year=request.periods_per_year,
    )
    status = int(tail.portfolio.status)
    if status == INFEASIBLE and conflict(*request.limits) is None:
        raise ToolError(
            "target_too_high",
            "target_return",
            f"target_return {request.options['target_return']:g} is above the highest mean return "
            "within the limits",
            "lower it or loosen the limits",
        )
    return Found(
        _checked(request, tail.portfolio),
        f"least mean loss in the worst {1 - confidence:g} of the rows (Rockafellar-Uryasev)",
        {"cvar": tail.cvar, "var": tail.var},
        {"cvar": "loss per period", "var": "loss per period"},
        ["expected_return and volatility are the sample's, whatever covariance says"]
        if known.conventions["covariance"].partition(",")[0] != "sample"
        else [],
    )


METHODS: dict[str, Callable[[Request], Found]] = {
    "min_variance": minimise_variance,
    "max_sharpe": maximise_sharpe,
    "target_return": reach_target,
    "utility": maximise_utility,
    "risk_parity": equal_risk,
    "risk_budget": budget_risk,
    "hierarchical_risk_parity": split_hierarchy,
    "black_litterman": blend_views,
    "min_cvar": minimise_tail,
}
