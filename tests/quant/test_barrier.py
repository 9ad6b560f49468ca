"""Barrier options against the textbook's table of terms, their laws, and their limits."""

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

from lilith.quant.options import barrier, black_scholes
from lilith.quant.options.barrier_formula import _faddeeva

BASE = {
    "spot": 100.0, "strike": 100.0, "level": 95.0, "time": 0.5, "rate": 0.08, "volatility": 0.25,
    "dividend": 0.04, "rebate": 3.0,
}  # fmt: skip
COUNT = 40
# By truth.barrier: (kind, is_call, strike, level) -> price, the rest as in BASE.
GOLDEN = {
    ("down-out", True, 90.0, 95.0): 9.0245676949668700,
    ("down-in", True, 100.0, 95.0): 4.0109418504490669,
    ("up-out", True, 90.0, 105.0): 2.6789125048401168,
    ("up-in", False, 110.0, 105.0): 7.0845671064627491,
}


def prices(rows: list[dict], kind: str, is_call: Any = True) -> np.ndarray:
    """Of any number of options up to COUNT: filled up, so that a kind compiles once."""
    filled = [*rows, *[BASE] * (COUNT - len(rows))]
    columns = {name: np.array([row[name] for row in filled]) for name in BASE}
    kept = {name: columns.pop(name) for name in ("dividend", "rebate")}
    calls = np.ones(COUNT, bool)
    calls[: len(rows)] = is_call
    return barrier.price(*columns.values(), kind=kind, is_call=calls, **kept)[: len(rows)]


def random_options(kind: str, count: int, seed: int, width: float, **ranges) -> list[dict]:
    random = np.random.default_rng(seed)
    side = -1 if kind.startswith("down") else 1
    rows = []
    for _ in range(count):
        own = {name: random.uniform(*pair) for name, pair in ranges.items()}
        level = 100 * float(np.exp(side * random.uniform(0.001, width)))
        rows.append({**BASE, "level": level, "rebate": random.choice([0.0, 3.0]), **own})
    return rows


ORDINARY = {"strike": (70, 130), "time": (0.1, 2), "rate": (0, 0.1), "volatility": (0.1, 0.5)}
SETS = [
    {**ORDINARY, "dividend": (0, 0.08)},
    # Rates so negative that the roots in the rebate's formula are complex.
    {**ORDINARY, "rate": (-0.06, 0), "dividend": (-0.06, 0.02)},
    {**ORDINARY, "strike": (20, 500), "volatility": (0.5, 3), "time": (0.1, 10)},
]


@pytest.mark.parametrize("kind", barrier.KINDS)
def test_against_the_table_of_terms(kind: str) -> None:
    for seed, ranges in enumerate(SETS):
        rows = random_options(kind, COUNT, seed, 0.3, **ranges)
        is_call = np.arange(COUNT) % 2 == 0
        found = prices(rows, kind, is_call)
        for row, call, value in zip(rows, is_call, found):
            exact = float(truth.barrier(**row, is_call=bool(call), kind=kind))
            assert value == pytest.approx(exact, rel=2e-13, abs=1e-15), row


def test_golden_prices_of_haug_s_table() -> None:
    for (kind, is_call, strike, level), expected in GOLDEN.items():
        row = {**BASE, "strike": strike, "level": level}
        exact = float(truth.barrier(**row, is_call=is_call, kind=kind))
        assert exact == pytest.approx(expected, rel=1e-15), (kind, exact)
        found = prices([row], kind, is_call)
        assert found == pytest.approx([expected], rel=1e-14)


def test_reference_cases(lilith_data) -> None:
    path = lilith_data / "quant_reference" / "reference_cases.json"
    cases = [c for c in json.loads(path.read_text())["cases"] if c["kind"].startswith("barrier")]
    assert len(cases) >= 3
    for case in cases:
        own = case["inputs"]
        names = ("S", "K", "H", "T", "r", "sigma", "q", "rebate")
        row = dict(zip(BASE, (own[name] for name in names)))
        found = prices([row], own["barrier"], own["type"] == "call")
        assert found == pytest.approx([case["expected"]["price"]], rel=1e-12)


@pytest.mark.parametrize("kind", ["down-out", "up-out"])
def test_what_is_left_near_the_barrier_keeps_its_relative_accuracy(kind: str) -> None:
    """Where the closed form is a small difference of large terms."""
    ranges = {"strike": (80, 120), "volatility": (0.3, 1.5), "time": (1, 5)}
    rows = random_options(kind, 30, 9, 0.01, **ranges)
    rows = [{**row, "rebate": 0.0} for row in rows]
    is_call = np.arange(30) % 2 == 0
    for row, call, value in zip(rows, is_call, prices(rows, kind, is_call)):
        exact = float(truth.barrier(**row, is_call=bool(call), kind=kind))
        assert value == pytest.approx(exact, rel=1e-12, abs=0), row


numbers = st.floats(70, 140)


@settings(max_examples=60, deadline=None)
@given(
    numbers, numbers, st.floats(0.05, 3), st.floats(-0.03, 0.1), st.floats(0.05, 1), st.booleans()
)
def test_in_and_out_add_up_to_the_european_option(
    strike, level, time, rate, volatility, is_call
) -> None:
    row = {
        "spot": 100.0, "strike": strike, "level": level, "time": time, "rate": rate,
        "volatility": volatility, "dividend": 0.0, "rebate": 0.0,
    }  # fmt: skip
    european = black_scholes.price(100, strike, time, rate, volatility, is_call=is_call)
    for side in ("down", "up"):
        both = [prices([row], f"{side}-{end}", is_call)[0] for end in ("in", "out")]
        assert min(both) >= 0
        assert sum(both) == pytest.approx(european, rel=1e-11, abs=1e-11)


# changes to BASE, then the price of down-out, down-in, up-out and up-in calls; None: not checked
PAYOFF = 100 * np.exp(-0.02) - 100 * np.exp(-0.04)  # on the forward
PAID_AT_EXPIRY = 3 * np.exp(-0.04)
LIMITS = [
    ({"time": 0.0, "strike": 90.0}, (10.0, 3.0, 3.0, 10.0)),
    ({"volatility": 0.0}, (PAYOFF, PAID_AT_EXPIRY, 3.0, PAYOFF)),
    ({"volatility": 1e-12}, (PAYOFF, PAID_AT_EXPIRY, 3.0, PAYOFF)),
    ({"volatility": 1e-3}, (PAYOFF, PAID_AT_EXPIRY, 3.0, PAYOFF)),
    ({"level": 0.0}, (None, PAID_AT_EXPIRY, 3.0, None)),
    ({"level": np.inf}, (3.0, None, None, PAID_AT_EXPIRY)),
    ({"level": 100.0}, (3.0, None, 3.0, None)),
    ({"spot": 0.0}, (3.0, 0.0, 0.0, PAID_AT_EXPIRY)),
    # The spot grows at 4% a year: it reaches 101 after ln(1.01) / 0.04 years.
    (
        {"volatility": 0.0, "level": 101.0},
        (3.0, PAYOFF, 3 * np.exp(-0.08 * np.log(1.01) / 0.04), PAYOFF),
    ),
    ({"volatility": 0.0, "level": 102.1}, (3.0, PAYOFF, PAYOFF, PAID_AT_EXPIRY)),
    ({"volatility": np.inf}, (5 * np.exp(-0.02) + 3, None, 3.0, None)),
    ({"strike": 0.0}, (None, None, None, None)),
]


@pytest.mark.parametrize("kind", barrier.KINDS)
def test_limits(kind: str) -> None:
    found = prices([{**BASE, **change} for change, _ in LIMITS], kind)
    for value, (change, expected) in zip(found, LIMITS):
        own = expected[barrier.KINDS.index(kind)]
        if own is not None:
            assert value == pytest.approx(own, rel=1e-13, abs=1e-15), change


@pytest.mark.parametrize(
    ("kind", "dtype"), [("down-out", np.float64), ("up-in", np.float64), ("up-out", np.float32)]
)
def test_derivatives_at_the_limits_are_finite(kind: str, dtype: Any) -> None:
    def price(*numbers):
        *first, dividend, rebate, is_call = numbers
        return barrier.price(*first, dividend=dividend, rebate=rebate, is_call=is_call, kind=kind)

    gradient = jax.jit(jax.vmap(jax.grad(price, tuple(range(8))), (0,) * 8 + (None,)))
    rows = [{**BASE, **change} for change, _ in LIMITS]
    with jax.enable_x64(True):
        columns = [jnp.array([row[name] for row in rows], dtype) for name in BASE]
        for is_call in (True, False):
            leaves = gradient(*columns, is_call)
            assert all(np.isfinite(leaf).all() for leaf in leaves)


def test_greeks_are_derivatives() -> None:
    values = barrier.greeks(
        100, 100, 95, 0.5, 0.08, 0.25, dividend=0.04, rebate=3.0, kind="down-out"
    )
    assert set(values) == set(barrier.GREEKS)

    def exact(**change):
        return truth.barrier(**{**BASE, **change}, is_call=True, kind="down-out")

    with mpmath.workdps(40):
        step = 2.0**-20

        def slope(name: str) -> float:
            up, down = exact(**{name: BASE[name] + step}), exact(**{name: BASE[name] - step})
            return float((up - down) / (2 * step))

        curvature = float((exact(spot=100 + step) - 2 * exact() + exact(spot=100 - step)) / step**2)
    assert values["price"] == pytest.approx(float(exact()), rel=1e-14)
    for name, by in (("delta", "spot"), ("vega", "volatility"), ("rho", "rate")):
        assert values[name] == pytest.approx(slope(by), rel=1e-8), name
    assert values["theta"] == pytest.approx(-slope("time"), rel=1e-8)
    assert values["gamma"] == pytest.approx(curvature, rel=1e-8)


def test_gamma_where_there_is_no_equation_for_it() -> None:
    """Touched and over, touched and European, expired, without volatility, invalid."""
    for spot, time, volatility in (
        (94, 0.5, 0.25),
        (100, 0, 0.25),
        (100, 0.5, 0.0),
        (-1, 0.5, 0.25),
    ):
        values = barrier.greeks(
            spot, 100, 95, time, 0.08, volatility, dividend=0.04, rebate=3.0, kind="down-out"
        )
        if spot < 0:
            assert all(np.isnan(value) for value in values.values())
        else:
            assert values["gamma"] == 0
    alive = barrier.greeks(94, 100, 95, 0.5, 0.08, 0.25, kind="down-in")
    plain = black_scholes.greeks(94, 100, 0.5, 0.08, 0.25)
    for name in barrier.GREEKS:
        assert alive[name] == pytest.approx(plain[name], rel=1e-12), name


def test_invalid_arguments() -> None:
    bad = [
        {name: value}
        for name in ("spot", "level", "volatility", "time")
        for value in (-1.0, np.nan)
    ]
    rows = [{**BASE, **change} for change in [*bad, {"rebate": np.nan}, {}]]
    found = prices(rows, "down-out")
    assert np.isnan(found[:-1]).all()
    assert found[-1] == pytest.approx(6.7924365, rel=1e-7)
    with pytest.raises(ValueError, match="'out-down' is unknown; known: down-out"):
        barrier.price(100, 100, 95, 0.5, 0.08, 0.25, kind="out-down")


def test_faddeeva_s_function() -> None:
    random = np.random.default_rng(1)
    points = random.uniform(-6, 6, 200) + 1j * random.uniform(0, 6, 200)
    with jax.enable_x64(True):
        found = np.asarray(jax.jit(_faddeeva)(points))
    for z, value in zip(points, found):
        exact = mpmath.exp(-(mpmath.mpc(z) ** 2)) * mpmath.erfc(-1j * mpmath.mpc(z))
        assert abs(complex(exact) - value) < 2e-13
