"""Options by trees, boundaries, averages, Heston and SABR beside QuantLib."""

import numpy as np
import pytest

from lilith.quant.options import american, asian, heston, monte_carlo, sabr, trees

ql = pytest.importorskip("QuantLib")

TODAY = ql.Date(2, 1, 2024)
DAYS = ql.Actual365Fixed()


def curve(rate: float) -> "ql.YieldTermStructureHandle":
    return ql.YieldTermStructureHandle(ql.FlatForward(TODAY, rate, DAYS))


def process(spot: float, rate: float, dividend: float, volatility: float):
    ql.Settings.instance().evaluationDate = TODAY
    black = ql.BlackConstantVol(TODAY, ql.NullCalendar(), volatility, DAYS)
    return ql.BlackScholesMertonProcess(
        ql.QuoteHandle(ql.SimpleQuote(spot)), curve(dividend), curve(rate),
        ql.BlackVolTermStructureHandle(black),
    )  # fmt: skip


def payoff(strike: float, is_call: bool):
    return ql.PlainVanillaPayoff(ql.Option.Call if is_call else ql.Option.Put, strike)


def random_options(count: int):
    rng = np.random.default_rng(11)
    for _ in range(count):
        days = int(rng.integers(10, 2_000))
        volatility = float(np.exp(rng.uniform(np.log(0.08), np.log(0.8))))
        spot = float(100 * np.exp(rng.normal() * volatility * np.sqrt(days / 365)))
        rate, dividend = (float(each) for each in rng.uniform(0.002, 0.12, 2))
        yield spot, days, rate, dividend, volatility, bool(rng.random() < 0.5)


def test_american_options() -> None:
    """Against QuantLib's fixed-point engine, whose own error reaches 2e-5 at long times."""
    gaps = []
    for spot, days, rate, dividend, volatility, is_call in random_options(150):
        option = ql.VanillaOption(payoff(100.0, is_call), ql.AmericanExercise(TODAY, TODAY + days))
        option.setPricingEngine(
            ql.QdFpAmericanEngine(
                process(spot, rate, dividend, volatility),
                ql.QdFpAmericanEngine.highPrecisionScheme(),
            )
        )
        ours = american.price(
            spot, 100.0, days / 365, rate, volatility, dividend=dividend, is_call=is_call
        )
        gaps.append(abs(ours - option.NPV()))
    assert max(gaps) < 5e-5
    assert np.median(gaps) < 1e-7
    assert np.quantile(gaps, 0.9) < 2e-6


@pytest.mark.parametrize(("name", "method"), [("crr", "crr"), ("lr", "leisen_reimer")])
def test_lattices(name: str, method: str) -> None:
    """QuantLib rolls back in time its own way: prices agree to the lattice's own error."""
    gaps = []
    for spot, days, rate, dividend, volatility, is_call in random_options(20):
        option = ql.VanillaOption(payoff(100.0, is_call), ql.AmericanExercise(TODAY, TODAY + days))
        option.setPricingEngine(
            ql.BinomialVanillaEngine(process(spot, rate, dividend, volatility), name, 801)
        )
        ours = trees.price(
            spot, 100.0, days / 365, rate, volatility, dividend=dividend, is_call=is_call,
            steps=801, method=method,
        )  # fmt: skip
        gaps.append(abs(ours - option.NPV()))
    assert max(gaps) < 2e-2
    assert np.median(gaps) < (1e-3 if method == "crr" else 1e-8)


def test_discrete_asian_options() -> None:
    dates = [TODAY + 30 * i for i in range(1, 13)]
    for is_call in (True, False):
        option = ql.DiscreteAveragingAsianOption(
            ql.Average.Geometric,
            1.0,
            0,
            dates,
            payoff(102.0, is_call),
            ql.EuropeanExercise(dates[-1]),
        )
        option.setPricingEngine(
            ql.AnalyticDiscreteGeometricAveragePriceAsianEngine(process(100.0, 0.05, 0.02, 0.3))
        )
        ours = asian.geometric_discrete(
            100.0, 102.0, 360 / 365, 0.05, 0.3, dividend=0.02, is_call=is_call, fixings=12
        )
        assert ours == pytest.approx(option.NPV(), rel=1e-12)
    option = ql.DiscreteAveragingAsianOption(
        ql.Average.Arithmetic, 0.0, 0, dates, payoff(102.0, True), ql.EuropeanExercise(dates[-1])
    )
    option.setPricingEngine(
        ql.MCDiscreteArithmeticAPEngine(
            process(100.0, 0.05, 0.02, 0.3), "pseudorandom", brownianBridge=False,
            antitheticVariate=False, controlVariate=True, requiredSamples=50_000, seed=3,
        )
    )  # fmt: skip
    exact = asian.arithmetic_discrete(100.0, 102.0, 360 / 365, 0.05, 0.3, dividend=0.02, fixings=12)
    simulated = monte_carlo.asian_option(
        100.0, 102.0, 360 / 365, 0.05, 0.3, dividend=0.02, fixings=12, sampling="pseudo",
        paths=50_000,
    )  # fmt: skip
    assert abs(option.NPV() - exact) < 4 * option.errorEstimate()
    assert abs(simulated.price - exact) < 4 * simulated.standard_error
    assert simulated.standard_error < 1.1 * option.errorEstimate()


def test_heston() -> None:
    rng = np.random.default_rng(5)
    for _ in range(60):
        model = [float(rng.uniform(*bounds)) for bounds in (
            (0.01, 0.2), (0.5, 4.0), (0.01, 0.2), (0.1, 0.9), (-0.9, 0.5)
        )]  # fmt: skip
        v0, kappa, theta, xi, rho = model
        days, strike = int(rng.integers(60, 1_500)), float(rng.uniform(80, 125))
        ql.Settings.instance().evaluationDate = TODAY
        own = ql.HestonProcess(
            curve(0.03),
            curve(0.01),
            ql.QuoteHandle(ql.SimpleQuote(100.0)),
            v0,
            kappa,
            theta,
            xi,
            rho,
        )
        option = ql.VanillaOption(payoff(strike, True), ql.EuropeanExercise(TODAY + days))
        option.setPricingEngine(ql.AnalyticHestonEngine(ql.HestonModel(own), 192))
        ours = heston.price(100.0, strike, days / 365, 0.03, *model, dividend=0.01)
        assert ours == pytest.approx(option.NPV(), abs=1e-8), (model, days, strike)


def test_sabr() -> None:
    rng = np.random.default_rng(6)
    for _ in range(100):
        strike, beta, rho, nu = (
            float(rng.uniform(60, 160)), float(rng.uniform(0, 1)), float(rng.uniform(-0.9, 0.9)),
            float(rng.uniform(0.05, 1.0)),
        )  # fmt: skip
        alpha = 0.2 * 100 ** (1 - beta)
        theirs = ql.sabrVolatility(strike, 100.0, 1.5, alpha, beta, nu, rho)
        ours = sabr.lognormal_volatility(100.0, strike, 1.5, alpha, beta, rho, nu)
        assert ours == pytest.approx(theirs, rel=1e-9)
