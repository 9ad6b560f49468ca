"""Heston's integral against mpmath, its limits, bounds and derivatives."""

import jax
import mpmath as mp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numeric_cases import cases, close

from lilith.quant.options import black_scholes, heston

# spot 100, rate 3%, dividend 1%: variance, reversion, mean, variance_volatility, correlation,
# time, strike, is_call, price.
GOLDEN = [
    ((0.0175, 1.5768, 0.0398, 0.5751, -0.5711), 1.0, 100, True, 6.896501362507236),
    ((0.04, 0.5, 0.04, 1.0, -0.9), 1.0, 60, False, 0.6993826616412228),
    ((0.04, 0.5, 0.04, 1.0, -0.9), 10.0, 150, True, 1.9208778693644797),
    ((0.04, 2.0, 0.09, 0.3, 0.5), 0.005, 100, True, 0.5706515998445195),
    ((0.04, 2.0, 0.09, 0.3, 0.5), 0.1, 110, True, 0.3373452303262378),
    ((0.01, 1.0, 0.01, 2.0, -0.99), 0.1, 60, False, 0.0019397691817208459),
    ((0.01, 1.0, 0.01, 2.0, -0.99), 1.0, 90, False, 0.4701516327272601),
    ((0.04, 1.0, 0.04, 0.8, 0.95), 1.0, 150, True, 2.184875049947577),
    ((0.04, 1.0, 0.04, 0.8, -0.999), 0.5, 80, False, 1.0690324993510902),
    ((0.09, 3.0, 0.09, 0.1, 0.0), 5.0, 120, False, 30.32135628304843),
    ((0.04, 1.0, 0.04, 0.001, -0.5), 1.0, 105, True, 6.637171708237032),
    ((0.3, 0.2, 0.01, 3.0, 0.6), 2.0, 100, True, 15.294385663610676),
]


def heston_by_mpmath(model, time, strike, is_call, *, rate=0.03, dividend=0.01):
    """The Lewis integral on a hyperbola through s = 1/2, in 40 digits.

    The line, its bend and its scale are not the code's, and the logarithm is followed by angle.
    """
    with mp.workdps(40):
        v0, kappa, theta, xi, rho = map(mp.mpf, map(repr, model))
        time, strike = mp.mpf(repr(time)), mp.mpf(strike)
        carry = mp.mpf(repr(rate)) - mp.mpf(repr(dividend))
        forward = 100 * mp.exp(carry * time)
        k = mp.log(strike / forward)
        slope = mp.mpf(0.3 if k > 0 else -0.3)
        total, turn, last, step, index = mp.mpf(0), 0, None, mp.mpf(1) / 50, 0
        while True:
            t = step * index
            s = mp.mpf(1) / 2 + (slope * (mp.cosh(t) - 1) + 1j * mp.sinh(t)) / 4
            beta = kappa - rho * xi * s
            root = mp.sqrt(beta**2 + xi**2 * (s - s * s))
            fade = mp.exp(-root * time)
            g = (beta - root) / (beta + root)
            log = mp.log((1 - g * fade) / (1 - g))
            if last is not None:
                turn -= int(mp.nint((log.imag - last) / (2 * mp.pi)))
            last = log.imag
            log += 2j * mp.pi * turn
            exponent = kappa * theta / xi**2 * ((beta - root) * time - 2 * log)
            exponent += v0 / xi**2 * (beta - root) * (1 - fade) / (1 - g * fade)
            value = mp.exp(exponent - (s - 1) * k) / (s * (s - 1))
            term = (value * (slope * mp.sinh(t) + 1j * mp.cosh(t)) / 4).imag
            total += term / 2 if index == 0 else term
            if index > 50 and abs(term) < mp.mpf(10) ** -36:
                break
            index += 1
        call = forward * (1 + total * step / mp.pi)
        value = call if is_call else call - forward + strike
        return float(mp.exp(-mp.mpf(repr(rate)) * time) * value)


MODEL = (0.0175, 1.5768, 0.0398, 0.5751, -0.5711)


def test_against_mpmath() -> None:
    """Short and long times, xi from 0.001 to 3, rho near -1 and 1, far from the money."""
    models, times, strikes, calls, expected = zip(*GOLDEN)
    prices = heston.price(
        100.0, np.array(strikes, float), np.array(times), 0.03, *np.array(models).T,
        dividend=0.01, is_call=np.array(calls),
    )  # fmt: skip
    np.testing.assert_allclose(prices, expected, rtol=5e-14)


def test_the_golden_figures_are_what_their_function_gives() -> None:
    for index in (3, 10):
        model, time, strike, is_call, expected = GOLDEN[index]
        assert heston_by_mpmath(model, time, strike, is_call) == expected


def test_reference_cases(lilith_data) -> None:
    for case in cases(lilith_data, "heston_call"):
        own = case["inputs"]
        price = heston.price(
            own["S"], own["K"], own["T"], own["r"], own["v0"], own["kappa"], own["theta"],
            own["xi"], own["rho"], dividend=own["q"],
        )  # fmt: skip
        assert close(price, case["expected"]["price"], case["suggested_rel_tol"]), case["id"]


def test_tiny_prices_keep_their_digits() -> None:
    """A put far out of the money, where 1 - (1 - p) would have no digit left."""
    prices = heston.price(100.0, [30.0, 40.0, 50.0], 0.25, 0.0, *MODEL, is_call=False)
    with mp.workdps(40):
        for strike, price in zip((30, 40, 50), prices):
            exact = heston_by_mpmath(MODEL, 0.25, strike, False, rate=0.0, dividend=0.0)
            assert close(price, exact, 1e-12)
    assert prices[0] < 1e-7


def test_without_volatility_of_variance_it_is_black_scholes() -> None:
    strikes = np.array([60.0, 95.0, 130.0])
    v0, kappa, theta, time = 0.09, 2.0, 0.04, 1.5
    mean = theta + (v0 - theta) * (1 - np.exp(-kappa * time)) / (kappa * time)
    exact = black_scholes.price(100.0, strikes, time, 0.03, np.sqrt(mean), dividend=0.01)
    for xi, tolerance in ((0.0, 1e-13), (1e-7, 1e-6)):
        ours = heston.price(100.0, strikes, time, 0.03, v0, kappa, theta, xi, -0.7, dividend=0.01)
        np.testing.assert_allclose(ours, exact, rtol=tolerance)


def test_limits_and_status() -> None:
    arguments = (np.array([0.0, 1.0, 1.0, 1.0]), 0.03)
    correlation = np.array([-0.5, -0.5, -1.5, -0.5])
    v0, kappa = np.array([0.04, 0.0, 0.04, 0.04]), np.array([1.0, 1.0, 1.0, -1.0])
    theta = np.array([0.04, 0.0, 0.04, 0.04])
    prices = heston.price(110.0, 100.0, *arguments, v0, kappa, theta, 0.5, correlation)
    assert prices[0] == pytest.approx(10.0)
    assert prices[1] == pytest.approx(110.0 - 100.0 * np.exp(-0.03))
    assert np.isnan(prices[2:]).all()
    codes = heston.status(110.0, 100.0, arguments[0], v0, kappa, theta, 0.5, correlation)
    assert codes.tolist() == [heston.OK, heston.OK, heston.INPUT_OUTSIDE, heston.INPUT_OUTSIDE]


def test_moments_that_are_known() -> None:
    """E[1] = 1 and E[S_T] = F, where rho xi exceeds kappa and where it does not."""
    for model in (MODEL, (0.3, 0.2, 0.01, 3.0, 0.6)):
        for exponent in (0.0 + 0.0j, 1.0 + 0.0j):
            assert abs(heston.log_moment(exponent, 0.7, *model)) < 1e-12


def test_gradients() -> None:
    with jax.enable_x64(True):
        point = (100.0, 95.0, 0.8, 0.03, *MODEL)

        def price(*numbers):
            return heston.price(*numbers, is_call=False)

        slopes_of = jax.jit(jax.grad(price, argnums=tuple(range(9))))
        for index, slope in enumerate(slopes_of(*point)):
            step = 1e-5 * abs(point[index])
            high, low = (
                price(*(x + sign * step * (i == index) for i, x in enumerate(point)))
                for sign in (1, -1)
            )
            assert float(slope) == pytest.approx(float(high - low) / (2 * step), rel=1e-6)
        for limit in (
            (100.0, 95.0, 0.0, 0.03, *MODEL), (100.0, 95.0, 1.0, 0.03, 0.04, 1.0, 0.04, 0.0, -0.5),
            (100.0, 95.0, 1.0, 0.03, 0.0, 1.0, 0.0, 0.5, -0.5),
        ):  # fmt: skip
            assert np.all(np.isfinite(np.array(slopes_of(*limit)))), limit


@settings(max_examples=60, deadline=None)
@given(
    strike=st.floats(70, 140), time=st.floats(0.02, 5), v0=st.floats(0.005, 0.3),
    kappa=st.floats(0.2, 6), theta=st.floats(0.005, 0.3), xi=st.floats(0.0, 1.5),
    rho=st.floats(-0.98, 0.98),
)  # fmt: skip
def test_parity_bounds_and_convexity(strike, time, v0, kappa, theta, xi, rho) -> None:
    strikes = strike * np.array([0.98, 1.0, 1.02])
    numbers = (time, 0.03, v0, kappa, theta, xi, rho)
    calls, puts = (
        heston.price(100.0, strikes, *numbers, dividend=0.01, is_call=is_call)
        for is_call in (True, False)
    )
    forward = 100.0 * np.exp(-0.01 * time) - strikes * np.exp(-0.03 * time)
    np.testing.assert_allclose(calls - puts, forward, atol=1e-11)
    assert np.all(calls >= np.maximum(forward, 0.0) - 1e-12)
    assert np.all(np.diff(calls) < 1e-12)
    assert calls[0] - 2 * calls[1] + calls[2] > -1e-11
