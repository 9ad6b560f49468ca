"""Asian Monte Carlo with a control variate, against QuantLib at the same paths and fixings."""

from __future__ import annotations

from typing import Any

from benchmarks.harness import interleaved, median
from lilith.quant.options import asian, monte_carlo

FIXINGS = 12
STRIKE, RATE, VOLATILITY = 105.0, 0.05, 0.2
TARGET = 8.0


def run(quick: bool) -> list[dict[str, Any]]:
    """Seconds of a call, fresh random numbers and all, and the errors reached."""
    return [_row(50_000 if quick else 100_000, antithetic) for antithetic in (False, True)]


def _row(samples: int, antithetic: bool) -> dict[str, Any]:
    """``samples`` paths, or pairs of mirrored ones: QuantLib counts a pair as one sample."""
    import QuantLib as ql

    today = ql.Date(2, 1, 2024)
    ql.Settings.instance().evaluationDate = today
    days = ql.Actual365Fixed()
    dates = [today + 30 * i for i in range(1, FIXINGS + 1)]
    time = 30 * FIXINGS / 365

    def flat(rate: float) -> Any:
        return ql.YieldTermStructureHandle(ql.FlatForward(today, rate, days))

    black = ql.BlackConstantVol(today, ql.NullCalendar(), VOLATILITY, days)
    process = ql.BlackScholesMertonProcess(
        ql.QuoteHandle(ql.SimpleQuote(100.0)), flat(0.0), flat(RATE),
        ql.BlackVolTermStructureHandle(black),
    )  # fmt: skip
    found: dict[str, Any] = {}

    def peer() -> None:
        option = ql.DiscreteAveragingAsianOption(
            ql.Average.Arithmetic, 0.0, 0, dates,
            ql.PlainVanillaPayoff(ql.Option.Call, STRIKE), ql.EuropeanExercise(dates[-1]),
        )  # fmt: skip
        option.setPricingEngine(
            ql.MCDiscreteArithmeticAPEngine(
                process, "pseudorandom", brownianBridge=False, antitheticVariate=antithetic,
                controlVariate=True, requiredSamples=samples, seed=42,
            )
        )  # fmt: skip
        found["peer"] = (option.NPV(), option.errorEstimate())

    def ours() -> None:
        estimate = monte_carlo.asian_option(
            100.0, STRIKE, time, RATE, VOLATILITY, fixings=FIXINGS, seed=42,
            paths=2 * samples if antithetic else samples,
            sampling="antithetic" if antithetic else "pseudo",
        )  # fmt: skip
        found["ours"] = (float(estimate.price), float(estimate.standard_error))

    seconds = interleaved({"ours": ours, "peer": peer}, repeats=7)
    exact = float(asian.arithmetic_discrete(100.0, STRIKE, time, RATE, VOLATILITY, fixings=FIXINGS))
    own, theirs = median(seconds["ours"]), median(seconds["peer"])
    drawn = f"{samples:,} antithetic pairs" if antithetic else f"{samples:,} paths"
    return {
        "what": f"control-variate Asian Monte Carlo, {drawn} of {FIXINGS} fixings, seconds",
        "ours": own,
        "peer": theirs,
        "peer_name": "QuantLib MCDiscreteArithmeticAPEngine",
        "ratio": theirs / own,
        "target": TARGET,
        "note": f"standard error {found['ours'][1]:.2g} against {found['peer'][1]:.2g}; off the "
        f"exact price by {found['ours'][0] - exact:.1e} and {found['peer'][0] - exact:.1e}",
    }
