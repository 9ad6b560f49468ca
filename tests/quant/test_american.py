"""American options to high precision: published, by symmetry, by lattices, and at limits."""

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numeric_cases import cases, close

from lilith.quant.options import american, black_scholes, trees


def test_published_early_exercise_premium() -> None:
    """Andersen, Lake and Offengenden (2016): 0.106952702747 for this put."""
    arguments = (100.0, 100.0, 1.0, 0.05, 0.25)
    price = american.price(*arguments, dividend=0.05, is_call=False)
    premium = price - black_scholes.price(*arguments, dividend=0.05, is_call=False)
    assert premium == pytest.approx(0.106952702747, abs=5e-12)


def test_reference_cases(lilith_data) -> None:
    for case in cases(lilith_data, "american"):
        own = case["inputs"]
        price = american.price(
            own["S"], own["K"], own["T"], own["r"], own["sigma"], dividend=own["q"],
            is_call=own["type"] == "call",
        )  # fmt: skip
        assert close(price, case["expected"]["price"], case["suggested_rel_tol"]), case["id"]


RATES = [
    (0.05, 0.0),
    (0.05, 0.1),
    (0.1, 0.02),
    (0.02, 0.02),
    (0.0, -0.03),
    (0.08, -0.01),
    (0.0, 0.02),
]


@pytest.mark.parametrize("is_call", [True, False])
def test_against_lattices(is_call: bool) -> None:
    """Leisen-Reimer lattices of 1001 steps are good to about 3e-5 of the strike."""
    rate, dividend = np.array(RATES)[:, :, None].transpose(1, 0, 2)
    spot, volatility = np.array([85.0, 100.0, 118.0]), np.array([0.12, 0.25, 0.4])
    for time in (0.25, 2.0):
        terms = {"dividend": dividend, "is_call": is_call}
        ours = american.price(spot, 100.0, time, rate, volatility, **terms)
        lattice = trees.price(
            spot, 100.0, time, rate, volatility, **terms, steps=1001, method="leisen_reimer"
        )
        np.testing.assert_allclose(ours, lattice, atol=5e-3, rtol=0)


def test_steep_drift_uses_the_other_equation_and_agrees_with_it() -> None:
    """On either side of STEEP, and at a rate of 4,000 variances where FP-A diverges."""
    volatility = np.sqrt((0.08 - 0.01) / (american.STEEP * np.array([0.999999, 1.000001])))
    found = american.solve(98.0, 100.0, 1.0, 0.08, volatility, dividend=0.01, is_call=False)
    assert found.price[0] == pytest.approx(found.price[1], abs=2e-5)
    assert found.boundary[0] == pytest.approx(found.boundary[1], rel=1e-6)
    steep = american.solve(100.001, 100.0, 0.5, 0.1, 0.005, is_call=False)
    assert steep.status == american.OK
    assert 0 < steep.price < 0.1


def test_limits() -> None:
    put = {"is_call": False}
    assert american.price(90, 100, 0, 0.05, 0.2, **put) == 10.0
    assert american.price(0, 100, 1, 0.05, 0.2, **put) == 100.0
    assert american.price(100, 0, 1, 0.05, 0.2, **put) == 0.0
    assert american.price(40, 100, 1, 0.05, 0.2, **put) == 60.0  # below the boundary
    european = black_scholes.price(100, 100, 1, 0.05, 0.2)
    assert american.price(100, 100, 1, 0.05, 0.2) == european  # no dividend: never early
    negative = black_scholes.price(100, 100, 1, -0.02, 0.2, dividend=0.01, is_call=False)
    assert american.price(100, 100, 1, -0.02, 0.2, dividend=0.01, **put) == negative
    # Without volatility the best moment on the forward path: here where r K e^(-rt) = q S e^(-qt).
    times = np.linspace(0, 40, 200_001)
    path = 100 * np.exp(-0.02 * times) - 90 * np.exp(-0.06 * times)
    certain = american.price(90, 100, 40, 0.02, 0.0, dividend=0.06, **put)
    assert certain == pytest.approx(path.max(), abs=1e-6)
    assert path.argmax() not in (0, len(times) - 1)


def test_status() -> None:
    found = american.solve(
        [100, -1, 100, 100], 100, [1, 1, np.nan, 1], [-0.01, 0.05, 0.05, 0.05], 0.2,
        dividend=[-0.02, 0, 0, 0], is_call=False,
    )  # fmt: skip
    assert found.status.tolist() == [
        american.DOUBLE_BOUNDARY, american.INPUT_OUTSIDE, american.INPUT_OUTSIDE, american.OK
    ]  # fmt: skip
    assert np.isnan(found.price).tolist() == [True, True, True, False]
    call = american.solve(100, 100, 1, -0.02, 0.2, dividend=-0.01, is_call=True)
    assert call.status == american.DOUBLE_BOUNDARY  # the mirror image


def test_boundary_is_where_holding_stops_paying() -> None:
    found = american.solve(100.0, 100.0, 1.0, 0.05, 0.25, dividend=0.05, is_call=False)
    terms = {"dividend": 0.05, "is_call": False}
    above, below = (
        american.price(found.boundary * move, 100.0, 1.0, 0.05, 0.25, **terms)
        for move in (1.01, 0.99)
    )
    assert above > 100.0 - found.boundary * 1.01
    assert below == 100.0 - found.boundary * 0.99
    call = american.solve(100.0, 100.0, 1.0, 0.05, 0.25, dividend=0.05, is_call=True)
    assert call.boundary == pytest.approx(100.0**2 / found.boundary, rel=1e-13)


def test_gradients() -> None:
    with jax.enable_x64(True):

        def price(spot, time, rate, volatility, dividend):
            return american.price(
                spot, 100.0, time, rate, volatility, dividend=dividend, is_call=False
            )

        slopes_of = jax.jit(jax.grad(price, argnums=(0, 1, 2, 3, 4)))
        point = (105.0, 0.8, 0.06, 0.3, 0.03)
        for index, slope in enumerate(slopes_of(*point)):
            step = 1e-4 * point[index]
            high, low = (
                price(*(x + sign * step * (i == index) for i, x in enumerate(point)))
                for sign in (1, -1)
            )
            assert float(slope) == pytest.approx(float(high - low) / (2 * step), rel=1e-5)
        gamma = float(jax.jit(jax.grad(jax.grad(price)))(*point))
        step = 0.01
        bumped = [float(slopes_of(105.0 + sign * step, *point[1:])[0]) for sign in (1, -1)]
        assert gamma == pytest.approx((bumped[0] - bumped[1]) / (2 * step), rel=1e-6)
        for limit in (
            (100.0, 0.0, 0.05, 0.2, 0.0), (0.0, 1.0, 0.05, 0.2, 0.0), (100.0, 1.0, 0.05, 0.0, 0.0),
            (40.0, 1.0, 0.05, 0.2, 0.0), (100.0, 1.0, 0.0, 0.2, 0.0), (100.0, 1.0, -0.05, 0.2, 0.0),
        ):  # fmt: skip
            assert np.all(np.isfinite(np.array(slopes_of(*limit)))), limit


@settings(max_examples=60, deadline=None)
@given(
    spot=st.floats(40, 250), time=st.floats(0.01, 10), rate=st.floats(0, 0.2),
    dividend=st.floats(0, 0.2), volatility=st.floats(0.05, 1.5), is_call=st.booleans(),
)  # fmt: skip
def test_bounds_and_symmetry(spot, time, rate, dividend, volatility, is_call) -> None:
    terms = {"dividend": dividend, "is_call": is_call}
    found = american.solve(spot, 100.0, time, rate, volatility, **terms)
    assert found.status == american.OK
    european = black_scholes.price(spot, 100.0, time, rate, volatility, **terms)
    payoff = max(spot - 100.0 if is_call else 100.0 - spot, 0.0)
    assert found.price >= max(european, payoff) - 1e-9
    assert found.price <= (spot if is_call else 100.0) + 1e-9
    mirrored = american.price(
        100.0, spot, time, dividend, volatility, dividend=rate, is_call=not is_call
    )
    assert mirrored == pytest.approx(found.price, rel=1e-9, abs=1e-9)
    later = american.price(spot, 100.0, 1.1 * time, rate, volatility, **terms)
    assert later >= found.price - 1e-7  # time is never a burden to an American option
