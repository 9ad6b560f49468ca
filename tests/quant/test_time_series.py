"""AR(1) and GARCH(1,1): likelihoods against mpmath, fits, errors, forecasts, limits, the tools."""

from __future__ import annotations

import json
import pathlib
from typing import Any

import jax
import jax.numpy as jnp
import mpmath
import numpy as np
import pytest

from lilith.quant.statistics_tools import fit_ar1, fit_garch
from lilith.quant.time_series import ar1, garch
from lilith.quant.time_series.maximum_likelihood import (
    BAD_INPUT,
    BOUNDARY,
    CONVERGED,
    NOT_CONVERGED,
)

COUNT = 300  # of every fitted series, so that each fit is compiled once
SHORT = [0.4, -1.1, 0.3, 2.2, -0.7, 0.1, -1.9, 0.8, 1.4, -0.2, 0.6, -0.5]
# What make_golden() printed: mpmath, 50 digits.
GOLDEN = {
    "ar1": -21.308437690421382,
    "garch_variance": -18.35583943968455,
    "garch_variance_next": 1.1514829779803595,
    "garch_exponential": -18.35035490671031,
    "garch_exponential_next": 1.153661412776051,
}


def make_golden(series: list[float]) -> dict[str, mpmath.mpf]:
    """AR(1) with phi 0.6, s2 1.3, m 0.2; GARCH with 0.1, 0.15, 0.8 about the sample mean."""
    mpmath.mp.dps = 50
    y = [mpmath.mpf(v) for v in series]
    n = len(y)
    log_two_pi = mpmath.log(2 * mpmath.pi)
    phi, variance, center = mpmath.mpf(0.6), mpmath.mpf(1.3), mpmath.mpf(0.2)
    # By the joint density with the Toeplitz covariance, not by the recursion.
    covariance = mpmath.matrix(n, n)
    for i in range(n):
        for j in range(n):
            covariance[i, j] = variance * phi ** abs(i - j) / (1 - phi**2)
    own = mpmath.matrix([v - center for v in y])
    quadratic = (own.T * mpmath.lu_solve(covariance, own))[0]
    exact = -(n * log_two_pi + mpmath.log(mpmath.det(covariance)) + quadratic) / 2

    omega, alpha, beta = mpmath.mpf(0.1), mpmath.mpf(0.15), mpmath.mpf(0.8)
    mean = mpmath.fsum(y) / n
    squares = [(v - mean) ** 2 for v in y]
    weights = [mpmath.mpf(0.94) ** k for k in range(n)]
    found = {"ar1": exact}
    for name, before in (
        ("variance", mpmath.fsum(squares) / n),
        (
            "exponential",
            mpmath.fsum(w * s for w, s in zip(weights, squares)) / mpmath.fsum(weights),
        ),
    ):
        h = omega + (alpha + beta) * before
        total = mpmath.mpf(0)
        for square in squares:
            total -= (log_two_pi + mpmath.log(h) + square / h) / 2
            h = omega + alpha * square + beta * h
        found[f"garch_{name}"] = total
        found[f"garch_{name}_next"] = h
    return found


@pytest.fixture(scope="module")
def garch_path() -> np.ndarray:
    return garch.garch_simulate(jax.random.key(3), 0.06, 0.12, 0.82, 0.05, count=COUNT)[0]


@pytest.fixture(scope="module")
def garch_found(garch_path: np.ndarray) -> garch.GARCHFit:
    return garch.garch_fit(garch_path)


@pytest.fixture(scope="module")
def ar1_path() -> np.ndarray:
    return ar1.ar1_simulate(jax.random.key(5), 0.7, 2.0, 4.0, count=COUNT)


@pytest.fixture(scope="module")
def ar1_found(ar1_path: np.ndarray) -> ar1.AR1Fit:
    return ar1.ar1_fit(ar1_path)


def test_golden_numbers_are_what_the_definitions_give() -> None:
    for name, value in make_golden(SHORT).items():
        assert float(value) == pytest.approx(GOLDEN[name], rel=1e-13), name


def test_likelihoods_match_mpmath() -> None:
    assert ar1.ar1_log_likelihood(SHORT, 0.6, 1.3, 0.2) == pytest.approx(GOLDEN["ar1"], rel=1e-13)
    residuals = np.array(SHORT) - np.mean(SHORT)
    for kind in garch.BACKCASTS:
        before = garch.garch_backcast(residuals, kind=kind)
        found = garch.garch_log_likelihood(residuals, 0.1, 0.15, 0.8, before)
        assert found == pytest.approx(GOLDEN[f"garch_{kind}"], rel=1e-13)
        variances = garch.garch_variances(residuals, 0.1, 0.15, 0.8, before)
        assert variances[-1] == pytest.approx(GOLDEN[f"garch_{kind}_next"], rel=1e-13)


def test_reference_cases(lilith_data: pathlib.Path) -> None:
    content = json.loads((lilith_data / "quant_reference" / "reference_cases.json").read_text())
    found = 0
    for case in content["cases"]:
        if case["kind"] not in ("garch_loglik", "arma_loglik"):
            continue
        inputs, expected, tolerance = case["inputs"], case["expected"], case["suggested_rel_tol"]
        series = inputs["y"] if isinstance(inputs["y"], list) else content.get("timeseries_60")
        if series is None:
            continue  # the file names a series that it does not hold
        found += 1
        series = np.array(series)
        if case["kind"] == "arma_loglik":
            got = ar1.ar1_log_likelihood(series, inputs["ar"][0], inputs["sigma2"], inputs["mean"])
            assert got == pytest.approx(expected["loglik"], rel=tolerance)
            continue
        residuals = series - series.mean()
        how = [inputs[name] for name in ("omega", "alpha", "beta")]
        how.append(garch.garch_backcast(residuals, kind="variance"))
        variances = garch.garch_variances(residuals, *how)
        got = garch.garch_log_likelihood(residuals, *how)
        assert got == pytest.approx(expected["loglik"], rel=tolerance)
        assert variances[-2] == pytest.approx(expected["h_last"], rel=tolerance)
        assert variances[-1] == pytest.approx(expected["next_variance"], rel=tolerance)
    if not found:
        pytest.skip("the reference file does not hold the series that its cases name")


def test_likelihoods_outside_the_stationary_region_are_nan() -> None:
    assert np.isnan(ar1.ar1_log_likelihood(SHORT, [1.0, -1.2, 0.5], [1.0, 1.0, -1.0])).all()
    for omega, alpha, beta in ((0.1, 0.3, 0.7), (-0.1, 0.1, 0.8), (0.1, -0.1, 0.8)):
        assert np.isnan(garch.garch_log_likelihood(SHORT, omega, alpha, beta, 1.0))
    with jax.enable_x64(True):
        slopes = jax.grad(lambda p: ar1.ar1_log_likelihood(jnp.asarray(SHORT), p, 1.0))
        assert jnp.isfinite(slopes(jnp.asarray(0.999)))


def test_ar1_fit_is_a_maximum_with_standard_errors(
    ar1_path: np.ndarray, ar1_found: ar1.AR1Fit
) -> None:
    fit = ar1_found
    assert fit.status == CONVERGED
    point = np.array([fit.phi, fit.variance, fit.mean])

    def likelihood(p: np.ndarray) -> float:
        return float(ar1.ar1_log_likelihood(ar1_path, p[0], p[1], p[2]))

    assert fit.log_likelihood == pytest.approx(likelihood(point), rel=1e-13)
    _check_maximum(likelihood, point, np.roll(fit.standard_errors, -1))
    assert abs(fit.phi - 0.7) < 3 * fit.standard_errors[1]
    assert fit.standard_errors_robust == pytest.approx(fit.standard_errors, rel=0.2)


def test_garch_fit_is_a_maximum_with_standard_errors(
    garch_path: np.ndarray, garch_found: garch.GARCHFit
) -> None:
    fit = garch_found
    assert fit.status == CONVERGED
    point = np.array([fit.omega, fit.alpha, fit.beta, fit.mean])
    before = garch.garch_backcast(garch_path - garch_path.mean())

    def likelihood(p: np.ndarray) -> float:
        return float(garch.garch_log_likelihood(garch_path - p[3], p[0], p[1], p[2], before))

    assert fit.log_likelihood == pytest.approx(likelihood(point), rel=1e-13)
    _check_maximum(likelihood, point, np.roll(fit.standard_errors, -1))
    assert fit.variances.shape == (COUNT,)
    forecast = garch.garch_forecast(fit.next_variance, fit.omega, fit.alpha, fit.beta, horizon=3)
    assert forecast[0] == fit.next_variance
    assert forecast[2] == pytest.approx(fit.omega + (fit.alpha + fit.beta) * forecast[1], rel=1e-14)


def _check_maximum(likelihood: Any, point: np.ndarray, errors: np.ndarray) -> None:
    """No neighbour is better, and the curvature by differences gives the standard errors."""
    size = len(point)
    steps = 0.02 * errors
    hessian = np.empty((size, size))
    best = likelihood(point)
    for i in range(size):
        for j in range(size):
            a, b = steps[i] * np.eye(size)[i], steps[j] * np.eye(size)[j]
            hessian[i, j] = (
                likelihood(point + a + b) - likelihood(point + a - b)
                - likelihood(point - a + b) + likelihood(point - a - b)
            ) / (4 * steps[i] * steps[j])  # fmt: skip
        assert likelihood(point + steps[i] * np.eye(size)[i]) < best
        assert likelihood(point - steps[i] * np.eye(size)[i]) < best
    expected = np.sqrt(np.diagonal(np.linalg.inv(-hessian)))
    np.testing.assert_allclose(errors, expected, rtol=5e-3)


def test_scale_and_shift_of_the_data(garch_path: np.ndarray, garch_found: garch.GARCHFit) -> None:
    scaled = garch.garch_fit(1e-4 * garch_path + 1e-3)
    assert scaled.alpha == pytest.approx(garch_found.alpha, rel=1e-7)
    assert scaled.omega == pytest.approx(1e-8 * garch_found.omega, rel=1e-6)
    assert scaled.mean == pytest.approx(1e-4 * garch_found.mean + 1e-3, rel=1e-7)
    np.testing.assert_allclose(
        scaled.standard_errors, garch_found.standard_errors * [1e-4, 1e-8, 1, 1], rtol=1e-5
    )


def test_fits_have_gradients_in_the_data(
    garch_path: np.ndarray, garch_found: garch.GARCHFit
) -> None:
    with jax.enable_x64(True):
        slope = jax.jit(jax.grad(lambda data: garch.garch_fit(data).alpha))(jnp.asarray(garch_path))
    moved = np.zeros(COUNT)
    moved[100] = 1e-5
    up, down = garch.garch_fit(garch_path + moved), garch.garch_fit(garch_path - moved)
    assert float(slope[100]) == pytest.approx((up.alpha - down.alpha) / 2e-5, rel=1e-5)


def test_many_series_at_once(garch_path: np.ndarray, garch_found: garch.GARCHFit) -> None:
    many = garch.garch_fit(np.stack([garch_path[::-1], garch_path]))
    assert many.alpha.shape == (2,)
    np.testing.assert_allclose(many.standard_errors[1], garch_found.standard_errors, rtol=1e-7)
    assert many.alpha[0] != many.alpha[1]


def test_statuses_say_what_went_wrong(garch_path: np.ndarray) -> None:
    assert garch.garch_fit(garch_path, most_iterations=1).status == NOT_CONVERGED
    assert np.isnan(garch.garch_fit(garch_path, most_iterations=1).standard_errors).all()
    constant = garch.garch_fit(np.full(COUNT, 0.3))
    assert constant.status == BAD_INPUT
    assert np.isnan([constant.mean, constant.omega, constant.log_likelihood]).all()
    holed = garch_path.copy()
    holed[5] = np.nan
    assert garch.garch_fit(holed).status == BAD_INPUT
    assert ar1.ar1_fit(np.full(COUNT, 0.3)).status == BAD_INPUT
    # Alternating sizes: the variance falls after a large residual, which no alpha >= 0 can follow.
    boundary = garch.garch_fit(np.tile([3.0, 0.1, -3.0, -0.1], COUNT // 4))
    assert boundary.status == BOUNDARY
    assert np.isnan(boundary.standard_errors).all()
    assert boundary.alpha < 1e-6
    with pytest.raises(ValueError, match="at least 10"):
        garch.garch_fit(np.ones(5))
    with pytest.raises(ValueError, match="'none'"):
        ar1.ar1_fit(SHORT, mean_model="none")


def test_simulations_have_the_moments_of_the_model() -> None:
    many = jax.vmap(lambda key: ar1.ar1_simulate(key, 0.8, 1.0, 2.0, count=50))(
        jax.random.split(jax.random.key(0), 4000)
    )
    spread = 1 / (1 - 0.8**2)
    assert np.mean(many) == pytest.approx(2.0, abs=0.1)
    assert np.var(many[:, 0]) == pytest.approx(spread, rel=0.1)  # stationary from the first on
    assert np.var(many[:, -1]) == pytest.approx(spread, rel=0.1)
    path, variances = garch.garch_simulate(jax.random.key(1), 0.1, 0.1, 0.8, count=20_000)
    assert np.var(path) == pytest.approx(1.0, rel=0.15)
    np.testing.assert_allclose(variances[1:], 0.1 + 0.1 * path[:-1] ** 2 + 0.8 * variances[:-1])


def test_ar1_forecast() -> None:
    level, spread = ar1.ar1_forecast(3.0, 0.5, 2.0, 1.0, horizon=3)
    np.testing.assert_allclose(level, [2.0, 1.5, 1.25])
    np.testing.assert_allclose(spread, [2.0, 2.5, 2.625])


def test_tools(garch_path: np.ndarray, garch_found: garch.GARCHFit, ar1_path: np.ndarray) -> None:
    answer = fit_garch(garch_path, horizon=2)
    assert json.loads(json.dumps(answer)) == answer
    result = answer["result"]
    assert result["alpha"] == pytest.approx(garch_found.alpha, rel=1e-12)
    assert result["standard_errors"]["omega"] == pytest.approx(garch_found.standard_errors[1])
    assert result["long_run_variance"] == pytest.approx(
        result["omega"] / (1 - result["persistence"])
    )
    assert result["aic"] == pytest.approx(8 - 2 * result["log_likelihood"])
    assert answer["diagnostics"]["converged"] is True
    assert answer["warnings"] == []
    stopped = fit_garch(garch_path, most_iterations=1)
    assert stopped["result"]["standard_errors"] is None
    assert "not converged" in stopped["warnings"][0]
    answer = fit_ar1(ar1_path, mean="zero")
    assert answer["result"]["mean"] == 0
    assert "mean" not in answer["result"]["standard_errors"]
    assert answer["result"]["half_life"] > 0


@pytest.mark.parametrize(
    ("code", "names", "call"),
    [
        ("constant_data", "all 300 entries", {"data": [0.3] * COUNT}),
        ("too_few_entries", "3 entries", {"data": [0.1, 0.2, 0.3]}),
        ("missing_value", "data[1]", {"data": [0.1, None, *SHORT]}),
        ("not_a_number", "'1'", {"data": ["1", *SHORT]}),
        ("out_of_range", "horizon is 0", {"data": SHORT, "horizon": 0}),
    ],
)
def test_tools_refuse(code: str, names: str, call: dict[str, Any]) -> None:
    for fit in (fit_ar1, fit_garch):
        error = fit(**call)["error"]
        assert error["code"] == code
        assert names in error["message"]
