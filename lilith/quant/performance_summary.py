"""Every figure of a performance report in one compiled program."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from lilith.quant import performance as core
from lilith.quant.drawdown import drawdowns
from lilith.quant.precision import QUICK_COMPILATION, double_precision
from lilith.quant.statistics import Scalar, excess_kurtosis, mean, quantile, skewness
from lilith.quant.tail_risk import (
    conditional_value_at_risk,
    cornish_fisher_is_monotone,
    mean_to,
    value_at_risk,
)


@double_precision(static=("compounding",), compiler_options=QUICK_COMPILATION)
def performance_summary(
    returns: jax.Array,
    benchmark: jax.Array | None = None,
    *,
    periods_per_year: Scalar = 252.0,
    risk_free_rate: Scalar = 0.0,
    required_return: Scalar = 0.0,
    compounding: str = "geometric",
    confidence: Scalar = 0.95,
    ddof: Scalar = 1,
) -> dict[str, jax.Array]:
    """The figures of ``returns`` [..., T] by name, each [...]; see the single functions.

    With a ``benchmark`` [..., T] also alpha (yearly: both the periodic one times periods_per_year
    and compounded), beta, correlation, tracking_error and information_ratio. Value at risk and its
    conditional mean are named by method: var_historical, cvar_normal and so on. Points in time
    (drawdown_*, longest_drawdown_*) count from the baseline, 0; -1 is none.
    """
    yearly = {"periods_per_year": periods_per_year}
    how = {**yearly, "compounding": compounding}
    volatility = core.annual_volatility(returns, ddof=ddof, **yearly)
    figures = {
        "total_return": core.total_return(returns),
        "cagr": core.cagr(returns, **yearly),
        "annual_volatility": volatility,
        "sharpe": core.sharpe_ratio(returns, risk_free_rate=risk_free_rate, ddof=ddof, **how),
        "sortino": core.sortino_ratio(returns, required_return=required_return, **how),
        "calmar": core.calmar_ratio(returns, **yearly),
        "omega": core.omega_ratio(returns, required_return=required_return, **how),
        "mean_return": mean(returns),
        "best": jnp.max(returns, axis=-1),
        "worst": jnp.min(returns, axis=-1),
        "win_rate_excl_zero": core.win_rate(returns),
        "win_rate_incl_zero": core.win_rate(returns, include_zero=True),
        "zero_periods": jnp.sum(returns == 0, axis=-1),
        "profit_factor": core.profit_factor(returns),
    }
    figures |= _drawdowns(returns) | _shape(returns, confidence, ddof, volatility == 0)
    if benchmark is not None:
        rate = core.rate_of(returns, risk_free_rate, periods_per_year, compounding)
        figures |= _against(returns, benchmark, rate, periods_per_year, ddof)
    return figures


def _drawdowns(returns: jax.Array) -> dict[str, jax.Array]:
    deepest, longest, ulcer = drawdowns(returns)
    return {
        "max_drawdown": deepest.depth,
        "drawdown_peak": deepest.peak,
        "drawdown_trough": deepest.trough,
        "drawdown_recovery": deepest.recovery,
        "longest_drawdown_periods": longest.periods,
        "longest_drawdown_peak": longest.peak,
        "longest_drawdown_recovery": longest.recovery,
        "ulcer_index": ulcer,
    }


def _shape(
    returns: jax.Array, confidence: Scalar, ddof: Scalar, constant: jax.Array
) -> dict[str, jax.Array]:
    """Higher moments and tails; NaN where the returns are ``constant`` but for rounding."""
    figures = {
        "skew_biased": skewness(returns),
        "skew_unbiased": skewness(returns, bias=False),
        "kurtosis_excess_biased": excess_kurtosis(returns),
        "kurtosis_excess_unbiased": excess_kurtosis(returns, bias=False),
    }
    confidence = jnp.asarray(confidence, returns.dtype)
    tails = quantile(returns, jnp.stack([1 - confidence, confidence]))  # one sort for all three
    plain = {
        "var_historical": tails[..., 0],
        "cvar_historical": mean_to(returns, tails[..., 0]),
        "tail_ratio": core.upper_over_lower(tails),
    }
    for method, into in (("normal", plain), ("cornish_fisher", figures)):
        how = {"confidence": confidence, "method": method, "ddof": ddof}
        into[f"var_{method}"] = value_at_risk(returns, **how)
        into[f"cvar_{method}"] = conditional_value_at_risk(returns, **how)
    figures = {name: jnp.where(constant, jnp.nan, value) for name, value in figures.items()}
    monotone = cornish_fisher_is_monotone(returns)
    return {**figures, **plain, "cornish_fisher_is_monotone": monotone}


def _against(
    returns: jax.Array,
    benchmark: jax.Array,
    rate: jax.Array,
    periods_per_year: Scalar,
    ddof: Scalar,
) -> dict[str, jax.Array]:
    """Figures against the benchmark; ``rate`` is risk-free, per period."""
    line = core.market_regression(returns, benchmark, risk_free_rate=rate)
    how = {"periods_per_year": periods_per_year, "ddof": ddof}
    return {
        "alpha": line.alpha * periods_per_year,
        "alpha_compounded": (1 + line.alpha) ** jnp.asarray(periods_per_year) - 1,
        "beta": line.beta,
        "correlation": line.correlation,
        "tracking_error": core.tracking_error(returns, benchmark, **how),
        "information_ratio": core.information_ratio(returns, benchmark, **how),
        "benchmark_total_return": core.total_return(benchmark),
    }
