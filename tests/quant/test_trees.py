"""Binomial lattices against exact mpmath ones, against limits, and their Greeks."""

import itertools

import jax
import mpmath as mp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numeric_cases import cases, close

from lilith.quant.options import black_scholes, trees


def lattice_by_mpmath(
    spot, strike, time, rate, volatility, *, dividend=0, is_call, american, steps, method
):
    """The lattice in 40 digits, node by node."""
    with mp.workdps(40):
        spot, strike, time, rate, volatility, dividend = (
            mp.mpf(each) for each in (spot, strike, time, rate, volatility, dividend)
        )
        step = time / steps
        grown = mp.exp((rate - dividend) * step)
        if method == "crr":
            up = mp.exp(volatility * mp.sqrt(step))
            down = 1 / up
            p = (grown - down) / (up - down)
        else:

            def share(z):
                x = (z / (steps + mp.mpf(1) / 3 + mp.mpf(1) / 10 / (steps + 1))) ** 2
                return (1 + mp.sign(z) * mp.sqrt(1 - mp.exp(-x * (steps + mp.mpf(1) / 6)))) / 2

            spread = volatility * mp.sqrt(time)
            d_minus = (mp.log(spot / strike) + (rate - dividend) * time) / spread - spread / 2
            p, q = share(d_minus), share(d_minus + spread)
            up, down = grown * q / p, grown * (1 - q) / (1 - p)
        sign = 1 if is_call else -1

        def payoff(i, j):
            return sign * (spot * up**j * down ** (i - j) - strike)

        values = [max(payoff(steps, j), 0) for j in range(steps + 1)]
        for i in range(steps - 1, -1, -1):
            values = [
                (p * high + (1 - p) * low) * mp.exp(-rate * step)
                for low, high in itertools.pairwise(values)
            ]
            if american:
                values = [max(value, payoff(i, j)) for j, value in enumerate(values)]
        return float(values[0])


@pytest.mark.parametrize("method", trees.METHODS)
@pytest.mark.parametrize("steps", [7, 30])
def test_lattices_are_exact(method: str, steps: int) -> None:
    for is_call, american in itertools.product((True, False), (True, False)):
        numbers = (100.0, 105.0, 0.75, 0.06, 0.3)
        used = trees.effective_steps(steps, method)
        expected = lattice_by_mpmath(
            *numbers, dividend=0.04, is_call=is_call, american=american, steps=used, method=method
        )
        price = trees.price(
            *numbers, dividend=0.04, is_call=is_call, steps=steps, method=method,
            exercise="american" if american else "european",
        )  # fmt: skip
        assert close(price, expected, 1e-13)


def test_hulls_example() -> None:
    """Hull, "Options, Futures, and Other Derivatives": S = K = 50, 5 months, 10%, 40%: 4.49."""
    assert close(
        trees.price(50, 50, 5 / 12, 0.1, 0.4, is_call=False, steps=5), 4.488458534725914, 1e-14
    )


def test_reference_cases(lilith_data) -> None:
    for case in cases(lilith_data, "crr_binomial"):
        own = case["inputs"]
        price = trees.price(
            own["S"], own["K"], own["T"], own["r"], own["sigma"], dividend=own["q"],
            is_call=own["type"] == "call", exercise=own["exercise"], steps=own["steps"],
        )  # fmt: skip
        assert close(price, case["expected"]["price"], case["suggested_rel_tol"]), case["id"]


def test_leisen_reimer_converges_to_black_scholes() -> None:
    exact = black_scholes.price(100.0, 110.0, 1.0, 0.05, 0.25, dividend=0.02)
    errors = [
        abs(
            trees.price(
                100.0, 110.0, 1.0, 0.05, 0.25, dividend=0.02, exercise="european",
                steps=steps, method="leisen_reimer",
            ) - exact
        )
        for steps in (51, 201)
    ]  # fmt: skip
    assert errors[1] < 2e-4
    assert errors[0] / errors[1] == pytest.approx((201 / 51) ** 2, rel=0.2)  # order 2


def test_even_leisen_reimer_steps_take_one_more() -> None:
    arguments = (100.0, 110.0, 1.0, 0.05, 0.25)
    even = trees.price(*arguments, steps=30, method="leisen_reimer")
    assert even == trees.price(*arguments, steps=31, method="leisen_reimer")
    assert trees.effective_steps(30, "leisen_reimer") == 31
    assert trees.effective_steps(30, "crr") == 30


@pytest.mark.parametrize("method", trees.METHODS)
def test_greeks_approach_those_of_black_scholes(method: str) -> None:
    numbers = (100.0, 103.0, 0.7, 0.05, 0.25)
    ours = trees.greeks(
        *numbers, dividend=0.02, is_call=False, exercise="european", steps=801, method=method
    )
    exact = black_scholes.greeks(*numbers, dividend=0.02, is_call=False)
    tolerance = 2e-3 if method == "crr" else 2e-5
    for name in ("price", "delta", "vega", "rho"):
        assert close(getattr(ours, name), float(exact[name]), tolerance), name
    for name in ("gamma", "theta"):
        assert close(getattr(ours, name), float(exact[name]), 3e-3), name
    assert ours.status == trees.OK


def test_gradients_are_those_of_the_lattice() -> None:
    with jax.enable_x64(True):
        point = (100.0, 105.0, 0.5, 0.05, 0.2)

        def price(*numbers):
            return trees.price(*numbers, is_call=False, steps=31, method="leisen_reimer")

        slopes = jax.jit(jax.grad(price, argnums=(0, 1, 2, 3, 4)))(*point)
        for index, slope in enumerate(slopes):
            step = 1e-6 * point[index]
            high, low = (
                price(*(x + sign * step * (i == index) for i, x in enumerate(point)))
                for sign in (1, -1)
            )
            assert float(slope) == pytest.approx(float(high - low) / (2 * step), rel=2e-6)
        assert slopes[4] == pytest.approx(
            float(trees.greeks(*point, is_call=False, steps=31, method="leisen_reimer").vega)
        )


def test_no_nan_gradients_at_limits() -> None:
    with jax.enable_x64(True):
        for method in trees.METHODS:

            def price(*numbers, own=method):
                return trees.price(*numbers, steps=31, method=own)

            for point in ((100.0, 90.0, 0.0, 0.05, 0.2), (100.0, 100.0, 1.0, 0.02, 0.2)):
                slopes = jax.grad(price, argnums=(0, 1, 2, 3, 4))(*point)
                assert np.all(np.isfinite(np.array(slopes))), (method, point)


def test_status_and_limits() -> None:
    found = trees.greeks([100, 100, -1, 90], 100, [1, 1, 1, 0], [0.5, 0.05, 0.05, 0.05],
                         [0.01, 0.2, 0.2, 0.2], is_call=False, steps=31)  # fmt: skip
    assert found.status.tolist() == [
        trees.PROBABILITY_OUTSIDE, trees.OK, trees.INPUT_OUTSIDE, trees.OK
    ]  # fmt: skip
    assert np.isnan(found.price).tolist() == [True, False, True, False]
    assert np.isnan(found.vega).tolist() == [True, False, True, True]
    assert found.probability[0] > 1
    assert found.price[3] == 10.0  # at expiry the payoff


def test_mistakes_are_named() -> None:
    with pytest.raises(ValueError, match="steps is 1"):
        trees.price(100, 100, 1, 0.05, 0.2, steps=1)
    with pytest.raises(ValueError, match="'crank'"):
        trees.price(100, 100, 1, 0.05, 0.2, method="crank")
    with pytest.raises(ValueError, match="'bermudan'"):
        trees.price(100, 100, 1, 0.05, 0.2, exercise="bermudan")


@settings(max_examples=60, deadline=None)
@given(
    spot=st.floats(50, 200), time=st.floats(0.01, 3), rate=st.floats(-0.02, 0.12),
    dividend=st.floats(-0.02, 0.12), volatility=st.floats(0.08, 1.0), is_call=st.booleans(),
)  # fmt: skip
def test_american_is_worth_more_than_european_and_payoff(
    spot, time, rate, dividend, volatility, is_call
) -> None:
    prices = [
        trees.price(spot, 100.0, time, rate, volatility, dividend=dividend, is_call=is_call,
                    exercise=exercise, steps=51, method="leisen_reimer")
        for exercise in ("american", "european")
    ]  # fmt: skip
    payoff = max(spot - 100.0 if is_call else 100.0 - spot, 0.0)
    assert prices[0] >= prices[1] - 1e-12 * spot
    assert prices[0] >= payoff - 1e-12 * spot
    higher = trees.price(spot, 100.0, time, rate, volatility + 0.05, dividend=dividend,
                         is_call=is_call, steps=51, method="leisen_reimer")  # fmt: skip
    assert higher >= prices[0] - 1e-10 * spot
