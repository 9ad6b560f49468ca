"""The closed forms as tools: European options, their implied volatility, barrier options."""

from __future__ import annotations

from typing import Any

import numpy as np

from lilith.quant.options import barrier as barrier_options
from lilith.quant.options import black_scholes as european
from lilith.quant.options import implied_volatility as implied
from lilith.quant.options.parameters import (
    DIVIDEND,
    OPTION_TYPE,
    POSITIVE_SPOT,
    POSITIVE_STRIKE,
    POSITIVE_TIME,
    RATE,
    RATES,
    SPOT,
    STRIKE,
    TIME,
    VOLATILITY,
)
from lilith.quant.tool import Answer, Parameter, ToolError, tool

_EPS = float(np.finfo(np.float64).eps)
_ILL_CONDITIONED = 1e3
_UNITS = {
    "price": "currency",
    "delta": "currency per 1.00 of spot",
    "gamma": "delta per 1.00 of spot",
    "theta": "currency per year of calendar time (divide by 365 for a day)",
    "vega": "currency per 1.00 of volatility (divide by 100 for one point)",
    "rho": "currency per 1.00 of rate (divide by 10000 for a basis point)",
    "phi": "currency per 1.00 of dividend yield",
    "vanna": "delta per 1.00 of volatility",
    "volga": "vega per 1.00 of volatility",
    "charm": "delta per year of calendar time",
    "veta": "vega per year of calendar time",
    "speed": "gamma per 1.00 of spot",
    "zomma": "gamma per 1.00 of volatility",
    "color": "gamma per year of calendar time",
    "ultima": "volga per 1.00 of volatility",
    "dual_delta": "currency per 1.00 of strike",
    "dual_gamma": "dual delta per 1.00 of strike",
    "intrinsic_value": "currency",
    "time_value": "currency",
}
_CONVENTIONS = {
    **RATES,
    "volatility": "per square root of a year, as a number: 0.2 is 20%",
    "time": "years to expiry",
    "theta_charm_veta_color": "minus the derivative by the time to expiry",
}


@tool(
    "Price and Greeks of a European option (Black-Scholes-Merton)",
    SPOT, STRIKE, TIME, RATE, VOLATILITY, DIVIDEND, OPTION_TYPE,
)  # fmt: skip
def black_scholes(
    spot: float,
    strike: float,
    time: float,
    rate: float,
    volatility: float,
    dividend: float,
    option_type: str,
) -> Answer:
    """Price, every Greek of ``black_scholes.GREEKS``, intrinsic and time value."""
    is_call = option_type == "call"
    greeks = european.greeks(
        spot, strike, time, rate, volatility, dividend=dividend, is_call=is_call
    )
    result = _floats(greeks, european.GREEKS)
    price = result["price"]
    intrinsic = max(spot - strike if is_call else strike - spot, 0.0)
    result |= {"intrinsic_value": intrinsic, "time_value": price - intrinsic}
    return Answer(
        result,
        _UNITS,
        {
            **_CONVENTIONS,
            "model": "Black-Scholes-Merton, European exercise",
            "intrinsic_value": "the payoff at today's spot; a European price may be below it",
        },
        _sensitivities(result, spot, volatility),
        _scale_warnings(rate=rate, volatility=volatility, dividend=dividend)
        + _kink_warnings(result, time * volatility),
    )


@tool(
    "The volatility at which the Black-Scholes price of a European option is the given price",
    Parameter("price", "number", "Price of the option", unit="currency", minimum=0),
    POSITIVE_SPOT, POSITIVE_STRIKE, POSITIVE_TIME, RATE, DIVIDEND, OPTION_TYPE,
)  # fmt: skip
def implied_volatility(
    price: float,
    spot: float,
    strike: float,
    time: float,
    rate: float,
    dividend: float,
    option_type: str,
) -> Answer:
    """The implied volatility, with how well the price determines it."""
    is_call = option_type == "call"
    contract: dict[str, Any] = {"dividend": dividend, "is_call": is_call}
    bounds = implied.price_bounds(spot, strike, time, rate, **contract)
    lower, upper = float(bounds.lower), float(bounds.upper)
    answer = implied.solve_implied_volatility(price, spot, strike, time, rate, **contract)
    _require_solved(int(answer.status), price, lower, upper, option_type)
    volatility, condition = float(answer.volatility), float(answer.condition)
    names = ("price", "vega")
    greeks = european.greeks(spot, strike, time, rate, volatility, names=names, **contract)
    greeks = _floats(greeks, names)
    warnings = _scale_warnings(rate=rate, dividend=dividend)
    if condition > _ILL_CONDITIONED:
        warnings.append(
            f"the price hardly depends on the volatility: a relative error of 1e-6 in it changes "
            f"the volatility by {1e-6 * condition:.2g} of itself (condition {condition:.3g}); a "
            "quote of the option out of the money at the same strike determines it better"
        )
    return Answer(
        {"implied_volatility": volatility},
        {"implied_volatility": "per year, 0.2 is 20%", "vega": _UNITS["vega"]},
        {**_CONVENTIONS, "model": "Black-Scholes-Merton, European exercise"},
        {
            "condition": condition,
            "attainable_relative_error": _EPS * (1 + condition),
            "vega": greeks["vega"],
            "price_residual": (greeks["price"] - price) / price,
            "lower_bound": lower,
            "upper_bound": upper,
        },
        warnings,
    )


@tool(
    "Price and Greeks of a European option with one barrier, watched continuously (closed form)",
    SPOT,
    STRIKE,
    Parameter("barrier", "number", "Level of the barrier", unit="currency", above=0),
    TIME,
    RATE,
    VOLATILITY,
    Parameter(
        "barrier_type",
        "string",
        "Where the barrier is, and whether touching it ends or starts the option",
        choices=barrier_options.KINDS,
    ),
    DIVIDEND,
    Parameter(
        "rebate", "number", "Paid when an out option is touched, or at expiry when an in option "
        "never was", unit="currency", default=0.0, minimum=0,
    ),
    OPTION_TYPE,
)  # fmt: skip
def barrier_option(
    spot: float,
    strike: float,
    barrier: float,
    time: float,
    rate: float,
    volatility: float,
    barrier_type: str,
    dividend: float,
    rebate: float,
    option_type: str,
) -> Answer:
    """Price and Greeks of a barrier option, beside the option without the barrier."""
    contract: dict[str, Any] = {"dividend": dividend, "is_call": option_type == "call"}
    greeks = barrier_options.greeks(
        spot, strike, barrier, time, rate, volatility,
        rebate=rebate, kind=barrier_type, **contract,
    )  # fmt: skip
    result = _floats(greeks, barrier_options.GREEKS)
    plain = float(european.price(spot, strike, time, rate, volatility, **contract))
    diagnostics = _sensitivities(result, spot, volatility)
    warnings = _scale_warnings(rate=rate, volatility=volatility, dividend=dividend)
    touched = spot <= barrier if barrier_type.startswith("down") else spot >= barrier
    if touched:
        became = "ended" if barrier_type.endswith("out") else "become the plain option"
        warnings.append(
            f"the spot {spot:g} is at or past the barrier {barrier:g} of a {barrier_type} option: "
            f"it has {became} already"
        )
    return Answer(
        {**result, "european_price": plain},
        {**{name: _UNITS[name] for name in result}, "european_price": "currency"},
        {
            **_CONVENTIONS,
            "model": "Reiner-Rubinstein, geometric Brownian motion, barrier watched continuously",
            "rebate": "of an out option at the touch, of an in option at expiry",
        },
        diagnostics,
        warnings,
    )


def _floats(values: dict[str, Any], names: tuple[str, ...]) -> dict[str, float]:
    """Python numbers in the order of ``names``, without minus zeros."""
    return {name: float(values[name]) + 0.0 for name in names}


def _sensitivities(result: dict[str, float], spot: float, volatility: float) -> dict[str, Any]:
    """Relative changes of the price for a relative change of an input: its condition numbers."""
    if not result["price"] > 0:
        return {"condition_spot": None, "condition_volatility": None}
    by_spot = abs(spot * result["delta"]) / result["price"]
    by_volatility = abs(volatility * result["vega"]) / result["price"]
    return {
        "condition_spot": by_spot,
        "condition_volatility": by_volatility,
        "attainable_relative_error": _EPS * (1 + by_spot + by_volatility),
    }


def _scale_warnings(**given: float) -> list[str]:
    """Inputs that look like percentages."""
    return [
        f"{name} is {value:g}, that is {100 * value:g}% a year; write 5% as 0.05"
        for name, value in given.items()
        if abs(value) >= (5 if name == "volatility" else 1)
    ]


def _kink_warnings(result: dict[str, float], spread: float) -> list[str]:
    at_kink = spread == 0 and 0 < abs(result["delta"]) < 1 and result["price"] == 0
    if not at_kink:
        return []
    return [
        "without time or volatility and with the forward at the strike the price has a kink: delta "
        "is the mean of both sides, and gamma and the like, which do not exist, are given as 0"
    ]


def _require_solved(
    status: int, price: float, lower: float, upper: float, option_type: str
) -> None:
    """Raise for prices that no volatility, or every small one, explains."""
    if status == implied.SOLVED:
        return
    bounds = f"a {option_type} here is worth between {lower:.10g} and {upper:.10g}"
    hints = {
        implied.BELOW_LOWER_BOUND: "check the price, the rate, the dividend and the option type; "
        "an American option may be worth more than these bounds allow",
        implied.AT_LOWER_BOUND: "the price has no time value left, so every volatility that is "
        "small enough explains it; use a price with more digits or another strike",
        implied.AT_UPPER_BOUND: "only an infinite volatility gives this price; check it",
        implied.ABOVE_UPPER_BOUND: "check the price and its currency, the dividend and the option "
        "type; no volatility gives more than the upper bound",
    }
    codes = {
        implied.BELOW_LOWER_BOUND: "price_below_bounds",
        implied.AT_LOWER_BOUND: "price_at_lower_bound",
        implied.AT_UPPER_BOUND: "price_at_upper_bound",
        implied.ABOVE_UPPER_BOUND: "price_above_bounds",
    }
    if status not in codes:
        raise ToolError(
            "not_representable",
            None,
            f"the numbers are too large or too small to compute with: price {price:g}, bounds "
            f"{lower:g} and {upper:g}",
            "give them in another currency unit",
        )
    message = f"price is {price:.10g}: {implied.STATUS[status]}; {bounds}"
    raise ToolError(codes[status], "price", message, hints[status])
