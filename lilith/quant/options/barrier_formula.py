"""The closed form of barrier options for ordinary arguments; see ``barrier`` for what they are.

By reflection at the barrier, the option that dies there is the European option on the part of the
payoff on the living side less its image, which starts from level^2 / spot and is scaled by
(level / spot)^(2 mu), mu = (rate - dividend) / volatility^2 - 1/2. This is M. Rubinstein and E.
Reiner, "Breaking down the barriers", Risk 4 (1991), regrouped so that the option that comes to
life is a sum of positive parts; the scale is applied in logarithms, where it can not overflow.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from lilith.quant import special
from lilith.quant.options import black_scholes, normalised_black

_LARGEST_LOG = 2000.0  # above the logarithm of any finite ratio
_CANCELS = 0.25  # a difference below this part of its terms is computed as a sum instead
_WIDE = 20.0  # total volatility: then nodes would lose digits, and nothing cancels
_NODES = 64
_ORDER = 40  # of the expansion of Faddeeva's function


class Option(NamedTuple):
    """Arrays of one shape, named as the arguments of ``barrier.price``."""

    spot: jax.Array
    strike: jax.Array
    level: jax.Array
    time: jax.Array
    rate: jax.Array
    volatility: jax.Array
    dividend: jax.Array
    rebate: jax.Array
    is_call: jax.Array

    def terms(self) -> black_scholes.Terms:
        """Of the European option."""
        numbers = (self.spot, self.strike, self.time, self.rate, self.volatility, self.dividend)
        return black_scholes.terms(*numbers)


def closed_form(
    option: Option, whole: jax.Array, beyond: jax.Array, down: bool, out: bool
) -> jax.Array:
    """The price where the barrier is not touched yet and total volatility is above 0.

    ``whole`` and ``beyond`` are the results of :func:`whole_and_beyond`.
    """
    side = 1.0 if down else -1.0  # of the barrier on which the option lives: above or below it
    parts = option.terms()
    total, cash_factor = parts.total, parts.cash_factor
    carry = (option.rate - option.dividend) * option.time
    drift = (carry - 0.5 * total * total) / total
    to_level = _log(option.level, option.spot)
    log_scale = to_level * (2 * carry / (total * total) - 1)
    same_side = option.is_call == down  # does the payoff grow away from the barrier?
    edge = (jnp.maximum if down else jnp.minimum)(option.strike, option.level)
    edges = jnp.stack([option.level, edge])
    from_level, from_edge = _image(option, parts, edges, to_level, carry, log_scale, side)
    image = jnp.where(same_side, from_edge, from_level - from_edge)
    if out:
        alive = jnp.where(same_side, beyond, whole - beyond) - image
        summed = _quadrature(option, to_level, drift, total, down, living=True)
        cancels = alive < _CANCELS * (whole + jnp.abs(image))
        alive = jnp.where(cancels & (total < _WIDE), summed, alive)
        paid_at_hit = _value_of_hit(to_level / total, drift, option.rate * option.time, side)
        return alive + option.rebate * paid_at_hit
    summed = _quadrature(option, to_level, drift, total, down, living=False)
    cancels = whole - beyond < _CANCELS * whole
    dead = jnp.where(cancels & (total < _WIDE), summed, whole - beyond)
    dead = jnp.where(same_side, dead, beyond)
    untouched = special.ndtr(side * (drift - to_level / total)) - _scaled_ndtr(
        log_scale, side * (drift + to_level / total)
    )
    return dead + image + option.rebate * cash_factor * jnp.maximum(untouched, 0.0)


def _log(a: jax.Array, b: jax.Array) -> jax.Array:
    return jnp.clip(special.log_ratio(a, b), -_LARGEST_LOG, _LARGEST_LOG)


def _quadrature(
    option: Option,
    to_level: jax.Array,
    drift: jax.Array,
    total: jax.Array,
    down: bool,
    living: bool,
) -> jax.Array:
    """The payoff on one side of the barrier by Gauss's rule over its density, all terms positive.

    For small differences of the closed form. On the living side the density is that of the paths
    that have not touched the barrier: the normal one times 1 - exp(-2 a (a - y) / total^2), with a
    and y the logarithms of level and final spot over spot.
    """
    strike = _log(option.strike, option.spot) / total - drift  # in standard deviations, as u below
    level = to_level / total - drift
    above = down == living
    low = jnp.where(option.is_call, strike, -jnp.inf)
    high = jnp.where(option.is_call, jnp.inf, strike)
    low, high = (jnp.maximum(low, level), high) if above else (low, jnp.minimum(high, level))
    empty = low >= high
    # A window on what counts: the density times the spot is centred at ``total``, itself at 0.
    centre = jnp.where(option.is_call, total, 0.0)
    begin = jnp.minimum(high, centre)
    end = jnp.maximum(low, centre)
    begin = jnp.maximum(low, begin - _decay(centre - begin))
    end = jnp.minimum(high, end + _decay(end - centre))
    begin, end = jnp.where(empty, 0.0, begin), jnp.where(empty, 0.0, end)
    nodes, weights = np.polynomial.legendre.leggauss(_NODES)
    half = (0.5 * (end - begin))[..., None]
    u = begin[..., None] + half * (1 + nodes).astype(total.dtype)
    # A call is worth share (1 - K / S) in the share's density, a put cash (1 - S / K) in cash's.
    is_call, scale = option.is_call[..., None], total[..., None]
    density = special.norm_pdf(jnp.where(is_call, u - scale, u))
    density = density * -jnp.expm1(-scale * jnp.abs(u - strike[..., None]))
    if living:
        decay = 2 * (to_level / total)[..., None] * (level[..., None] - u)
        density = -jnp.expm1(-jnp.maximum(decay, 0.0)) * density
    summed = jnp.sum(half * weights.astype(total.dtype) * density, axis=-1)
    parts = option.terms()
    return jnp.where(empty, 0.0, jnp.where(option.is_call, parts.share, parts.cash) * summed)


def _decay(beyond: jax.Array) -> jax.Array:
    """How far past ``beyond`` standard deviations the normal density falls by exp(-40)."""
    return jnp.sqrt(beyond * beyond + 80) - beyond


def whole_and_beyond(option: Option, level: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The European option, and the one that pays only beyond ``level``, in the money there.

    The latter is the option struck at ``level`` (or at its own strike, if that is further in the
    money) and a fixed payment of what that is in the money.
    """
    further = jnp.where(
        option.is_call, jnp.maximum(option.strike, level), jnp.minimum(option.strike, level)
    )
    parts = option._replace(strike=jnp.stack([option.strike, further])).terms()
    whole, struck = normalised_black.discounted_price(*parts[:3], parts.total, option.is_call)
    sign = jnp.where(option.is_call, 1.0, -1.0).astype(level.dtype)
    _, d2 = normalised_black.d_values(parts.x[1], parts.total[1])
    fixed = sign * (further - option.strike) * parts.cash_factor[1]
    return whole, struck + fixed * special.ndtr(sign * d2)


def _image(
    option: Option,
    parts: black_scholes.Terms,
    edges: jax.Array,
    to_level: jax.Array,
    carry: jax.Array,
    log_scale: jax.Array,
    side: float,
) -> jax.Array:
    """The scaled images of the payoff (of either sign) on the living side of each of ``edges``."""
    total = parts.total
    sign = jnp.where(option.is_call, 1.0, -1.0).astype(total.dtype)
    middle = (to_level + _log(option.level, edges) + carry) / total
    share, cash = _scaled_ndtr(
        jnp.stack([log_scale + 2 * to_level, log_scale])[:, None],
        side * jnp.stack([middle + 0.5 * total, middle - 0.5 * total]),
    )
    return sign * (parts.share * share - parts.cash * cash)


def _value_of_hit(
    to_level: jax.Array, drift: jax.Array, rate_time: jax.Array, side: float
) -> jax.Array:
    """What 1 paid when the barrier is touched is worth: E[exp(-rate t); t at most time].

    ``to_level`` and ``drift`` are in units of the total volatility.
    """
    square = drift * drift + 2 * rate_time
    real = square > 0
    root = jnp.sqrt(jnp.where(real, square, 1.0))
    # The roots p, q of z^2 - 2 drift z - 2 rate_time, the smaller from their product.
    rises = drift >= 0
    larger = drift + jnp.where(rises, root, -root)
    smaller = -2 * jnp.where(real, rate_time, 0.0) / larger
    p, q = jnp.where(rises, larger, smaller), jnp.where(rises, smaller, larger)
    usual = _scaled_ndtr(
        to_level * jnp.stack([p, q]), side * (to_level + jnp.stack([root, -root]))
    ).sum(0)
    # With a rate so negative that the roots are complex, the two terms are conjugate.
    wave = jnp.sqrt(jnp.where(real, 1.0, jnp.where(square < 0, -square, 1.0)))
    wave = jnp.where(square < 0, wave, 0.0)
    scale = jnp.exp(jnp.where(real, 0.0, -0.5 * (to_level - drift) ** 2 - rate_time))
    offset = jnp.where(real, 1.0, jnp.abs(to_level))
    waving = scale * _faddeeva((wave + 1j * offset) * math.sqrt(0.5)).real
    return jnp.where(real, usual, waving)


@jax.custom_jvp
def _scaled_ndtr(log_scale: jax.Array, d: jax.Array) -> jax.Array:
    """exp(log_scale) ndtr(d), where one may overflow if the other underflows."""
    return jnp.exp(log_scale + special.log_ndtr(d))


@_scaled_ndtr.defjvp
def _scaled_ndtr_jvp(primals, tangents):
    (log_scale, d), (d_log_scale, d_d) = primals, tangents
    value = _scaled_ndtr(log_scale, d)  # the two broadcast
    return value, value * d_log_scale + _scaled_pdf(log_scale, d) * d_d


@jax.custom_jvp
def _scaled_pdf(log_scale: jax.Array, d: jax.Array) -> jax.Array:
    """exp(log_scale) norm_pdf(d)."""
    return jnp.exp(log_scale - 0.5 * d * d) * (1 / math.sqrt(2 * math.pi))


@_scaled_pdf.defjvp
def _scaled_pdf_jvp(primals, tangents):
    (log_scale, d), (d_log_scale, d_d) = primals, tangents
    value = _scaled_pdf(log_scale, d)
    return value, value * (d_log_scale - d * d_d)


def _faddeeva_coefficients() -> tuple[float, np.ndarray]:
    size = 4 * _ORDER
    scale = math.sqrt(_ORDER / math.sqrt(2))
    angles = np.arange(-size // 2 + 1, size // 2) * 2 * np.pi / size
    points = scale * np.tan(angles / 2)
    values = np.concatenate([[0.0], np.exp(-(points**2)) * (scale**2 + points**2)])
    coefficients = np.fft.fft(np.fft.fftshift(values)).real / size
    return scale, coefficients[1 : _ORDER + 1]


def _faddeeva(z: jax.Array) -> jax.Array:
    """w(z) = exp(-z^2) erfc(-i z) for Im z >= 0, to about 1e-13.

    J. Weideman, "Computation of the complex error function", SIAM J. Numerical Analysis 31 (1994).
    """
    scale, coefficients = _faddeeva_coefficients()
    inverse = 1 / (scale - 1j * z)
    ratio = (scale + 1j * z) * inverse
    series, _ = jax.lax.scan(
        lambda series, own: (series * ratio + own, None),
        jnp.zeros_like(ratio),
        coefficients[::-1].astype(z.real.dtype),
    )
    return inverse * (2 * series * inverse + 1 / math.sqrt(math.pi))
