"""Problems that the portfolio tests share, and slow truths to hold the solvers against."""

from __future__ import annotations

import functools
import itertools

import jax
import mpmath
import numpy as np

from lilith.quant.portfolio.answer import COMPILER_OPTIONS

quick_jit = functools.partial(jax.jit, compiler_options=COMPILER_OPTIONS)

MEAN = np.array([0.05, 0.03, 0.10, 0.12])
COVARIANCE = np.array(
    [
        [0.04, 0.05, 0.01, 0.0],
        [0.05, 0.09, 0.02, 0.01],
        [0.01, 0.02, 0.16, 0.03],
        [0.0, 0.01, 0.03, 0.25],
    ]
)
RATE = 0.02


def market(n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Expected returns and a covariance of one to four factors and own noise."""
    draw = np.random.default_rng(seed)
    factors = draw.normal(size=(n, 1 + seed % 4)) * 0.1
    factors[:, 0] += 0.15
    return draw.uniform(0.02, 0.15, n), factors @ factors.T + np.diag(draw.uniform(0.01, 0.05, n))


def enumerated(mean: np.ndarray | None, covariance: np.ndarray, rate: float) -> list[str]:
    """Long-only weights by trying every support in 50 digits: the maximum Sharpe ratio, or the
    least variance where ``mean`` is None. 20 digits each."""
    n = len(covariance)
    with mpmath.workdps(50):
        sigma = mpmath.matrix([[mpmath.mpf(repr(float(x))) for x in row] for row in covariance])
        aim = [
            mpmath.mpf(1) if mean is None else mpmath.mpf(repr(float(m))) - mpmath.mpf(repr(rate))
            for m in (np.ones(n) if mean is None else mean)
        ]
        best, found = None, None
        for size in range(1, n + 1):
            for support in itertools.combinations(range(n), size):
                part = mpmath.matrix([[sigma[i, j] for j in support] for i in support])
                raw = mpmath.lu_solve(part, mpmath.matrix([aim[i] for i in support]))
                total = mpmath.fsum(raw)
                if total <= 0 or min(x / total for x in raw) < 0:
                    continue
                weights = [mpmath.mpf(0)] * n
                for i, x in zip(support, raw):
                    weights[i] = x / total
                column = mpmath.matrix(weights)
                variance = (column.T * sigma * column)[0]
                gain = mpmath.fdot(aim, weights) / mpmath.sqrt(variance)
                if best is None or gain > best:
                    best, found = gain, weights
        return [mpmath.nstr(x, 20) for x in found]


def budgeted(covariance: np.ndarray, budgets: np.ndarray) -> list[str]:
    """Risk-budgeting weights by Newton's method in 50 digits."""
    with mpmath.workdps(50):
        n = len(covariance)
        sigma = mpmath.matrix([[mpmath.mpf(repr(float(x))) for x in row] for row in covariance])
        shares = [mpmath.mpf(repr(float(b))) for b in budgets]
        x = mpmath.matrix([mpmath.sqrt(b / sigma[i, i]) for i, b in enumerate(shares)])
        for _ in range(60):
            slope = sigma * x - mpmath.matrix([b / v for b, v in zip(shares, x)])
            bend = sigma + mpmath.diag([b / v**2 for b, v in zip(shares, x)])
            step = mpmath.lu_solve(bend, slope)
            share = mpmath.mpf(1)
            while min(v - share * s for v, s in zip(x, step)) <= 0:
                share /= 2
            x -= share * step
        total = mpmath.fsum(x)
        return [mpmath.nstr(x[i] / total, 20) for i in range(n)]


def feasible(draw: np.random.Generator, lower: np.ndarray, upper: np.ndarray, count: int):
    """Random weights that sum to one within bounds: mixtures of vertices of the polytope."""
    n, found = len(lower), []
    for _ in range(count):
        vertices = []
        for _ in range(3):
            weights, left = lower.copy(), 1.0 - lower.sum()
            for i in draw.permutation(n):
                step = min(left, upper[i] - lower[i])
                weights[i] += step
                left -= step
            vertices.append(weights)
        found.append(draw.dirichlet(np.ones(3)) @ np.array(vertices))
    return np.array(found)
