"""Hagan's SABR formula against mpmath, its limits, and its fit."""

import jax
import mpmath as mp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numeric_cases import cases, close

from lilith.quant.options import bachelier, black76, sabr


def hagan_by_mpmath(forward, strike, time, alpha, beta, rho, nu):
    """Equation (2.17) in 40 digits."""
    with mp.workdps(40):
        forward, strike, time, alpha, beta, rho, nu = map(
            mp.mpf, (forward, strike, time, alpha, beta, rho, nu)
        )
        log = mp.log(forward / strike)
        middle = (forward * strike) ** ((1 - beta) / 2)
        z = nu / alpha * middle * log
        x = mp.log((mp.sqrt(1 - 2 * rho * z + z * z) + z - rho) / (1 - rho))
        factor = 1 if x == 0 else z / x
        spread = 1 + ((1 - beta) * log) ** 2 / 24 + ((1 - beta) * log) ** 4 / 1920
        drift = ((1 - beta) * alpha / middle) ** 2 / 24 + rho * beta * nu * alpha / (4 * middle)
        drift += (2 - 3 * rho**2) * nu**2 / 24
        return float(alpha / (middle * spread) * factor * (1 + drift * time))


@settings(max_examples=200, deadline=None)
@given(
    distance=st.sampled_from([0.0, 1e-9, 1e-6, 1e-4, 1e-3, 0.01, 0.1, 0.7]), below=st.booleans(),
    beta=st.sampled_from([0.0, 0.3, 0.75, 1.0]), rho=st.floats(-0.99, 0.99),
    nu=st.just(0.0) | st.floats(1e-6, 3),
)  # fmt: skip
def test_lognormal_volatility_against_mpmath(distance, below, beta, rho, nu) -> None:
    strike = 100.0 * np.exp(-distance if below else distance)
    arguments = (100.0, strike, 1.5, 0.2 * 100.0 ** (1 - beta), beta, rho, nu)
    exact = hagan_by_mpmath(*arguments)
    assert sabr.lognormal_volatility(*arguments) == pytest.approx(exact, rel=1e-12, abs=1e-14)


def test_reference_cases(lilith_data) -> None:
    for case in cases(lilith_data, "sabr_lognormal_vol"):
        own = case["inputs"]
        names = ("F", "K", "T", "alpha", "beta", "rho", "nu")
        value = sabr.lognormal_volatility(*(own[name] for name in names))
        assert close(value, case["expected"]["sigma"], case["suggested_rel_tol"]), case["id"]


def test_normal_volatility_prices_as_the_lognormal_one() -> None:
    """Both are expansions of one model: prices agree to second order in volatility squared time."""
    strikes = np.array([90.0, 100.0, 112.0])
    model = (0.25, 0.1 * 100.0**0.5, 0.5, -0.3, 0.4)
    lognormal = sabr.lognormal_volatility(100.0, strikes, *model)
    normal = sabr.normal_volatility(100.0, strikes, *model)
    ours = black76.price(100.0, strikes, 0.25, 0.0, lognormal)
    theirs = bachelier.price(100.0, strikes, 0.25, 0.0, normal)
    np.testing.assert_allclose(ours, theirs, rtol=2e-4)
    flat = sabr.normal_volatility(100.0, 100.0, 1.0, 7.0, 0.0, 0.0, 0.0)
    assert flat == pytest.approx(7.0, rel=1e-14)  # beta 0 without nu is Bachelier's model


def test_limits_and_range() -> None:
    assert sabr.lognormal_volatility(100.0, 80.0, 1.0, 0.2, 1.0, -0.3, 0.0) == pytest.approx(0.2)
    bad = sabr.lognormal_volatility(
        [100.0, -1.0, 100.0, 100.0], 90.0, 1.0, [0.2, 0.2, -0.2, 0.2], 1.0, [0, 0, 0, 1.0], 0.3
    )
    assert np.isnan(bad).tolist() == [False, True, True, True]


def test_gradients_at_the_money() -> None:
    with jax.enable_x64(True):

        def volatility(*own):
            return sabr.lognormal_volatility(*own)

        every = tuple(range(7))
        slopes_of = jax.jit(jax.grad(volatility, argnums=every))
        for point in (
            (100.0, 100.0, 1.0, 0.6, 0.75, -0.3, 0.5),
            (100.0, 90.0, 1.0, 0.6, 0.75, -0.3, 0.5),
        ):
            for index, slope in enumerate(slopes_of(*point)):
                step = 1e-5 * abs(point[index])
                high, low = (
                    volatility(*(x + sign * step * (i == index) for i, x in enumerate(point)))
                    for sign in (1, -1)
                )
                assert float(slope) == pytest.approx(float(high - low) / (2 * step), rel=1e-6)
        assert np.all(np.isfinite(np.array(slopes_of(100.0, 90.0, 1.0, 0.2, 1.0, -0.3, 0.0))))
        curvature = jax.jit(jax.grad(jax.grad(volatility, argnums=1), argnums=1))
        at, beside = (
            float(curvature(100.0, strike, 1.0, 0.2, 1.0, -0.3, 0.5)) for strike in (100.0, 100.05)
        )
        assert at == pytest.approx(beside, rel=1e-3)


@pytest.mark.parametrize(
    ("rho", "nu", "beta"), [(-0.4, 0.7, 0.6), (0.5, 0.3, 1.0), (0.0, 1.2, 0.0)]
)
def test_calibration_finds_the_parameters(rho: float, nu: float, beta: float) -> None:
    strikes = np.linspace(70.0, 140.0, 9)
    alpha = 0.2 * 100.0 ** (1 - beta)
    quotes = sabr.lognormal_volatility(100.0, strikes, 0.8, alpha, beta, rho, nu)
    fitted = sabr.calibrate(100.0, strikes, 0.8, quotes, beta=beta)
    assert fitted.status == sabr.OK
    assert fitted.error < 1e-9
    np.testing.assert_allclose(fitted[:3], (alpha, rho, nu), rtol=1e-6, atol=1e-7)


def test_calibration_mistakes() -> None:
    bad = sabr.calibrate(100.0, [80.0, 100.0, 120.0], 1.0, [0.2, -0.2, 0.2])
    assert bad.status == sabr.INPUT_OUTSIDE
    assert np.isnan(bad.alpha)
    with pytest.raises(ValueError, match="2 quotes"):
        sabr.calibrate(100.0, [80.0, 100.0], 1.0, [0.2, 0.2])
    with pytest.raises(ValueError, match="one length"):
        sabr.calibrate(100.0, [80.0, 100.0, 120.0], 1.0, [0.2, 0.2])
