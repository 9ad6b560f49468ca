"""Tools: options by Monte Carlo, American options, Asian options."""

from __future__ import annotations

import math
from typing import Any

from lilith.quant.options import (
    american,
    asian,
    barrier,
    black_scholes,
    longstaff_schwartz,
    lookback,
    monte_carlo,
    trees,
)  # fmt: skip
from lilith.quant.options.parameters import RATES, SIMULATED
from lilith.quant.tool import Answer, Parameter, ToolError, tool

Z95 = 1.959963984540054  # of a two-sided 95% interval
MOST_NUMBERS = 400_000_000  # paths times steps that one call may draw

LATTICES = {"binomial_crr": "crr", "leisen_reimer": "leisen_reimer"}

CONVENTIONS = {
    **RATES,
    "time": "years",
    "model": "Black-Scholes: lognormal spot, constant volatility",
}
KINDS = (
    "european", "asian_arithmetic", "asian_geometric", "bermudan",
    *(f"barrier_{kind}".replace("-", "_") for kind in barrier.KINDS),
    *(f"lookback_{kind}" for kind in lookback.KINDS),
)  # fmt: skip


@tool(
    "Price an option by Monte Carlo, with its standard error and 95% confidence interval, and the "
    "exact price beside it where there is one",
    *SIMULATED,
    Parameter("kind", "string", "What the option pays on", choices=KINDS, default="european"),
    Parameter("paths", "integer", "Simulated paths", minimum=100, default=100_000),
    Parameter(
        "steps", "integer", "Fixings, exercise dates or monitoring steps until expiry",
        minimum=1, maximum=2_000, default=12,
    ),
    Parameter("seed", "integer", "Seed of the random numbers", minimum=0, default=0),
    Parameter(
        "sampling", "string", "Random numbers", choices=monte_carlo.SAMPLINGS, default="antithetic"
    ),
    Parameter(
        "control_variate", "boolean", "Reduce variance by a payoff of known mean", default=True
    ),
    Parameter(
        "barrier", "number", "Barrier level of barrier options", unit="currency", above=0,
        default=None,
    ),
    Parameter(
        "continuous", "boolean",
        "Watch barriers and extremes all the time rather than at the steps only", default=True,
    ),
)  # fmt: skip
def monte_carlo_option(
    spot: float, strike: float, time: float, rate: float, volatility: float, dividend: float,
    option_type: str, kind: str, paths: int, steps: int, seed: int, sampling: str,
    control_variate: bool, barrier: float | None, continuous: bool,
) -> Answer:  # fmt: skip
    if paths * steps > MOST_NUMBERS:
        raise ToolError(
            "too_much_work", "paths",
            f"{paths} paths of {steps} steps are {paths * steps:.2g} random numbers, more than "
            f"{MOST_NUMBERS:.0e}",
            "ask for fewer paths or steps",
        )  # fmt: skip
    if seed >= 2**64:
        raise ToolError("out_of_range", "seed", f"seed is {seed}, not below 2^64", "use a smaller")
    if kind.startswith("barrier") and barrier is None:
        raise ToolError(
            "missing_argument", "barrier", f"a {kind} option needs the level of its barrier",
            "give barrier in currency",
        )  # fmt: skip
    option = (spot, strike, time, rate, volatility)
    terms: dict[str, Any] = {"dividend": dividend, "is_call": option_type == "call"}
    if kind == "bermudan":
        return _bermudan(option, terms, paths, steps, seed)
    chosen: dict[str, Any] = {
        "paths": paths, "seed": seed, "sampling": sampling, "control_variate": control_variate,
    }  # fmt: skip
    found, exact, name = _simulated(kind, option, terms, barrier, steps, continuous, chosen)
    if kind == "european":
        steps = 1
    return _simulation_answer(
        found, exact, name, {"steps": steps, "correlation_with_control": found.correlation}
    )


def _simulated(
    kind: str,
    option: tuple[float, float, float, float, float],
    terms: dict[str, Any],
    level: float | None,
    steps: int,
    continuous: bool,
    chosen: dict[str, Any],
) -> tuple[monte_carlo.Estimate, float | None, str]:
    """The estimate, the exact price where there is one, and that price's source."""
    spot, strike, *_ = option
    others = option[2:]
    asked = {**terms, **chosen}
    if kind == "european":
        found = monte_carlo.european(*option, **asked)
        return found, black_scholes.price(*option, **terms), "Black-Scholes formula"
    if kind.startswith("asian"):
        average = kind.removeprefix("asian_")
        found = monte_carlo.asian_option(*option, average=average, fixings=steps, **asked)
        if average == "geometric":
            return found, asian.geometric_discrete(*option, **terms, fixings=steps), "closed form"
        exact = asian.arithmetic_discrete(*option, **terms, fixings=steps) if steps <= 366 else None
        return found, exact, "convolution of densities"
    asked.update(steps=steps, continuous=continuous)
    if kind.startswith("barrier"):
        style = kind.removeprefix("barrier_").replace("_", "-")
        found = monte_carlo.barrier(spot, strike, level, *others, kind=style, **asked)
        exact = barrier.price(spot, strike, level, *others, **terms, kind=style)
    else:
        style = kind.removeprefix("lookback_")
        found = monte_carlo.lookback(*option, kind=style, **asked)
        exact = lookback.price(*option, **terms, kind=style)
    return found, exact if continuous else None, "closed form, watched all the time"


def _simulation_answer(
    found: Any, exact: float | None, source: str, diagnostics: dict[str, Any]
) -> Answer:
    price, error = float(found.price), float(found.standard_error)
    low, high = price - Z95 * error, price + Z95 * error
    result: dict[str, Any] = {
        "price": price,
        "standard_error": error,
        "confidence_interval_95": [low, high],
        "paths": int(found.paths),
    }
    warnings = []
    if exact is not None:
        result["exact_price"] = float(exact)
        z = (price - float(exact)) / error if error > 0 else 0.0
        diagnostics = {**diagnostics, "standard_errors_from_exact": z, "exact_price_by": source}
        if abs(z) > 4:
            warnings.append(f"the estimate is {z:.1f} standard errors from the exact price")
    if price == 0 == error:
        warnings.append("no simulated path paid anything: more paths would help, if any can pay")
    elif error > 0.05 * abs(price):
        warnings.append(
            f"the standard error is {error:.3g} on a price of {price:.3g}; more paths would help"
        )
    units = {"price": "currency", "standard_error": "currency"}
    conventions = {**CONVENTIONS, "confidence_interval": "price -+ 1.96 standard errors"}
    return Answer(result, units, conventions, diagnostics, warnings)


def _bermudan(
    option: tuple[float, float, float, float, float],
    terms: dict[str, Any],
    paths: int,
    steps: int,
    seed: int,
) -> Answer:
    found = longstaff_schwartz.price(*option, **terms, exercise_dates=steps, paths=paths, seed=seed)
    answer = _simulation_answer(
        found, None, "",
        {"exercise_dates": steps, "in_sample_price": found.in_sample_price,
         "exercised_early": found.exercised_early},
    )  # fmt: skip
    answer.warnings.append(
        "a lower bound on average: the exercise rule is fitted (Longstaff-Schwartz), not the best; "
        "sampling and control_variate do not apply"
    )
    return answer


@tool(
    "Price an American option, with its exercise boundary and its early exercise premium",
    *SIMULATED,
    Parameter(
        "method", "string", "High precision, or a binomial lattice",
        choices=("high_precision", *LATTICES), default="high_precision",
    ),
    Parameter(
        "steps", "integer", "Steps of a lattice", minimum=2, maximum=20_000, default=801
    ),
)  # fmt: skip
def american_option(
    spot: float, strike: float, time: float, rate: float, volatility: float, dividend: float,
    option_type: str, method: str, steps: int,
) -> Answer:  # fmt: skip
    option = (spot, strike, time, rate, volatility)
    terms: dict[str, Any] = {"dividend": dividend, "is_call": option_type == "call"}
    european = float(black_scholes.price(*option, **terms))
    warnings: list[str] = []
    if method == "high_precision":
        result, diagnostics = _by_boundary(option, terms)
        if result["exercise_boundary"] is None:
            warnings.append(
                "result.exercise_boundary is null: early exercise never pays, or nothing is "
                "uncertain"
            )
    else:
        result, diagnostics = _by_lattice(option, terms, steps, LATTICES[method])
        if time == 0:
            warnings.append(
                "at expiry the lattice has no nodes: its Greeks (result.delta, result.gamma, "
                "result.theta, result.vega, result.rho) are null"
            )
    result["european_price"] = european
    result["early_exercise_premium"] = result["price"] - european
    units = dict.fromkeys(("price", "european_price", "exercise_boundary"), "currency")
    units["theta"] = "currency per year"
    return Answer(result, units, CONVENTIONS, diagnostics, warnings)


def _by_boundary(
    option: tuple[float, float, float, float, float], terms: dict[str, Any]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Result and diagnostics of the high-precision method."""
    found = american.solve(*option, **terms)
    if found.status == american.DOUBLE_BOUNDARY:
        raise ToolError(
            "double_boundary", "method",
            f"with rate {option[3]:g} and dividend {terms['dividend']:g} the option has two "
            "exercise boundaries, which high_precision does not cover",
            "use method leisen_reimer",
        )  # fmt: skip
    if found.status != american.OK:
        raise ToolError(
            "not_converged", "method",
            f"the exercise boundary still moved by {float(found.residual):.2g} of itself",
            "use method leisen_reimer",
        )  # fmt: skip
    never = not math.isfinite(found.boundary) or found.boundary == 0
    result = {
        "price": float(found.price),
        "exercise_boundary": None if never else float(found.boundary),
    }
    return result, {"boundary_residual": float(found.residual)}


def _by_lattice(
    option: tuple[float, float, float, float, float],
    terms: dict[str, Any],
    steps: int,
    method: str,
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Result and diagnostics of a binomial lattice."""
    greeks = trees.greeks(*option, **terms, steps=steps, method=method)
    if greeks.status == trees.PROBABILITY_OUTSIDE:
        raise ToolError(
            "probability_outside", "steps",
            f"with {steps} steps the up probability of the lattice is "
            f"{float(greeks.probability):.4g}, outside [0, 1]",
            "take more steps, or method leisen_reimer",
        )  # fmt: skip
    if greeks.status != trees.OK:
        raise ToolError(
            "out_of_range", "volatility",
            f"volatility is {option[4]:g} and a lattice needs one above 0",
            "use method high_precision, which knows the limit",
        )  # fmt: skip
    figures = ("price", "delta", "gamma", "theta", "vega", "rho")
    diagnostics = {
        "steps": trees.effective_steps(steps, method),
        "up_probability": float(greeks.probability),
    }
    return {name: float(getattr(greeks, name)) for name in figures}, diagnostics


@tool(
    "Price an option on the average of the underlying, arithmetic or geometric, discrete or "
    "continuous, without simulation",
    *SIMULATED,
    Parameter(
        "average", "string", "Which mean", choices=("arithmetic", "geometric"), default="arithmetic"
    ),
    Parameter(
        "fixings", "integer",
        "Equally spaced fixings, the last at expiry and none today; leave out for a continuous "
        "average", minimum=1, maximum=1_000, default=None,
    ),
)  # fmt: skip
def asian_option(
    spot: float, strike: float, time: float, rate: float, volatility: float, dividend: float,
    option_type: str, average: str, fixings: int | None,
) -> Answer:  # fmt: skip
    option = (spot, strike, time, rate, volatility)
    terms: dict[str, Any] = {"dividend": dividend, "is_call": option_type == "call"}
    if fixings is None:
        rule = (
            asian.arithmetic_continuous if average == "arithmetic" else asian.geometric_continuous
        )
        monitoring = "continuous over [0, time]"
    else:
        rule = asian.arithmetic_discrete if average == "arithmetic" else asian.geometric_discrete
        terms["fixings"] = fixings
        monitoring = f"at i time / {fixings}, i = 1..{fixings}"
    price = float(rule(*option, **terms))
    return Answer({"price": price}, {"price": "currency"}, {**CONVENTIONS, "average": monitoring})
