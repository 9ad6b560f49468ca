"""Special functions against mpmath, in both precisions, with their derivatives and their limits."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import mpmath
import numpy as np
import pytest
from mpmath import mpf

from lilith.quant import special

COUNT = 300


def scaled_erfc(x: mpf) -> mpf:
    if x < 40:
        return mpmath.exp(x * x) * mpmath.erfc(x)
    series = sum((-1) ** n * mpmath.fac2(2 * n - 1) / (2 * x * x) ** n for n in range(25))
    return series / (x * mpmath.sqrt(mpmath.pi))


def log_normal(x: mpf) -> mpf:
    return mpmath.log(mpmath.ncdf(x)) if x < 0 else mpmath.log1p(-mpmath.ncdf(-x))


def spread(low: float, high: float) -> np.ndarray:
    return np.random.default_rng(7).uniform(low, high, COUNT)


TINY = 10.0 ** spread(-12, -0.2) * np.sign(spread(-1, 1))
CASES = [  # function, truth, points, eps allowed
    (special.erfcx, scaled_erfc, np.concatenate([spread(-9, 3), 10 ** spread(0.4, 6)]), 4),
    (special.norm_pdf, mpmath.npdf, spread(-12.5, 5), 3),
    (special.ndtr, mpmath.ncdf, spread(-12.5, 5), 4),
    (special.log_ndtr, log_normal, np.concatenate([spread(-60, 0), spread(0, 12)]), 5),
    (special.hazard, lambda x: mpmath.npdf(x) / mpmath.ncdf(x), spread(-40, 12), 4),
    (special.log1p, mpmath.log1p, np.concatenate([spread(-0.99, 3), TINY]), 2),
    (
        lambda x: special.log_ratio(x, 3.0),
        lambda x: mpmath.log(x / 3),
        3 * np.concatenate([np.exp(spread(-3, 3)), 1 + 1e-3 * TINY]),
        3,
    ),
]
NAMES = ("erfcx", "norm_pdf", "ndtr", "log_ndtr", "hazard", "log1p", "log_ratio")


def errors(function, truth, points: np.ndarray, dtype) -> np.ndarray:
    """Relative errors in eps."""
    points = points.astype(dtype)
    with jax.enable_x64(True):
        values = np.asarray(jax.jit(function)(jnp.asarray(points)))
    assert values.dtype == dtype
    with mpmath.workdps(50):
        true = [truth(mpf(float(x))) for x in points]
        relative = [
            float(abs(mpf(float(value)) / exact - 1)) for value, exact in zip(values, true) if exact
        ]
    return np.array(relative) / np.finfo(dtype).eps


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("case", CASES, ids=NAMES)
def test_functions_are_accurate_to_a_few_eps(case, dtype) -> None:
    function, truth, points, allowed = case
    assert errors(function, truth, points, dtype).max() <= allowed


def test_tails_in_double_precision() -> None:
    tail = spread(-37, -12)
    assert errors(special.ndtr, mpmath.ncdf, tail, np.float64).max() <= 4
    assert errors(special.norm_pdf, mpmath.npdf, tail, np.float64).max() <= 3
    far = -(10.0 ** spread(1, 5))
    assert errors(special.log_ndtr, log_normal, far, np.float64).max() <= 4


def test_where_the_compiler_s_own_functions_fail() -> None:
    assert errors(special.log1p, mpmath.log1p, spread(-0.414, -0.366), np.float64).max() <= 2
    with jax.enable_x64(True):
        assert float(special.log_ndtr(-20.0)) == pytest.approx(-203.91715537109727, rel=4e-16)


def chebyshev(function, count: int) -> list[mpf]:
    """Coefficients of T_0 .. T_count-1 of a function on [-1, 1]."""
    size = 60
    angles = [mpmath.pi * (2 * j + 1) / (2 * size) for j in range(size)]
    values = [function(mpmath.cos(angle)) for angle in angles]
    result = [
        2 * mpmath.fsum(y * mpmath.cos(n * angle) for y, angle in zip(values, angles)) / size
        for n in range(count)
    ]
    return [result[0] / 2, *result[1:]]


def powers(coefficients: list[mpf]) -> list[float]:
    """The same polynomial in powers."""
    older, newer = [mpf(1)], [mpf(0), mpf(1)]
    total = [mpf(0)] * len(coefficients)
    for coefficient in coefficients:
        for i, own in enumerate(older):
            total[i] += coefficient * own
        following = [mpf(0), *(2 * own for own in newer)]
        for i, own in enumerate(older):
            following[i] -= own
        older, newer = newer, following
    return [float(x) for x in total]


@pytest.mark.parametrize("table", [special.ERFCX_FLOAT64, special.ERFCX_FLOAT32])
def test_the_coefficients_are_those_of_the_series(table) -> None:
    def series(t: mpf) -> mpf:
        y = mpf(special.ERFCX_SCALE) / (1 - t) - special.ERFCX_POLE
        return (y + special.ERFCX_SHIFT) * scaled_erfc(y)

    with mpmath.workdps(50):
        assert powers(chebyshev(series, len(table))) == pytest.approx(table, rel=1e-15)


@pytest.mark.parametrize("name", ["erfcx", "norm_pdf", "ndtr", "log_ndtr", "hazard", "log1p"])
def test_derivatives_to_third_order(name: str) -> None:
    function, truth, _, _ = CASES[NAMES.index(name)]
    point = 0.3
    with jax.enable_x64(True), mpmath.workdps(40):
        for order in (1, 2, 3):
            function = jax.grad(function)
            expected = float(mpmath.diff(truth, mpf(point), order))
            assert float(function(point)) == pytest.approx(expected, rel=1e-13)


def test_derivatives_are_finite_at_the_ends() -> None:
    ends = jnp.array([-jnp.inf, -40.0, 0.0, 40.0, jnp.inf])
    for function in (special.norm_pdf, special.ndtr):
        for _ in range(3):
            function = jax.grad(function)
            assert np.isfinite(jax.vmap(function)(ends)).all()
    slope = jax.vmap(jax.grad(jax.grad(special.log_ndtr)))(jnp.array([-1e6, -1e3, 50.0]))
    assert np.asarray(slope) == pytest.approx([-1.0, -1.0, 0.0], abs=1e-5)
    zero = jax.grad(special.log_ratio, (0, 1))(0.0, 1.0)
    assert [float(x) for x in zero] == [0.0, -1.0]


def test_limits() -> None:
    with jax.enable_x64(True):
        ends = jnp.array([-jnp.inf, jnp.inf, jnp.nan])
        assert np.asarray(special.ndtr(ends)) == pytest.approx([0, 1, np.nan], nan_ok=True)
        assert np.asarray(special.norm_pdf(ends)) == pytest.approx([0, 0, np.nan], nan_ok=True)
        assert np.asarray(special.log_ndtr(ends))[:2].tolist() == [-np.inf, 0]
        assert np.asarray(special.erfcx(ends))[:2].tolist() == [np.inf, 0]
        assert np.asarray(special.log1p(jnp.array([-1.0, -2.0]))) == pytest.approx(
            [-np.inf, np.nan], nan_ok=True
        )
