"""The tools of the closed forms: answers, and an error in words for every trap."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from lilith.quant.options import black_scholes as european
from lilith.quant.options import tools

OPTION = {"spot": 100, "strike": 105, "time": 0.5, "rate": 0.05, "volatility": 0.2}
QUOTE = {"price": 4.58, "spot": 100, "strike": 105, "time": 0.5, "rate": 0.05}
KNOCK = {**OPTION, "barrier": 90, "barrier_type": "down-out"}


def error(answer: dict) -> dict:
    assert answer["ok"] is False
    assert set(answer["error"]) == {"code", "field", "message", "hint"}
    assert answer["error"]["message"]
    assert answer["error"]["hint"]
    return answer["error"]


def test_black_scholes_answers_with_units_and_conventions() -> None:
    answer = tools.black_scholes(**OPTION)
    assert json.loads(json.dumps(answer)) == answer
    assert set(answer) == {"ok", "result", "units", "conventions", "diagnostics", "warnings"}
    assert answer["ok"] is True
    assert answer["warnings"] == []
    result = answer["result"]
    assert list(result) == [*european.GREEKS, "intrinsic_value", "time_value"]
    assert set(answer["units"]) == set(result)
    assert result["price"] == pytest.approx(4.581680167540002, rel=1e-14)
    assert result["theta"] == pytest.approx(-7.691853825702403, rel=1e-14)
    assert (result["intrinsic_value"], result["time_value"]) == (0, result["price"])
    assert "year" in answer["units"]["theta"]
    elasticity = 100 * result["delta"] / result["price"]
    assert answer["diagnostics"]["condition_spot"] == pytest.approx(elasticity)
    assert tools.black_scholes(100, 105, 0.5, 0.05, 0.2) == answer
    put = tools.black_scholes(**OPTION, option_type="put", dividend=0.01)["result"]
    assert put["intrinsic_value"] == 5
    assert put["time_value"] == pytest.approx(put["price"] - 5)


def test_a_worthless_option_and_the_kink() -> None:
    nothing = tools.black_scholes(100, 105, 0, 0.05, 0.2)
    assert nothing["result"]["price"] == 0
    assert nothing["diagnostics"] == {"condition_spot": None, "condition_volatility": None}
    kink = tools.black_scholes(100, 100, 0, 0.05, 0.2)
    assert kink["result"]["delta"] == 0.5
    assert "kink" in kink["warnings"][0]
    assert all(math.copysign(1, value) == 1 for value in kink["result"].values() if value == 0)


@pytest.mark.parametrize(
    ("change", "code", "words"),
    [
        ({"volatility": -0.2}, "out_of_range", "volatility is -0.2"),
        ({"time": -0.5}, "out_of_range", "time is -0.5"),
        ({"spot": -1}, "out_of_range", "spot is -1"),
        ({"spot": float("nan")}, "not_finite", "spot is nan"),
        ({"rate": float("inf")}, "not_finite", "rate is inf"),
        ({"strike": "105"}, "not_a_number", "'105' is a str"),
        ({"option_type": "Call"}, "unknown_choice", "'Call'"),
        ({"volatilty": 0.2}, "unknown_argument", "volatilty"),
    ],
)
@pytest.mark.parametrize("tool", ["black_scholes", "barrier_option"])
def test_traps_of_the_inputs(tool: str, change: dict, code: str, words: str) -> None:
    good = OPTION if tool == "black_scholes" else KNOCK
    found = error(getattr(tools, tool)(**{**good, **change}))
    assert found["code"] == code
    assert found["field"] == next(iter(change))
    assert words in found["message"]


def test_percentages_are_noticed() -> None:
    warnings = tools.black_scholes(100, 105, 0.5, 5, 20)["warnings"]
    assert len(warnings) == 2
    assert "rate is 5, that is 500% a year" in warnings[0]
    assert "volatility is 20" in warnings[1]


def test_implied_volatility_answers_with_its_conditioning() -> None:
    answer = tools.implied_volatility(**QUOTE)
    volatility = answer["result"]["implied_volatility"]
    assert volatility == pytest.approx(0.19994015556567909, rel=1e-14)
    assert european.price(100, 105, 0.5, 0.05, volatility) == pytest.approx(4.58, rel=1e-14)
    found = answer["diagnostics"]
    assert found["condition"] == pytest.approx(4.58 / (found["vega"] * volatility), rel=1e-12)
    eps = np.finfo(float).eps
    assert found["attainable_relative_error"] == pytest.approx(eps * (1 + found["condition"]))
    assert abs(found["price_residual"]) < 1e-14
    assert (found["lower_bound"], found["upper_bound"]) == (0, 100)
    assert answer["warnings"] == []


def test_an_ill_conditioned_price_is_said_to_be_one() -> None:
    answer = tools.implied_volatility(50.00094310908808, 100, 50, 0.25, 0.0)
    assert answer["result"]["implied_volatility"] == pytest.approx(0.4, rel=1e-12)
    assert answer["diagnostics"]["condition"] == pytest.approx(3613.7, rel=1e-4)
    assert "hardly depends on the volatility" in answer["warnings"][0]
    assert "3.61e+03" in answer["warnings"][0]


@pytest.mark.parametrize(
    ("change", "code", "words"),
    [
        ({"price": 101}, "price_above_bounds", "between 0 and 100"),
        ({"price": 100}, "price_at_upper_bound", "between 0 and 100"),
        ({"price": 0}, "price_at_lower_bound", "between 0 and 100"),
        ({"price": 2, "option_type": "put"}, "price_below_bounds", "between 2.407540763 and"),
        ({"price": -1}, "out_of_range", "price is -1"),
        ({"price": "4.58"}, "not_a_number", "'4.58'"),
        ({"time": 0}, "out_of_range", "time is 0 and must be above 0"),
        ({"strike": 0}, "out_of_range", "strike is 0 and must be above 0"),
    ],
)
def test_traps_of_implied_volatility(change: dict, code: str, words: str) -> None:
    found = error(tools.implied_volatility(**{**QUOTE, **change}))
    assert found["code"] == code
    assert found["field"] == next(iter(change))
    assert words in found["message"]


def test_numbers_too_large_to_compute_with() -> None:
    found = error(tools.implied_volatility(1e300, 1e308, 1e308, 0.25, -3000.0))
    assert found["code"] == "not_representable"


def test_barrier_option() -> None:
    answer = tools.barrier_option(100, 105, 90, 0.5, 0.05, 0.2, "down-out")
    assert answer["result"]["price"] == pytest.approx(4.3595899258949561, rel=1e-13)
    assert answer["result"]["european_price"] == pytest.approx(4.581680167540002, rel=1e-14)
    assert next(iter(answer["result"])) == "price"
    assert set(answer["units"]) == set(answer["result"])
    assert answer["warnings"] == []
    touched = tools.barrier_option(89, 105, 90, 0.5, 0.05, 0.2, "down-out", rebate=2)
    assert touched["result"]["price"] == 2
    assert "it has ended already" in touched["warnings"][0]


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"barrier": 0}, "out_of_range"),
        ({"rebate": -1}, "out_of_range"),
        ({"barrier_type": "out"}, "unknown_choice"),
    ],
)
def test_traps_of_barrier_option(change: dict, code: str) -> None:
    found = error(tools.barrier_option(**{**KNOCK, **change}))
    assert (found["code"], found["field"]) == (code, next(iter(change)))


@pytest.mark.parametrize("name", ["black_scholes", "implied_volatility", "barrier_option"])
def test_schema_and_help_name_every_argument(name: str) -> None:
    tool = getattr(tools, name)
    function = tool.schema()["function"]
    assert function["name"] == name
    properties = function["parameters"]["properties"]
    assert properties["option_type"]["enum"] == ["call", "put"]
    assert all(argument in tool.help() for argument in properties)
    assert set(function["parameters"]["required"]) >= {"spot", "strike", "time", "rate"}
