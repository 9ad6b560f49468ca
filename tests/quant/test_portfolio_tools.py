"""The portfolio tools: answers, and an error in words for every trap."""

from __future__ import annotations

import datetime
import json
import math

import numpy as np
import pytest
from portfolio_cases import COVARIANCE, MEAN, RATE

from lilith.quant.portfolio import black_litterman, mean_variance_utility
from lilith.quant.portfolio.tools import efficient_frontier, portfolio_optimize

DRAW = np.random.default_rng(7)
NAMES = ("A", "B", "C", "D")
ROWS = np.round(
    0.0006 * np.arange(1, 5) + DRAW.multivariate_normal(np.zeros(4), COVARIANCE / 252, 300), 6
)
TABLE = {name: ROWS[:, i].tolist() for i, name in enumerate(NAMES)}
PRICES = {
    name: (50 * np.cumprod(np.append(1.0, 1 + ROWS[:, i]))).tolist() for i, name in enumerate(NAMES)
}
GIVEN = {"covariance": COVARIANCE.tolist(), "expected_returns": MEAN.tolist()}
RESULT = {"weights", "expected_return", "volatility", "sharpe", "risk_contributions"}
METHODS = {
    "min_variance": {},
    "max_sharpe": {},
    "target_return": {"target_return": 0.3},
    "utility": {"risk_aversion": 3},
    "risk_parity": {},
    "risk_budget": {"budgets": [4, 3, 2, 1]},
    "hierarchical_risk_parity": {},
    "black_litterman": {"views": [[1, -1, 0, 0]], "view_returns": [0.02]},
    "min_cvar": {},
}


def error(answer: dict) -> dict:
    assert answer["ok"] is False, answer
    assert set(answer["error"]) == {"code", "field", "message", "hint"}
    assert answer["error"]["message"]
    assert answer["error"]["hint"]
    return answer["error"]


@pytest.mark.parametrize("method", METHODS)
def test_every_method_answers_in_json_with_its_diagnostics(method: str) -> None:
    answer = portfolio_optimize(TABLE, method=method, **METHODS[method])
    assert answer["ok"], answer
    assert json.loads(json.dumps(answer)) == answer
    result = answer["result"]
    assert set(result) >= RESULT | {"assets"}
    assert result["assets"] == list(NAMES)
    weights = np.array(result["weights"])
    assert abs(weights.sum() - 1) < 1e-12
    assert (weights >= 0).all()
    assert abs(sum(result["risk_contributions"]) - 1) < 1e-12
    covariance = 252 * np.cov(ROWS.T)
    if method != "black_litterman":
        np.testing.assert_allclose(result["volatility"], math.sqrt(weights @ covariance @ weights))
        np.testing.assert_allclose(result["expected_return"], 252 * ROWS.mean(axis=0) @ weights)
        np.testing.assert_allclose(
            answer["diagnostics"]["condition_number"], np.linalg.cond(covariance), rtol=1e-9
        )
    if method == "hierarchical_risk_parity":
        assert answer["diagnostics"]["kkt_residual"] is None
        assert "recursion" in " ".join(answer["warnings"])
    else:
        assert answer["diagnostics"]["kkt_residual"] < 1e-12
    assert set(answer["units"]) >= RESULT


def test_only_the_result_keys_that_were_promised() -> None:
    answer = portfolio_optimize(ROWS.tolist())
    assert set(answer["result"]) == RESULT
    assert answer["warnings"] == []


def test_given_moments_are_taken_as_annual() -> None:
    answer = portfolio_optimize(risk_free_rate=RATE, **GIVEN)
    weights = [0.46629474662947466, 0.0, 0.28126452812645281, 0.25244072524407252]
    np.testing.assert_allclose(answer["result"]["weights"], weights, rtol=1e-12)
    without = portfolio_optimize(method="min_variance", covariance=COVARIANCE.tolist())
    assert without["result"]["sharpe"] is None
    assert "result.sharpe" in " ".join(without["warnings"])


def test_prices_and_returns_give_the_same_answer() -> None:
    one = portfolio_optimize(TABLE, kind="returns")
    other = portfolio_optimize(PRICES, kind="prices")
    np.testing.assert_allclose(one["result"]["weights"], other["result"]["weights"], atol=1e-9)


def test_limits_of_every_kind_hold() -> None:
    answer = portfolio_optimize(
        TABLE,
        method="utility",
        risk_aversion=2,
        bounds={"A": [0.1, 0.3], "D": [None, 0.4]},
        groups={"pair": {"assets": ["A", 1], "max": 0.45}, "rest": {"assets": ["C"], "min": 0.2}},
        turnover=0.6,
        previous_weights=[0.25, 0.25, 0.25, 0.25],
    )
    w = np.array(answer["result"]["weights"])
    assert 0.1 <= w[0] <= 0.3
    assert w[3] <= 0.4
    assert w[0] + w[1] <= 0.45 + 1e-12
    assert w[2] >= 0.2 - 1e-12
    assert np.abs(w - 0.25).sum() <= 0.6 + 1e-12
    assert answer["diagnostics"]["kkt_residual"] < 1e-12


def test_black_litterman_starts_from_the_market_when_it_is_given() -> None:
    answer = portfolio_optimize(
        method="black_litterman",
        covariance=COVARIANCE.tolist(),
        market_weights=[0.4, 0.3, 0.2, 0.1],
        risk_aversion=2.5,
        views=[[0, 0, 0, 1]],
        view_returns=[0.05],
        tau=0.05,
    )
    result = answer["result"]
    prior = 2.5 * COVARIANCE @ [0.4, 0.3, 0.2, 0.1]
    np.testing.assert_allclose(result["prior_returns"], prior, rtol=1e-14)
    halfway = prior + COVARIANCE[:, 3] / COVARIANCE[3, 3] / 2 * (0.05 - prior[3])
    np.testing.assert_allclose(result["posterior_returns"], halfway, rtol=1e-13)


def test_tau_reaches_the_posterior_covariance() -> None:
    views, values = [[0, 0, 1, -1]], [0.05]
    answer = portfolio_optimize(
        method="black_litterman", views=views, view_returns=values, tau=0.4, **GIVEN
    )
    posterior = black_litterman(COVARIANCE, MEAN, views, values, tau=0.4)
    truth = mean_variance_utility(posterior.expected_returns, posterior.covariance, 1.0)
    np.testing.assert_allclose(answer["result"]["weights"], truth.weights, atol=1e-13)
    np.testing.assert_allclose(answer["result"]["volatility"], truth.volatility, rtol=1e-12)


def test_min_cvar_is_the_tails_mean() -> None:
    result = portfolio_optimize(TABLE, method="min_cvar", confidence=0.95)["result"]
    losses = np.sort(-ROWS @ result["weights"])[::-1]
    np.testing.assert_allclose(result["cvar"], losses[:15].mean(), rtol=1e-12)
    others = DRAW.dirichlet(np.ones(4), size=200)
    tails = np.sort(-ROWS @ others.T, axis=0)[::-1][:15].mean(axis=0)
    assert result["cvar"] <= tails.min() + 1e-12


FEW = ROWS[:3].tolist()
BENT = COVARIANCE + np.pad([[0.01]], ((0, 3), (1, 2)))
INDEFINITE = np.array([[0.04, 0.09, 0, 0], [0.09, 0.09, 0, 0], [0, 0, 0.1, 0], [0, 0, 0, 0.1]])
STILL = {**TABLE, "B": [0.001] * 300}


@pytest.mark.parametrize(
    ("arguments", "code", "field", "words"),
    [
        ({"covariance": BENT.tolist()}, "asymmetric_covariance", "covariance",
         "covariance[0][1] is 0.06"),
        ({"covariance": INDEFINITE.tolist()}, "indefinite_covariance", "covariance", "-0.0284"),
        ({"returns": STILL, "method": "risk_parity"}, "zero_variance", "returns",
         "B has variance 0"),
        ({"returns": STILL, "method": "max_sharpe"}, "zero_variance", "returns", "B"),
        ({"method": "risk_parity", "covariance": np.diag([0.1, 0, 0.1, 0.1]).tolist()},
         "zero_variance", "covariance", "asset 1"),
        ({**GIVEN, "risk_free_rate": 0.2}, "no_excess_return", "risk_free_rate", "0.12 (asset 3)"),
        ({**GIVEN, "bounds": [0.3, 1]}, "infeasible", "bounds", "the lower bound 0.3 of asset 2"),
        ({**GIVEN, "bounds": [0, 0.2]}, "infeasible", "bounds", "upper bound 0.2 of asset 0"),
        ({**GIVEN, "method": "min_variance", "groups": {
            "x": {"assets": [0, 1], "min": 0.7}, "y": {"assets": [2], "min": 0.6}}},
         "infeasible", "bounds", "the minimum 0.7 of group x, the minimum 0.6 of group y"),
        ({**GIVEN, "method": "min_variance", "bounds": [0, 0.3], "turnover": 0.1,
          "previous_weights": [1, 0, 0, 0]}, "infeasible", "bounds", "the turnover limit 0.1"),
        ({**GIVEN, "method": "utility", "covariance": np.zeros((4, 4)).tolist(),
          "bounds": [None, None]}, "unbounded", "bounds", "for ever"),
        ({"returns": {**TABLE, "C": [*TABLE["C"][:-1], None]}}, "missing_value", "returns",
         "returns[C][299] is missing"),
        ({"returns": {**TABLE, "C": TABLE["C"][:-1]}}, "ragged_table", "returns", "C has 299"),
        ({"returns": PRICES}, "prices_as_returns", "returns", "A is always positive"),
        ({"returns": TABLE, "kind": "prices"}, "price_not_positive", "returns", "returns[A]["),
        ({"returns": {**TABLE, "C": [-1.5, *TABLE["C"][1:]]}}, "return_below_minus_one", "returns",
         "returns[C][0] is -1.5"),
        ({"returns": ROWS[:1].tolist()}, "too_few_observations", "returns", "1 return"),
        ({"returns": [[1.0, 2.0], [1.1, 2.1]], "kind": "prices"}, "too_few_observations",
         "returns", "1 return"),
        ({"returns": [[0.1, math.nan]] * 3}, "missing_value", "returns", "returns[0][1]"),
        ({"returns": [[0.1, math.inf]] * 3}, "not_finite", "returns", "returns[0][1] is inf"),
        ({"returns": [[0.1, "0.2"]] * 3}, "not_a_number", "returns", "'0.2'"),
        ({"returns": TABLE, "risk_free_rate": "low"}, "not_a_number", "risk_free_rate", "'low'"),
        ({"returns": TABLE, "method": "best"}, "unknown_choice", "method", "'best'"),
        ({"returns": TABLE, "covariance": "shrunk"}, "unknown_choice", "covariance", "'shrunk'"),
        ({"returns": TABLE, "rate": 0.1}, "unknown_argument", "rate", "'rate'"),
        ({}, "missing_argument", "returns", "no returns"),
        ({"covariance": COVARIANCE.tolist()}, "missing_argument", "expected_returns", "max_sharpe"),
        ({**GIVEN, "method": "target_return"}, "missing_argument", "target_return", "needs"),
        ({**GIVEN, "method": "target_return", "target_return": 0.5}, "target_too_high",
         "target_return", "above 0.12"),
        ({**GIVEN, "method": "min_cvar"}, "missing_argument", "returns", "scenarios"),
        ({**GIVEN, "method": "risk_budget"}, "missing_argument", "budgets", "budgets"),
        ({**GIVEN, "method": "risk_budget", "budgets": [1, 0, 1, 1]}, "budget_not_positive",
         "budgets", "asset 1 is 0"),
        ({**GIVEN, "method": "risk_budget", "budgets": [1, 1]}, "wrong_length", "budgets",
         "2 entries"),
        ({**GIVEN, "method": "risk_parity", "bounds": [0, 0.3]}, "limits_not_supported", "bounds",
         "contradict"),
        ({**GIVEN, "expected_returns": [0.1, 0.2]}, "wrong_length", "expected_returns",
         "2 entries"),
        ({"returns": TABLE, "covariance": [[1.0]]}, "wrong_shape", "covariance", "1 by 1"),
        ({**GIVEN, "bounds": [0.5, 0.1]}, "bounds_crossed", "bounds", "0.5"),
        ({**GIVEN, "bounds": [[0, 1]]}, "wrong_length", "bounds", "1 pairs"),
        ({**GIVEN, "bounds": {"Z": [0, 1]}}, "unknown_asset", "bounds", "'Z'"),
        ({**GIVEN, "bounds": "long"}, "bad_bounds", "bounds", "'long'"),
        ({**GIVEN, "bounds": [0, "1"]}, "bad_bounds", "bounds", "'1'"),
        ({**GIVEN, "groups": {"x": [0, 1]}}, "bad_group", "groups", "groups[x]"),
        ({**GIVEN, "groups": {"x": {"assets": [9], "max": 1}}}, "unknown_asset", "groups", "9"),
        ({**GIVEN, "groups": {"x": {"assets": [1], "min": 0.5, "max": 0.1}}}, "bounds_crossed",
         "groups", "0.5"),
        ({**GIVEN, "turnover": 0.1}, "missing_argument", "previous_weights", "without"),
        ({**GIVEN, "previous_weights": [1, 0, 0, 0]}, "missing_argument", "turnover", "without"),
        ({**GIVEN, "turnover": 0.1, "previous_weights": [1.0]}, "wrong_length",
         "previous_weights", "1 entries"),
        ({**GIVEN, "method": "black_litterman"}, "missing_argument", "views", "views"),
        ({**GIVEN, "method": "black_litterman", "views": [[1, -1, 0]], "view_returns": [0.1]},
         "wrong_shape", "views", "1 by 3"),
        ({**GIVEN, "method": "black_litterman", "views": [[0, 0, 0, 0]], "view_returns": [0.1]},
         "empty_view", "views", "views[0]"),
    ],
)  # fmt: skip
def test_traps(arguments: dict, code: str, field: str, words: str) -> None:
    found = error(portfolio_optimize(**arguments))
    assert (found["code"], found["field"]) == (code, field), found
    assert words in found["message"], found


def test_duplicate_names_are_refused() -> None:
    class Frame:
        columns = ("A", "A")
        index = (0, 1, 2)

        def to_numpy(self) -> np.ndarray:
            return ROWS[:3, :2]

    found = error(portfolio_optimize(Frame()))
    assert (found["code"], found["field"]) == ("duplicate_name", "returns")
    assert "'A'" in found["message"]


def test_repair_only_when_asked_and_said() -> None:
    for matrix in (BENT, INDEFINITE):
        answer = portfolio_optimize(
            method="min_variance", covariance=matrix.tolist(), repair_covariance=True
        )
        assert answer["ok"]
        assert "repaired" in " ".join(answer["warnings"])
    fine = portfolio_optimize(
        method="min_variance", covariance=COVARIANCE.tolist(), repair_covariance=True
    )
    assert "repaired" not in " ".join(fine["warnings"])


def test_fewer_observations_than_assets_warns_and_hints_at_shrinkage() -> None:
    answer = portfolio_optimize(FEW, method="min_variance")
    assert answer["ok"]
    assert "3 observations of 4 assets" in " ".join(answer["warnings"])
    assert 'covariance="ledoit_wolf"' in " ".join(answer["warnings"])
    assert answer["diagnostics"]["condition_number"] is None
    shrunk = portfolio_optimize(FEW, method="min_variance", covariance="ledoit_wolf")
    assert 0 <= shrunk["diagnostics"]["shrinkage"] <= 1
    assert shrunk["diagnostics"]["condition_number"] > 1


def test_constant_returns_have_no_sharpe_and_say_why() -> None:
    answer = portfolio_optimize([[0.001, 0.002]] * 10, method="min_variance")
    assert answer["ok"]
    assert answer["result"]["sharpe"] is None
    assert "constant returns" in " ".join(answer["warnings"])


def test_a_target_that_does_not_bind_is_said() -> None:
    answer = portfolio_optimize(method="target_return", target_return=0.0, **GIVEN)
    assert "does not bind" in " ".join(answer["warnings"])


def test_missing_days_between_dates_are_said() -> None:
    class Frame:
        columns = ("A", "B")
        index = tuple(
            datetime.date(2024, 1, 1) + datetime.timedelta(days=i + 20 * (i > 9)) for i in range(30)
        )

        def to_numpy(self) -> np.ndarray:
            return ROWS[:30, :2]

    warnings = " ".join(portfolio_optimize(Frame())["warnings"])
    assert "2024-01-10 and 2024-01-31" in warnings


def test_the_frontier_as_data_and_as_a_picture(tmp_path) -> None:
    path = tmp_path / "frontier.png"
    answer = efficient_frontier(returns=TABLE, points=7, risk_free_rate=RATE, plot_path=str(path))
    assert answer["ok"], answer
    assert json.loads(json.dumps(answer)) == answer
    result = answer["result"]
    assert np.array(result["weights"]).shape == (7, 4)
    assert (np.diff(result["expected_return"]) > 0).all()
    assert result["minimum_variance"]["volatility"] == result["volatility"][0]
    assert result["tangency"]["sharpe"] >= max(result["sharpe"]) - 1e-12
    assert path.read_bytes()[:4] == b"\x89PNG"


def test_the_frontiers_errors() -> None:
    bad = error(efficient_frontier(plot_path="x.doc", points=7, **GIVEN))
    assert (bad["code"], bad["field"]) == ("bad_path", "plot_path")
    nowhere = error(efficient_frontier(plot_path="/no/such/folder/x.png", points=7, **GIVEN))
    assert "/no/such/folder" in nowhere["message"]
    crossed = error(efficient_frontier(bounds=[0.3, 1], points=7, **GIVEN))
    assert crossed["code"] == "infeasible"
    none = efficient_frontier(risk_free_rate=0.2, points=7, **GIVEN)
    assert none["result"]["tangency"] is None
    assert "result.tangency" in " ".join(none["warnings"])
    assert error(efficient_frontier(covariance=COVARIANCE.tolist()))["field"] == "expected_returns"


def test_schemas_name_every_argument() -> None:
    for tool in (portfolio_optimize, efficient_frontier):
        schema = tool.schema()["function"]["parameters"]
        assert json.loads(json.dumps(schema)) == schema
        assert set(schema["properties"]) == {own.name for own in tool.parameters}
        assert schema["required"] == []
        assert "covariance" in tool.help()
