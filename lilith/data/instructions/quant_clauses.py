"""The terms of an option in a sentence: a wording of each number, the numbers in any order.

Every number has its own wordings, of which every fifth is held out, and a training sentence may
have them in any order: what a number is must be read from its wording, not from its place.
"""

from __future__ import annotations

from collections.abc import Mapping

from lilith.data.instructions.drawing import Draw

# Slots are those of `quant_words.Contract.slots`. In both tables every fifth row is held out.
WORDINGS = {
    "spot": (
        "spot {spot}", "the underlying at {spot}", "a share price of {spot}", "stock at {spot}",
        "underlying price {spot}",
        "spot price {spot}", "the stock trading at {spot}", "a spot of {spot}",
        "current price {spot}", "the share now at {spot}",
        "the share at {spot}", "a stock now worth {spot}", "the underlying now at {spot}",
        "the price of the underlying {spot}", "the stock at {spot}",
        "underlying at a price of {spot}", "market price {spot}", "the asset at {spot}",
        "today's price {spot}", "a current spot of {spot}",
    ),
    "strike": (
        "strike {strike}", "a strike of {strike}", "struck at {strike}", "exercise price {strike}",
        "a {strike} strike",
        "strike price {strike}", "the strike at {strike}", "an exercise price of {strike}",
        "a strike price of {strike}", "exercisable at {strike}",
        "exercise at {strike}", "to be exercised at {strike}", "exercised at {strike}",
        "the right to trade at {strike}", "{strike} as the strike",
        "an agreed price of {strike}", "exercise level {strike}", "{strike} strike price",
        "an exercise at {strike}", "strikes at {strike}",
        "a strike level of {strike}", "striking at {strike}", "the strike being {strike}",
        "strike fixed at {strike}", "strike set at {strike}",
        "exercisable for {strike}", "the strike is {strike}", "can be exercised at {strike}",
        "{strike} exercise price", "{strike} for the strike",
        "to exercise at {strike}", "exercise for {strike}", "a strike equal to {strike}",
        "with {strike} as exercise price", "exercise price at {strike}",
        "strike of {strike}", "strike level {strike}", "a {strike} exercise price",
        "{strike} to exercise", "the exercise price being {strike}",
    ),
    "time": (
        "{time} to expiry", "{time} left", "maturity {time}", "expiry in {time}",
        "{time} to maturity",
        "{time} until expiry", "time to expiry {time}", "a maturity of {time}",
        "expiring in {time}", "{time} to run",
        "{time} of life left", "a term of {time}", "an expiry {time} away", "{time} remaining",
        "a life of {time}",
        "{time} before it expires", "a tenor of {time}", "maturing in {time}",
        "{time} till maturity", "with {time} still to go",
    ),
    "rate": (
        "rate {rate}", "a rate of {rate}", "interest rate {rate}", "{rate} rates",
        "the rate at {rate}",
        "risk-free rate {rate}", "a risk-free rate of {rate}", "funding at {rate}",
        "rates at {rate}", "an interest rate of {rate}",
        "a {rate} rate", "interest at {rate}", "{rate} interest", "a {rate} risk-free rate",
        "riskless rate {rate}",
        "money at {rate}", "a short rate of {rate}", "{rate} risk-free", "the interest rate {rate}",
        "discounting at {rate}",
        "discounted at {rate}", "a discount rate of {rate}", "{rate} for the rate",
        "discount at {rate}", "{rate} as the rate",
        "borrowing at {rate}", "the risk-free rate at {rate}", "cash earning {rate}",
        "rates of {rate}", "deposits at {rate}",
        "a deposit rate of {rate}", "deposits that pay {rate}", "the money market at {rate}",
        "a funding rate of {rate}", "a riskless rate of {rate}",
    ),
    "volatility": (
        "volatility {vol}", "a volatility of {vol}", "vol of {points}", "{vol} vol",
        "{points} vol",
        "sigma {vol}", "implied volatility {vol}", "trading at {points} vol",
        "annual volatility {vol}", "a vol of {vol}",
        "vol {points}", "a {points} vol", "quoted at {points} vol", "vol at {points}",
        "{vol} volatility",
        "{points} points of vol", "the vol at {vol}", "{vol} annual volatility", "sigma at {vol}",
        "volatility at {vol}",
    ),
    "dividend": (
        "dividend yield {yield}", "a dividend yield of {yield}", "a {yield} dividend yield",
        "dividends at {yield}", "a dividend of {yield} a year",
        "a yield of {yield}", "a payout yield of {yield}", "yielding {yield}",
        "paying {yield} in dividends", "{yield} paid in dividends",
        "{yield} in dividends", "{yield} of dividends a year", "with {yield} paid as dividend",
        "{yield} dividends", "dividends of {yield}",
        "a dividend rate of {yield}", "{yield} going out in dividends",
        "{yield} a year in dividends",
        "the stock pays {yield} in dividends", "a {yield} dividend",
    ),
}  # fmt: skip
# Formulas: a symbol for each of the same numbers, and what stands between them.
SYMBOLS = (
    ("S={s}", "K={k}", "T={years}", "r={rate}", "sigma={vol}", "q={yield}", ", "),
    ("S={s}", "K={k}", "T={years}", "r={rate}", "vol={vol}", "q={yield}", " "),
    ("S0={s}", "K={k}", "T={years}", "r={rate}", "sigma={vol}", "q={yield}", ", "),
    ("S = {s}", "K = {k}", "T = {years}", "r = {rate}", "vol = {vol}", "q = {yield}", ", "),
    ("S0 = {s}", "K = {k}", "T = {years} years", "r = {rate}", "sigma = {vol}", "q = {yield}",
     "; "),
    ("S: {s}", "K: {k}", "T: {years}", "r: {rate}", "sigma: {vol}", "q: {yield}", ", "),
    ("spot={s}", "strike={k}", "T={years}", "rate={rate}", "vol={vol}", "div={yield}", ", "),
    ("spot = {s}", "strike = {k}", "time = {years}", "rate = {rate}", "sigma = {vol}",
     "dividend = {yield}", "; "),
    ("S0={s}", "K={k}", "T={years}y", "r={rate}", "vol={vol}", "q={yield}", "; "),
    ("S {s}", "K {k}", "T {years}y", "r {rate}", "vol {vol}", "q {yield}", ", "),
)  # fmt: skip
FORMULAS = 3  # one question in so many is in symbols


def described(draw: Draw, slots: Mapping[str, str], *without: str) -> str:
    """The terms of a contract in words or in symbols of this split, in any order.

    Args:
      slots: the numbers as text (``quant_words.Contract.slots``); one whose ``yield`` is "" has no
        dividend.
      without: names of :data:`WORDINGS` to leave out.
    """
    gone = {*without, *(() if slots["yield"] else ("dividend",))}
    if draw.count(1, FORMULAS) == 1:
        *symbols, between = draw.phrase(SYMBOLS)
        parts = [own for name, own in zip(WORDINGS, symbols) if name not in gone]
        draw.random.shuffle(parts)
        return between.join(parts).format_map(slots)
    parts = [draw.phrase(own) for name, own in WORDINGS.items() if name not in gone]
    draw.random.shuffle(parts)
    last = draw.choice((", ", ", ", " and "))
    return (", ".join(parts[:-1]) + last + parts[-1]).format_map(slots)
