"""American options to high precision: a fixed point for the early exercise boundary.

The boundary B of a put at time to expiry ``t`` solves an integral equation; Andersen, Lake and
Offengenden, "High Performance American Option Pricing" (2016), iterate its two forms, FP-A and
FP-B, on Chebyshev nodes of ``ln(B / B(0))^2`` in the square root of time, with the integrals made
smooth by a change of variable. Calls are puts with spot and strike, and rate and dividend,
exchanged. Prices are good to about 1e-10 of the strike (1e-8 for rates of several variances).
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from lilith.quant.options import black_scholes
from lilith.quant.options.shapes import broadcast_options, map_options
from lilith.quant.precision import QUICK_COMPILATION, double_precision
from lilith.quant.special import ndtr, norm_pdf

OK = 0
INPUT_OUTSIDE = 1  # a negative spot, strike, time or volatility, or not a number
DOUBLE_BOUNDARY = 2  # exercise between two boundaries: a put with dividend < rate < 0
NOT_CONVERGED = 3  # the boundary still moved enough to move the price by TOLERANCE of the strike

NODES = 32  # Chebyshev nodes of the boundary, after time 0
BOUNDARY_POINTS = 48  # Gauss-Legendre points of each integral of the boundary's equation
PRICE_POINTS = 96  # and of the price
ITERATIONS = 32
TOLERANCE = 1e-7
STEEP = 1.0  # (rate - dividend) / volatility^2; well above it FP-A is no contraction
BATCH = 128  # options solved at once


class American(NamedTuple):
    """An American option's price and where it is exercised.

    Attributes:
      price: NaN unless the status is OK.
      boundary: the critical spot today (a put is exercised below it, a call above it); 0 for a put
        and infinity for a call that are never exercised early, NaN where nothing is uncertain.
      residual: how far the boundary moved, relative to itself, in the last iteration.
      status: OK, INPUT_OUTSIDE, DOUBLE_BOUNDARY or NOT_CONVERGED.
    """

    price: Any
    boundary: Any
    residual: Any
    status: Any


class _Tables(NamedTuple):
    """Numbers that depend on no option: angles, weights, and interpolation from the nodes."""

    nodes: np.ndarray  # square roots of time over that of expiry [NODES]
    angles: np.ndarray  # [points]
    weights: np.ndarray  # [points]
    interpolation: np.ndarray  # [NODES, points, NODES + 1]
    price_angles: np.ndarray
    price_weights: np.ndarray
    price_interpolation: np.ndarray  # [price points, NODES + 1]


def price(
    spot: Any,
    strike: Any,
    time: Any,
    rate: Any,
    volatility: Any,
    *,
    dividend: Any = 0.0,
    is_call: Any = True,
) -> Any:
    """Price of an American option; NaN unless ``solve`` gives status OK.

    Args:
      spot, strike: in one currency, at least 0.
      time: years to expiry, at least 0.
      rate, dividend: continuously compounded, a year.
      volatility: a year, at least 0; at 0 the best moment on the forward path.
      is_call: booleans. All broadcast; the first five and dividend are differentiable.
    """
    found = solve(
        spot, strike, time, rate, volatility, dividend=dividend, is_call=is_call
    )  # compiled once for both
    return found.price


@double_precision(compiler_options=QUICK_COMPILATION)
def solve(
    spot: Any,
    strike: Any,
    time: Any,
    rate: Any,
    volatility: Any,
    *,
    dividend: Any = 0.0,
    is_call: Any = True,
) -> American:
    """Price, exercise boundary, residual and status; arguments as for ``price``.

    With negative rates a put whose dividend yield lies below its rate (a call whose rate lies
    below its dividend yield, both negative) has two boundaries, which this method does not cover:
    the status says so and the price is NaN. ``trees.price`` covers it.
    """
    options = broadcast_options(spot, strike, time, rate, volatility, dividend, is_call)
    return map_options(_solve, options, BATCH)


def _solve(options: tuple[Any, ...]) -> American:
    """One option, as a put: a call has spot and strike, and rate and dividend, exchanged."""
    given_spot, given_strike, time, given_rate, volatility, given_dividend, is_call = options
    spot, strike = _swap(is_call, given_spot, given_strike)
    rate, dividend = _swap(is_call, given_rate, given_dividend)
    finite = jnp.isfinite(spot + strike + time + rate + volatility + dividend)
    valid = finite & (spot >= 0) & (strike >= 0) & (time >= 0) & (volatility >= 0)
    uncertain = valid & (time > 0) & (volatility > 0) & (spot > 0) & (strike > 0)
    live = uncertain & ((rate > 0) | ((rate == 0) & (dividend < 0)))  # early exercise may pay
    double = uncertain & (rate < 0) & (dividend < rate)

    def pick(given: Any, filler: float) -> Any:
        return jnp.where(live, given, filler)

    own = (pick(time, 1.0), pick(rate, 0.05), pick(dividend, 0.05), pick(volatility, 0.2))
    log_boundary, residual = _boundary(*own)
    log_spot = jnp.log(pick(spot, 1.0) / pick(strike, 1.0))
    premium = strike * _premium(log_spot, *own, log_boundary)
    european = black_scholes.price(
        given_spot, given_strike, time, given_rate, volatility,
        dividend=given_dividend, is_call=is_call,
    )  # fmt: skip
    held = jnp.where(live, jnp.maximum(european + premium, strike - spot), european)
    value = jnp.where(live & (log_spot <= log_boundary[-1]), strike - spot, held)
    plain = valid & ~uncertain
    value = jnp.where(plain, _without_risk(plain, spot, strike, time, rate, dividend), value)

    # Where one exercises r K - q S is between 0 and (r + max(-q, 0)) K: what early exercise is
    # worth, and what the boundary's error counts, is in proportion to that times the time.
    weight = jnp.minimum((rate + jnp.maximum(-dividend, 0.0)) * time, 1.0)
    status = jnp.where(live & ~(residual * weight <= TOLERANCE), NOT_CONVERGED, OK)
    status = jnp.where(double, DOUBLE_BOUNDARY, status)
    status = jnp.where(valid, status, INPUT_OUTSIDE)
    ratio = jnp.exp(log_boundary[-1])
    critical = jnp.where(is_call, given_strike / ratio, given_strike * ratio)
    critical = jnp.where(live, critical, jnp.where(is_call, jnp.inf, 0.0))
    return American(
        jnp.where(status == OK, value, jnp.nan),
        jnp.where(uncertain & ~double, critical, jnp.nan),
        jnp.where(live, residual, 0.0),
        status,
    )


def _swap(is_call: Any, first: Any, second: Any) -> tuple[Any, Any]:
    return jnp.where(is_call, second, first), jnp.where(is_call, first, second)


def _without_risk(plain: Any, spot: Any, strike: Any, time: Any, rate: Any, dividend: Any) -> Any:
    """A put on a certain forward path: the best exercise of K e^(-rt) - S e^(-qt) on [0, time].

    The only turning point is where r K e^(-rt) = q S e^(-qt). Holds for spot or strike 0 as well.
    """
    spot, strike, time = (jnp.where(plain, each, 1.0) for each in (spot, strike, time))
    rate, dividend = jnp.where(plain, rate, 0.0), jnp.where(plain, dividend, 0.0)

    def value(moment: Any) -> Any:
        return strike * jnp.exp(-rate * moment) - spot * jnp.exp(-dividend * moment)

    turns = (rate * strike * dividend * spot > 0) & (rate != dividend)
    ratio = jnp.where(turns, rate * strike, 1.0) / jnp.where(turns, dividend * spot, 1.0)
    turn = jnp.log(ratio) / jnp.where(turns, rate - dividend, 1.0)
    turn = jnp.clip(jnp.where(turns, turn, 0.0), 0.0, time)
    best = jnp.maximum(value(jnp.zeros_like(time)), value(time))
    return jnp.maximum(jnp.maximum(best, value(turn)), 0.0)


@functools.cache
def _tables() -> _Tables:
    fractions = (1 - np.cos(np.pi * np.arange(NODES + 1) / NODES)) / 2
    signs = (-1.0) ** np.arange(NODES + 1)
    signs[[0, -1]] /= 2

    def interpolation(points: np.ndarray) -> np.ndarray:
        """Barycentric weights of each point: [..., NODES + 1]."""
        gaps = points[..., None] - fractions
        met = np.abs(gaps) < 1e-14
        shares = signs / np.where(met, 1.0, gaps)
        shares /= shares.sum(axis=-1, keepdims=True)
        return np.where(met.any(axis=-1, keepdims=True), met.astype(float), shares)

    def quadrature(count: int) -> tuple[np.ndarray, np.ndarray]:
        """Gauss-Legendre on [0, pi/2]."""
        points, weights = np.polynomial.legendre.leggauss(count)
        return np.pi / 4 * (1 + points), np.pi / 4 * weights

    angles, weights = quadrature(BOUNDARY_POINTS)
    price_angles, price_weights = quadrature(PRICE_POINTS)
    return _Tables(
        fractions[1:],
        angles,
        weights,
        interpolation(fractions[1:, None] * np.cos(angles)),
        price_angles,
        price_weights,
        interpolation(np.cos(price_angles)),
    )


def _log_start(rate: Any, dividend: Any) -> Any:
    """ln B(0+) / K: exercise just before expiry pays where both r K > q S and S < K."""
    low = dividend > jnp.maximum(rate, 0.0)
    ratio = jnp.where(low, rate, 1.0) / jnp.where(low, dividend, 1.0)
    return jnp.log(jnp.where(ratio > 0, ratio, 1.0))


def _interpolate(table: Any, log_boundary: Any, log_start: Any) -> Any:
    """ln B / K where ``table`` says, from its values at the nodes [NODES]."""
    squares = jnp.concatenate([jnp.zeros_like(log_boundary[:1]), (log_boundary - log_start) ** 2])
    found = jnp.asarray(table, log_boundary.dtype) @ squares
    above = found > 0
    return log_start - jnp.where(above, jnp.sqrt(jnp.where(above, found, 1.0)), 0.0)


def _boundary(time: Any, rate: Any, dividend: Any, volatility: Any) -> tuple[Any, Any]:
    """ln B / K at the nodes [NODES] and how far the last iteration moved it."""
    tables = _tables()
    dtype = time.dtype
    log_start = _log_start(rate, dividend)
    tau = time * jnp.asarray(tables.nodes, dtype) ** 2
    spread = volatility * jnp.sqrt(tau)

    def iterate(log_boundary: Any, _: None) -> tuple[Any, Any]:
        earlier = _interpolate(tables.interpolation, log_boundary, log_start)
        target = _fixed_point(log_boundary, earlier, tau, rate, dividend, volatility)
        move = jnp.clip(target - log_boundary, -0.5, 0.5)
        return jnp.minimum(log_boundary + move, log_start), jnp.max(jnp.abs(move))

    # Between the start and the boundary of a put that never expires, as Bjerksund and Stensland
    # (1993) join the two.
    carry = (rate - dividend) / volatility**2
    root = 0.5 - carry - jnp.sqrt((carry - 0.5) ** 2 + 2 * rate / volatility**2)
    share = root / (root - 1) / jnp.exp(log_start)  # perpetual boundary over the start
    guess = log_start + jnp.log(share + (1 - share) * jnp.exp(-2 * spread / (1 - share)))
    log_boundary, moves = jax.lax.scan(iterate, guess, None, length=ITERATIONS)
    return log_boundary, moves[-1]


def _fixed_point(
    log_boundary: Any, earlier: Any, tau: Any, rate: Any, dividend: Any, volatility: Any
) -> Any:
    """ln(K e^(-(r-q) tau) N / D), with N and D of FP-A or FP-B of Andersen, Lake and Offengenden.

    At time to expiry u = tau cos^2 a the integrand is smooth in the angle a at both ends:
    tau - u = tau sin^2 a and du = 2 tau sin a cos a da. ``earlier`` is ln B(u) / K.
    """
    tables = _tables()
    sine = jnp.asarray(np.sin(tables.angles), tau.dtype)
    cosine = jnp.asarray(np.cos(tables.angles), tau.dtype)
    carry = rate - dividend
    spread = volatility * jnp.sqrt(tau)
    d_plus = (log_boundary + carry * tau) / spread + spread / 2
    d_minus = d_plus - spread
    gap_spread = spread[:, None] * sine
    gap = log_boundary[:, None] - earlier + carry * tau[:, None] * sine**2
    e_plus = gap / gap_spread + gap_spread / 2
    e_minus = e_plus - gap_spread
    measure = 2 * tau[:, None] * sine * cosine * jnp.asarray(tables.weights, tau.dtype)
    until = tau[:, None] * cosine**2
    grown_rate = rate * measure * jnp.exp(rate * until)
    grown_dividend = dividend * measure * jnp.exp(dividend * until)

    use_density = carry <= STEEP * volatility**2  # FP-A
    top_density = norm_pdf(d_minus) / spread + jnp.sum(
        grown_rate * norm_pdf(e_minus) / gap_spread, -1
    )
    bottom_density = norm_pdf(d_plus) / spread + jnp.sum(
        grown_dividend * norm_pdf(e_plus) / gap_spread, -1
    )
    bottom = ndtr(d_plus) + jnp.sum(grown_dividend * ndtr(e_plus), -1)
    top = ndtr(d_minus) + jnp.sum(grown_rate * ndtr(e_minus), -1)
    top = jnp.where(use_density, top_density, top)
    bottom = bottom + jnp.where(use_density, bottom_density, 0.0)
    tiny = jnp.finfo(tau.dtype).tiny
    return jnp.log(jnp.maximum(top, tiny)) - jnp.log(jnp.maximum(bottom, tiny)) - carry * tau


def _premium(
    log_spot: Any, time: Any, rate: Any, dividend: Any, volatility: Any, log_boundary: Any
) -> Any:
    """What early exercise is worth, over the strike: rent on the strike less dividends forgone."""
    tables = _tables()
    sine = jnp.asarray(np.sin(tables.price_angles), time.dtype)
    cosine = jnp.asarray(np.cos(tables.price_angles), time.dtype)
    earlier = _interpolate(tables.price_interpolation, log_boundary, _log_start(rate, dividend))
    elapsed = time * sine**2
    spread = volatility * jnp.sqrt(time) * sine
    d_plus = (log_spot - earlier + (rate - dividend) * elapsed) / spread + spread / 2
    rent = rate * jnp.exp(-rate * elapsed) * ndtr(spread - d_plus)
    forgone = dividend * jnp.exp(log_spot - dividend * elapsed) * ndtr(-d_plus)
    measure = 2 * time * sine * cosine * jnp.asarray(tables.price_weights, time.dtype)
    return jnp.sum(measure * (rent - forgone))
