"""Portfolios beside cvxpy, PyPortfolioOpt, skfolio and Riskfolio-Lib: time and exactness.

Every side gets the expected returns and the covariance and answers with weights; skfolio takes
returns, so that its time includes estimating both from 250 rows. Ours includes what every answer
carries: KKT residual, condition number, risk contributions.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from benchmarks.harness import interleaved, median
from lilith.quant import portfolio

RATE = 0.01
BATCH = 1000
Sides = dict[str, Callable[[], Any]]


def run(quick: bool) -> list[dict[str, Any]]:
    """One row a comparison; seconds are medians, taken in turn."""
    warnings.simplefilter("ignore")
    rows = []
    for n in (10, 50) if quick else (10, 50, 500):
        mean, covariance, returns = _market(n)
        calls, repeats = (20, 7) if n < 500 else (1, 5)
        target = ">= 10" if n < 500 else ">= 3"
        for aim, sides in _aims(n, mean, covariance, returns).items():
            several = {name: _times(side, calls) for name, side in sides.items()}
            taken = {
                name: median(own) / calls for name, own in interleaved(several, repeats).items()
            }
            rows += [
                _row(f"{aim}, n = {n}", taken["ours"], taken[name], name, target)
                for name in taken
                if name != "ours"
            ]
        shares = portfolio.equal_risk_contribution(covariance).risk_contributions
        worst = float(np.abs(shares * n - 1).max())
        rows.append(_row(f"largest |n share - 1|, n = {n}", worst, None, "", "<= 1e-12"))
    return [*rows, _batch(), *_first_calls()]


def _row(
    what: str, ours: float, peer: float | None, peer_name: str, target: str, note: str = ""
) -> dict[str, Any]:
    return {
        "what": what,
        "ours": ours,
        "peer": "" if peer is None else peer,
        "peer_name": peer_name,
        "ratio": "" if peer is None else peer / ours,
        "target": target,
        "note": note,
    }


def _times(side: Callable[[], Any], calls: int) -> Callable[[], None]:
    def several() -> None:
        for _ in range(calls):
            side()

    return several


def _market(n: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Annual expected returns and covariance of a factor market, and 250 days of it."""
    draw = np.random.default_rng(3)
    loadings = draw.normal(size=(n, 4)) * 0.1
    loadings[:, 0] += 0.15
    covariance = loadings @ loadings.T + np.diag(draw.uniform(0.01, 0.05, n))
    mean = draw.uniform(0.02, 0.15, n)
    factors = draw.normal(size=(250, 4)) @ loadings.T
    noise = draw.normal(size=(250, n)) * np.sqrt(draw.uniform(0.01, 0.05, n))
    return mean, covariance, mean / 252 + (factors + noise) / np.sqrt(252)


def _aims(
    n: int, mean: np.ndarray, covariance: np.ndarray, returns: np.ndarray
) -> dict[str, Sides]:
    import cvxpy
    from pypfopt import EfficientFrontier
    from skfolio.optimization import MeanRisk, ObjectiveFunction, RiskBudgeting

    risk = cvxpy.psd_wrap(covariance)
    book = _riskfolio(mean, covariance, returns)

    def cvxpy_least() -> Any:
        w = cvxpy.Variable(n)
        limits = [cvxpy.sum(w) == 1, w >= 0]
        return cvxpy.Problem(cvxpy.Minimize(cvxpy.quad_form(w, risk)), limits).solve()

    def cvxpy_sharpe() -> Any:
        y = cvxpy.Variable(n)
        limits = [(mean - RATE) @ y == 1, y >= 0]
        cvxpy.Problem(cvxpy.Minimize(cvxpy.quad_form(y, risk)), limits).solve()
        return y.value / y.value.sum()

    def cvxpy_parity() -> Any:
        y = cvxpy.Variable(n)
        aim = cvxpy.quad_form(y, risk) / 2 - cvxpy.sum(cvxpy.log(y)) / n
        cvxpy.Problem(cvxpy.Minimize(aim)).solve()
        return y.value / y.value.sum()

    ratio = ObjectiveFunction.MAXIMIZE_RATIO
    least: Sides = {
        "ours": lambda: portfolio.minimum_variance(covariance),
        "cvxpy": cvxpy_least,
        "PyPortfolioOpt": lambda: EfficientFrontier(mean, covariance).min_volatility(),
        "skfolio": lambda: MeanRisk().fit(returns),
        "Riskfolio-Lib": lambda: book.optimization(model="Classic", rm="MV", obj="MinRisk"),
    }
    sharpe: Sides = {
        "ours": lambda: portfolio.maximum_sharpe(mean, covariance, risk_free_rate=RATE),
        "cvxpy": cvxpy_sharpe,
        "PyPortfolioOpt": lambda: _pyportfolioopt_sharpe(mean, covariance),
        "skfolio": lambda: MeanRisk(objective_function=ratio, risk_free_rate=RATE / 252).fit(
            returns
        ),
        "Riskfolio-Lib": lambda: book.optimization(model="Classic", rm="MV", obj="Sharpe", rf=RATE),
    }
    parity: Sides = {
        "ours": lambda: portfolio.equal_risk_contribution(covariance),
        "cvxpy": cvxpy_parity,
        "skfolio": lambda: RiskBudgeting().fit(returns),
        "Riskfolio-Lib": lambda: book.rp_optimization(model="Classic", rm="MV"),
    }
    return {"minimum variance": least, "maximum Sharpe": sharpe, "equal risk": parity}


def _pyportfolioopt_sharpe(mean: np.ndarray, covariance: np.ndarray) -> None:
    """At 500 assets its solver may stop at its iteration limit, which it raises: time counts."""
    from pypfopt import EfficientFrontier
    from pypfopt.exceptions import OptimizationError

    try:
        EfficientFrontier(mean, covariance).max_sharpe(risk_free_rate=RATE)
    except OptimizationError:
        return


def _riskfolio(mean: np.ndarray, covariance: np.ndarray, returns: np.ndarray) -> Any:
    import pandas
    import riskfolio

    frame = pandas.DataFrame(returns)
    book = riskfolio.Portfolio(returns=frame)
    book.mu = pandas.DataFrame(mean[None], columns=frame.columns)
    book.cov = pandas.DataFrame(covariance, index=frame.columns, columns=frame.columns)
    return book


def _batch() -> dict[str, Any]:
    """1,000 maximum-Sharpe portfolios of 10 assets under one vmap, beside one call each."""
    mean, covariance, _ = _market(10)
    means = mean + np.random.default_rng(0).normal(size=(BATCH, 10)) * 0.02
    with jax.enable_x64(True):
        together = jax.jit(
            jax.vmap(lambda m: portfolio.maximum_sharpe(m, covariance, risk_free_rate=RATE))
        )

        def batched() -> Any:
            return jax.block_until_ready(together(means))

        assert (np.asarray(batched().status) == 0).all()

        def single() -> None:
            for m in means:
                portfolio.maximum_sharpe(m, covariance, risk_free_rate=RATE)

        taken = interleaved({"ours": batched, "peer": single}, 5)
    what = f"{BATCH:,} portfolios of 10 under one vmap"
    return _row(what, median(taken["ours"]), median(taken["peer"]), "ours, one by one", "")


_FIRST = """
import sys, time, json, numpy as np, jax
jax.config.update("jax_compilation_cache_dir", sys.argv[1])
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
from lilith.quant import portfolio
with jax.enable_x64(True):
    jax.jit(lambda x: x @ x)(np.eye(3)).block_until_ready()
draw = np.random.default_rng(0)
covariance, mean = np.cov(draw.normal(size=(12, 40))), draw.uniform(size=12)
found = {}
for name, call in {
    "minimum variance": lambda: portfolio.minimum_variance(covariance),
    "maximum Sharpe": lambda: portfolio.maximum_sharpe(mean, covariance),
    "equal risk": lambda: portfolio.equal_risk_contribution(covariance),
}.items():
    begin = time.perf_counter()
    call()
    found[name] = time.perf_counter() - begin
print(json.dumps(found))
"""


def _first_calls() -> list[dict[str, Any]]:
    """The first call of a shape in fresh processes: nothing cached, then from the cache."""
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for kind, target, count in (("nothing cached", "< 1.5", 1), ("from the cache", "< 0.3", 3)):
            runs = []
            for _ in range(count):
                ended = subprocess.run(
                    [sys.executable, "-c", _FIRST, folder],
                    capture_output=True,
                    text=True,
                    check=True,
                    env={**os.environ, "JAX_PLATFORMS": "cpu"},
                )
                runs.append(json.loads(ended.stdout))
            rows += [
                _row(f"first call, {name}, {kind}", median([own[name] for own in runs]), None, "",
                     target, "seconds, a new shape, a fresh process")
                for name in runs[0]
            ]  # fmt: skip
    return rows
