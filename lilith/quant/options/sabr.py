"""SABR implied volatilities by Hagan's expansion, and the fit of its parameters to a smile.

dF = alpha F^beta dW, d alpha = nu alpha dZ, d<W, Z> = rho dt. Formulas from Hagan, Kumar,
Lesniewski and Woodward, "Managing Smile Risk" (Wilmott, 2002): lognormal volatility, equation
(2.17), and normal volatility, (A.69a) of its appendix, both to first order in time.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from lilith.quant.options.least_squares import levenberg_marquardt
from lilith.quant.precision import double_precision
from lilith.quant.special import log1p

OK = 0
INPUT_OUTSIDE = 1  # NaN, or a parameter outside its range
NOT_CONVERGED = 2  # the fit still moved in its last iteration


class SabrFit(NamedTuple):
    """Parameters fitted to a smile.

    Attributes:
      alpha, rho, nu: with beta as given.
      error: root mean square of model less quoted volatility.
      status: OK, INPUT_OUTSIDE (a quote is not a positive number) or NOT_CONVERGED.
    """

    alpha: Any
    rho: Any
    nu: Any
    error: Any
    status: Any


@double_precision
def lognormal_volatility(
    forward: Any, strike: Any, time: Any, alpha: Any, beta: Any, rho: Any, nu: Any
) -> Any:
    """Hagan's Black volatility, a year.

    Args:
      forward, strike: positive. time: years, at least 0.
      alpha: today's volatility of F^beta, above 0; beta: in [0, 1].
      rho: correlation, in (-1, 1); nu: volatility of alpha, a year, at least 0.

    Returns:
      volatilities of the broadcast shape, NaN where an argument is out of range. Differentiable,
      at strike = forward and nu = 0 too. The expansion can be negative far from the money at long
      times.
    """
    valid, forward, strike = _positive(forward, strike, time, alpha, beta, rho, nu)
    log_ratio = jnp.log(forward / strike)
    middle = (forward * strike) ** ((1 - beta) / 2)
    squared = ((1 - beta) * log_ratio) ** 2
    spread = 1 + squared / 24 + squared**2 / 1920
    factor = _z_over_x(nu / alpha * middle * log_ratio, rho)
    drift = ((1 - beta) * alpha / middle) ** 2 / 24
    drift += rho * beta * nu * alpha / (4 * middle) + (2 - 3 * rho**2) * nu**2 / 24
    return jnp.where(valid, alpha / (middle * spread) * factor * (1 + drift * time), jnp.nan)


@double_precision
def normal_volatility(
    forward: Any, strike: Any, time: Any, alpha: Any, beta: Any, rho: Any, nu: Any
) -> Any:
    """Hagan's Bachelier volatility, in units of the forward a year; as ``lognormal_volatility``."""
    valid, forward, strike = _positive(forward, strike, time, alpha, beta, rho, nu)
    log_ratio = jnp.log(forward / strike)
    middle = (forward * strike) ** ((1 - beta) / 2)
    squared, log_squared = ((1 - beta) * log_ratio) ** 2, log_ratio**2
    level = alpha * (forward * strike) ** (beta / 2)
    spread = (1 + log_squared / 24 + log_squared**2 / 1920) / (1 + squared / 24 + squared**2 / 1920)
    factor = _z_over_x(nu / alpha * middle * log_ratio, rho)
    drift = -beta * (2 - beta) * (alpha / middle) ** 2 / 24
    drift += rho * beta * nu * alpha / (4 * middle) + (2 - 3 * rho**2) * nu**2 / 24
    return jnp.where(valid, level * spread * factor * (1 + drift * time), jnp.nan)


def _positive(
    forward: Any, strike: Any, time: Any, alpha: Any, beta: Any, rho: Any, nu: Any
) -> tuple[Any, Any, Any]:
    """Whether all are in range; forward and strike, 1 where they are not."""
    valid = (forward > 0) & (strike > 0) & (time >= 0) & (alpha > 0) & (nu >= 0)
    valid &= (beta >= 0) & (beta <= 1) & (jnp.abs(rho) < 1)
    return valid, jnp.where(valid, forward, 1.0), jnp.where(valid, strike, 1.0)


def _z_over_x(z: Any, rho: Any) -> Any:
    """z / x(z), x = ln((sqrt(1 - 2 rho z + z^2) + z - rho) / (1 - rho)); 1 at z = 0.

    x(z; rho) = -x(-z; -rho): the form with z > 0 does not cancel. Near 0, the series.
    """
    z, rho = jnp.broadcast_arrays(z, rho)
    inside = jnp.abs(rho) < 1
    mirrored = z < 0
    rho = jnp.where(inside, jnp.where(mirrored, -rho, rho), 0.0)
    size = jnp.where(mirrored, -z, z)
    small = size < 1e-3
    near = jnp.where(small, size, 0.0)
    square = rho**2
    series = 1 + near * (
        -rho / 2
        + near * ((2 - 3 * square) / 12
        + near * (rho * (5 - 6 * square) / 24
        + near * (-34 + 240 * square - 225 * square**2) / 720))
    )  # fmt: skip
    far = jnp.where(small, 1.0, size)
    change = far * (far - 2 * rho)
    root = change / (1 + jnp.sqrt(1 + change))  # sqrt(1 - 2 rho z + z^2) - 1
    x = log1p((root + far) / (1 - rho))
    return jnp.where(small, series, far / x)


def calibrate(
    forward: Any, strikes: Any, time: Any, volatilities: Any, *, beta: Any = 1.0
) -> SabrFit:
    """Least-squares alpha, rho and nu of Black volatilities at ``strikes`` [n], at least three.

    Solved in ln alpha, atanh rho and ln nu by Levenberg and Marquardt from six starts at once.

    Args:
      forward, time, beta: scalars. volatilities: [n], a year.

    Raises:
      ValueError: fewer than three quotes, or lists of different lengths.
    """
    if np.shape(strikes) != np.shape(volatilities) or len(np.shape(strikes)) != 1:
        raise ValueError(
            f"strikes {np.shape(strikes)} and volatilities {np.shape(volatilities)} must be "
            "lists of one length"
        )
    if np.shape(strikes)[0] < 3:
        raise ValueError(f"{np.shape(strikes)[0]} quotes can not settle three parameters")
    return _calibrate(forward, strikes, time, volatilities, beta)


@double_precision
def _calibrate(forward: Any, strikes: Any, time: Any, volatilities: Any, beta: Any) -> SabrFit:
    quoted = (volatilities > 0) & (strikes > 0)
    valid = jnp.all(quoted) & (forward > 0) & (time >= 0)
    strikes, volatilities = jnp.where(valid, strikes, 1.0), jnp.where(valid, volatilities, 0.2)
    forward, time = jnp.where(valid, forward, 1.0), jnp.where(valid, time, 1.0)

    def parameters(x: Any) -> tuple[Any, Any, Any]:
        # rho stays inside +-0.9999, where the formula is defined.
        return jnp.exp(x[0]), 0.9999 * jnp.tanh(x[1]), jnp.exp(x[2])

    def residuals(x: Any) -> Any:
        alpha, rho, nu = parameters(x)
        model = lognormal_volatility(forward, strikes, time, alpha, beta, rho, nu)
        return model - volatilities

    near = volatilities[jnp.argmin(jnp.abs(jnp.log(strikes / forward)))]
    level = jnp.log(near) + (1 - beta) * jnp.log(forward)
    starts = jnp.stack([
        jnp.stack([level, jnp.arctanh(jnp.asarray(rho, level.dtype)), jnp.log(nu)])
        for rho in (-0.6, 0.0, 0.6)
        for nu in (jnp.asarray(0.2, level.dtype), 1.0 / jnp.sqrt(jnp.maximum(time, 0.05)))
    ])  # fmt: skip
    fit = levenberg_marquardt(residuals, starts)
    alpha, rho, nu = parameters(fit.x)
    error = jnp.sqrt(jnp.mean(residuals(fit.x) ** 2))
    status = jnp.where(valid, jnp.where(fit.converged, OK, NOT_CONVERGED), INPUT_OUTSIDE)
    alpha, rho, nu, error = (jnp.where(valid, each, jnp.nan) for each in (alpha, rho, nu, error))
    return SabrFit(alpha, rho, nu, error, status)
