"""Sample statistics: offsets, mpmath, scipy's definitions, gradients, and the tool's refusals."""

from __future__ import annotations

import json
import pathlib
import sys
from typing import Any

import jax
import jax.numpy as jnp
import mpmath
import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

from lilith.quant.statistics import (
    autocorrelation,
    describe,
    excess_kurtosis,
    jarque_bera,
    ljung_box,
    mean,
    quantile,
    skewness,
    standard_deviation,
)
from lilith.quant.statistics_tools import stats_summary

DATA = [0.3, -1.2, 2.7, 0.0, 0.9, -0.4, 1.6, -2.2, 0.5, 3.1, -0.8, 0.2]
# What make_golden() printed: mpmath, 50 digits.
GOLDEN = {
    "mean": 0.39166666666666666,
    "std_ddof0": 1.4688194428028094,
    "std_ddof1": 1.5341318737516036,
    "skew_biased": 0.2726054991878848,
    "skew_unbiased": 0.31319987357511514,
    "kurtosis_excess_biased": -0.5228155953151441,
    "kurtosis_excess_unbiased": -0.09736255700072899,
    "jarque_bera": 0.28529558972731595,
    "jarque_bera_p_value": 0.8670593978965643,
    "autocorrelation_3": 0.07196542955547688,
    "ljung_box_3": 3.6593679235618266,
    "ljung_box_p_value_3": 0.3006732024446771,
}


def make_golden(data: list[float]) -> dict[str, mpmath.mpf]:
    """The figures by their definitions."""
    mpmath.mp.dps = 50
    x = [mpmath.mpf(v) for v in data]
    n = len(x)
    center = mpmath.fsum(x) / n
    moment = [mpmath.fsum((v - center) ** k for v in x) / n for k in range(5)]
    skew, kurtosis = moment[3] / moment[2] ** mpmath.mpf(1.5), moment[4] / moment[2] ** 2 - 3
    statistic = mpmath.mpf(n) / 6 * (skew**2 + kurtosis**2 / 4)
    lagged = [
        mpmath.fsum((x[t] - center) * (x[t - k] - center) for t in range(k, n)) / (n * moment[2])
        for k in (1, 2, 3)
    ]
    box = n * (n + 2) * mpmath.fsum(r**2 / (n - k) for k, r in enumerate(lagged, 1))
    return {
        "mean": center,
        "std_ddof0": mpmath.sqrt(moment[2]),
        "std_ddof1": mpmath.sqrt(moment[2] * n / (n - 1)),
        "skew_biased": skew,
        "skew_unbiased": skew * mpmath.sqrt(n * (n - 1)) / (n - 2),
        "kurtosis_excess_biased": kurtosis,
        "kurtosis_excess_unbiased": (n - 1) * ((n + 1) * kurtosis + 6) / ((n - 2) * (n - 3)),
        "jarque_bera": statistic,
        "jarque_bera_p_value": mpmath.exp(-statistic / 2),
        "autocorrelation_3": lagged[2],
        "ljung_box_3": box,
        "ljung_box_p_value_3": mpmath.gammainc(mpmath.mpf(3) / 2, box / 2, regularized=True),
    }


def test_golden_numbers_are_what_the_definitions_give() -> None:
    for name, value in make_golden(DATA).items():
        assert float(value) == pytest.approx(GOLDEN[name], rel=1e-13), name


def test_figures_match_mpmath() -> None:
    found = describe(DATA, [0.5], lags=3)
    for name, value in GOLDEN.items():
        own = found[name.removesuffix("_3")]
        assert (own[2] if name.endswith("_3") else own) == pytest.approx(value, rel=1e-12), name


@pytest.mark.parametrize("offset", [0.0, 1e8, -1e10])
def test_an_offset_takes_no_digits(offset: float) -> None:
    integers = np.array([1.0, 2.0, 3.0, 4.0, 10.0])
    data = integers + offset
    assert mean(data) == offset + 4
    assert standard_deviation(data) == pytest.approx(12.5**0.5, rel=1e-15)
    assert skewness(data) == pytest.approx(36 / 10**1.5, rel=1e-14)
    assert excess_kurtosis(data) == pytest.approx(-0.212, rel=1e-13)


def test_reference_cases(lilith_data: pathlib.Path) -> None:
    cases = json.loads((lilith_data / "quant_reference" / "reference_cases.json").read_text())
    known = [case for case in cases["cases"] if case["kind"] == "stats_summary"]
    assert known
    for case in known:
        result = stats_summary(case["inputs"]["x"], adf=False)["result"]
        for name, value in case["expected"].items():
            assert result[name] == pytest.approx(value, rel=case["suggested_rel_tol"]), name


finite = st.lists(st.floats(-1e6, 1e6), min_size=12, max_size=12).map(np.array)


@settings(max_examples=40, deadline=None)
@given(finite, st.floats(0, 1))
def test_like_numpy_and_scipy(data: np.ndarray, level: float) -> None:
    assert standard_deviation(data) == pytest.approx(np.std(data, ddof=1), rel=1e-12, abs=1e-12)
    assert quantile(data, level) == pytest.approx(np.quantile(data, level), rel=1e-9, abs=1e-9)
    if np.std(data) > 1e-6 * max(1, np.abs(data).max()):  # where scipy has digits left
        for bias in (True, False):
            theirs = scipy.stats.skew(data, bias=bias)
            assert skewness(data, bias=bias) == pytest.approx(theirs, rel=1e-8, abs=1e-9)
            theirs = scipy.stats.kurtosis(data, bias=bias)
            assert excess_kurtosis(data, bias=bias) == pytest.approx(theirs, rel=1e-8, abs=1e-8)


def test_extreme_scales_neither_overflow_nor_vanish() -> None:
    for scale in (1e200, 1e-200):
        data = np.array(DATA) * scale
        assert standard_deviation(data) == pytest.approx(GOLDEN["std_ddof1"] * scale, rel=1e-12)
        assert skewness(data) == pytest.approx(GOLDEN["skew_biased"], rel=1e-12)


def test_constant_data_and_few_observations_are_nan() -> None:
    constant = np.full(12, 0.1)
    assert standard_deviation(constant) == 0
    assert np.isnan([skewness(constant), excess_kurtosis(constant)]).all()
    assert np.isnan(autocorrelation(constant, lags=2)).all()
    assert np.isnan(ljung_box(constant, lags=2)[1]).all()
    assert np.isnan(jarque_bera(constant)[0])
    assert np.isnan(standard_deviation([1.0]))
    assert np.isnan(skewness([1.0, 2.0], bias=False))
    assert np.isnan(excess_kurtosis([1.0, 2.0, 4.0], bias=False))
    assert np.isnan(autocorrelation([1.0, 2.0, 4.0], lags=3)[2])
    assert np.isnan(quantile([1.0, np.nan, 2.0], 0.5))
    assert np.isnan(quantile([1.0, 2.0], 1.5))


def test_batches_and_gradients() -> None:
    batch = np.stack([DATA, DATA[::-1]])
    found = describe(batch, [0.1, 0.9], lags=3)
    assert found["percentiles"].shape == (2, 2)
    np.testing.assert_allclose(found["autocorrelation"][0], found["autocorrelation"][1], rtol=1e-12)
    np.testing.assert_allclose(found["skew_biased"][1], GOLDEN["skew_biased"], rtol=1e-12)

    def all_at_once(data: Any) -> Any:
        return standard_deviation(data) + skewness(data) + excess_kurtosis(data)

    with jax.enable_x64(True):
        slope = jax.jit(jax.grad(all_at_once))
        point = jnp.asarray(DATA)
        step = 1e-6 * jnp.eye(12)[2]
        expected = (all_at_once(point + step) - all_at_once(point - step)) / 2e-6
        assert float(slope(point)[2]) == pytest.approx(float(expected), rel=1e-7)
        assert jnp.isfinite(slope(jnp.full(12, 0.1))).all()


def test_tool_answers_in_json_with_adf(monkeypatch: pytest.MonkeyPatch) -> None:
    answer = stats_summary(DATA, lags=3, adf=False, percentiles=[5, 50])
    assert json.loads(json.dumps(answer)) == answer
    assert answer["result"]["count"] == 12
    assert answer["result"]["percentiles"]["50"] == np.median(DATA)
    assert answer["result"]["ljung_box"]["p_value"][2] == pytest.approx(
        GOLDEN["ljung_box_p_value_3"], rel=1e-12
    )
    assert "adf" not in answer["result"]
    assert stats_summary(DATA, ddof=0, adf=False)["result"]["std"] == pytest.approx(
        GOLDEN["std_ddof0"], rel=1e-14
    )
    monkeypatch.setitem(sys.modules, "statsmodels.tsa.stattools", None)  # as if not installed
    absent = stats_summary(DATA)
    assert absent["ok"]
    assert absent["result"]["adf"] is None
    assert "pip install 'lilith[stats]'" in absent["diagnostics"]["null_reasons"]["adf"]
    assert any(text.startswith("result.adf is null: statsmodels") for text in absent["warnings"])


def test_constant_data_have_no_shape_and_a_reason() -> None:
    answer = stats_summary([3.0] * 12, lags=3)
    assert answer["ok"]
    for name in ("skew_biased", "jarque_bera", "autocorrelation", "ljung_box"):
        assert answer["result"][name] is None
        assert f"result.{name} is null: the data are constant (3)" in answer["warnings"]
    assert answer["result"]["std"] == 0


@pytest.mark.parametrize(
    ("code", "names", "call"),
    [
        ("missing_value", "data[1]", {"data": [1.0, float("nan"), 2.0]}),
        ("not_finite", "data[0] is -inf", {"data": [-float("inf"), 1.0]}),
        ("not_a_number", "'two'", {"data": [1.0, "two"]}),
        ("too_few_entries", "1 entry", {"data": [1.0]}),
        ("too_many_lags", "lags is 12", {"data": DATA, "lags": 12}),
        ("out_of_range", "101", {"data": DATA, "percentiles": [50, 101]}),
        ("out_of_range", "ddof is 2", {"data": DATA, "ddof": 2}),
    ],
)
def test_tool_refuses(code: str, names: str, call: dict[str, Any]) -> None:
    error = stats_summary(**call)["error"]
    assert error["code"] == code
    assert names in error["message"]
    assert error["hint"]
