"""Performance of a series of periodic returns: growth, risk-adjusted ratios, against a benchmark.

Returns are fractions per period, ``[..., T]``; results are ``[...]``. A NaN or a return below -1
makes a result NaN. Annual figures take ``periods_per_year`` (252 trading days by default); yearly
rates become periodic by ``compounding``: geometric (1 + rate)^(1 / periods_per_year) - 1, simple
rate / periods_per_year, or continuous exp(rate / periods_per_year) - 1.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

from lilith.quant.drawdown import cumulative_return, maximum_drawdown
from lilith.quant.precision import double_precision
from lilith.quant.special import log1p, safe_sqrt
from lilith.quant.statistics import (
    Scalar,
    deviations,
    mean,
    quantile,
    safe_divide,
    standard_deviation,
)

COMPOUNDINGS = ("geometric", "simple", "continuous")


class Regression(NamedTuple):
    """A strategy's excess returns regressed on its benchmark's, each field [...].

    Attributes:
      alpha: intercept, per period.
      beta: slope; NaN where the benchmark is constant.
      correlation: of the two; NaN where either is constant.
    """

    alpha: jax.Array
    beta: jax.Array
    correlation: jax.Array


def _possible(returns: jax.Array) -> jax.Array:
    """``returns`` with those below -1, which can not be, as NaN."""
    return jnp.where(returns < -1, jnp.nan, returns)


def _spread(returns: jax.Array, ddof: Scalar) -> jax.Array:
    """Standard deviation; 0 where it is rounding (returns computed from prices carry eps each)."""
    found = standard_deviation(returns, ddof=ddof)
    rounding = 16 * jnp.finfo(returns.dtype).eps * (1 + jnp.max(jnp.abs(returns), axis=-1))
    return jnp.where(found <= rounding, 0, found)


def _root(periods_per_year: Scalar, returns: jax.Array) -> jax.Array:
    return jnp.sqrt(jnp.asarray(periods_per_year, returns.dtype))


def _over_spread(value: jax.Array, spread: jax.Array) -> jax.Array:
    """A ratio to a standard deviation, which says nothing (NaN) where there is no spread."""
    return jnp.where(spread == 0, jnp.nan, safe_divide(value, spread))


@double_precision
def returns_from_prices(prices: jax.Array) -> jax.Array:
    """Simple returns [..., T - 1] of prices [..., T]; NaN next to a price that is not positive."""
    prices = jnp.where(prices > 0, prices, jnp.nan)
    # The difference is exact where prices are close, which their ratio less 1 is not.
    return (prices[..., 1:] - prices[..., :-1]) / prices[..., :-1]


@double_precision(static=("compounding",))
def periodic_rate(
    annual_rate: Scalar, *, periods_per_year: Scalar = 252.0, compounding: str = "geometric"
) -> jax.Array:
    """A yearly rate per period; see the module for ``compounding``.

    Raises:
      ValueError: ``compounding`` is not one of the three.
    """
    return _per_period(jnp.asarray(annual_rate), periods_per_year, compounding)


def rate_of(
    returns: jax.Array, annual_rate: Scalar, periods_per_year: Scalar, compounding: str
) -> jax.Array:
    """:func:`periodic_rate` in the precision of ``returns``."""
    annual_rate = jnp.asarray(annual_rate, returns.dtype)
    return jnp.asarray(_per_period(annual_rate, periods_per_year, compounding), returns.dtype)


def _per_period(rate: jax.Array, periods_per_year: Scalar, compounding: str) -> jax.Array:
    if compounding == "geometric":
        return jnp.expm1(log1p(rate) / periods_per_year)
    if compounding == "simple":
        return rate / periods_per_year
    if compounding == "continuous":
        return jnp.expm1(rate / periods_per_year)
    raise ValueError(f"compounding is {compounding!r}; it is one of {', '.join(COMPOUNDINGS)}")


@double_precision
def total_return(returns: jax.Array) -> jax.Array:
    """Compounded return over all periods."""
    return cumulative_return(returns)[..., -1]


@double_precision
def cagr(returns: jax.Array, *, periods_per_year: Scalar = 252.0) -> jax.Array:
    """Compound annual growth: (1 + total return)^(periods_per_year / T) - 1; -1 after a full loss.

    The gradient at a full loss, where it is infinite or 0, is given as 0.
    """
    total = total_return(returns)
    lost = total <= -1
    growth = log1p(jnp.where(lost, 0, total)) * (periods_per_year / returns.shape[-1])
    return jnp.where(lost, total * 0 - 1, jnp.expm1(growth))


@double_precision
def annual_volatility(
    returns: jax.Array, *, periods_per_year: Scalar = 252.0, ddof: Scalar = 1
) -> jax.Array:
    """Standard deviation per period times the root of ``periods_per_year``."""
    return _spread(_possible(returns), ddof) * _root(periods_per_year, returns)


@double_precision(static=("compounding",))
def sharpe_ratio(
    returns: jax.Array,
    *,
    risk_free_rate: Scalar = 0.0,
    periods_per_year: Scalar = 252.0,
    compounding: str = "geometric",
    ddof: Scalar = 1,
) -> jax.Array:
    """Annualised mean excess return over its standard deviation (Sharpe, 1994).

    ``risk_free_rate`` is yearly. NaN for constant returns.
    """
    rate = rate_of(returns, risk_free_rate, periods_per_year, compounding)
    returns = _possible(returns)
    excess = mean(returns) - rate
    return _over_spread(excess, _spread(returns, ddof)) * _root(periods_per_year, returns)


@double_precision(static=("compounding",))
def sortino_ratio(
    returns: jax.Array,
    *,
    required_return: Scalar = 0.0,
    periods_per_year: Scalar = 252.0,
    compounding: str = "geometric",
) -> jax.Array:
    """Annualised mean return above the required one, over the downside deviation.

    The latter is the root of mean(min(excess, 0)^2) over all T (Sortino and Price, 1994).
    ``required_return`` is yearly. Infinite where no return falls short; NaN where none differs.
    """
    rate = rate_of(returns, required_return, periods_per_year, compounding)
    excess = _possible(returns) - rate[..., None]
    downside = safe_sqrt(jnp.mean(jnp.minimum(excess, 0) ** 2, axis=-1))
    return safe_divide(mean(excess), downside) * _root(periods_per_year, returns)


@double_precision
def calmar_ratio(returns: jax.Array, *, periods_per_year: Scalar = 252.0) -> jax.Array:
    """Compound annual growth over the depth of the maximum drawdown (Young, 1991).

    Infinite where wealth never fell.
    """
    depth = maximum_drawdown(returns).depth
    return safe_divide(cagr(returns, periods_per_year=periods_per_year), -depth)


@double_precision(static=("compounding",))
def omega_ratio(
    returns: jax.Array,
    *,
    required_return: Scalar = 0.0,
    periods_per_year: Scalar = 252.0,
    compounding: str = "geometric",
) -> jax.Array:
    """Sum of what exceeds the required return over the sum of what falls short of it.

    ``required_return`` is yearly (Keating and Shadwick, 2002). Infinite where none falls short.
    """
    rate = rate_of(returns, required_return, periods_per_year, compounding)
    return _gains_over_losses(_possible(returns) - rate[..., None])


@double_precision
def profit_factor(returns: jax.Array) -> jax.Array:
    """Sum of the gains over the sum of the losses; infinite where there is none."""
    return _gains_over_losses(_possible(returns))


def _gains_over_losses(excess: jax.Array) -> jax.Array:
    gains = jnp.sum(jnp.maximum(excess, 0), axis=-1)
    return safe_divide(gains, -jnp.sum(jnp.minimum(excess, 0), axis=-1))


@double_precision(static=("include_zero",))
def win_rate(returns: jax.Array, *, include_zero: bool = False) -> jax.Array:
    """Share of positive returns among those that are not 0, or with ``include_zero`` among all.

    NaN where every return is 0 and these do not count.
    """
    returns = _possible(returns)
    wins = jnp.sum(returns > 0, axis=-1).astype(returns.dtype)
    missing = jnp.isnan(returns)
    counted = jnp.sum(~missing if include_zero else returns != 0, axis=-1)
    rate = safe_divide(wins, counted.astype(returns.dtype))
    return jnp.where(missing.any(axis=-1), jnp.nan, rate)


@double_precision
def tail_ratio(returns: jax.Array, *, confidence: Scalar = 0.95) -> jax.Array:
    """The upper quantile at ``confidence`` over the lower one at 1 - ``confidence``, in size."""
    confidence = jnp.asarray(confidence, returns.dtype)
    return upper_over_lower(quantile(_possible(returns), jnp.stack([1 - confidence, confidence])))


def upper_over_lower(tails: jax.Array) -> jax.Array:
    """The tail ratio of the two quantiles [..., 2], lower first."""
    return safe_divide(jnp.abs(tails[..., 1]), jnp.abs(tails[..., 0]))


@double_precision
def market_regression(
    returns: jax.Array, benchmark: jax.Array, *, risk_free_rate: Scalar = 0.0
) -> Regression:
    """Least squares of returns on the benchmark's, both above ``risk_free_rate`` (per period).

    alpha = mean(returns - rate) - beta mean(benchmark - rate) (Jensen, 1968).
    """
    returns, benchmark = _possible(returns), _possible(benchmark)
    own, market = deviations(returns), deviations(benchmark)
    variance = jnp.where(_spread(benchmark, 0) == 0, 0, jnp.sum(market**2, axis=-1))
    variation = jnp.where(_spread(returns, 0) == 0, 0, jnp.sum(own**2, axis=-1))
    covariance = jnp.sum(own * market, axis=-1)
    beta = _over_spread(covariance, variance)
    alpha = mean(returns) - risk_free_rate - beta * (mean(benchmark) - risk_free_rate)
    both = safe_sqrt(variance) * safe_sqrt(variation)
    return Regression(alpha, beta, _over_spread(covariance, both))


@double_precision
def tracking_error(
    returns: jax.Array,
    benchmark: jax.Array,
    *,
    periods_per_year: Scalar = 252.0,
    ddof: Scalar = 1,
) -> jax.Array:
    """Annualised standard deviation of the returns less the benchmark's."""
    active = _possible(returns) - _possible(benchmark)
    return _spread(active, ddof) * _root(periods_per_year, returns)


@double_precision
def information_ratio(
    returns: jax.Array,
    benchmark: jax.Array,
    *,
    periods_per_year: Scalar = 252.0,
    ddof: Scalar = 1,
) -> jax.Array:
    """Annualised mean of the active returns over their standard deviation; NaN without spread."""
    active = _possible(returns) - _possible(benchmark)
    return _over_spread(mean(active), _spread(active, ddof)) * _root(periods_per_year, returns)


@double_precision(static=("window",))
def rolling_mean_and_deviation(
    returns: jax.Array, *, window: int, ddof: Scalar = 1
) -> tuple[jax.Array, jax.Array]:
    """Mean and standard deviation of the last ``window`` returns, each [..., T].

    NaN at the first window - 1 points, and everywhere where there are fewer than ``window``.
    Each window takes its own two passes: no running sums that lose digits.
    """
    returns = _possible(returns)
    count = returns.shape[-1] - window + 1
    if count < 1:
        return jnp.full_like(returns, jnp.nan), jnp.full_like(returns, jnp.nan)
    zero = jnp.zeros((*returns.shape[:-1], count), returns.dtype)

    def lagged(lag: jax.Array) -> jax.Array:
        return jax.lax.dynamic_slice_in_dim(returns, lag, count, axis=-1)

    center = jax.lax.fori_loop(0, window, lambda i, total: total + lagged(i), zero) / window
    squares = jax.lax.fori_loop(0, window, lambda i, total: total + (lagged(i) - center) ** 2, zero)
    free = jnp.maximum(window - jnp.asarray(ddof, returns.dtype), 0)
    spread = safe_sqrt(safe_divide(squares, free))
    lead = jnp.full((*returns.shape[:-1], window - 1), jnp.nan, returns.dtype)
    return jnp.concatenate([lead, center], -1), jnp.concatenate([lead, spread], -1)


@double_precision(static=("window", "compounding"))
def rolling_sharpe(
    returns: jax.Array,
    *,
    window: int,
    risk_free_rate: Scalar = 0.0,
    periods_per_year: Scalar = 252.0,
    compounding: str = "geometric",
    ddof: Scalar = 1,
) -> jax.Array:
    """Sharpe ratio of the last ``window`` returns, [..., T]; NaN at the first window - 1 points."""
    rate = rate_of(returns, risk_free_rate, periods_per_year, compounding)
    center, spread = rolling_mean_and_deviation(returns, window=window, ddof=ddof)
    rounding = 16 * jnp.finfo(returns.dtype).eps * (1 + jnp.abs(center))
    spread = jnp.where(spread <= rounding, 0, spread)
    return _over_spread(center - rate[..., None], spread) * _root(periods_per_year, returns)


@double_precision(static=("count",))
def compound_by_group(returns: jax.Array, groups: jax.Array, *, count: int) -> jax.Array:
    """Compounded return of each group of periods, [..., count].

    ``groups`` [T] numbers the group of each period, 0 to count - 1; a group of none returns 0.
    """
    member = groups == jnp.arange(count, dtype=groups.dtype)[:, None]
    return total_return(jnp.where(member, returns[..., None, :], 0))
