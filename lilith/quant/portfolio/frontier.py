"""The efficient frontier, as data and as a plot."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from lilith.quant.portfolio.answer import COMPILER_OPTIONS, Portfolio
from lilith.quant.portfolio.mean_variance import (
    LONG_ONLY,
    least_variance_at,
    maximum_sharpe,
)
from lilith.quant.portfolio.quadratic import Limits
from lilith.quant.portfolio.solver import CONVERGED
from lilith.quant.precision import double_precision

INDIFFERENT = 1e-7  # relative risk aversion that leaves the highest return the aim, to rounding


class Frontier(NamedTuple):
    """Least-variance portfolios from the minimum variance to the highest return.

    Attributes:
      targets: [K], the returns asked for, rising.
      portfolios: a :class:`Portfolio` with a leading axis of K.
      minimum_variance, tangency: the two portfolios of that name; the tangency's weights are NaN
        and its status is not 0 where nothing within the limits earns the risk-free rate.
    """

    targets: Array
    portfolios: Portfolio
    minimum_variance: Portfolio
    tangency: Portfolio


@double_precision(static=("points",), compiler_options=COMPILER_OPTIONS)
def efficient_frontier(
    expected_returns: Any,
    covariance: Any,
    *,
    points: int = 40,
    risk_free_rate: Any = 0.0,
    limits: Limits = LONG_ONLY,
) -> Frontier:
    """``points`` portfolios, equally spaced in expected return, all solved under one vmap.

    The last has the highest expected return within the limits; where they do not bound it, one
    that exceeds the minimum-variance portfolio's by the spread of the expected returns.

    Args:
      expected_returns: [n]; covariance: [n, n]; points: at least 2.
    """
    mean, covariance = jnp.asarray(expected_returns), jnp.asarray(covariance)
    number = jnp.arange(points)
    size = jnp.max(jnp.abs(mean)) / jnp.max(jnp.abs(jnp.diagonal(covariance)))
    tilts = jnp.where(number == points - 1, 1.0 / (INDIFFERENT * size), 0.0).astype(mean.dtype)

    def solve(tilt: Array, target: Array) -> Portfolio:
        return least_variance_at(mean, covariance, target, risk_free_rate, limits, tilt)

    def stage(targets: Array, tilts: Array) -> tuple[Array, tuple[Array, Portfolio]]:
        """First the two ends (and idle copies), then what lies between: one program for both."""
        found = jax.vmap(solve)(tilts, targets)
        first, last = found.expected_return[0], found.expected_return[-1]
        end = jnp.where(found.status[-1] == CONVERGED, last, first + jnp.ptp(mean))
        return first + (end - first) * number / (points - 1), (targets, found)

    nothing = jnp.full(points, -jnp.inf, mean.dtype)
    _, (targets, found) = jax.lax.scan(stage, nothing, jnp.stack([tilts, jnp.zeros_like(tilts)]))
    ends, inner = (jax.tree.map(lambda own, at=i: own[at], found) for i in (0, 1))
    bounded = ends.status[-1] == CONVERGED

    def join(end: Array, own: Array) -> Array:
        last = jnp.where(bounded, end[-1], own[-1])
        return jnp.concatenate([end[:1], own[1:-1], last[None]])

    portfolios = jax.tree.map(join, ends, inner)
    tangency = maximum_sharpe(mean, covariance, risk_free_rate=risk_free_rate, limits=limits)
    least = jax.tree.map(lambda own: own[0], ends)
    return Frontier(targets[1], portfolios, least, tangency)


def plot(
    frontier: Frontier,
    path: str | os.PathLike[str],
    expected_returns: Any,
    covariance: Any,
    *,
    names: Sequence[str] | None = None,
    risk_free_rate: float = 0.0,
) -> None:
    """Write the frontier with its assets, the tangency portfolio and its line, as a picture.

    Args:
      path: where to, with the ending of a format that matplotlib writes (.png, .svg, .pdf).
      expected_returns: [n]; covariance: [n, n]: the assets', as given to the frontier.
      names: the assets' labels; numbers by default. Of more than 25 assets none is labelled.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import PercentFormatter

    mean = np.asarray(expected_returns, float)
    spreads = np.sqrt(np.diagonal(np.asarray(covariance, float)))
    figure = Figure(figsize=(8, 5.5), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    volatilities = np.asarray(frontier.portfolios.volatility)
    returns = np.asarray(frontier.portfolios.expected_return)
    axes.plot(volatilities, returns, color="#1f5fa8", linewidth=2.2, label="efficient frontier")
    axes.scatter(spreads, mean, s=26, color="#666666", zorder=3, label="assets")
    right = 1.08 * max(float(spreads.max()), float(np.nanmax(volatilities)))
    _mark_portfolios(axes, frontier, risk_free_rate, right)
    _label(axes, spreads, mean, names)
    axes.set_xlim(0, right)
    axes.set_xlabel("volatility, per year")
    axes.set_ylabel("expected return, per year")
    axes.xaxis.set_major_formatter(PercentFormatter(1.0))
    axes.yaxis.set_major_formatter(PercentFormatter(1.0))
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, loc="best", fontsize=9)
    figure.savefig(path, dpi=150)


def _mark_portfolios(axes: Any, frontier: Frontier, risk_free_rate: float, right: float) -> None:
    """The minimum-variance and tangency portfolios, and the line through the latter."""
    least, tangency = frontier.minimum_variance, frontier.tangency
    axes.scatter(
        least.volatility,
        least.expected_return,
        s=70,
        marker="D",
        color="#2a8f5c",
        zorder=4,
        label="minimum variance",
    )
    if int(tangency.status) == CONVERGED:
        slope = float(tangency.sharpe)
        reach = min(right, 1.35 * float(tangency.volatility))
        axes.plot(
            [0, reach],
            [risk_free_rate, risk_free_rate + slope * reach],
            color="#c4702b",
            linewidth=1.2,
            linestyle="--",
            label=f"capital market line, Sharpe {slope:.2f}",
        )
        axes.scatter(
            tangency.volatility,
            tangency.expected_return,
            s=150,
            marker="*",
            color="#c4702b",
            zorder=5,
            label="tangency portfolio",
        )


def _label(axes: Any, spreads: np.ndarray, mean: np.ndarray, names: Sequence[str] | None) -> None:
    """Names beside the assets: right of them, or left where a neighbour is close on the right."""
    if len(mean) > 25:
        return
    labels = [str(i) for i in range(len(mean))] if names is None else list(names)
    width, height = np.ptp(np.append(spreads, 0.0)), max(float(np.ptp(mean)), 1e-12)
    for i, (x, y, text) in enumerate(zip(spreads, mean, labels)):
        ahead = (spreads - x) / width
        close = (ahead > 0) & (ahead < 0.1) & (np.abs(mean - y) < 0.03 * height)
        close[i] = False
        side = {"xytext": (-6, 3), "ha": "right"} if close.any() else {"xytext": (6, 3)}
        axes.annotate(text, (x, y), textcoords="offset points", fontsize=8, color="#444444", **side)
