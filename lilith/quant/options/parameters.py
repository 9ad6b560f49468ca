"""Parameters that the option tools share, each declared once."""

from __future__ import annotations

from dataclasses import replace

from lilith.quant.tool import Parameter

RATES = {"rates": "continuously compounded, per year, as numbers: 0.05 is 5%"}

SPOT = Parameter("spot", "number", "Price of the underlying now", unit="currency", minimum=0)
STRIKE = Parameter("strike", "number", "Strike price", unit="currency", minimum=0)
TIME = Parameter("time", "number", "Time to expiry", unit="years, 0.5 is six months", minimum=0)
RATE = Parameter(
    "rate", "number", "Risk-free rate, continuously compounded", unit="per year, 0.05 is 5%"
)
VOLATILITY = Parameter(
    "volatility", "number", "Volatility of the underlying", unit="per year, 0.2 is 20%", minimum=0
)
DIVIDEND = Parameter(
    "dividend",
    "number",
    "Dividend yield, continuously compounded",
    unit="per year, 0.02 is 2%",
    default=0.0,
)
OPTION_TYPE = Parameter(
    "option_type", "string", "Which option", default="call", choices=("call", "put")
)

# What divides by them, or takes their logarithm, needs them above 0.
POSITIVE_SPOT, POSITIVE_STRIKE, POSITIVE_TIME = (
    replace(each, minimum=None, above=0) for each in (SPOT, STRIKE, TIME)
)
# An option by numbers under constant volatility.
SIMULATED = (POSITIVE_SPOT, POSITIVE_STRIKE, TIME, RATE, VOLATILITY, DIVIDEND, OPTION_TYPE)
