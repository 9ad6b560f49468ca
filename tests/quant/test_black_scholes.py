"""Black-Scholes, Black-76 and Garman-Kohlhagen: accuracy, Greeks, limits, laws."""

from __future__ import annotations

import json
from typing import Any

import jax
import jax.numpy as jnp
import mpmath
import numpy as np
import option_truth as truth
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lilith.quant.options import black76, black_scholes, garman_kohlhagen

EPS = np.finfo(np.float64).eps
BASE = {
    "spot": 100.0, "strike": 105.0, "time": 0.5, "rate": 0.05, "volatility": 0.2, "dividend": 0.0,
}  # fmt: skip
# Computed by truth.greek with 60 digits.
GOLDEN_CALL = {
    "price": 4.581680167540002, "delta": 0.46116022571905096, "gamma": 0.028075683527420741,
    "theta": -7.691853825702403, "vega": 28.075683527420741, "rho": 20.767171202182547,
    "phi": -23.058011285952548, "vanna": 0.47434097778028231, "volga": 3.2706199779394955,
    "charm": -0.23524661319316016, "veta": -29.697728235539014, "speed": -8.7172692768132502e-05,
    "zomma": -0.13710779765916421, "color": 0.026453638819302467, "ultima": -62.716137172313489,
    "dual_delta": -0.39556516575585805, "dual_gamma": 0.025465472587229697,
}  # fmt: skip
OPTIONS = [
    (BASE, True),
    ({**BASE, "strike": 95.0, "rate": 0.1, "dividend": 0.05}, False),
    ({**BASE, "strike": 100.0, "time": 1e-8}, True),  # at the money, a third of a second left
    ({**BASE, "strike": 140.0, "dividend": 0.03, "rate": -0.02}, True),
    ({**BASE, "strike": 60.0, "time": 3.0, "volatility": 1.5}, False),
]


def arguments(option: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
    option = dict(option)
    dividend = option.pop("dividend")
    return tuple(option.values()), {"dividend": dividend}


def price(*numbers: Any) -> Any:
    *first, dividend, is_call = numbers
    return black_scholes.price(*first, dividend=dividend, is_call=is_call)


def test_golden_greeks_of_a_call() -> None:
    given_, kept = arguments(BASE)
    values = black_scholes.greeks(*given_, **kept)
    assert set(values) == set(black_scholes.GREEKS) == set(GOLDEN_CALL)
    for name, expected in GOLDEN_CALL.items():
        assert values[name] == pytest.approx(expected, rel=1e-14), name
        assert type(values[name]) is np.float64


@pytest.mark.parametrize(("option", "is_call"), OPTIONS)
def test_greeks_are_the_derivatives_of_the_price(option: dict[str, float], is_call: bool) -> None:
    given_, kept = arguments(option)
    values = black_scholes.greeks(*given_, is_call=is_call, **kept)
    for name in black_scholes.GREEKS:
        expected = truth.greek(name, option, is_call)
        assert values[name] == pytest.approx(float(expected), rel=2e-13), name


def test_automatic_derivatives_of_any_order_are_the_greeks() -> None:
    def all_of(*numbers: Any) -> dict[str, Any]:
        found = {}
        for name, orders in truth.ORDERS.items():
            function = price
            for argument, order in orders.items():
                for _ in range(order):
                    function = jax.grad(function, truth.ARGUMENTS.index(argument))
            found[name] = function(*numbers) * (-1 if "time" in orders else 1)
        return found

    rows = [[option[name] for name in truth.ARGUMENTS] for option, _ in OPTIONS]
    with jax.enable_x64(True):
        columns = [jnp.array(column) for column in zip(*rows)]
        is_call = jnp.array([is_call for _, is_call in OPTIONS])
        found = jax.jit(jax.vmap(all_of))(*columns, is_call)
        *most, dividend = columns
        expected = black_scholes.greeks(*most, dividend=dividend, is_call=is_call)
    for name in truth.ORDERS:
        assert np.asarray(found[name]) == pytest.approx(np.asarray(expected[name]), rel=1e-12), name


def test_reference_cases(lilith_data) -> None:
    path = lilith_data / "quant_reference" / "reference_cases.json"
    cases = [c for c in json.loads(path.read_text())["cases"] if c["kind"].startswith("bsm")]
    assert len(cases) >= 6
    for case in cases:
        own = case["inputs"]
        values = black_scholes.greeks(
            own["S"], own["K"], own["T"], own["r"], own["sigma"],
            dividend=own["q"], is_call=own["type"] == "call",
        )  # fmt: skip
        for name, expected in case["expected"].items():
            value = values["phi" if name == "phi_dq" else name]
            tolerance = min(case["suggested_rel_tol"], 1e-12)
            assert value == pytest.approx(expected, rel=tolerance, abs=0), (case["id"], name)


@pytest.mark.parametrize("is_call", [True, False])
def test_prices_far_out_of_the_money_keep_their_relative_accuracy(is_call: bool) -> None:
    """The inputs' own rounding moves such a price by d^2 eps; no more is lost."""
    side = 1 if is_call else -1
    for distance, volatility in truth.itertools.product((1, 5, 10, 20, 30), (1e-5, 1e-3, 0.1, 0.5)):
        option = {
            **BASE, "rate": 0.0, "volatility": volatility,
            "strike": 100 * float(np.exp(side * distance * volatility * np.sqrt(0.5))),
        }  # fmt: skip
        given_, kept = arguments(option)
        with mpmath.workdps(60):
            exact = truth.black_scholes(
                *(truth.exact(option[name]) for name in truth.ARGUMENTS), is_call
            )
            error = abs(
                truth.exact(black_scholes.price(*given_, is_call=is_call, **kept)) / exact - 1
            )
        assert error <= 4 * EPS * (1 + distance**2), (distance, volatility)


LIMITS = [  # changes to BASE, call price, put price, call delta, put delta
    ({"time": 0.0}, 0.0, 5.0, 0.0, -1.0),
    ({"time": 0.0, "strike": 90.0}, 10.0, 0.0, 1.0, 0.0),
    ({"time": 0.0, "strike": 100.0}, 0.0, 0.0, 0.5, -0.5),  # the kink: the mean of both sides
    ({"volatility": 0.0}, 0.0, 105 * np.exp(-0.025) - 100, 0.0, -1.0),
    ({"volatility": 0.0, "strike": 100.0}, -100 * np.expm1(-0.025), 0.0, 1.0, 0.0),
    ({"volatility": 0.0, "strike": 100.0, "rate": 0.0}, 0.0, 0.0, 0.5, -0.5),
    ({"volatility": np.inf}, 100.0, 105 * np.exp(-0.025), 1.0, 0.0),
    ({"spot": 0.0}, 0.0, 105 * np.exp(-0.025), 0.0, -1.0),
    ({"spot": 0.0, "time": 0.0}, 0.0, 105.0, 0.0, -1.0),
    ({"strike": 0.0}, 100.0, 0.0, 1.0, 0.0),
    ({"volatility": 1e-9}, 0.0, 105 * np.exp(-0.025) - 100, 0.0, -1.0),
    ({"time": 1e-300}, 0.0, 5.0, 0.0, -1.0),
]


def test_exact_limits() -> None:
    rows = [[{**BASE, **change}[name] for name in truth.ARGUMENTS] for change, *_ in LIMITS]
    *most, dividend = np.array(rows).T
    for is_call, at in ((True, 1), (False, 2)):
        values = black_scholes.greeks(*most, dividend=dividend, is_call=is_call)
        expected = [row[at] for row in LIMITS]
        assert values["price"] == pytest.approx(expected, rel=1e-14, abs=0)
        assert values["delta"] == pytest.approx([row[at + 2] for row in LIMITS], abs=0)
        assert all(np.isfinite(values[name]).all() for name in black_scholes.GREEKS)


def test_theta_at_zero_volatility_is_that_of_the_payoff() -> None:
    values = black_scholes.greeks(110, 105, 0.5, 0.05, 0.0)
    assert values["theta"] == pytest.approx(-5.120377038148746, rel=1e-14)
    assert (values["gamma"], values["vega"]) == (0.0, 0.0)


def test_vega_at_the_kink_is_the_derivative_to_the_right() -> None:
    vega = black_scholes.greeks(100, 100, 0.5, 0.0, 0.0)["vega"]
    assert vega == pytest.approx(100 * np.sqrt(0.5 / (2 * np.pi)), rel=1e-14)
    assert vega == pytest.approx(black_scholes.price(100, 100, 0.5, 0.0, 1e-7) / 1e-7, rel=1e-12)


def test_derivatives_at_the_limits_are_the_greeks_and_never_nan() -> None:
    """To second order, of calls and puts, in both precisions."""
    rows = [[{**BASE, **change}[name] for name in truth.ARGUMENTS] for change, *_ in LIMITS]
    first = jax.jit(jax.vmap(jax.grad(price, tuple(range(6))), (0,) * 6 + (None,)))
    second = jax.jit(
        jax.vmap(jax.jacfwd(jax.grad(price, tuple(range(6))), (0, 4)), (0,) * 6 + (None,))
    )
    names = ("delta", "dual_delta", "theta", "rho", "vega", "phi")
    for dtype in (np.float64, np.float32):
        with jax.enable_x64(True):
            columns = [jnp.asarray(np.array(column, dtype)) for column in zip(*rows)]
            for is_call in (True, False):
                gradient = first(*columns, is_call)
                assert all(np.isfinite(leaf).all() for leaf in gradient)
                *most, dividend = columns
                greeks = black_scholes.greeks(*most, dividend=dividend, is_call=is_call)
                for name, own in zip(names, gradient):
                    sign = -1 if name == "theta" else 1
                    value = np.asarray(own) * sign
                    assert value == pytest.approx(np.asarray(greeks[name]), rel=1e-5), name
                assert all(
                    np.isfinite(leaf).all() for leaf in jax.tree.leaves(second(*columns, is_call))
                )


BAD = [
    {"spot": -1.0}, {"strike": -1.0}, {"time": -0.1}, {"volatility": -0.2},
    *({name: np.nan} for name in truth.ARGUMENTS),
]  # fmt: skip


def test_invalid_arguments_give_nan_and_spoil_nothing_else() -> None:
    rows = [[{**BASE, **change}[name] for name in truth.ARGUMENTS] for change in [*BAD, {}]]
    *most, dividend = np.array(rows).T
    values = black_scholes.greeks(*most, dividend=dividend)
    for name in black_scholes.GREEKS:
        assert np.isnan(values[name][:-1]).all(), name
        assert values[name][-1] == pytest.approx(GOLDEN_CALL[name], rel=1e-14)


def test_arguments_broadcast() -> None:
    values = black_scholes.greeks(
        np.array([[90.0], [100.0]]), [95.0, 105.0, 110.0], 0.5, 0.05, 0.2,
        is_call=np.array([True, False, True]),
    )  # fmt: skip
    assert {value.shape for value in values.values()} == {(2, 3)}
    assert values["price"][1, 1] == pytest.approx(
        black_scholes.price(100, 105, 0.5, 0.05, 0.2, is_call=False), rel=1e-15
    )
    gamma = black_scholes.greeks(100, 105, 0.5, 0.05, 0.2, is_call=[True, False], names=("gamma",))
    assert list(gamma) == ["gamma"]
    assert gamma["gamma"].shape == (2,)


def test_an_unknown_greek_is_named() -> None:
    with pytest.raises(ValueError, match="no Greek 'lambda'; known: price, delta"):
        black_scholes.greeks(100, 105, 0.5, 0.05, 0.2, names=("delta", "lambda"))


def test_single_precision_stays_single_and_accurate() -> None:
    spot = np.linspace(60, 160, 101, dtype=np.float32)
    single = black_scholes.price(spot, 105.0, 0.5, 0.05, 0.2)
    assert single.dtype == np.float32
    double = black_scholes.price(spot.astype(np.float64), 105.0, 0.5, 0.05, 0.2)
    assert np.asarray(single) == pytest.approx(double, rel=5e-5)
    under_jit = jax.jit(lambda s: black_scholes.price(s, 105.0, 0.5, 0.05, 0.2))(spot)
    assert under_jit.dtype == np.float32
    assert np.asarray(under_jit) == pytest.approx(np.asarray(single), rel=1e-6)


positive = st.floats(1e-3, 1e4)
rates = st.floats(-0.1, 0.2)
volatilities = st.floats(1e-4, 5)
times = st.floats(1e-4, 30)


@settings(max_examples=150, deadline=None)
@given(positive, positive, times, rates, volatilities, rates)
def test_parity_and_bounds(spot, strike, time, rate, volatility, dividend) -> None:
    both = black_scholes.price(
        spot, strike, time, rate, volatility, dividend=dividend, is_call=np.array([True, False])
    )
    share, cash = spot * np.exp(-dividend * time), strike * np.exp(-rate * time)
    slack = 4 * EPS * (share + cash)
    assert both[0] - both[1] == pytest.approx(share - cash, abs=slack)
    assert max(share - cash, 0) - slack <= both[0] <= share + slack
    assert max(cash - share, 0) - slack <= both[1] <= cash + slack


@settings(max_examples=100, deadline=None)
@given(positive, times, rates, volatilities, rates, st.booleans())
def test_monotonicity_and_convexity_in_the_strike(
    spot, time, rate, volatility, dividend, is_call
) -> None:
    strikes = spot * np.linspace(0.2, 3, 29)
    prices = black_scholes.price(
        spot, strikes, time, rate, volatility, dividend=dividend, is_call=is_call
    )
    slack = 8 * EPS * (spot + strikes[-1]) * np.exp(0.2 * 30)
    steps = np.diff(prices) * (-1 if is_call else 1)
    assert (steps >= -slack).all()
    assert (np.diff(prices, 2) >= -2 * slack).all()


@settings(max_examples=100, deadline=None)
@given(positive, positive, times, rates, rates, st.booleans())
def test_monotonicity_in_volatility_and_spot(spot, strike, time, rate, dividend, is_call) -> None:
    volatilities_ = np.geomspace(1e-3, 3, 29)
    prices = black_scholes.price(
        spot, strike, time, rate, volatilities_, dividend=dividend, is_call=is_call
    )
    assert (np.diff(prices) >= -8 * EPS * (spot + strike) * np.exp(0.1 * time)).all()
    spots = spot * np.linspace(0.5, 2, 29)
    along = black_scholes.price(spots, strike, time, rate, 0.3, dividend=dividend, is_call=is_call)
    slack = 8 * EPS * (2 * spot + strike) * np.exp(0.1 * time)
    assert (np.diff(along) * (1 if is_call else -1) >= -slack).all()


@settings(max_examples=15, deadline=None)
@given(st.floats(-2, 2), st.floats(0.01, 5), rates, st.floats(0.05, 1), rates, st.booleans())
def test_random_greeks_against_mpmath(d, time, rate, volatility, dividend, is_call) -> None:
    option = {
        "spot": 100.0, "strike": 100 * float(np.exp(d * volatility * np.sqrt(time))),
        "time": time, "rate": rate, "volatility": volatility, "dividend": dividend,
    }  # fmt: skip
    given_, kept = arguments(option)
    values = black_scholes.greeks(*given_, is_call=is_call, **kept)
    scale = {"vanna": 1, "volga": 100, "charm": 1, "veta": 100, "speed": 1e-2, "theta": 100}
    for name in ("delta", "gamma", "theta", "vega", "vanna", "volga", "charm", "speed", "ultima"):
        expected = float(truth.greek(name, option, is_call))
        assert values[name] == pytest.approx(expected, rel=1e-11, abs=1e-12 * scale.get(name, 1)), (
            name
        )


def test_black76_greeks_are_derivatives_at_a_fixed_forward() -> None:
    def derivatives(*numbers: Any) -> dict[str, Any]:
        def by(*positions: int) -> Any:
            function = black76.price
            for position in positions:
                function = jax.grad(function, position)
            return function(*numbers)

        return {
            "price": by(), "delta": by(0), "gamma": by(0, 0), "theta": -by(2), "vega": by(4),
            "rho": by(3), "vanna": by(0, 4), "charm": -by(0, 2), "veta": -by(4, 2),
            "dual_delta": by(1), "dual_gamma": by(1, 1),
        }  # fmt: skip

    with jax.enable_x64(True):
        point = [jnp.float64(x) for x in (100, 105, 0.5, 0.05, 0.3)]
        found = jax.jit(derivatives)(*point)
        values = black76.greeks(*point)
    assert "phi" not in values
    for name, expected in found.items():
        assert float(values[name]) == pytest.approx(float(expected), rel=1e-12), name
    forward = 100 * np.exp(0.05 * 0.5)
    assert black76.price(forward, 105, 0.5, 0.05, 0.2) == pytest.approx(
        GOLDEN_CALL["price"], rel=1e-14
    )


def test_garman_kohlhagen_names_both_rates() -> None:
    """Haug's example, 0.0291; more digits from truth.greek."""
    values = garman_kohlhagen.greeks(1.56, 1.6, 0.5, 0.06, 0.08, 0.12)
    assert values["price"] == pytest.approx(0.029099253149439683, rel=1e-14)
    assert values["rho_domestic"] == pytest.approx(0.25095138262635154, rel=1e-14)
    assert values["rho_foreign"] == pytest.approx(-0.26550100920107138, rel=1e-14)
    assert garman_kohlhagen.price(1.56, 1.6, 0.5, 0.06, 0.08, 0.12) == values["price"]
    with pytest.raises(ValueError, match="no Greek 'phi'"):
        garman_kohlhagen.greeks(1.56, 1.6, 0.5, 0.06, 0.08, 0.12, names=("phi",))
    with pytest.raises(ValueError, match="no Greek 'phi'"):
        black76.greeks(1.56, 1.6, 0.5, 0.06, 0.12, names=("phi",))
