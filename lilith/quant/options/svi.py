"""One maturity's smile: Gatheral's raw SVI, its fit and its no-butterfly condition.

Total variance w(k) = a + b (rho (k - m) + sqrt((k - m)^2 + sigma^2)) of k = ln(strike / forward),
where w = volatility^2 time (Gatheral, 2004). A slice is free of butterfly arbitrage where
g(k) = (1 - k w' / (2 w))^2 - w'^2 / 4 (1 / w + 1 / 4) + w'' / 2 >= 0, the sign of the density
(Gatheral and Jacquier, "Arbitrage-free SVI volatility surfaces", 2014).
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from lilith.quant.options.least_squares import levenberg_marquardt
from lilith.quant.precision import double_precision

OK = 0
INPUT_OUTSIDE = 1  # a volatility or the time is not positive, or something is not a number
NOT_CONVERGED = 2
LEAST_QUOTES = 5  # as many as parameters


class Svi(NamedTuple):
    """The raw parameters; arrays of one shape are as many slices."""

    a: Any
    b: Any
    rho: Any
    m: Any
    sigma: Any


class SviFit(NamedTuple):
    """A fitted slice.

    Attributes:
      parameters: with a + b sigma sqrt(1 - rho^2) > 0 (positive variance) and
        b (1 + |rho|) <= 2 (Lee's bound on the wings).
      error: root mean square of model less quoted volatility.
      status: OK, INPUT_OUTSIDE or NOT_CONVERGED.
    """

    parameters: Svi
    error: Any
    status: Any


@double_precision
def total_variance(parameters: Svi, log_moneyness: Any) -> Any:
    """w(k): variance to expiry; parameters and ``log_moneyness`` broadcast."""
    a, b, rho, m, sigma = parameters
    shift = log_moneyness - m
    return a + b * (rho * shift + jnp.sqrt(shift**2 + sigma**2))


@double_precision
def butterfly(parameters: Svi, log_moneyness: Any) -> Any:
    """g(k); where it is negative so is the risk-neutral density, and a butterfly is free money."""
    _, b, rho, m, sigma = parameters
    shift = log_moneyness - m
    root = jnp.sqrt(shift**2 + sigma**2)
    w = total_variance(parameters, log_moneyness)
    slope = b * (rho + shift / root)
    curvature = b * sigma**2 / root**3
    return (
        (1 - log_moneyness * slope / (2 * w)) ** 2 - slope**2 / 4 * (1 / w + 0.25) + curvature / 2
    )


def fit(log_moneyness: Any, volatilities: Any, time: Any) -> SviFit:
    """Least squares in volatility over quotes [n], n at least 5, from nine starts at once.

    Args:
      log_moneyness: ln(strike / forward) [n]; volatilities: a year [n]; time: years.

    Raises:
      ValueError: fewer than five quotes, or lists of different lengths.
    """
    shape = np.shape(log_moneyness)
    if shape != np.shape(volatilities) or len(shape) != 1:
        raise ValueError(
            f"log_moneyness {shape} and volatilities {np.shape(volatilities)} must be lists of "
            "one length"
        )
    if shape[0] < LEAST_QUOTES:
        raise ValueError(f"{shape[0]} quotes can not settle SVI's {LEAST_QUOTES} parameters")
    return _fit(log_moneyness, volatilities, time)


@double_precision
def _fit(k: Any, volatilities: Any, time: Any) -> SviFit:
    valid = jnp.all(jnp.isfinite(k) & (volatilities > 0)) & (time > 0) & jnp.isfinite(time)
    k = jnp.where(valid, k, jnp.linspace(-1.0, 1.0, len(k), dtype=k.dtype))
    volatilities, time = jnp.where(valid, volatilities, 0.2), jnp.where(valid, time, 1.0)

    def residuals(x: Any) -> Any:
        return jnp.sqrt(total_variance(_parameters(x), k) / time) - volatilities

    w = volatilities**2 * time
    width = jnp.maximum(jnp.max(k) - jnp.min(k), 1e-3)
    floor = jnp.log(jnp.maximum(jnp.min(w), 1e-12))
    lowest = k[jnp.argmin(w)]
    # The mean slope of the wings, kept under Lee's bound, sets b.
    steep = jnp.clip((jnp.max(w) - jnp.min(w)) / width, 1e-3, 1.5)
    logit = jnp.log(steep / 2) - jnp.log1p(-steep / 2)
    starts = jnp.stack([
        jnp.stack([floor, logit, jnp.asarray(skew, k.dtype), lowest, jnp.log(width * share)])
        for skew in (-0.7, 0.0, 0.7)  # atanh rho
        for share in (0.05, 0.25, 1.0)
    ])  # fmt: skip
    found = levenberg_marquardt(residuals, starts)
    parameters = _parameters(found.x)
    error = jnp.sqrt(found.cost / len(k))
    status = jnp.where(valid, jnp.where(found.converged, OK, NOT_CONVERGED), INPUT_OUTSIDE)
    parameters, error = jax.tree.map(
        lambda each: jnp.where(valid, each, jnp.nan), (parameters, error)
    )
    return SviFit(parameters, error, status)


def _parameters(x: Any) -> Svi:
    """Of ln(least variance), logit of b over Lee's bound, atanh rho, m and ln sigma."""
    rho = 0.9999 * jnp.tanh(x[2])
    b = 2 * jax.nn.sigmoid(x[1]) / (1 + jnp.abs(rho))
    sigma = jnp.exp(x[4])
    return Svi(jnp.exp(x[0]) - b * sigma * jnp.sqrt(1 - rho**2), b, rho, x[3], sigma)
