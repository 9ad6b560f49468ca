"""Quantitative finance in JAX: options, portfolios, performance, statistics.

Pure cores compute in float64 by scope, and go through jit, vmap and grad; tools validate, call a
core, and answer in JSON-ready dicts. Knows nothing of language models.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lilith.quant.tool import Tool

_TOOL_MODULES = (
    "lilith.quant.options.tools",
    "lilith.quant.options.tools_numeric",
    "lilith.quant.options.tools_volatility",
    "lilith.quant.portfolio.tools",
    "lilith.quant.performance_tools",
    "lilith.quant.backtest_tools",
    "lilith.quant.statistics_tools",
)
_HOMES = {
    "black_scholes": "lilith.quant.options.tools",
    "implied_volatility": "lilith.quant.options.tools",
    "barrier_option": "lilith.quant.options.tools",
    "monte_carlo_option": "lilith.quant.options.tools_numeric",
    "american_option": "lilith.quant.options.tools_numeric",
    "asian_option": "lilith.quant.options.tools_numeric",
    "heston_option": "lilith.quant.options.tools_volatility",
    "sabr_volatility": "lilith.quant.options.tools_volatility",
    "volatility_surface": "lilith.quant.options.tools_volatility",
    "portfolio_optimize": "lilith.quant.portfolio.tools",
    "efficient_frontier": "lilith.quant.portfolio.tools",
    "backtest_metrics": "lilith.quant.performance_tools",
    "backtest": "lilith.quant.backtest_tools",
    "stats_summary": "lilith.quant.statistics_tools",
    "fit_ar1": "lilith.quant.statistics_tools",
    "fit_garch": "lilith.quant.statistics_tools",
}

__all__ = ["tools", *_HOMES]


def tools() -> dict[str, Tool]:
    """Every tool of the library, by name."""
    for module in _TOOL_MODULES:
        importlib.import_module(module)
    from lilith.quant.tool import registered

    return registered()


def __getattr__(name: str) -> Any:
    """A tool by its name, loaded on first use."""
    if name not in _HOMES:
        raise AttributeError(f"module 'lilith.quant' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)
