"""Tools: Heston prices, SABR volatilities and their fit, the volatility surface."""

from __future__ import annotations

import pathlib
from typing import Any

import numpy as np

from lilith.quant.options import heston, sabr
from lilith.quant.options.implied_volatility import SOLVED, solve_implied_volatility
from lilith.quant.options.parameters import (
    DIVIDEND,
    OPTION_TYPE,
    POSITIVE_SPOT,
    POSITIVE_STRIKE,
    RATE,
    RATES,
    TIME,
)
from lilith.quant.options.surface import VolatilitySurface
from lilith.quant.tool import Answer, Parameter, ToolError, tool


@tool(
    "Price a European option under Heston's stochastic volatility, with its implied volatility",
    POSITIVE_SPOT,
    POSITIVE_STRIKE,
    TIME,
    RATE,
    Parameter(
        "variance", "number", "Today's variance v0", unit="per year, 0.04 is a volatility of 20%",
        minimum=0,
    ),
    Parameter("reversion", "number", "Speed of mean reversion kappa", unit="per year", above=0),
    Parameter("mean", "number", "Long-run variance theta", unit="per year", minimum=0),
    Parameter(
        "variance_volatility", "number", "Volatility of variance xi", unit="per year", minimum=0
    ),
    Parameter(
        "correlation", "number", "Correlation of spot and variance rho", minimum=-1, maximum=1
    ),
    DIVIDEND,
    OPTION_TYPE,
)  # fmt: skip
def heston_option(
    spot: float, strike: float, time: float, rate: float, variance: float, reversion: float,
    mean: float, variance_volatility: float, correlation: float, dividend: float,
    option_type: str,
) -> Answer:  # fmt: skip
    terms = {"dividend": dividend, "is_call": option_type == "call"}
    price = float(
        heston.price(
            spot, strike, time, rate, variance, reversion, mean, variance_volatility, correlation,
            **terms,
        )
    )  # fmt: skip
    implied = solve_implied_volatility(price, spot, strike, time, rate, **terms)
    solved = implied.status == SOLVED
    warnings = []
    if not solved:
        warnings.append(
            "result.implied_volatility is null: the price is within rounding of a no-arbitrage "
            "bound, or the time is 0"
        )
    feller = 2 * reversion * mean - variance_volatility**2
    if feller < 0:
        warnings.append(
            f"the Feller condition fails: 2 kappa theta = {2 * reversion * mean:.4g} is below "
            f"xi^2 = {variance_volatility**2:.4g}, so the variance touches 0 (the price stands)"
        )
    result = {
        "price": price,
        "implied_volatility": float(implied.volatility) if solved else None,
    }
    return Answer(
        result,
        {"price": "currency", "implied_volatility": "per year, 0.2 is 20%"},
        {
            **RATES,
            "time": "years",
            "model": "Heston (1993): dv = kappa (theta - v) dt + xi sqrt(v) dZ",
        },
        {"feller": feller},
        warnings,
    )


@tool(
    "SABR implied volatilities (Hagan 2002) at given strikes, for given parameters or for those "
    "fitted to quoted volatilities at the same strikes",
    Parameter("forward", "number", "Forward price", unit="currency", above=0),
    Parameter("strikes", "numbers", "Strike prices", unit="currency", above=0),
    TIME,
    Parameter("alpha", "number", "Initial volatility alpha", above=0, default=None),
    Parameter("beta", "number", "Exponent beta", minimum=0, maximum=1, default=1.0),
    Parameter("rho", "number", "Correlation", above=-1, below=1, default=None),
    Parameter("nu", "number", "Volatility of alpha", unit="per year", minimum=0, default=None),
    Parameter(
        "quotes", "numbers", "Black volatilities at the strikes, to fit alpha, rho and nu to",
        unit="per year, 0.2 is 20%", above=0, default=None,
    ),
)  # fmt: skip
def sabr_volatility(
    forward: float, strikes: np.ndarray, time: float, alpha: float | None, beta: float,
    rho: float | None, nu: float | None, quotes: np.ndarray | None,
) -> Answer:  # fmt: skip
    given = {"alpha": alpha, "rho": rho, "nu": nu}
    missing = [name for name, value in given.items() if value is None]
    diagnostics: dict[str, Any] = {}
    warnings = []
    if quotes is None:
        if missing:
            raise ToolError(
                "missing_argument", missing[0],
                f"without quotes to fit, {', '.join(missing)} must be given",
                "give alpha, rho and nu, or quotes",
            )  # fmt: skip
        parameters = (alpha, rho, nu)
    else:
        fitted = _fit_smile(forward, strikes, time, quotes, beta, missing)
        parameters = (float(fitted.alpha), float(fitted.rho), float(fitted.nu))
        diagnostics["root_mean_square_error"] = float(fitted.error)
        if fitted.status != sabr.OK:
            warnings.append("the fit did not come to rest: its parameters are the best found")
    own_alpha, own_rho, own_nu = parameters
    volatilities = sabr.lognormal_volatility(
        forward, strikes, time, own_alpha, beta, own_rho, own_nu
    )
    if np.any(volatilities <= 0):
        at = strikes[int(np.argmin(volatilities))]
        warnings.append(
            f"the expansion gives a volatility of {volatilities.min():.3g} at strike {at:g}: it "
            "does not hold so far from the money at so long a time"
        )
    result = {
        "strikes": strikes, "volatilities": volatilities,
        "alpha": own_alpha, "beta": beta, "rho": own_rho, "nu": own_nu,
    }  # fmt: skip
    return Answer(
        result,
        {"volatilities": "per year, 0.2 is 20%", "strikes": "currency"},
        {"formula": "Hagan et al. (2002), equation (2.17), lognormal volatility"},
        diagnostics,
        warnings,
    )


def _fit_smile(
    forward: float, strikes: np.ndarray, time: float, quotes: np.ndarray, beta: float,
    missing: list[str],
) -> sabr.SabrFit:  # fmt: skip
    if len(missing) < 3:
        raise ToolError(
            "too_many_arguments", "quotes",
            "quotes are given to fit alpha, rho and nu, and some of these are given too",
            "leave out alpha, rho and nu, or the quotes",
        )  # fmt: skip
    if len(quotes) != len(strikes) or len(quotes) < 3:
        raise ToolError(
            "wrong_length", "quotes",
            f"there are {len(quotes)} quotes for {len(strikes)} strikes, and a fit takes one a "
            "strike, at least 3",
            "give a volatility for every strike",
        )  # fmt: skip
    return sabr.calibrate(forward, strikes, time, quotes, beta=beta)


@tool(
    "Fit a volatility surface (SVI a maturity) to option quotes, check it for arbitrage, read "
    "volatilities off it, and draw it",
    Parameter(
        "quotes", "object",
        "Columns of equal length: strike, maturity (years), volatility or price with "
        "option_type (call or put); where they differ by row, forward and rate",
    ),
    Parameter("spot", "number", "Today's price; not needed with forwards", unit="currency",
              above=0, default=None),
    Parameter("rate", "number", RATE.description, unit=RATE.unit, default=0.0),
    DIVIDEND,
    Parameter("strikes", "numbers", "Strikes to read volatilities at", unit="currency", above=0,
              default=None),
    Parameter("maturities", "numbers", "Maturities to read at, one a strike", unit="years",
              above=0, default=None),
    Parameter("strict", "boolean", "Refuse quotes that cross each other", default=True),
    Parameter("plot_path", "string", "Where to write a picture, such as surface.png", default=None),
)  # fmt: skip
def volatility_surface(
    quotes: dict[str, Any], spot: float | None, rate: float, dividend: float,
    strikes: np.ndarray | None, maturities: np.ndarray | None, strict: bool, plot_path: str | None,
) -> Answer:  # fmt: skip
    if (strikes is None) != (maturities is None) or (
        strikes is not None and maturities is not None and len(strikes) != len(maturities)
    ):
        raise ToolError(
            "wrong_length", "maturities", "strikes and maturities must come in pairs",
            "give one maturity a strike",
        )  # fmt: skip
    surface = VolatilitySurface.from_quotes(
        quotes, spot=spot, rate=rate, dividend=dividend, strict=strict
    )
    result: dict[str, Any] = {
        "slices": [
            {
                "maturity": own.maturity,
                "forward": own.forward,
                **own.parameters._asdict(),
                "root_mean_square_error": own.error,
                "least_g": own.least_g,
                "calendar_gap": own.calendar_gap,
            }
            for own in surface.slices
        ],
        "arbitrage_free": surface.arbitrage_free,
    }
    if strikes is not None:
        result["volatilities"] = surface.volatility(strikes, maturities)
    if plot_path is not None:
        try:
            result["plot"] = str(surface.plot(pathlib.Path(plot_path)))
        except (OSError, ValueError) as error:
            raise ToolError(
                "not_written", "plot_path", f"{plot_path!r} could not be written: {error}",
                "give a path ending in .png, .svg or .pdf in a folder that can be written",
            ) from error  # fmt: skip
    return Answer(
        result,
        {"volatilities": "per year, 0.2 is 20%", "maturity": "years", "forward": "currency"},
        {
            **RATES,
            "time": "years",
            "smile": "raw SVI: total variance a + b (rho (k - m) + sqrt((k - m)^2 + sigma^2)), "
            "k = ln(strike / forward)",
            "between_maturities": "linear in total variance at fixed k",
            "outside_maturities": "the nearest smile's volatility at fixed k",
            "no_butterfly": "least_g at least 0 on the quotes' range and half its width beyond",
        },
        {"quotes": len(surface.quotes.strike)},
        list(surface.warnings),
    )
