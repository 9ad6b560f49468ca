"""European and barrier options and implied volatilities beside QuantLib and vollib."""

from __future__ import annotations

import math

import numpy as np
import pytest

from lilith.quant.options import (
    bachelier,
    barrier,
    black76,
    black_scholes,
    implied_volatility,
)

ql = pytest.importorskip("QuantLib")
vollib_greeks = pytest.importorskip("vollib.black_scholes_merton.greeks.analytical")
vollib_implied = pytest.importorskip("vollib.black_scholes_merton.implied_volatility")

COUNT = 200


@pytest.fixture(scope="module")
def market() -> dict[str, np.ndarray]:
    random = np.random.default_rng(4)
    return {
        "spot": np.full(COUNT, 100.0),
        "strike": random.uniform(60, 150, COUNT),
        # QuantLib counts whole days; vollib takes any time.
        "time": random.integers(10, 900, COUNT) / 365,
        "rate": random.uniform(-0.02, 0.1, COUNT),
        "volatility": random.uniform(0.05, 0.8, COUNT),
        "dividend": random.uniform(0, 0.06, COUNT),
        "is_call": random.random(COUNT) < 0.5,
    }


def engine_parts(row: dict[str, float]) -> tuple:
    today = ql.Date(1, 1, 2024)
    ql.Settings.instance().evaluationDate = today
    days = ql.Actual365Fixed()
    quote = ql.QuoteHandle(ql.SimpleQuote(row["spot"]))
    flat = [
        ql.YieldTermStructureHandle(ql.FlatForward(today, row[name], days))
        for name in ("dividend", "rate")
    ]
    volatility = ql.BlackVolTermStructureHandle(
        ql.BlackConstantVol(today, ql.NullCalendar(), row["volatility"], days)
    )
    process = ql.BlackScholesMertonProcess(quote, *flat, volatility)
    expiry = ql.EuropeanExercise(today + round(row["time"] * 365))
    kind = ql.Option.Call if row["is_call"] else ql.Option.Put
    return process, expiry, ql.PlainVanillaPayoff(kind, row["strike"])


def rows(market: dict[str, np.ndarray]) -> list[dict[str, float]]:
    return [{name: value[i].item() for name, value in market.items()} for i in range(COUNT)]


def call(function, market, **more):
    kept = {name: market[name] for name in ("dividend", "is_call")}
    names = ("spot", "strike", "time", "rate", "volatility")
    return function(*(market[name] for name in names), **kept, **more)


def test_greeks_beside_quantlib(market) -> None:
    ours = call(black_scholes.greeks, market)
    names = {
        "price": "NPV", "delta": "delta", "gamma": "gamma", "theta": "theta", "vega": "vega",
        "rho": "rho", "phi": "dividendRho", "dual_delta": "strikeSensitivity",
    }  # fmt: skip
    for i, row in enumerate(rows(market)):
        process, expiry, payoff = engine_parts(row)
        option = ql.VanillaOption(payoff, expiry)
        option.setPricingEngine(ql.AnalyticEuropeanEngine(process))
        for name, method in names.items():
            theirs = getattr(option, method)()
            assert ours[name][i] == pytest.approx(theirs, rel=1e-9, abs=1e-11), (name, row)


def test_greeks_beside_vollib(market) -> None:
    ours = call(black_scholes.greeks, market)
    # vollib gives vega and rho for a hundredth, theta for a day.
    scales = {"delta": 1, "gamma": 1, "vega": 100, "rho": 100, "theta": 365}
    for i, row in enumerate(rows(market)):
        arguments = [row[name] for name in ("spot", "strike", "time", "rate", "volatility")]
        flag = "c" if row["is_call"] else "p"
        for name, scale in scales.items():
            theirs = scale * getattr(vollib_greeks, name)(flag, *arguments, row["dividend"])
            assert ours[name][i] == pytest.approx(theirs, rel=1e-9, abs=1e-10), (name, row)


def test_implied_volatility_beside_vollib(market) -> None:
    prices = call(black_scholes.price, market)
    found = implied_volatility.solve_implied_volatility(
        prices, *(market[name] for name in ("spot", "strike", "time", "rate")),
        dividend=market["dividend"], is_call=market["is_call"],
    )  # fmt: skip
    for i, row in enumerate(rows(market)):
        if prices[i] < 1e-8 or found.condition[i] > 1e6:
            continue
        arguments = [row[name] for name in ("spot", "strike", "time", "rate", "dividend")]
        flag = "c" if row["is_call"] else "p"
        theirs = vollib_implied.implied_volatility(prices[i], *arguments, flag)
        assert found.volatility[i] == pytest.approx(theirs, rel=1e-12 * (1 + found.condition[i]))


@pytest.mark.parametrize("kind", barrier.KINDS)
def test_barriers_beside_quantlib(market, kind: str) -> None:
    side = -1 if kind.startswith("down") else 1
    level = 100 * np.exp(side * np.random.default_rng(1).uniform(0.02, 0.4, COUNT))
    kinds = {
        "down-out": ql.Barrier.DownOut, "down-in": ql.Barrier.DownIn,
        "up-out": ql.Barrier.UpOut, "up-in": ql.Barrier.UpIn,
    }  # fmt: skip
    names = ("time", "rate", "volatility")
    ours = barrier.price(
        market["spot"], market["strike"], level, *(market[name] for name in names),
        dividend=market["dividend"], is_call=market["is_call"], rebate=2.0, kind=kind,
    )  # fmt: skip
    for i, row in enumerate(rows(market)):
        process, expiry, payoff = engine_parts(row)
        option = ql.BarrierOption(kinds[kind], level[i].item(), 2.0, payoff, expiry)
        option.setPricingEngine(ql.AnalyticBarrierEngine(process))
        assert ours[i] == pytest.approx(option.NPV(), rel=1e-9, abs=1e-10), row


def test_black76_and_bachelier_beside_quantlib(market) -> None:
    for row in rows(market)[:50]:
        kind = ql.Option.Call if row["is_call"] else ql.Option.Put
        discount = math.exp(-row["rate"] * row["time"])
        root = math.sqrt(row["time"])
        arguments = (row["spot"], row["strike"], row["time"], row["rate"])
        ours = black76.price(*arguments, row["volatility"], is_call=row["is_call"])
        total = row["volatility"] * root
        theirs = ql.blackFormula(kind, row["strike"], row["spot"], total, discount)
        assert ours == pytest.approx(theirs, rel=1e-9, abs=1e-12)
        ours = bachelier.price(*arguments, 20.0, is_call=row["is_call"])
        theirs = ql.bachelierBlackFormula(kind, row["strike"], row["spot"], 20 * root, discount)
        assert ours == pytest.approx(theirs, rel=1e-9, abs=1e-12)
        back = bachelier.implied_volatility(ours, *arguments, is_call=row["is_call"])
        assert back == pytest.approx(20.0, rel=1e-7)  # deep in the money it is ill-conditioned
