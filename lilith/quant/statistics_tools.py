"""The tools ``stats_summary``, ``fit_ar1`` and ``fit_garch``."""

from __future__ import annotations

import math
import warnings as python_warnings
from collections.abc import Mapping
from typing import Any

import numpy as np

from lilith.quant.statistics import describe
from lilith.quant.time_series import ar1, garch
from lilith.quant.time_series.maximum_likelihood import BAD_INPUT, CONVERGED, STATUS
from lilith.quant.tool import Answer, Parameter, tool
from lilith.quant.tool_values import ToolError

_CONSTANT = "the data are constant ({first:g})"
_FEW = {"skew_unbiased": 3, "kurtosis_excess_unbiased": 4}  # observations that it needs
_SERIES = "the series, oldest first"
_ITERATIONS = Parameter(
    "most_iterations", "integer", "Newton steps at most", default=100, minimum=1, maximum=1000
)
_MEAN = Parameter(
    "mean", "string", "constant: estimated with the rest; zero: none", default="constant",
    choices=garch.MEANS,
)  # fmt: skip
_HORIZON = Parameter(
    "horizon", "integer", "how many steps to forecast", default=10, minimum=1, maximum=10_000
)


@tool(
    "Summary of a sample: mean, median, deviation, skewness, kurtosis, percentiles, Jarque-Bera "
    "normality, autocorrelation with Ljung-Box, and the ADF test for a unit root.",
    Parameter("data", "numbers", "the observations, in order of time for the tests that use it",
              least=2),
    Parameter("ddof", "integer", "std divides by count - ddof", default=1, minimum=0, maximum=1),
    Parameter("percentiles", "numbers", "which percentiles, 0 to 100",
              default=(1.0, 5.0, 25.0, 50.0, 75.0, 95.0, 99.0), minimum=0.0, maximum=100.0),
    Parameter("lags", "integer", "autocorrelations; min(10, count / 5) where it is not given",
              default=None, minimum=1),
    Parameter("adf", "boolean", "whether to run the ADF test, which needs statsmodels",
              default=True),
    Parameter("adf_regression", "string", "its terms: n none, c constant, ct and a trend, ctt and "
              "a squared one", default="c", choices=("n", "c", "ct", "ctt")),
    Parameter("adf_lags", "integer", "its lagged differences; chosen by AIC where it is not given",
              default=None, minimum=0),
)  # fmt: skip
def stats_summary(
    data: np.ndarray,
    ddof: int,
    percentiles: np.ndarray,
    lags: int | None,
    adf: bool,
    adf_regression: str,
    adf_lags: int | None,
) -> Answer:
    """The figures of :func:`lilith.quant.statistics.describe`, and statsmodels' ADF test."""
    count = len(data)
    lags = max(1, min(10, count // 5)) if lags is None else lags
    if lags >= count:
        raise ToolError(
            "too_many_lags", "lags", f"lags is {lags}, and data has {count} entries",
            f"give at most {count - 1} lags",
        )  # fmt: skip
    levels = np.asarray(percentiles, np.float64)
    figures = describe(data, levels / 100, lags=lags, ddof=ddof)
    scalars = (
        "mean", "median", "std", "std_ddof0", "std_ddof1", "minimum", "maximum", "skew_biased",
        "skew_unbiased", "kurtosis_excess_biased", "kurtosis_excess_unbiased",
    )  # fmt: skip
    result: dict[str, Any] = {"count": count, **{name: figures[name] for name in scalars}}
    result["percentiles"] = {f"{p:g}": v for p, v in zip(levels, figures["percentiles"])}
    result["jarque_bera"] = {
        "statistic": figures["jarque_bera"], "p_value": figures["jarque_bera_p_value"],
    }  # fmt: skip
    result["autocorrelation"] = figures["autocorrelation"]
    result["ljung_box"] = {
        "statistic": figures["ljung_box"], "p_value": figures["ljung_box_p_value"],
    }  # fmt: skip
    reasons = _withdrawn(result, data)
    if adf:
        found = _adf(data, adf_regression, adf_lags)
        result["adf"] = found if isinstance(found, Mapping) else None
        if isinstance(found, str):
            reasons["adf"] = found
    own = "data"
    units = dict.fromkeys(scalars[:7], own) | {"count": "observations", "percentiles": own}
    units |= dict.fromkeys([*scalars[7:], "autocorrelation"], "none")
    return Answer(
        result,
        units=units,
        conventions={
            "ddof": ddof,
            "lags": lags,
            "std": "std divides by count - ddof; std_ddof0 and std_ddof1 by what they say",
            "percentiles": "linear interpolation between order statistics (type 7)",
            "jarque_bera": "biased skewness and kurtosis; chi-squared with 2 degrees of freedom",
            "autocorrelation": "at lags 1, 2, ...; divided by count times the variance",
            "ljung_box": "up to each lag k; chi-squared with k degrees of freedom",
            "adf": f"statsmodels, regression {adf_regression}; a small p-value speaks against a "
            "unit root",
        },
        diagnostics={"null_reasons": reasons},
        warnings=[f"result.{name} is null: {why}" for name, why in reasons.items()],
    )


def _withdrawn(result: dict[str, Any], data: np.ndarray) -> dict[str, str]:
    """Why figures do not exist; these become None."""
    reasons = {}
    for name in list(result):
        values = result[name].values() if isinstance(result[name], Mapping) else [result[name]]
        if not all(np.isfinite(value).all() for value in values):
            few = _FEW.get(name, 0)
            why = f"it needs {few} observations and has {len(data)}"
            reasons[name] = why if len(data) < few else _CONSTANT.format(first=data[0])
            result[name] = None
    return reasons


def _adf(data: np.ndarray, regression: str, lags: int | None) -> dict[str, Any] | str:
    """The augmented Dickey-Fuller test, or why there is none."""
    try:
        from statsmodels.tsa.stattools import adfuller
    except ImportError:
        return "statsmodels is not installed; install it with pip install 'lilith[stats]'"
    if np.ptp(data) == 0:
        return _CONSTANT.format(first=data[0])
    how = {"autolag": "AIC"} if lags is None else {"maxlag": lags, "autolag": None}
    try:
        with python_warnings.catch_warnings():
            python_warnings.simplefilter("ignore")
            found = adfuller(data, regression=regression, **how)
    except ValueError as error:
        return f"statsmodels' adfuller can not use these {len(data)} observations: {error}"
    if not (np.isfinite(found[0]) and np.isfinite(found[1])):
        return f"the regression of these {len(data)} observations is singular"
    return {
        "statistic": found[0],
        "p_value": found[1],
        "lags": found[2],
        "observations": found[3],
        "critical_values": dict(found[4]),
    }


@tool(
    "Fit an AR(1) by exact Gaussian maximum likelihood: mean, phi, innovation variance, standard "
    "errors and a forecast.",
    Parameter("data", "numbers", _SERIES, least=4),
    _MEAN,
    _HORIZON,
    _ITERATIONS,
)
def fit_ar1(data: np.ndarray, mean: str, horizon: int, most_iterations: int) -> Answer:
    """Run :func:`lilith.quant.time_series.ar1.ar1_fit`."""
    fit = ar1.ar1_fit(data, mean_model=mean, most_iterations=most_iterations)
    _refuse_bad_input(fit.status, data)
    names = ("mean", "phi", "variance")
    level, spread = ar1.ar1_forecast(data[-1], fit.phi, fit.variance, fit.mean, horizon=horizon)
    result = {
        **_estimates(fit, names, free=3 if mean == "constant" else 2, count=len(data)),
        "half_life": math.log(0.5) / math.log(abs(fit.phi)) if 0 < abs(fit.phi) < 1 else None,
        "forecast": {"mean": level, "variance": spread},
    }
    units = {"mean": "data", "variance": "data squared", "half_life": "periods",
             "forecast.mean": "data", "forecast.variance": "data squared"}  # fmt: skip
    return _fitted(result, units, fit, {
        "model": "y_t - mean = phi (y_{t-1} - mean) + e_t, e_t normal with the variance",
        "likelihood": "exact: the first observation is stationary",
        "mean": mean,
        "forecast": "the parameters are taken as known",
    })  # fmt: skip


@tool(
    "Fit a GARCH(1,1) by Gaussian maximum likelihood: omega, alpha, beta, standard errors, and a "
    "forecast of the variance.",
    Parameter("data", "numbers", "the returns, oldest first", least=10),
    _MEAN,
    Parameter("backcast", "string", "the variance before the sample: exponential weights (arch's "
              "default) or the sample variance", default="exponential", choices=garch.BACKCASTS),
    _HORIZON,
    _ITERATIONS,
)  # fmt: skip
def fit_garch(
    data: np.ndarray, mean: str, backcast: str, horizon: int, most_iterations: int
) -> Answer:
    """Run :func:`lilith.quant.time_series.garch.garch_fit`."""
    fit = garch.garch_fit(data, mean_model=mean, backcast=backcast, most_iterations=most_iterations)
    _refuse_bad_input(fit.status, data)
    persistence = fit.alpha + fit.beta
    result = {
        **_estimates(
            fit,
            ("mean", "omega", "alpha", "beta"),
            free=4 if mean == "constant" else 3,
            count=len(data),
        ),
        "persistence": persistence,
        "long_run_variance": fit.omega / (1 - persistence) if persistence < 1 else None,
        "last_variance": fit.variances[-1],
        "forecast_variance": garch.garch_forecast(
            fit.next_variance, fit.omega, fit.alpha, fit.beta, horizon=horizon
        ),
    }
    squared = ("omega", "long_run_variance", "last_variance", "forecast_variance")
    units = {"mean": "data", **dict.fromkeys(squared, "data squared"), "persistence": "none"}
    return _fitted(result, units, fit, {
        "model": "h_t = omega + alpha e_{t-1}^2 + beta h_{t-1}, e_t normal with variance h_t",
        "backcast": f"{backcast}: h_1 = omega + (alpha + beta) times it",
        "mean": mean,
        "forecast": "expected variances of the next periods",
    })  # fmt: skip


def _refuse_bad_input(status: Any, data: np.ndarray) -> None:
    if int(status) == BAD_INPUT:
        raise ToolError(
            "constant_data", "data",
            f"all {len(data)} entries of data are {data[0]:g}, and constant data have no model",
            "give a series that varies",
        )  # fmt: skip


def _estimates(fit: Any, names: tuple[str, ...], free: int, count: int) -> dict[str, Any]:
    """Estimates with both standard errors, and what the likelihood is worth."""
    figures = {name: getattr(fit, name) for name in names}
    used = [i for i, name in enumerate(names) if name != "mean" or free == len(names)]
    for kind in ("standard_errors", "standard_errors_robust"):
        errors = getattr(fit, kind)
        known = np.isfinite(errors[used]).all()
        figures[kind] = {names[i]: errors[i] for i in used} if known else None
    figures["log_likelihood"] = fit.log_likelihood
    figures["aic"] = 2 * free - 2 * fit.log_likelihood
    figures["bic"] = free * math.log(count) - 2 * fit.log_likelihood
    return figures


def _fitted(
    result: dict[str, Any], units: dict[str, str], fit: Any, conventions: dict[str, str]
) -> Answer:
    status = STATUS[int(fit.status)]
    warnings = [] if int(fit.status) == CONVERGED else [f"the fit: {status}"]
    conventions |= {
        "standard_errors": "from the inverse of the observed information",
        "standard_errors_robust": "sandwich of it around the outer product of the scores",
    }
    return Answer(
        result,
        units=units,
        conventions=conventions,
        diagnostics={
            "status": status,
            "converged": int(fit.status) == CONVERGED,
            "iterations": int(fit.iterations),
            "newton_decrement": float(fit.decrement),
        },
        warnings=warnings,
    )
