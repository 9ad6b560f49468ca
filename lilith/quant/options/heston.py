"""European options under Heston's stochastic variance, by one integral of the transform.

dS/S = (r - q) dt + sqrt(v) dW, dv = kappa (theta - v) dt + xi sqrt(v) dZ, d<W, Z> = rho dt. The
moment function E[e^(s X)] of X = ln(S_T / F) is Heston's (1993) in the form without branch
crossings (Albrecher, Mayer, Schoutens and Tistaert, "The little Heston trap", 2007), rearranged so
that xi = 0 is no special case. An option out of the money is

    value / F = 1/pi Integral_0^inf Re[e^(-(s - 1) k) E[e^(s X)] / (s (s - 1))] du,   s = a + i u,

k = ln(K / F), with a > 1 for a call and a < 0 for a put (Lewis, 2001; Lord and Kahl, 2007): there
is nothing to cancel, so small prices keep their digits. a is the integrand's saddle. The line is
bent to a hyperbola, s = a + c (tan(tilt) (cosh t - 1) + i sinh t), along which the integrand falls
fastest and hardly turns (Boyarchenko and Levendorskii, 2019): the moment function's singularities
all lie on the real axis. There the trapezoidal rule converges exponentially.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from lilith.quant.options.shapes import broadcast_options, map_options
from lilith.quant.precision import QUICK_COMPILATION, double_precision

OK = 0
INPUT_OUTSIDE = 1  # see ``price``

POINTS = 256  # of the trapezoidal rule
GRID = 32  # points of each search for the saddle
FARTHEST = 60.0  # t where the integral ends at the latest
CUT = 46.0  # ln of what the integrand has fallen by at the end: 1e-20
TILT = 0.55  # at most, in radians: steeper than pi / 4 the Gaussian part would grow
NARROW = 0.02  # with less room than this beside the pole, the line a = 1/2 is taken
BATCH = 256


class Heston(NamedTuple):
    """The model's parameters: today's variance, its speed, mean, volatility and correlation."""

    variance: Any
    reversion: Any
    mean: Any
    variance_volatility: Any
    correlation: Any


@double_precision(compiler_options=QUICK_COMPILATION)
def price(
    spot: Any,
    strike: Any,
    time: Any,
    rate: Any,
    variance: Any,
    reversion: Any,
    mean: Any,
    variance_volatility: Any,
    correlation: Any,
    *,
    dividend: Any = 0.0,
    is_call: Any = True,
) -> Any:
    """Price of a European option.

    Args:
      spot, strike: positive, in one currency.
      time: years, at least 0; rate, dividend: continuously compounded, a year.
      variance: v0, today's, at least 0 (0.04 is a volatility of 20%).
      reversion: kappa, a year, above 0.
      mean: theta, the long-run variance, at least 0.
      variance_volatility: xi, at least 0; at 0 the variance moves as its mean does.
      correlation: rho, in [-1, 1].
      is_call: booleans. All of these broadcast, and all but the last are differentiable.

    Returns:
      prices, to about 1e-12 relative down to tiny ones; NaN where an input is outside its range
      (``status`` is INPUT_OUTSIDE there).
    """
    options = broadcast_options(
        spot, strike, time, rate, variance, reversion, mean, variance_volatility, correlation,
        dividend, is_call,
    )  # fmt: skip
    return map_options(_price, options, BATCH)


@double_precision
def status(
    spot: Any, strike: Any, time: Any, variance: Any, reversion: Any, mean: Any,
    variance_volatility: Any, correlation: Any,
) -> Any:  # fmt: skip
    """OK or INPUT_OUTSIDE, for the ranges of ``price``."""
    valid = (spot > 0) & (strike > 0) & (time >= 0)
    valid &= (variance >= 0) & (reversion > 0) & (mean >= 0)
    valid &= (variance_volatility >= 0) & (jnp.abs(correlation) <= 1)
    return jnp.where(valid, OK, INPUT_OUTSIDE)


@double_precision
def log_moment(
    exponent: Any,
    time: Any,
    variance: Any,
    reversion: Any,
    mean: Any,
    variance_volatility: Any,
    correlation: Any,
) -> Any:
    """ln E[e^(s X)], X = ln(S_T / F), for complex ``exponent`` s: the log characteristic function
    at u is that of s = i u."""
    return _log_moment(
        exponent, time, Heston(variance, reversion, mean, variance_volatility, correlation)
    )


def _log_moment(s: Any, time: Any, model: Heston) -> Any:
    # Off the real axis the root has a positive real part, and 1 + w keeps clear of the cut of the
    # logarithm, on the tilted lines of ``_Contour`` too.
    kappa, xi = model.reversion, model.variance_volatility
    beta = kappa - model.correlation * xi * s
    product = s - s * s
    root = jnp.sqrt(beta**2 + xi**2 * product + 0j)
    still = jnp.abs(root) * time < 1e-9
    fade = jnp.where(
        still, time / 2, -jnp.expm1(-root * time) / (2 * jnp.where(still, 1.0, root))
    )  # (1 - e^(-D T)) / (2 D)
    # (beta - D) / xi^2, by whichever of its forms does not cancel.
    forward = beta.real >= 0
    gentle = -product / jnp.where(forward, beta + root, 1.0)
    steep = (beta - root) / jnp.where(forward, 1.0, xi) ** 2
    slope = jnp.where(forward, gentle, steep)
    w = xi**2 * slope * fade
    growth = slope * (time - 2 * fade * _log1p_over(w))
    return kappa * model.mean * growth - model.variance * product * fade / (1 + w)


def _log1p_over(w: Any) -> Any:
    """ln(1 + w) / w of complex w."""
    small = jnp.abs(w) < 0.1
    near = jnp.where(small, w, 0.0)
    t = (near / (2 + near)) ** 2
    series = jnp.zeros_like(t)
    for odd in range(13, 0, -2):  # 2 atanh(w / (2 + w)) = 2 t (1 + t^2 / 3 + t^4 / 5 + ...)
        series = series * t + 1.0 / odd
    far = jnp.where(small, 1.0, w)
    return jnp.where(small, 2 / (2 + near) * series, jnp.log(1 + far) / far)


def _explosion_time(a: Any, model: Heston) -> Any:
    """When E[S^a] becomes infinite, for real a > 1 or a < 0 (Andersen and Piterbarg, 2007)."""
    kappa, xi = model.reversion, model.variance_volatility
    chi = model.correlation * xi * a - kappa
    square = chi**2 - xi**2 * (a * a - a)
    real = jnp.sqrt(jnp.maximum(square, 0.0))
    circling = jnp.sqrt(jnp.maximum(-square, 1e-300))
    late = 2 / circling * jnp.arctan2(circling, chi)
    parted = chi - real > 0
    soon = jnp.log(
        jnp.where(parted, chi + real, 1.0) / jnp.where(parted, chi - real, 1.0)
    ) / jnp.maximum(real, 1e-300)
    return jnp.where(square < 0, late, jnp.where(parted & (real > 0), soon, jnp.inf))


def _zoom(function: Callable[[Any], Any], low: Any, high: Any) -> Any:
    """Where in [low, high] a function with one valley is least, from ever closer grids."""
    shares = jnp.linspace(0.0, 1.0, GRID, dtype=low.dtype)

    def turn(_: int, bounds: tuple[Any, Any]) -> tuple[Any, Any]:
        low, high = bounds
        points = low + (high - low) * shares
        best = jnp.argmin(function(points))
        return points[jnp.maximum(best - 1, 0)], points[jnp.minimum(best + 1, GRID - 1)]

    low, high = jax.lax.fori_loop(0, 5, turn, (low, high))
    return (low + high) / 2


class _Contour(NamedTuple):
    start: Any  # a
    scale: Any  # c
    slope: Any  # tan(tilt)
    end: Any  # t where the integrand is negligible

    def at(self, t: Any) -> Any:
        sideways = self.slope * (jnp.cosh(t) - 1)
        return self.start + self.scale * (sideways + 1j * jnp.sinh(t))

    def speed(self, t: Any) -> Any:
        """ds / dt."""
        return self.scale * (self.slope * jnp.sinh(t) + 1j * jnp.cosh(t))


def _contour(k: Any, time: Any, model: Heston) -> _Contour:
    side = jnp.where(k >= 0, 1.0, -1.0).astype(k.dtype)  # of the pole at 1 (calls) or 0 (puts)

    def beside(log_gap: Any) -> Any:
        return jnp.where(side > 0, 1.0, 0.0) + side * jnp.exp(log_gap)

    def size(s: Any) -> Any:
        """ln of the integrand's absolute value."""
        grown = _log_moment(s, time, model).real
        return grown - (s.real - 1) * k - jnp.log(jnp.abs(s * (s - 1)))

    lowest, highest = jnp.log(1e-4).astype(k.dtype), jnp.log(1e5).astype(k.dtype)
    # The moment is finite up to some distance from the pole.
    room = _zoom(
        lambda gap: jnp.where(_explosion_time(beside(gap), model) > time, -gap, jnp.inf),
        lowest,
        highest,
    )
    gap = _zoom(lambda gap: size(beside(gap) + 0j), lowest, room - 1e-3)
    narrow = jnp.exp(room) < NARROW
    start = jnp.where(narrow, 0.5, beside(gap))
    to_edge = jnp.exp(room) - jnp.exp(gap)
    scale = jnp.where(narrow, 0.5, jnp.minimum(jnp.exp(gap), to_edge))
    # Far out the integrand is exp(s (w e^(i angle) - k)): where that falls fastest.
    weight = model.variance + model.reversion * model.mean * time
    xi, rho = model.variance_volatility, model.correlation
    across = weight * jnp.sqrt(jnp.maximum(1 - rho**2, 0.0))
    tilt = jnp.arctan2(across, -weight * rho - xi * k) - math.pi / 2
    slope = jnp.tan(jnp.clip(tilt, -TILT, TILT))
    contour = _Contour(start, scale, slope, 0.0)
    t = jnp.linspace(0.0, FARTHEST, 601, dtype=k.dtype)
    sizes = size(contour.at(t))
    return contour._replace(end=jnp.max(jnp.where(sizes > sizes[0] - CUT, t, 0.0)) + t[1])


def _price(options: tuple[Any, ...]) -> Any:
    """One option."""
    spot, strike, time, rate, *parameters, dividend, is_call = options
    given = Heston(*parameters)
    valid = status(spot, strike, time, *given) == OK
    risky = valid & (time > 0) & (given.variance + given.mean > 0)
    fillers = Heston(0.04, 1.0, 0.04, 0.5, -0.5)
    model = Heston(*(jnp.where(risky, own, filler) for own, filler in zip(given, fillers)))
    own_time = jnp.where(risky, time, 1.0)
    forward = spot * jnp.exp((rate - dividend) * time)
    k = jnp.log(jnp.where(risky, strike / forward, 1.0))

    contour = jax.lax.stop_gradient(_contour(k, own_time, model))
    spacing = contour.end / (POINTS - 1)
    t = spacing * jnp.arange(POINTS, dtype=k.dtype)
    s = contour.at(t)
    values = jnp.exp(_log_moment(s, own_time, model) - (s - 1) * k) / (s * (s - 1))
    weights = spacing * jnp.where(t > 0, 1.0, 0.5)
    integral = jnp.sum(weights * (values * contour.speed(t)).imag) / math.pi
    line = contour.start

    # The integral is a call for a > 1, a put for a < 0, and a call less the forward between.
    parity = 1 - jnp.exp(k)  # a call less a put
    call = integral + jnp.where(line > 1, 0.0, jnp.where(line < 0, parity, 1.0))
    put = integral - jnp.where(line > 1, parity, jnp.where(line < 0, 0.0, parity - 1.0))
    value = forward * jnp.where(is_call, call, put)
    certain = jnp.where(is_call, 1.0, -1.0) * (forward - strike)
    value = jnp.where(risky, value, jnp.maximum(certain, 0.0))
    return jnp.where(valid, jnp.exp(-rate * time) * value, jnp.nan)
