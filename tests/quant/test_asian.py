"""Asian options against mpmath, published figures, and each other."""

import jax
import mpmath as mp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numeric_cases import cases, close

from lilith.quant.options import asian, black_scholes

# Vecer's test cases (2001), as printed with six decimals: rate, volatility, time, spot; strike 2.
VECER = [
    (0.02, 0.10, 1, 2.0, 0.055986), (0.18, 0.30, 1, 2.0, 0.218387),
    (0.0125, 0.25, 2, 2.0, 0.172269), (0.05, 0.50, 1, 1.9, 0.193174),
    (0.05, 0.50, 1, 2.0, 0.246416), (0.05, 0.50, 1, 2.1, 0.306220),
    (0.05, 0.50, 2, 2.0, 0.350095),
]  # fmt: skip
# 2 fixings, strike 105, half a year, 5%, 20%, dividend 1%, by two_fixings below.
TWO_FIXINGS = {
    (100, True): 2.9989763697324716,
    (100, False): 6.400296192920153,
    (120, True): 16.92351823615665,
    (120, False): 0.5235938713868796,
}


def two_fixings(spot, is_call):
    """E of a Black-Scholes value given the second return, integrated in 30 digits."""
    with mp.workdps(30):
        strike, step = mp.mpf(105), mp.mpf(1) / 4
        rate, dividend, volatility = mp.mpf(5) / 100, mp.mpf(1) / 100, mp.mpf(1) / 5
        carry, spread = (rate - dividend) * step, volatility * mp.sqrt(step)
        sign = 1 if is_call else -1

        def value(z):
            forward = spot * mp.exp(carry) * (1 + mp.exp(carry - spread**2 / 2 + spread * z)) / 2
            d = mp.log(forward / strike) / spread + spread / 2
            held = forward * mp.ncdf(sign * d) - strike * mp.ncdf(sign * (d - spread))
            return sign * held * mp.npdf(z)

        return float(mp.exp(-2 * rate * step) * mp.quad(value, mp.linspace(-14, 14, 29)))


def test_two_fixings_against_mpmath() -> None:
    for (spot, is_call), expected in TWO_FIXINGS.items():
        assert two_fixings(spot, is_call) == expected
        price = asian.arithmetic_discrete(
            spot, 105.0, 0.5, 0.05, 0.2, dividend=0.01, is_call=is_call, fixings=2
        )
        assert close(price, expected, 1e-13)


def test_reference_cases(lilith_data) -> None:
    for case in cases(lilith_data, "asian_arithmetic_discrete"):
        own = case["inputs"]
        price = asian.arithmetic_discrete(
            own["S"], own["K"], own["T"], own["r"], own["sigma"], dividend=own["q"],
            fixings=own["fixings"],
        )  # fmt: skip
        assert close(price, case["expected"]["price"], case["suggested_rel_tol"]), case["id"]
    for case in cases(lilith_data, "asian_arithmetic_continuous"):
        own = case["inputs"]
        price = asian.arithmetic_continuous(
            own["S"], own["K"], own["T"], own["r"], own["sigma"], dividend=own["q"],
            is_call=own["type"] == "call",
        )  # fmt: skip
        assert close(price, case["expected"]["price"], case["suggested_rel_tol"]), case["id"]


def test_vecers_published_cases() -> None:
    rate, volatility, time, spot, expected = np.array(VECER).T
    prices = asian.arithmetic_continuous(spot, 2.0, time, rate, volatility)
    np.testing.assert_allclose(prices, expected, atol=6e-7)  # the last printed decimal


def test_the_continuous_average_is_the_limit_of_many_fixings() -> None:
    """Discrete averages approach it as 1 / fixings: extrapolated, they agree to 1e-4."""
    arguments = (100.0, 102.0, 1.0, 0.04, 0.3)
    few, many = (asian.arithmetic_discrete(*arguments, fixings=count) for count in (100, 200))
    continuous = asian.arithmetic_continuous(*arguments)
    assert continuous == pytest.approx(2 * many - few, rel=1e-4)
    assert abs(continuous - many) > 1e-3


def test_one_fixing_is_black_scholes() -> None:
    for is_call in (True, False):
        exact = black_scholes.price(100.0, 95.0, 0.5, 0.05, 0.2, dividend=0.02, is_call=is_call)
        for form in (asian.arithmetic_discrete, asian.geometric_discrete):
            price = form(100.0, 95.0, 0.5, 0.05, 0.2, dividend=0.02, is_call=is_call, fixings=1)
            assert close(price, float(exact), 1e-13)


def test_geometric_closed_forms() -> None:
    """Against the moments of the mean log, by matrix algebra; and many fixings are continuous."""
    count, time, volatility = 7, 0.8, 0.35
    moments = time * np.arange(1, count + 1) / count
    variance = volatility**2 * np.minimum.outer(moments, moments).mean()
    mean = np.log(100.0) + (0.03 - volatility**2 / 2) * moments.mean()
    forward = np.exp(mean + variance / 2)
    exact = black_scholes.price(forward, 98.0, 1.0, 0.0, np.sqrt(variance)) * np.exp(-0.05 * time)
    ours = asian.geometric_discrete(
        100.0, 98.0, time, 0.05, volatility, dividend=0.02, fixings=count
    )
    assert close(ours, float(exact), 1e-13)
    continuous = asian.geometric_continuous(100.0, 98.0, time, 0.05, volatility)
    many = asian.geometric_discrete(100.0, 98.0, time, 0.05, volatility, fixings=100_000)
    assert continuous == pytest.approx(many, rel=1e-4)


def test_limits() -> None:
    for form in (asian.arithmetic_discrete, asian.arithmetic_continuous, asian.geometric_discrete):
        assert form(100.0, 95.0, 0.0, 0.05, 0.2) == pytest.approx(5.0)
        assert np.isnan(form(-1.0, 95.0, 1.0, 0.05, 0.2))
        assert np.isnan(form(100.0, 95.0, -1.0, 0.05, 0.2))
    moments = np.arange(1, 13) / 12
    certain = np.exp(-0.05) * (100 * np.exp(0.05 * moments).mean() - 95.0)
    assert asian.arithmetic_discrete(100.0, 95.0, 1.0, 0.05, 0.0) == pytest.approx(certain)
    negative = np.exp(-0.05) * (100 * np.exp(0.05 * moments).mean() + 5.0)
    assert asian.arithmetic_discrete(100.0, -5.0, 1.0, 0.05, 0.2) == pytest.approx(negative)
    with pytest.raises(ValueError, match="fixings is 0"):
        asian.arithmetic_discrete(100.0, 95.0, 1.0, 0.05, 0.2, fixings=0)


@pytest.mark.parametrize("form", [asian.arithmetic_discrete, asian.geometric_discrete])
def test_gradients(form) -> None:
    with jax.enable_x64(True):
        slopes_of = jax.jit(jax.grad(form, argnums=(0, 1, 2, 3, 4)))
        point = (100.0, 103.0, 0.7, 0.05, 0.25)
        for index, slope in enumerate(slopes_of(*point)):
            step = 1e-5 * point[index]
            high, low = (
                form(*(x + sign * step * (i == index) for i, x in enumerate(point)))
                for sign in (1, -1)
            )
            assert float(slope) == pytest.approx(float(high - low) / (2 * step), rel=1e-6)
        for limit in ((100.0, 90.0, 0.0, 0.05, 0.2), (100.0, 90.0, 1.0, 0.05, 0.0)):
            assert np.all(np.isfinite(np.array(slopes_of(*limit)))), limit


@settings(max_examples=30, deadline=None)
@given(
    spot=st.floats(70, 140), time=st.floats(0.05, 3), rate=st.floats(-0.02, 0.15),
    volatility=st.floats(0.03, 0.8),
)  # fmt: skip
def test_parity_and_order(spot, time, rate, volatility) -> None:
    arguments = (spot, 100.0, time, rate, volatility)
    call, put = (
        asian.arithmetic_discrete(*arguments, is_call=is_call, fixings=6)
        for is_call in (True, False)
    )
    mean = np.exp(rate * time * np.arange(1, 7) / 6).mean()
    assert call - put == pytest.approx(np.exp(-rate * time) * (spot * mean - 100.0), abs=1e-9)
    geometric = asian.geometric_discrete(*arguments, fixings=6)
    assert call >= geometric - 1e-10  # the arithmetic mean is never the smaller
    assert call <= np.exp(-rate * time) * spot * mean + 1e-10
