"""The reference cases of $LILITH_DATA for portfolios."""

from __future__ import annotations

import json
import pathlib

import numpy as np

from lilith.quant.portfolio import Limits, black_litterman, maximum_sharpe, risk_budgeting


def _answer(kind: str, given: dict) -> dict:
    if kind in ("max_sharpe", "max_sharpe_long_only"):
        limits = Limits(lower=None) if kind == "max_sharpe" else Limits()
        found = maximum_sharpe(given["mu"], given["cov"], risk_free_rate=given["rf"], limits=limits)
        return found._asdict()
    if kind == "risk_budgeting":
        return risk_budgeting(given["cov"], given["budget"])._asdict()
    found = black_litterman(given["cov"], given["pi"], given["P"], given["Q"], tau=given["tau"])
    return {"posterior_mu": found.expected_returns}


def test_reference_cases(lilith_data: pathlib.Path) -> None:
    cases = json.loads((lilith_data / "quant_reference" / "reference_cases.json").read_text())
    kinds = {"max_sharpe", "max_sharpe_long_only", "risk_budgeting", "black_litterman"}
    own = [case for case in cases["cases"] if case["kind"] in kinds]
    assert {case["kind"] for case in own} == kinds
    for case in own:
        answer = _answer(case["kind"], case["inputs"])
        for name, truth in case["expected"].items():
            np.testing.assert_allclose(
                answer[name], truth, rtol=case["suggested_rel_tol"], err_msg=case["id"]
            )
