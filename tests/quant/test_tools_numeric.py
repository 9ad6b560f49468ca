"""The tools: figures, warnings, and errors that name field, value and remedy."""

import json

import numpy as np
import pytest

from lilith.quant.options import american, asian, heston, sabr, trees
from lilith.quant.options.tools_numeric import (
    KINDS,
    american_option,
    asian_option,
    monte_carlo_option,
)
from lilith.quant.options.tools_volatility import heston_option, sabr_volatility

POINT = (100.0, 105.0, 0.5, 0.05, 0.2)
MODEL = (0.0175, 1.5768, 0.0398, 0.5751, -0.5711)


@pytest.mark.parametrize("kind", KINDS)
def test_monte_carlo_gives_an_interval_around_the_exact_price(kind: str) -> None:
    level = {"barrier": 92.0 if "down" in kind else 118.0} if "barrier" in kind else {}
    answer = monte_carlo_option(*POINT, kind=kind, paths=10_000, steps=4, seed=5, **level)
    json.dumps(answer)
    assert answer["ok"]
    result = answer["result"]
    low, high = result["confidence_interval_95"]
    assert high - low == pytest.approx(2 * 1.959964 * result["standard_error"], rel=1e-6)
    assert low < result["price"] < high
    if kind == "bermudan":
        assert any("lower bound" in text for text in answer["warnings"])
        return
    assert abs(result["price"] - result["exact_price"]) < 4 * result["standard_error"]
    discrete = monte_carlo_option(
        *POINT, kind=kind, paths=2_000, steps=4, continuous=False, **level
    )
    watched = kind.startswith(("barrier", "lookback"))
    assert ("exact_price" in discrete["result"]) != watched


def test_monte_carlo_seed_and_few_paths() -> None:
    same = [monte_carlo_option(*POINT, paths=500, seed=2)["result"]["price"] for _ in range(2)]
    assert same[0] == same[1]
    for strike, words in ((115, "the standard error is"), (200, "no simulated path paid")):
        rough = monte_carlo_option(100, strike, 0.5, 0.05, 0.2, paths=100, control_variate=False)
        assert any(words in text for text in rough["warnings"])


@pytest.mark.parametrize(
    ("tool", "arguments", "code", "field", "words"),
    [
        (monte_carlo_option, {"time": -1.0}, "out_of_range", "time", "-1"),
        (monte_carlo_option, {"volatility": -0.2}, "out_of_range", "volatility", "-0.2"),
        (monte_carlo_option, {"volatility": float("nan")}, "not_finite", "volatility", "nan"),
        (monte_carlo_option, {"spot": "100"}, "not_a_number", "spot", "'100'"),
        (monte_carlo_option, {"kind": "barrier_up_in"}, "missing_argument", "barrier", "barrier"),
        (monte_carlo_option, {"kind": "parisian"}, "unknown_choice", "kind", "parisian"),
        (monte_carlo_option, {"paths": 10**12}, "too_much_work", "paths", "1000000000000"),
        (monte_carlo_option, {"seed": 2**64}, "out_of_range", "seed", str(2**64)),
        (monte_carlo_option, {"path": 5}, "unknown_argument", "path", "path"),
        (american_option, {"spot": float("inf")}, "not_finite", "spot", "inf"),
        (american_option, {"rate": -0.05, "dividend": -0.06, "option_type": "put"},
         "double_boundary", "method", "-0.06"),
        (american_option, {"method": "binomial_crr", "volatility": 0.001, "steps": 5},
         "probability_outside", "steps", "5 steps"),
        (american_option, {"method": "leisen_reimer", "volatility": 0.0}, "out_of_range",
         "volatility", "0"),
        (asian_option, {"fixings": 0}, "out_of_range", "fixings", "0"),
        (asian_option, {"fixings": 2.5}, "not_an_integer", "fixings", "2.5"),
    ],
)  # fmt: skip
def test_errors_name_field_value_and_remedy(tool, arguments, code, field, words) -> None:
    numbers = dict(zip(("spot", "strike", "time", "rate", "volatility"), POINT))
    error = tool(**{**numbers, **arguments})["error"]
    assert (error["code"], error["field"]) == (code, field)
    assert words in error["message"]
    assert error["hint"]


def test_american_option() -> None:
    answer = american_option(100, 100, 1, 0.05, 0.25, 0.05, "put")
    result = answer["result"]
    assert result["early_exercise_premium"] == pytest.approx(0.106952702747, abs=5e-12)
    exact = american.solve(100, 100, 1, 0.05, 0.25, dividend=0.05, is_call=False)
    assert result["exercise_boundary"] == exact.boundary
    lattice = american_option(100, 100, 1, 0.05, 0.25, 0.05, "put", "leisen_reimer", 200)
    assert lattice["diagnostics"]["steps"] == 201
    assert lattice["result"]["price"] == trees.price(
        100, 100, 1, 0.05, 0.25, dividend=0.05, is_call=False, steps=201, method="leisen_reimer"
    )
    never = american_option(100, 100, 1, 0.05, 0.25)
    assert never["result"]["exercise_boundary"] is None
    assert never["result"]["early_exercise_premium"] == 0.0
    assert any("never pays" in text for text in never["warnings"])
    expired = american_option(100, 90, 0, 0.05, 0.25, method="binomial_crr", steps=10)
    assert expired["result"]["price"] == 10.0
    assert expired["result"]["delta"] is None
    assert len(expired["warnings"]) == 1


def test_asian_option() -> None:
    for fixings, average, form in (
        (None, "arithmetic", asian.arithmetic_continuous),
        (None, "geometric", asian.geometric_continuous),
    ):
        answer = asian_option(*POINT, fixings=fixings, average=average)
        assert answer["result"]["price"] == form(*POINT)
    answer = asian_option(*POINT, fixings=12, option_type="put")
    assert answer["result"]["price"] == asian.arithmetic_discrete(*POINT, is_call=False, fixings=12)
    assert answer["conventions"]["average"] == "at i time / 12, i = 1..12"
    geometric = asian_option(*POINT, fixings=12, average="geometric")
    assert geometric["result"]["price"] == asian.geometric_discrete(*POINT, fixings=12)


def test_heston_option() -> None:
    answer = heston_option(100, 100, 1, 0, *MODEL)
    assert answer["result"]["price"] == heston.price(100.0, 100.0, 1.0, 0.0, *MODEL)
    assert 0.1 < answer["result"]["implied_volatility"] < 0.2
    assert any("Feller" in text for text in answer["warnings"])
    calm = heston_option(100, 100, 1, 0, 0.04, 2.0, 0.04, 0.2, -0.5)
    assert calm["warnings"] == []
    expired = heston_option(110, 100, 0, 0, *MODEL)
    assert expired["result"]["implied_volatility"] is None
    for place, value, field in (
        (4, -0.01, "variance"),
        (5, 0.0, "reversion"),
        (8, 1.5, "correlation"),
    ):
        arguments = [100, 100, 1, 0, *MODEL]
        arguments[place] = value
        assert heston_option(*arguments)["error"]["field"] == field


def test_sabr_volatility() -> None:
    answer = sabr_volatility(100, [80, 120], 1, 0.6, 0.75, -0.3, 0.5)
    exact = sabr.lognormal_volatility(100.0, np.array([80.0, 120.0]), 1.0, 0.6, 0.75, -0.3, 0.5)
    np.testing.assert_array_equal(answer["result"]["volatilities"], exact)
    fitted = sabr_volatility(100, [80, 90, 110, 120], 1, quotes=[0.25, 0.22, 0.19, 0.2], beta=1.0)
    assert fitted["diagnostics"]["root_mean_square_error"] < 0.01
    assert sabr_volatility(100, [80, 120], 1, 0.6)["error"]["field"] == "rho"
    both = sabr_volatility(100, [80, 100, 120], 1, 0.6, quotes=[0.2, 0.2, 0.2])
    assert both["error"]["code"] == "too_many_arguments"
    short = sabr_volatility(100, [80, 100, 120], 1, quotes=[0.2, 0.2])
    assert "2 quotes for 3 strikes" in short["error"]["message"]
    wild = sabr_volatility(100, [100, 5_000], 30, 0.3, 0.5, -0.95, 2.0)
    assert any("does not hold" in text for text in wild["warnings"])


def test_schemas_are_json() -> None:
    for tool in (monte_carlo_option, american_option, asian_option, heston_option, sabr_volatility):
        assert json.loads(json.dumps(tool.schema()))["function"]["name"] == tool.name
        assert tool.name in tool.help()
