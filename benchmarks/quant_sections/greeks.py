"""A million option prices with five Greeks beside numpy and scipy; the time of a first call."""

from __future__ import annotations

import os
import pathlib
import subprocess
import sys
import tempfile
from typing import Any

import jax
import numpy as np
from scipy.special import ndtr

from benchmarks.harness import interleaved, median

COUNT = 1_000_000
NAMES = ("price", "delta", "gamma", "theta", "vega", "rho")
FIRST_CALLS = {
    "black_scholes.price": "black_scholes.price(spot, 105, 0.5, 0.05, 0.2)",
    "black_scholes.greeks": "black_scholes.greeks(spot, 105, 0.5, 0.05, 0.2)",
    "implied_volatility": "implied_volatility.implied_volatility(spot / 9, spot, 105, 0.5, 0.05)",
    "barrier.price": "barrier.price(spot, 105, 80, 0.5, 0.05, 0.2)",
}
# JAX itself starts its backend in the first call of all: that is not the shape's.
CHILD = """
import time
import numpy as np
from lilith.quant.options import barrier, black_scholes, implied_volatility
black_scholes.normalised_black.jax.devices()
spot = np.linspace(90.0, 110.0, 1001)
begin = time.perf_counter()
{call}
print(time.perf_counter() - begin)
"""


def run(quick: bool) -> list[dict[str, Any]]:
    """The million in both precisions, then first calls in fresh processes."""
    repeats = 7 if quick else 15
    rows = [_million(np.float64, "1.2 x", repeats), _million(np.float32, "4 x", repeats)]
    return rows + _first_calls(2 if quick else 5)


def numpy_greeks(
    spot: np.ndarray, strike: np.ndarray, time: np.ndarray, rate: np.ndarray, volatility: np.ndarray
) -> tuple[np.ndarray, ...]:
    """Calls by the textbook's formulas, each part computed once, in the arguments' precision."""
    one = spot.dtype.type
    root = np.sqrt(time)
    total = volatility * root
    d1 = (np.log(spot / strike) + (rate + one(0.5) * volatility**2) * time) / total
    d2 = d1 - total
    n1, n2 = ndtr(d1), ndtr(d2)
    density = np.exp(one(-0.5) * d1 * d1) * one(0.3989422804014327)
    cash = strike * np.exp(-rate * time)
    vega = spot * density * root
    theta = one(-0.5) * spot * density * volatility / root - rate * cash * n2
    return spot * n1 - cash * n2, n1, density / (spot * total), theta, vega, time * cash * n2


def _million(dtype: Any, target: str, repeats: int) -> dict[str, Any]:
    from lilith.quant.options import black_scholes

    random = np.random.default_rng(0)
    ranges = ((50, 150), (50, 150), (0.05, 2), (0, 0.1), (0.05, 0.6))
    columns = [random.uniform(low, high, COUNT).astype(dtype) for low, high in ranges]

    def ours() -> Any:
        return jax.block_until_ready(black_scholes.greeks(*columns, names=NAMES))

    theirs = dict(zip(NAMES, numpy_greeks(*columns)))
    mine = ours()
    gap = max(np.abs(np.asarray(mine[name]) - theirs[name]).max() for name in ("price", "delta"))
    seconds = interleaved({"ours": ours, "peer": lambda: numpy_greeks(*columns)}, repeats)
    own, peer = median(seconds["ours"]), median(seconds["peer"])
    return {
        "what": f"{COUNT:,} prices and five Greeks, {np.dtype(dtype).name}, s",
        "ours": own,
        "peer": peer,
        "peer_name": f"numpy + scipy, {np.dtype(dtype).name}",
        "ratio": peer / own,
        "target": target,
        "note": f"largest difference of price and delta {gap:.1g}",
    }


def _first_calls(repeats: int) -> list[dict[str, Any]]:
    """Seconds of the first call in a fresh process: compiled, and from the persistent cache."""
    rows = []
    for name, call in FIRST_CALLS.items():
        compiled, cached = [], []
        for _ in range(repeats):
            with tempfile.TemporaryDirectory() as cache:
                compiled.append(_child(call, cache))
                cached.append(_child(call, cache))
        rows += [
            {
                "what": f"first call of {name}, s", "ours": median(seconds), "peer": None,
                "peer_name": "", "ratio": None, "target": target, "note": note,
            }
            for seconds, target, note in (
                (compiled, "under 1.5", "compiled in a fresh process"),
                (cached, "under 0.3", "fresh process, from the persistent compilation cache"),
            )
        ]  # fmt: skip
    return rows


def _child(call: str, cache: str) -> float:
    environment = {
        **os.environ,
        "JAX_PLATFORMS": "cpu",
        "JAX_COMPILATION_CACHE_DIR": cache,
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
    }
    ended = subprocess.run(
        [sys.executable, "-c", CHILD.format(call=call)],
        cwd=pathlib.Path(__file__).resolve().parents[2],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    return float(ended.stdout)
