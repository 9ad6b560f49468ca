"""Hierarchical risk parity (López de Prado, J. Portfolio Management 42(4), 2016).

Assets are ordered by hierarchical clustering of the correlation distance, and the budget is split
down the order by halves, each half getting a share inverse to its variance.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from lilith.quant.portfolio.answer import COMPILER_OPTIONS, Portfolio, describe
from lilith.quant.precision import double_precision

LINKAGES = ("single", "complete", "average", "ward")


def hierarchical_order(covariance: Any, *, linkage: str = "single") -> np.ndarray:
    """The assets in the order of the leaves of their clusters, [n] integers. Runs on the host.

    The distance of two assets is ``sqrt((1 - correlation) / 2)``; clusters are joined by scipy's
    ``linkage``, single by default as in the paper. Raises ValueError where a variance is not
    positive or ``linkage`` is unknown.
    """
    from scipy.cluster import hierarchy

    covariance = np.asarray(covariance, np.float64)
    if linkage not in LINKAGES:
        raise ValueError(f"linkage is {linkage!r}; known: {', '.join(LINKAGES)}")
    variances = np.diagonal(covariance)
    if not (variances > 0).all():
        raise ValueError(
            f"variance {int(np.argmin(variances))} is {variances.min():g}, not above 0"
        )
    if len(covariance) == 1:
        return np.zeros(1, np.int64)
    spreads = np.sqrt(variances)
    correlation = np.clip(covariance / np.outer(spreads, spreads), -1.0, 1.0)
    first, second = np.triu_indices(len(covariance), 1)
    distances = np.sqrt((1.0 - correlation[first, second]) / 2.0)
    return hierarchy.leaves_list(hierarchy.linkage(distances, linkage)).astype(np.int64)


@double_precision(compiler_options=COMPILER_OPTIONS)
def hierarchical_risk_parity(
    covariance: Any, order: Any, expected_returns: Any = None, *, risk_free_rate: Any = 0.0
) -> Portfolio:
    """Long-only weights by recursive bisection of ``order`` (see :func:`hierarchical_order`).

    Args:
      covariance: [n, n] with positive variances; order: [n], a permutation of the assets.
      expected_returns: [n] or None, for the answer's return and Sharpe only.

    Returns:
      A portfolio; ``kkt_residual`` is NaN, because no optimum defines these weights.
    """
    covariance = jnp.asarray(covariance)
    order = jnp.asarray(order).astype(jnp.int32)
    sorted_weights = _bisect(covariance[order][:, order])
    weights = jnp.zeros_like(sorted_weights).at[order].set(sorted_weights)
    mean = None if expected_returns is None else jnp.asarray(expected_returns)
    none = jnp.full((), jnp.nan, weights.dtype)
    zero = jnp.int32(0)
    return describe(weights, covariance, mean, risk_free_rate, none, zero, zero)


def _bisect(covariance: Array) -> Array:
    """Weights of assets in order: the budget, halved down the tree, level by level."""
    n = covariance.shape[0]
    inverse = 1.0 / jnp.diagonal(covariance)

    def level(weights: Array, halves: Array) -> tuple[Array, None]:
        # halves [n]: 2 × the cluster's number, + 1 in its right half; whole clusters have no right
        mine = halves[:, None] == halves
        within = jnp.where(mine, inverse, 0.0)  # inverse-variance weights of my half
        within = within / jnp.sum(within, axis=1, keepdims=True)
        variance = jnp.sum(within * (within @ covariance), axis=1)
        other = (halves ^ 1)[:, None] == halves
        beside = jnp.sum(jnp.where(other, variance, 0.0), axis=1) / jnp.maximum(
            jnp.sum(other, axis=1), 1
        )
        split = jnp.any(other, axis=1)
        share = beside / jnp.where(split, variance + beside, 1.0)
        return weights * jnp.where(split, share, 1.0), None

    weights, _ = jax.lax.scan(level, jnp.ones(n, covariance.dtype), jnp.asarray(_levels(n)))
    return weights


def _levels(n: int) -> np.ndarray:
    """For every level of the tree, the half that each place lies in; see :func:`_bisect`."""
    clusters, levels = [(0, n)], []
    while any(end - begin > 1 for begin, end in clusters):
        halves, after = np.zeros(n, np.int32), []
        for number, (begin, end) in enumerate(clusters):
            middle = begin + (end - begin) // 2
            halves[begin:end] = 2 * number
            if end - begin > 1:
                halves[middle:end] += 1
                after += [(begin, middle), (middle, end)]
            else:
                after.append((begin, end))
        levels.append(halves)
        clusters = after
    return np.array(levels, np.int32).reshape(-1, n)
