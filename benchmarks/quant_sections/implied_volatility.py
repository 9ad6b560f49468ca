"""Implied volatility: error against mpmath, failures and speed, beside vollib and QuantLib.

The truth is the root for the exact binary price, by ``tests/quant/option_truth.py``; errors are in
eps (1 + condition), where condition = price / (vega volatility).
"""

from __future__ import annotations

import math
import pathlib
import sys
from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks.harness import interleaved, median

sys.path.append(str(pathlib.Path(__file__).resolve().parents[2] / "tests" / "quant"))
EPS = float(np.finfo(np.float64).eps)
MANY = 100_000


def run(quick: bool) -> list[dict[str, Any]]:
    """Error and failures of each library on the same options, then the time of each."""
    import option_truth

    rows = option_truth.random_options(300 if quick else 3000, seed=0)
    truth = [
        option_truth.implied_volatility(
            row[0], dict(zip(option_truth.ARGUMENTS, row[1:7])), row[7], row[5]
        )
        for row in rows
    ]
    found = {name: solver(rows) for name, solver in _solvers().items()}
    errors = {name: _errors(values, truth) for name, values in found.items()}
    worst, missed = errors.pop("ours")
    result = [
        {
            "what": f"implied volatility: largest error of {len(rows)} in eps (1 + condition)",
            "ours": worst, "peer": peer_worst, "peer_name": name, "ratio": peer_worst / worst,
            "target": "ours at most 10, 0 failures",
            "note": f"failures: ours {missed}, {name} {peer_missed}",
        }
        for name, (peer_worst, peer_missed) in errors.items()
    ]  # fmt: skip
    return result + _speed(rows, 5 if quick else 7)


def _errors(values: list[float], truth: list[tuple[Any, Any]]) -> tuple[float, int]:
    """The largest error of what was solved, and how many were not."""
    worst, missed = 0.0, 0
    for value, (root, condition) in zip(values, truth):
        if math.isfinite(value) and value > 0:
            worst = max(worst, float(abs(value / root - 1) / (1 + condition)) / EPS)
        else:
            missed += 1
    return worst, missed


def _solvers() -> dict[str, Callable[[list[tuple]], list[float]]]:
    import QuantLib
    from vollib.black_scholes_merton import implied_volatility as vollib

    from lilith.quant.options.implied_volatility import implied_volatility

    def ours(rows: list[tuple]) -> list[float]:
        price, spot, strike, time, rate, _, dividend, is_call = map(np.array, zip(*rows))
        return list(
            implied_volatility(price, spot, strike, time, rate, dividend=dividend, is_call=is_call)
        )

    def of_vollib(row: tuple) -> float:
        price, spot, strike, time, rate, _, dividend, is_call = row
        return vollib.implied_volatility(
            price, spot, strike, time, rate, dividend, "c" if is_call else "p"
        )

    def of_quantlib(row: tuple) -> float:
        price, spot, strike, time, rate, _, dividend, is_call = row
        forward, kind = spot * math.exp((rate - dividend) * time), QuantLib.Option
        total = QuantLib.blackFormulaImpliedStdDevLiRS(
            kind.Call if is_call else kind.Put, strike, forward, price, math.exp(-rate * time),
            0.0, QuantLib.nullDouble(), 1.0, 1e-15, 1000,
        )  # fmt: skip
        return total / math.sqrt(time)

    def each(solver: Callable[[tuple], float]) -> Callable[[list[tuple]], list[float]]:
        def solve(rows: list[tuple]) -> list[float]:
            return [_or_nan(solver, row) for row in rows]

        return solve

    return {"ours": ours, "vollib": each(of_vollib), "QuantLib (LiRS)": each(of_quantlib)}


def _or_nan(solver: Callable[[tuple], float], row: tuple) -> float:
    try:
        return solver(row)
    except Exception:  # whatever a peer raises where it finds no root
        return math.nan


def _speed(rows: list[tuple], repeats: int) -> list[dict[str, Any]]:
    """Seconds an option: ours on many at once, theirs one by one as they are called."""
    solvers = _solvers()
    some = [row for row in rows if 1e-6 < row[0] < 0.9 * row[1] and 0.01 < row[5] < 3][:100]
    many = [some[i % len(some)] for i in range(MANY)]
    columns = [np.array(column) for column in zip(*many)]

    def ours() -> Any:
        from lilith.quant.options.implied_volatility import implied_volatility

        price, spot, strike, time, rate, _, dividend, is_call = columns
        return implied_volatility(
            price, spot, strike, time, rate, dividend=dividend, is_call=is_call
        )

    peers = {name: solver for name, solver in solvers.items() if name != "ours"}
    sides: dict[str, Callable[[], Any]] = {"ours": ours}
    sides |= {name: (lambda own=solver: own(some)) for name, solver in peers.items()}
    seconds = interleaved(sides, repeats)
    mine = median(seconds["ours"]) / len(many)
    return [
        {
            "what": "implied volatility: one option, s",
            "ours": mine,
            "peer": median(seconds[name]) / len(some),
            "peer_name": name,
            "ratio": median(seconds[name]) / len(some) / mine,
            "target": "faster",
            "note": f"ours in a batch of {MANY:,}; theirs one call an option",
        }
        for name in peers
    ]
