"""Implied volatility: accurate to its conditioning over the whole range, with status and slopes."""

from __future__ import annotations

import json

import jax
import jax.numpy as jnp
import mpmath
import numpy as np
import option_truth as truth
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from lilith.quant.options import black_scholes, double_double
from lilith.quant.options import implied_volatility as implied
from lilith.quant.options.normalised_black import out_of_the_money
from lilith.quant.options.normalised_implied import black_total_volatility

EPS = np.finfo(np.float64).eps
# Options and their prices rounded to binary64, and the root for exactly that price to 17 digits,
# by truth.implied_volatility. (price, spot, strike, time, rate, dividend, is_call, volatility)
GOLDEN = [
    (5.2900207143454554e-49, 100.0, 200.0, 0.1, 0.0, 0.0, True, 0.14999999999999999),
    (0.03984426627209525, 100.0, 100.0001, 1.0, 0.0, 0.0, True, 0.001),
    (50.00094310908808, 100.0, 50.0, 0.25, 0.0, 0.0, True, 0.4000000000000489),
]


def worst_error(rows: list[tuple]) -> float:
    """The largest error in eps (1 + condition); every option must be solved."""
    price, spot, strike, time, rate, _, dividend, is_call = (np.array(c) for c in zip(*rows))
    found = implied.solve_implied_volatility(
        price, spot, strike, time, rate, dividend=dividend, is_call=is_call
    )
    assert (found.status == implied.SOLVED).all()
    worst = 0.0
    for row, volatility, condition in zip(rows, found.volatility, found.condition):
        option = dict(zip(truth.ARGUMENTS, row[1:7]))
        root, true_condition = truth.implied_volatility(row[0], option, row[7], row[5])
        error = float(abs(truth.exact(volatility) / root - 1) / (1 + true_condition))
        worst = max(worst, error / EPS)
        own = 1e-6 + 1e4 * EPS * float(true_condition)  # itself no better than the volatility
        assert condition == pytest.approx(float(true_condition), rel=own)
    return worst


def test_golden_volatilities() -> None:
    *numbers, dividend, is_call, expected = (np.array(column) for column in zip(*GOLDEN))
    found = implied.solve_implied_volatility(*numbers, dividend=dividend, is_call=is_call)
    assert (found.status == implied.SOLVED).all()
    assert (np.abs(found.volatility / expected - 1) <= 4 * EPS * (1 + found.condition)).all()
    assert found.condition == pytest.approx([0.0046188, 0.99875, 3613.7], rel=1e-4)
    for row in GOLDEN:  # the truth itself
        option = dict(zip(truth.ARGUMENTS, (*row[1:5], 0.0, row[5])))
        root, _ = truth.implied_volatility(row[0], option, row[6], row[7])
        assert float(root) == pytest.approx(row[7], rel=2 * EPS)


def test_reference_cases(lilith_data) -> None:
    path = lilith_data / "quant_reference" / "reference_cases.json"
    cases = [c for c in json.loads(path.read_text())["cases"] if c["kind"].startswith("implied")]
    assert len(cases) >= 3
    for case in cases:
        own = case["inputs"]
        found = implied.implied_volatility(
            own["price"], own["F"], own["K"], own["T"], 0.0, is_call=own["type"] == "call"
        )
        assert found == pytest.approx(case["expected"]["sigma"], rel=case["suggested_rel_tol"])


@pytest.mark.parametrize("near", [False, True])
def test_random_options_are_solved_to_their_conditioning(near: bool) -> None:
    """At most 10 eps (1 + condition), the design's bound; it holds with 3 to spare."""
    assert worst_error(truth.random_options(150, 11 + near, near)) <= 5


def test_three_steps_reach_the_root_from_everywhere() -> None:
    """There and back in the normalised form: log-moneyness to -100, total volatility to 30."""
    x, total = np.meshgrid(-np.append(0, np.geomspace(1e-9, 100, 120)), np.geomspace(1e-8, 30, 300))
    with jax.enable_x64(True):
        option = jax.jit(out_of_the_money)(x.ravel(), total.ravel())
        value, complement = np.asarray(option.value), np.asarray(option.complement)
        kept = (value > 1e-290) & (complement > 1e-14)
        inverse = jax.jit(black_total_volatility)
        found = inverse(x.ravel()[kept], value[kept], complement[kept])
    condition = np.asarray(option.value_quotient)[kept] / total.ravel()[kept]
    error = np.abs(np.asarray(found) / total.ravel()[kept] - 1)
    assert kept.sum() > 15_000
    assert (error / (1 + condition)).max() <= 6 * EPS


def test_the_corners_of_the_range() -> None:
    rows = []
    for total, d in truth.itertools.product((1e-6, 1e-3, 0.3, 3.0, 12.0), (-36, -8, -1, 0, 1, 8)):
        strike = 100 * float(np.exp(-d * min(total, 1.0)))
        row = (100.0, strike, 1.0, 0.0, total, 0.0)
        with mpmath.workdps(60):
            exact = [truth.exact(x) for x in row]
            for is_call in (True, False):
                price = float(truth.black_scholes(*exact, is_call))
                lower = max((100 - strike) * (1 if is_call else -1), 0.0)
                upper = 100.0 if is_call else strike
                if price > 1e-300 and min(price - lower, upper - price) > 8 * EPS * price:
                    rows.append((price, *row, is_call))
    assert len(rows) >= 30
    assert worst_error(rows) <= 6


def test_there_and_back_in_single_precision() -> None:
    strikes = np.linspace(60, 160, 51, dtype=np.float32)
    is_call = strikes > 100
    for volatility in (0.05, 0.3, 2.0):
        price = black_scholes.price(
            np.float32(100), strikes, 0.5, 0.03, np.float32(volatility), is_call=is_call
        )
        found = implied.solve_implied_volatility(
            price, np.float32(100), strikes, 0.5, 0.03, is_call=is_call
        )
        assert found.volatility.dtype == np.float32
        usable = np.asarray(price) > 1e-30
        assert np.asarray(found.volatility)[usable] == pytest.approx(volatility, rel=2e-5)


CASES = [  # price, spot, strike, time, is_call, status
    (4.0, 100, 105, 0.5, True, implied.SOLVED),
    (0.0, 100, 105, 0.5, True, implied.AT_LOWER_BOUND),
    (5.0, 100, 105, 0.5, False, implied.AT_LOWER_BOUND),
    (4.99, 100, 105, 0.5, False, implied.BELOW_LOWER_BOUND),
    (-1e-9, 100, 105, 0.5, True, implied.BELOW_LOWER_BOUND),
    (100.0, 100, 105, 0.5, True, implied.AT_UPPER_BOUND),
    (100.001, 100, 105, 0.5, True, implied.ABOVE_UPPER_BOUND),
    (105.1, 100, 105, 0.5, False, implied.ABOVE_UPPER_BOUND),
    (4.0, 100, 105, 0.0, True, implied.EXPIRED),
    (4.0, 100, 105, -0.5, True, implied.INVALID),
    (4.0, -100, 105, 0.5, True, implied.INVALID),
    (4.0, 100, 0, 0.5, True, implied.INVALID),
    (np.nan, 100, 105, 0.5, True, implied.INVALID),
    (4.0, np.inf, 105, 0.5, True, implied.INVALID),
]


def test_every_failure_has_its_status() -> None:
    *numbers, is_call, status = (np.array(column) for column in zip(*CASES))
    found = implied.solve_implied_volatility(*numbers, 0.0, is_call=is_call)
    assert found.status.tolist() == status.tolist()
    assert set(implied.STATUS) == set(range(7))
    solved, zero = status == implied.SOLVED, status == implied.AT_LOWER_BOUND
    assert (found.volatility[zero] == 0).all()
    assert np.isnan(found.volatility[~solved & ~zero]).all()
    assert np.isposinf(found.condition[zero | (status == implied.AT_UPPER_BOUND)]).all()
    plain = implied.implied_volatility(*numbers, 0.0, is_call=is_call)
    assert plain == pytest.approx(found.volatility, nan_ok=True)


def test_a_price_at_its_payoff_within_rounding_is_at_the_bound() -> None:
    """A deep call's price rounds to its payoff, an ulp to either side: never an error."""
    price = black_scholes.price(100, np.linspace(5, 40, 200), 0.3, 0.07, 0.05, dividend=0.02)
    found = implied.solve_implied_volatility(
        price, 100, np.linspace(5, 40, 200), 0.3, 0.07, dividend=0.02
    )
    assert (found.status <= implied.AT_LOWER_BOUND).all()


def test_bounds_are_what_decides() -> None:
    bounds = implied.price_bounds(100, [90, 110], 0.5, 0.05, dividend=0.02)
    share = 100 * np.exp(-0.01)
    assert bounds.lower == pytest.approx([share - 90 * np.exp(-0.025), 0], rel=1e-14)
    assert bounds.upper == pytest.approx([share, share], rel=1e-15)
    puts = implied.price_bounds(100, 110, 0.5, 0.05, is_call=False)
    assert (puts.lower, puts.upper) == pytest.approx(
        (110 * np.exp(-0.025) - 100, 110 * np.exp(-0.025)), rel=1e-14
    )


def test_derivatives_are_those_of_the_implicit_function() -> None:
    def model(volatility, spot, strike, time, rate, dividend):
        return black_scholes.price(spot, strike, time, rate, volatility, dividend=dividend)

    def inverse(price, spot, strike, time, rate, dividend):
        return implied.implied_volatility(price, spot, strike, time, rate, dividend=dividend)

    def there_and_back(volatility, *others):
        return inverse(model(volatility, *others), *others)

    every = tuple(range(6))
    with jax.enable_x64(True):
        point = [jnp.float64(x) for x in (0.3, 100, 105, 0.5, 0.05, 0.02)]
        gradient = jax.jit(jax.grad(there_and_back, every))(*point)
        assert np.array(gradient) == pytest.approx([1, 0, 0, 0, 0, 0], abs=1e-13)
        second = jax.jit(jax.hessian(there_and_back, every))(*point)
        assert np.array(second) == pytest.approx(np.zeros((6, 6)), abs=1e-11)
        price = model(*point)
        slope = jax.grad(inverse)(price, *point[1:])
        greeks = black_scholes.greeks(*point[1:5], point[0], dividend=point[5])
        assert float(slope) == pytest.approx(1 / float(greeks["vega"]), rel=1e-12)


def test_a_failure_among_others_spoils_no_gradient() -> None:
    with jax.enable_x64(True):
        prices = jnp.array([4.0, -1.0, 0.0, 100.0, 101.0, jnp.nan])
        gradient = jax.grad(
            lambda p: jnp.nansum(implied.implied_volatility(p, 100.0, 105.0, 0.5, 0.0))
        )(prices)
    gradient = np.asarray(gradient)
    assert gradient[0] > 0
    assert gradient[1:].tolist() == [0, 0, 0, 0, 0]


@settings(max_examples=150, deadline=None)
@given(
    st.floats(-6, 6), st.floats(-3, 1.3), st.floats(-4, 1), st.floats(-0.1, 0.2), st.booleans()
)  # fmt: skip
def test_there_and_back(d, log_time, log_volatility, rate, is_call) -> None:
    time, volatility = 10**log_time, 10**log_volatility
    strike = 100 * float(np.exp(rate * time - np.clip(d * volatility * np.sqrt(time), -8, 8)))
    price = black_scholes.price(100, strike, time, rate, volatility, is_call=is_call)
    assume(price > 1e-250)
    found = implied.solve_implied_volatility(price, 100, strike, time, rate, is_call=is_call)
    if found.condition < 1e10:
        # The price's own rounding counts by its elasticities, here bounded by those in d.
        elasticity = 1 + d * d + 1 / (volatility * np.sqrt(time))
        bound = 20 * EPS * (1 + found.condition) * elasticity
        assert found.volatility == pytest.approx(volatility, rel=bound)


def test_twice_the_precision_where_logarithms_cancel() -> None:
    random = np.random.default_rng(2)
    high = random.choice([-1, 1], 200) * 10 ** random.uniform(-9, 0.5, 200)
    low = high * 1e-17 * random.uniform(-1, 1, 200)
    with jax.enable_x64(True), mpmath.workdps(60):
        found = jax.jit(double_double.expm1)(double_double.DoubleDouble(high, low))
        for x, y, a, b in zip(high, low, *map(np.asarray, found)):
            exact = mpmath.expm1(truth.exact(x) + truth.exact(y))
            assert abs((truth.exact(a) + truth.exact(b)) / exact - 1) < 1e-19
