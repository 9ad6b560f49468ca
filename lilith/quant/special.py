"""Special functions to a few eps in float32 and float64, under jit, vmap and grad of any order.

XLA's own are not accurate enough on a CPU in float64: ``log1p`` is 119 eps off on
[-0.414, -0.366], ``erfc`` hundreds of eps in its tail, ``log_ndtr(-20)`` 2e-11. Those here are
built on XLA's ``exp`` and ``log`` (under 1 eps) alone, without branches or loops.

The centre is one polynomial for the scaled complementary error function: with y at least -3/4,
(y + 5/2) erfcx(y) is a Chebyshev series in t = 1 - 6.5 / (y + 4), as in M. Shepherd and J.
Laframboise, "Chebyshev approximation of (1 + 2x) exp(x^2) erfc(x) in 0 <= x < inf", Mathematics
of Computation 36 (1981), with our own map, range and coefficients.

What several formulas share ends in a division wherever it can: XLA repeats cheap operations in
every place that uses them, a whole polynomial too, but not a division.
"""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

ERFCX_LOWEST = -0.75  # where the range of the series begins
ERFCX_SHIFT = 2.5  # the series is of (y + shift) erfcx(y) ...
ERFCX_SCALE, ERFCX_POLE = 6.5, 4.0  # ... in t = 1 - scale / (y + pole), which is in [-1, 1]
# Coefficients of t^0, t^1, ...: the Chebyshev series cut where its tail is below 1e-17 and 1e-8.
ERFCX_FLOAT64 = (
    1.054031820305718, -1.0460474042708934, 1.0809290784165546, -0.9306519467711474,
    0.6549826041685007, -0.3605316442571332, 0.13809405845879993, -0.02022132435550125,
    -0.015582107119862673, 0.01264021770534809, -0.0032831595041230913, -0.0008286774223406597,
    0.0008104407294984287, -6.633873045876138e-05, -0.00013014506037603658, 3.3487988886219025e-05,
    2.0422895046294606e-05, -8.236262659294122e-06, -3.6315291092641234e-06, 1.7324930241779085e-06,
    7.499517590883947e-07, -3.237908515539333e-07, -1.5899547161634772e-07, 4.7749172419966434e-08,
    2.729710710592388e-08, -3.975588200896171e-09, -2.5661424875373135e-09,
)  # fmt: skip
ERFCX_FLOAT32 = (
    1.0540318110279392, -1.0460474221714178, 1.0809299976776912, -0.9306515635364259,
    0.6549676771445095, -0.3605333252603403, 0.13818551132172543, -0.020223141100116266,
    -0.015851817324452715, 0.012666202108712974, -0.002865875009140986, -0.0008911668786168744,
    0.00047270126825121363,
)  # fmt: skip
# (atanh(s) / s - 1) / s^2 for s at most 1/3, in powers of s^2, from its Chebyshev series.
_ATANH_TAIL = (
    0.3333333333333333, 0.20000000000007456, 0.1428571428351453, 0.11111111362409382,
    0.09090894546491375, 0.07692789505129312, 0.06657003641335145, 0.060011469977136564,
    0.04397433369474833, 0.08087903454072548,
)  # fmt: skip
FAR = 1e15  # stands for infinity where infinity times zero would be met
_TAIL = 50.0  # the normal density is 0 beyond it in float64 (38.6) and float32 (13)


def erfcx_series(t: jax.Array) -> jax.Array:
    """(y + ERFCX_SHIFT) erfcx(y) of t = 1 - ERFCX_SCALE / (y + ERFCX_POLE)."""
    return _polynomial(erfcx_coefficients(t), t)


def erfcx_coefficients(like: jax.Array) -> tuple[float, ...]:
    """The series' coefficients for the precision of ``like``, lowest power first."""
    return ERFCX_FLOAT64 if like.dtype == jnp.float64 else ERFCX_FLOAT32


@jax.custom_jvp
def erfcx(x: ArrayLike) -> jax.Array:
    """exp(x^2) erfc(x), elementwise; infinite below about -26.6 (-9.4 in float32)."""
    x = floating(x)
    above = jnp.where(x < ERFCX_LOWEST, -x, x)
    scaled = erfcx_series(1 - ERFCX_SCALE / (above + ERFCX_POLE)) / (above + ERFCX_SHIFT)
    return jnp.where(x < ERFCX_LOWEST, 2 * exp_square(x, 1.0) - scaled, scaled)


@erfcx.defjvp
def _erfcx_jvp(primals, tangents):  # d erfcx = 2 x erfcx - 2 / sqrt(pi)
    (x,), (dx,) = primals, tangents
    return erfcx(x), _erfcx_slope(floating(x)) * dx


@jax.custom_jvp
def _erfcx_slope(x: jax.Array) -> jax.Array:
    """The derivative of erfcx, from the series: 2 x erfcx - 2 / sqrt(pi) cancels for large x."""
    near = jnp.where(x < ERFCX_LOWEST, 0.0, x)
    inverse = 1 / (near + ERFCX_POLE)
    value, slope = polynomial_difference(1 - ERFCX_SCALE * inverse, 1 - ERFCX_SCALE * inverse)
    shifted = 1 / (near + ERFCX_SHIFT)
    above = shifted * (ERFCX_SCALE * inverse * inverse * slope - value * shifted)
    return jnp.where(x < ERFCX_LOWEST, 2 * x * erfcx(x) - 2 / math.sqrt(math.pi), above)


@_erfcx_slope.defjvp
def _erfcx_slope_jvp(primals, tangents):
    (x,), (dx,) = primals, tangents
    slope = _erfcx_slope(x)
    return slope, (2 * erfcx(x) + 2 * jnp.minimum(x, FAR) * slope) * dx


def polynomial_difference(t_low: jax.Array, t_high: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The erfcx series at ``t_high``, and its divided difference between the two points.

    The difference quotient comes from Horner's scheme itself, so that it has no cancellation
    however near the points are; at equal points it is the derivative.
    """
    coefficients = erfcx_coefficients(t_high)
    value = jnp.full_like(t_high, coefficients[-1])
    quotient = jnp.zeros_like(t_high)
    for coefficient in reversed(coefficients[:-1]):
        quotient = quotient * t_low + value
        value = value * t_high + coefficient
    return value, quotient


@jax.custom_jvp
def norm_pdf(x: ArrayLike) -> jax.Array:
    """The standard normal density, elementwise; derivatives are 0 in the tails, not NaN."""
    return exp_square(floating(x), -0.5, math.sqrt(2 * math.pi))


@norm_pdf.defjvp
def _norm_pdf_jvp(primals, tangents):
    (x,), (dx,) = primals, tangents
    density = norm_pdf(x)
    return density, -jnp.clip(floating(x), -_TAIL, _TAIL) * density * dx


@jax.custom_jvp
def ndtr(x: ArrayLike) -> jax.Array:
    """The standard normal distribution function, elementwise, with relative accuracy below 0."""
    x = floating(x)
    below = half_erfcx(jnp.abs(x)) * exp_square(x, -0.5)
    return jnp.where(x < 0, below, 1 - below)


@ndtr.defjvp
def _ndtr_jvp(primals, tangents):
    (x,), (dx,) = primals, tangents
    return ndtr(x), norm_pdf(x) * dx


def half_erfcx(z: jax.Array) -> jax.Array:
    """ndtr(-z) exp(z^2 / 2) = erfcx(z / sqrt 2) / 2 for z at least 0."""
    y = z * math.sqrt(0.5)
    return erfcx_series(1 - ERFCX_SCALE / (y + ERFCX_POLE)) / (2 * (y + ERFCX_SHIFT))


@jax.custom_jvp
def log_ndtr(x: ArrayLike) -> jax.Array:
    """The logarithm of :func:`ndtr`, elementwise, accurate in both tails."""
    x = floating(x)
    scaled = half_erfcx(jnp.abs(x))
    upper = log1p(-scaled * exp_square(x, -0.5))
    return jnp.where(x < 0, jnp.log(scaled) - 0.5 * x * x, upper)


@log_ndtr.defjvp
def _log_ndtr_jvp(primals, tangents):
    (x,), (dx,) = primals, tangents
    return log_ndtr(x), hazard(x) * dx


@jax.custom_jvp
def hazard(x: ArrayLike) -> jax.Array:
    """norm_pdf / ndtr, the derivative of :func:`log_ndtr`, elementwise; near -x for x << 0."""
    x = floating(x)
    below = (1 / math.sqrt(2 * math.pi)) / half_erfcx(jnp.maximum(-x, 0.0))
    return jnp.where(x < 0, below, norm_pdf(x) / ndtr(jnp.maximum(x, 0.0)))


@hazard.defjvp
def _hazard_jvp(primals, tangents):
    (x,), (dx,) = primals, tangents
    x, value = floating(x), hazard(x)
    # -hazard (x + hazard), which cancels for x << 0: there -hazard^2 d (1 / hazard).
    below = jnp.clip(x, -FAR, 0.0)
    inverse_slope = -0.5 * math.sqrt(math.pi) * _erfcx_slope(-below * math.sqrt(0.5))
    above = -value * (jnp.clip(x, 0.0, _TAIL) + value)
    return value, jnp.where(x < 0, -(hazard(below) ** 2) * inverse_slope, above) * dx


@jax.custom_jvp
def log1p(x: ArrayLike) -> jax.Array:
    """log(1 + x), elementwise: 2 atanh(x / (2 + x)) on [-1/2, 1], the plain logarithm outside."""
    x = floating(x)
    inside = (x >= -0.5) & (x <= 1.0)
    near = jnp.where(inside, x, 0.0)
    ratio = near / (2 + near)
    # x - ratio (x - 2 ratio^2 (1/3 + ...)): the correction to x is small, and so is its rounding.
    tail = _polynomial(_ATANH_TAIL, ratio * ratio)
    return jnp.where(inside, near - ratio * (near - 2 * ratio * ratio * tail), jnp.log(1 + x))


@log1p.defjvp
def _log1p_jvp(primals, tangents):
    (x,), (dx,) = primals, tangents
    return log1p(x), dx / (1 + floating(x))


@jax.custom_jvp
def log_ratio(a: ArrayLike, b: ArrayLike) -> jax.Array:
    """log(a / b) for a, b at least 0, elementwise; to a few eps of itself also where a is near b.

    Where a (or b) is 0 it is infinite, and its derivative there is given as 0: what it enters (a
    density far in the tail) vanishes faster than it grows.
    """
    a, b = floating(a), floating(b)
    quotient = a / b
    # What the division rounded off, from the exact product: log(a / b) = log(q) + (a - q b) / a.
    usual = (quotient > 0) & (quotient < jnp.inf) & (a < jnp.inf)
    factor, divisor = jnp.where(usual, quotient, 1.0), jnp.where(usual, b, 1.0)
    f, g = shortened(factor), shortened(divisor)
    rest = ((f * g - a) + f * (divisor - g) + (factor - f) * g) + (factor - f) * (divisor - g)
    return jnp.log(quotient) - jnp.where(usual, rest / jnp.where(usual, a, 1.0), 0.0)


@log_ratio.defjvp
def _log_ratio_jvp(primals, tangents):
    (a, b), (da, db) = primals, tangents
    return log_ratio(a, b), _over(da, floating(a)) - _over(db, floating(b))


def safe_sqrt(value: jax.Array) -> jax.Array:
    """The square root; 0, with derivative 0 instead of infinity, at 0 and below. NaN stays NaN."""
    positive = value > 0
    return jnp.where(positive, jnp.sqrt(jnp.where(positive, value, 1)), value * 0)


def _over(change: jax.Array, value: jax.Array) -> jax.Array:
    return jnp.where(value != 0, change / jnp.where(value != 0, value, 1.0), 0.0)


def exp_square(x: jax.Array, scale: float, divisor: float = 1.0) -> jax.Array:
    """exp(scale x^2) / divisor for ``scale`` a power of two, to about 1 eps however large x is.

    x is split in a short and a small part; the short one squares without rounding.
    """
    x = jnp.clip(x, -_TAIL, _TAIL)
    short = shortened(x)
    rest = scale * (x - short) * (x + short)
    inverse = 1 - rest * (1 - rest * (1 / 2 - rest * (1 / 6 - rest * (1 / 24))))  # exp(-rest)
    return jnp.exp(scale * short * short) / (divisor * inverse)


def shortened(x: jax.Array) -> jax.Array:
    """``x`` in half its digits, so that the product of two such numbers is exact."""
    exponent_bits, mantissa_bits = (11, 25) if x.dtype == jnp.float64 else (8, 11)
    return jax.lax.reduce_precision(x, exponent_bits, mantissa_bits)


def floating(x: ArrayLike) -> jax.Array:
    """``x`` as an array of floating-point numbers, in the precision it has."""
    array = jnp.asarray(x)  # of a Python number: of the precision of what it is combined with
    return array if jnp.issubdtype(array.dtype, jnp.floating) else array.astype(float)


def _polynomial(coefficients: tuple[float, ...], x: jax.Array) -> jax.Array:
    value = jnp.full_like(x, coefficients[-1])
    for coefficient in reversed(coefficients[:-1]):
        value = value * x + coefficient
    return value
