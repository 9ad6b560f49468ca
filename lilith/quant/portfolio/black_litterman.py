"""Black-Litterman: expected returns from an equilibrium and an investor's views.

Formulas and the default view uncertainty of He and Litterman, "The intuition behind
Black-Litterman model portfolios" (1999).
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax.numpy as jnp
from jax import Array
from jax.scipy.linalg import cho_factor, cho_solve

from lilith.quant.portfolio.answer import COMPILER_OPTIONS
from lilith.quant.precision import double_precision


class Posterior(NamedTuple):
    """What views make of a prior.

    Attributes:
      expected_returns: the posterior mean, [n].
      uncertainty: the covariance of that mean, M, [n, n].
      covariance: of returns, Sigma + M, [n, n].
    """

    expected_returns: Array
    uncertainty: Array
    covariance: Array


@double_precision(compiler_options=COMPILER_OPTIONS)
def implied_returns(
    covariance: Any, market_weights: Any, risk_aversion: Any, *, risk_free_rate: Any = 0.0
) -> Array:
    """The expected returns, [n], at which the market's weights are optimal.

    ``risk_free_rate + risk_aversion Sigma w`` for weights w, [n], and covariance Sigma, [n, n].
    """
    return risk_free_rate + risk_aversion * (jnp.asarray(covariance) @ jnp.asarray(market_weights))


@double_precision(compiler_options=COMPILER_OPTIONS)
def black_litterman(
    covariance: Any,
    prior: Any,
    views: Any,
    view_returns: Any,
    *,
    tau: Any = 0.05,
    view_covariance: Any = None,
) -> Posterior:
    """The posterior mean and covariance of returns.

    ``prior + tau Sigma P' (P tau Sigma P' + Omega)⁻¹ (Q - P prior)``.

    Args:
      covariance: Sigma, [n, n]; prior: equilibrium returns, [n].
      views: P, [k, n], a portfolio a row; view_returns: Q, [k], what each is expected to return.
      tau: the prior's uncertainty as a part of Sigma, above 0.
      view_covariance: Omega, [k, k] or its diagonal [k]; by default He and Litterman's
        ``diag(P tau Sigma P')``. Zeros are certain views.
    """
    sigma, prior = jnp.asarray(covariance), jnp.asarray(prior)
    p, q = jnp.asarray(views), jnp.asarray(view_returns)
    cross = tau * (sigma @ p.T)  # [n, k]
    spread = p @ cross
    omega = jnp.diagonal(spread) if view_covariance is None else jnp.asarray(view_covariance)
    omega = jnp.diag(omega) if omega.ndim == 1 else omega
    factor = cho_factor(spread + omega, lower=True)
    mean = prior + cross @ cho_solve(factor, q - p @ prior)
    uncertainty = tau * sigma - cross @ cho_solve(factor, cross.T)
    uncertainty = (uncertainty + uncertainty.T) / 2
    return Posterior(mean, uncertainty, sigma + uncertainty)
