"""A vectorised backtest of target weights: no look-ahead, costs, cash, leverage, shorts.

``signals`` [..., T, N] are target weights as fractions of equity: 1 is all of it, -0.5 sells half
of it short, a gross sum above 1 is leverage. Row t may use what is known at ``prices`` [..., T, N]
row t: it is traded at those prices and earns from t to t + 1. So the last row earns nothing and is
not traded. One asset may be given as [T] and [T]. What is not in assets is cash, 1 - sum of
weights: above 0 it earns ``cash_rate``, below 0 it costs ``borrow_rate``; the value of shorts costs
``short_rate`` (all three per period).

Each period is one formula, so everything is computed at once and differentiable:

- gross return R from t to t + 1: weights times asset returns, plus interest on cash, less the fee
  on shorts;
- trades at t: target weights less the weights that the last period's prices have moved,
  w (1 + r) / (1 + R); at first, less nothing. ``turnover`` is their absolute sum;
- net return: (1 - turnover (fee + slippage)) (1 + R) - 1; the costs of trades are charged on the
  equity before them.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

from lilith.quant.drawdown import cumulative_return
from lilith.quant.performance import returns_from_prices
from lilith.quant.precision import double_precision
from lilith.quant.statistics import Scalar

COMPLETED, RUINED, BAD_INPUT = 0, 1, 2
BASIS_POINT = 1e-4


class Costs(NamedTuple):
    """Of trading, proportional to the value traded, one way, in basis points (1e-4).

    Attributes:
      fee_bps: what the broker takes.
      slippage_bps: by how much the price got is worse than the one on the table.
    """

    fee_bps: Scalar = 0.0
    slippage_bps: Scalar = 0.0


class Backtest(NamedTuple):
    """What a strategy earned. Period k, from t = k - 1 to k, is entry k - 1 of T - 1.

    Attributes:
      returns: net of costs, [..., T - 1].
      gross_returns: before costs, [..., T - 1].
      equity: multiples of the initial wealth, [..., T], the first is 1.
      turnover: traded value at the start of each period as a fraction of equity, [..., T - 1].
      costs: what that cost, as a fraction of equity, [..., T - 1].
      cash: weight of cash in each period, [..., T - 1]; below 0 it is borrowed.
      leverage: sum of the absolute weights, [..., T - 1].
      status: 0, 1 where the account was lost (equity is 0 from then on and nothing is traded), or
        2 where a signal or price is NaN or a price is not positive (returns are NaN), [...].
    """

    returns: jax.Array
    gross_returns: jax.Array
    equity: jax.Array
    turnover: jax.Array
    costs: jax.Array
    cash: jax.Array
    leverage: jax.Array
    status: jax.Array


@double_precision
def backtest(
    signals: jax.Array,
    prices: jax.Array,
    costs: Costs = Costs(),  # noqa: B008 an immutable default
    *,
    cash_rate: Scalar = 0.0,
    borrow_rate: Scalar = 0.0,
    short_rate: Scalar = 0.0,
) -> Backtest:
    """Trade ``signals`` at ``prices``; see the module for the shapes and the rules.

    Leading axes broadcast: many strategies over one set of prices.

    Raises:
      ValueError: signals and prices differ in their number of rows or of assets.
    """
    if signals.ndim == 1:
        signals = signals[:, None]
    if prices.ndim == 1:
        prices = prices[:, None]
    if signals.shape[-2:] != prices.shape[-2:]:
        raise ValueError(
            f"signals have {signals.shape[-2:]} rows and assets, prices {prices.shape[-2:]}"
        )
    lend, borrow, lease, share = (
        jnp.asarray(own)[..., None]
        for own in (cash_rate, borrow_rate, short_rate, costs.fee_bps + costs.slippage_bps)
    )
    weights = signals[..., :-1, :]
    assets = jnp.swapaxes(returns_from_prices(jnp.swapaxes(prices, -1, -2)), -1, -2)
    weights, assets = jnp.broadcast_arrays(weights, assets)
    cash = 1 - jnp.sum(weights, axis=-1)
    short = jnp.sum(jnp.maximum(-weights, 0), axis=-1)
    interest = jnp.maximum(cash, 0) * lend + jnp.minimum(cash, 0) * borrow
    gross = jnp.sum(weights * assets, axis=-1) + interest - short * lease
    turnover = _turnover(weights, assets, gross)
    # At most all there is: dearer trades end the account, they do not turn a loss into a gain.
    paid = jnp.minimum(turnover * share * BASIS_POINT, 1)
    net = (1 - paid) * (1 + gross) - 1

    lost = net <= -1
    ended = jnp.cumsum(lost, axis=-1) > lost  # an earlier period lost everything
    net = jnp.where(ended, 0, jnp.maximum(net, -1))
    equity = 1 + cumulative_return(net)
    bad = jnp.isnan(net).any(axis=-1) | jnp.isnan(signals).any(axis=(-1, -2))
    status = jnp.where(lost.any(axis=-1), RUINED, COMPLETED)
    return Backtest(
        net,
        jnp.where(ended, 0, gross),
        jnp.concatenate([jnp.ones_like(equity[..., :1]), equity], axis=-1),
        jnp.where(ended, 0, turnover),
        jnp.where(ended, 0, paid),
        jnp.where(ended, 1, cash),
        jnp.where(ended, 0, jnp.sum(jnp.abs(weights), axis=-1)),
        jnp.where(bad, BAD_INPUT, status),
    )


def _turnover(weights: jax.Array, assets: jax.Array, gross: jax.Array) -> jax.Array:
    """Traded value over equity at the start of each period, [..., T - 1].

    From the weights [..., T - 1, N] that the last period's asset returns have moved.
    """
    alive = 1 + gross > 0
    growth = jnp.where(alive, 1 + gross, 1)[..., None]  # safe to divide by where all is lost
    moved = weights * (1 + assets) / growth
    before = jnp.concatenate([jnp.zeros_like(moved[..., :1, :]), moved[..., :-1, :]], axis=-2)
    return jnp.sum(jnp.abs(weights - before), axis=-1)
