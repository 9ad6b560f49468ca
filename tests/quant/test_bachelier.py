"""Bachelier's model: prices, Greeks, implied volatility, limits."""

from __future__ import annotations

import json

import jax
import jax.numpy as jnp
import mpmath
import numpy as np
import option_truth as truth
import pytest

from lilith.quant.options import bachelier

EPS = np.finfo(np.float64).eps


def exact_price(forward, strike, time, rate, volatility, is_call) -> mpmath.mpf:
    numbers = map(truth.exact, (forward, strike, time, rate, volatility))
    forward, strike, time, rate, volatility = numbers
    total = volatility * mpmath.sqrt(time)
    gain = (forward - strike) * (1 if is_call else -1)
    value = gain * truth.normal(gain / total) + total * mpmath.npdf(gain / total)
    return mpmath.exp(-rate * time) * value


def options(count: int) -> list[tuple[float, ...]]:
    random = np.random.default_rng(5)
    rows = []
    while len(rows) < count:
        time, volatility = 10 ** random.uniform(-3, 1.5), 10 ** random.uniform(-3, 3)
        d = random.uniform(-25, 25) if random.random() < 0.5 else random.normal()
        forward, is_call = 10 * random.normal(), random.random() < 0.5
        strike, rate = forward + d * volatility * np.sqrt(time), random.uniform(-0.05, 0.1)
        rows.append((forward, strike, time, rate, volatility, is_call))
    return rows


def test_golden_price() -> None:
    assert bachelier.price(100, 105, 0.5, 0.05, 20) == pytest.approx(3.4046963244974312, rel=1e-15)
    assert bachelier.price(-1.0, -2.0, 1.0, 0.0, 0.0) == 1.0


def test_reference_cases(lilith_data) -> None:
    path = lilith_data / "quant_reference" / "reference_cases.json"
    for case in json.loads(path.read_text())["cases"]:
        if case["kind"] == "bachelier":
            own = case["inputs"]
            value = bachelier.price(
                own["F"], own["K"], own["T"], own["r"], own["sigma_normal"],
                is_call=own.get("type", "call") == "call",
            )  # fmt: skip
            assert value == pytest.approx(case["expected"]["price"], rel=case["suggested_rel_tol"])


def test_prices_and_implied_volatilities_of_any_size() -> None:
    rows = options(300)
    *numbers, is_call = (np.array(column) for column in zip(*rows))
    prices = bachelier.price(*numbers, is_call=is_call)
    with mpmath.workdps(50):
        true = [exact_price(*row) for row in rows]
        errors = np.array([float(abs(truth.exact(p) / t - 1)) for p, t in zip(prices, true)])
    d = (numbers[0] - numbers[1]) / (numbers[4] * np.sqrt(numbers[2]))
    assert (errors <= 6 * EPS * (1 + d * d)).all()
    found = bachelier.implied_volatility(prices, *numbers[:4], is_call=is_call)
    vega = bachelier.greeks(*numbers, is_call=is_call, names=("vega",))["vega"]
    condition = prices / np.maximum(vega * numbers[4], 1e-300)
    usable = (condition < 1e12) & (prices > 1e-290)
    assert usable.sum() > 200
    error = np.abs(found / numbers[4] - 1)[usable]
    # The price's own error counts too, by the condition of the inverse.
    assert (error <= 10 * EPS * (1 + condition * (1 + d * d))[usable]).all()


def test_greeks_are_derivatives() -> None:
    orders = {
        "delta": (0,), "gamma": (0, 0), "theta": (2,), "vega": (4,), "rho": (3,),
        "vanna": (0, 4), "volga": (4, 4), "dual_delta": (1,), "dual_gamma": (1, 1),
    }  # fmt: skip

    def derivatives(*numbers):
        found = {}
        for name, positions in orders.items():
            function = bachelier.price
            for position in positions:
                function = jax.grad(function, position)
            found[name] = function(*numbers) * (-1 if name == "theta" else 1)
        return found

    with jax.enable_x64(True):
        point = [jnp.float64(x) for x in (100, 105, 0.5, 0.05, 20)]
        found, values = jax.jit(derivatives)(*point), bachelier.greeks(*point)
    for name in orders:
        assert float(values[name]) == pytest.approx(float(found[name]), rel=1e-12), name
    with mpmath.workdps(40):
        total = 20 * mpmath.sqrt(mpmath.mpf(0.5))

        def undiscounted(forward):
            d = (forward - 105) / total
            return total * (d * truth.normal(d) + mpmath.npdf(d))

        gamma = mpmath.exp(-truth.exact(0.05) / 2) * mpmath.diff(undiscounted, 100, 2)
    assert float(values["gamma"]) == pytest.approx(float(gamma), rel=1e-13)


def test_limits_and_invalid_arguments() -> None:
    with jax.enable_x64(True):
        columns = [
            jnp.array(column, float)
            for column in zip((100, 100, 0, 0.05, 20), (100, 90, 0.5, 0.05, 0), (90, 100, 0, 0, 0))
        ]
        gradient = jax.vmap(jax.grad(bachelier.price, (0, 1, 2, 3, 4)))(*columns)
        assert all(np.isfinite(leaf).all() for leaf in gradient)
        assert np.asarray(gradient[0]) == pytest.approx([0.5, np.exp(-0.025), 0.0])
    assert np.isnan(bachelier.price(100, 100, [-1.0, 1.0, 1.0], 0.0, [1.0, -1.0, np.nan])).all()
    found = bachelier.implied_volatility([-1.0, 0.0, 4.0, 5.0], 100, 105, 0.5, 0.0)
    assert np.isnan(found[0])
    assert found[1] == 0
    assert np.isnan(bachelier.implied_volatility([5.0, 1.0], 105, [100, 105], [0.5, 0.0], 0.0)[1])
    assert np.isnan(bachelier.implied_volatility(4.0, 105, 100, 0.5, 0.0))
    with pytest.raises(ValueError, match="no Greek 'speed'"):
        bachelier.greeks(100, 105, 0.5, 0.05, 20, names=("speed",))


def test_derivatives_of_the_implied_volatility() -> None:
    def there_and_back(volatility):
        price = bachelier.price(100.0, 105.0, 0.5, 0.05, volatility)
        return bachelier.implied_volatility(price, 100.0, 105.0, 0.5, 0.05)

    with jax.enable_x64(True):
        assert float(jax.grad(there_and_back)(20.0)) == pytest.approx(1, rel=1e-13)
        assert float(jax.grad(jax.grad(there_and_back))(20.0)) == pytest.approx(0, abs=1e-13)
        masked = jax.grad(lambda p: jnp.nansum(bachelier.implied_volatility(p, 1.0, 2.0, 1.0, 0.0)))
        assert np.asarray(masked(jnp.array([-1.0, 0.0, 0.1])))[:2].tolist() == [0, 0]
