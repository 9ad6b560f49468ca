"""Option contracts drawn at random, and the ways in which people write their numbers.

Spots, strikes, rates, volatilities, yields and times in years come from bands, of which some are
held out. Terms such as "six months" are a fixed vocabulary, the same in both splits.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any

from lilith.data.instructions.conversations import plain
from lilith.data.instructions.drawing import Draw
from lilith.data.instructions.tool_text import exact

HUNDRED = Decimal(100)
CURRENCIES = ("$", "$", "$", "", "", "€", "£")
# What is said, and the years it is. Days always name their year.
TERMS = (
    ("3 months", "0.25"), ("three months", "0.25"), ("a quarter of a year", "0.25"),
    ("6 months", "0.5"), ("six months", "0.5"), ("half a year", "0.5"), ("6m", "0.5"),
    ("9 months", "0.75"), ("nine months", "0.75"), ("12 months", "1"), ("one year", "1"),
    ("1 year", "1"), ("a year", "1"), ("18 months", "1.5"), ("a year and a half", "1.5"),
    ("24 months", "2"), ("two years", "2"), ("2 years", "2"),
    ("180 days of a 360-day year", "0.5"), ("90 days of a 360-day year", "0.25"),
    ("73 days of a 365-day year", "0.2"), ("146 days of a 365-day year", "0.4"),
    ("219 days of a 365-day year", "0.6"),
)  # fmt: skip
TERM_YEARS = frozenset(Decimal(years) for _, years in TERMS)
# low, high and step of the numbers that are drawn in bands; steps of a range share its bands.
RANGES = {
    "share": (("20", "219", "1"), ("20", "219.5", "0.5"), ("20", "219.75", "0.25")),
    "index": (("1000", "5990", "10"), ("1000", "5995", "5")),
    "rate": (("0", "9.9", "0.1"), ("0", "9.75", "0.25"), ("0", "9.5", "0.5")),
    "volatility": (("10", "59", "1"), ("10", "59.5", "0.5")),
    "dividend": (("0.5", "5.4", "0.1"),),
    "years": (("0.05", "2.00", "0.05"),),
}
NEAR = (Decimal("0.8"), Decimal("1.25"))  # of strike / spot
MOST_DEVIATIONS = 1.5  # of log(strike / spot) from 0
LEADS = (
    "",
    "",
    "",
    "",
    "Hi. ",
    "Hello! ",
    "Please help me here. ",
    "Quick one. ",
    "For a report: ",
)


def banded(draw: Draw, name: str, difficulty: str) -> Decimal:
    """A number of range ``name`` of :data:`RANGES`, in a band of this split; easy ones are rounder.

    Rates, volatilities and yields are in percent.
    """
    ranges = RANGES[name]
    low, high, step = ranges[0] if difficulty == "easy" else draw.choice(ranges)
    return draw.number(low, high, step)


def money(draw: Draw, amount: Decimal, symbol: str) -> str:
    """ "$100", "100 dollars", "1,250" or "100"; the symbol may be none."""
    text = plain(amount)
    if amount >= 1000 and draw.count(0, 1):
        whole, point, rest = text.partition(".")
        text = f"{int(whole):,}{point}{rest}"
    if symbol == "$" and draw.count(0, 5) == 0:
        return f"{text} dollars"
    return symbol + text if draw.count(0, 3) else text


def percent(draw: Draw, points: Decimal) -> str:
    """ "20%", "20 percent" or "0.2"."""
    form = draw.choice(("{}%", "{}%", "{} percent", ""))
    return form.format(plain(points)) if form else plain(points / HUNDRED)


@dataclass(frozen=True)
class Contract:
    """A vanilla option and its market.

    Attributes:
      spot, strike: in currency.
      years: to expiry; ``term`` is how it is said, "" where only the number will do.
      rate, volatility: in percent a year; dividend too, or None where there is none.
      option_type: call or put.
      symbol: of the currency, "" for none.
    """

    spot: Decimal
    strike: Decimal
    years: Decimal
    term: str
    rate: Decimal
    volatility: Decimal
    dividend: Decimal | None
    option_type: str
    symbol: str

    def arguments(self, *without: str) -> dict[str, Any]:
        """What an option tool takes; a yield only if there is one."""
        values: dict[str, Any] = {
            "spot": exact(self.spot),
            "strike": exact(self.strike),
            "time": exact(self.years),
            "rate": exact(self.rate / HUNDRED),
            "volatility": exact(self.volatility / HUNDRED),
        }
        if self.dividend is not None:
            values["dividend"] = exact(self.dividend / HUNDRED)
        values["option_type"] = self.option_type
        return {name: value for name, value in values.items() if name not in without}

    def slots(self, draw: Draw) -> dict[str, str]:
        """Its numbers as text, for the templates; one form of each is drawn.

        ``yield`` is "" where there is no dividend.
        """
        return {
            "kind": self.option_type,
            "spot": money(draw, self.spot, self.symbol),
            "strike": money(draw, self.strike, self.symbol),
            "s": plain(self.spot),
            "k": plain(self.strike),
            "time": self.said_time(draw),
            "years": plain(self.years),
            "rate": percent(draw, self.rate),
            "vol": percent(draw, self.volatility),
            "points": plain(self.volatility),
            "yield": "" if self.dividend is None else percent(draw, self.dividend),
        }

    def said_time(self, draw: Draw) -> str:
        """ "6 months", or "0.35 years" where the time has no other name."""
        unit = "year" if self.years == 1 else "years"
        forms = (f"{plain(self.years)} {unit}", f"{plain(self.years)}yr", f"{plain(self.years)}y")
        return self.term or draw.choice(forms)

    def on_paper(self) -> str:
        """The option in an answer: "105 call"."""
        return f"{self.symbol}{plain(self.strike)} {self.option_type}"


def near_the_money(spot: Decimal, strike: Decimal, years: Decimal, volatility: Decimal) -> bool:
    """Whether strike and spot differ by no more than 25% and a usual move until expiry."""
    if not NEAR[0] <= strike / spot <= NEAR[1]:
        return False
    usual = float(volatility) / 100 * math.sqrt(years)
    return abs(math.log(strike / spot)) <= MOST_DEVIATIONS * usual


def draw_contract(draw: Draw, difficulty: str, *, dividends: bool = True) -> Contract:
    """An option near the money; only those that are not easy may have a dividend."""
    scale = "share" if difficulty == "easy" else draw.choice(("share", "share", "share", "index"))
    term, said = draw.choice(TERMS) if draw.count(0, 1) else ("", "")
    years = Decimal(said) if term else banded(draw, "years", difficulty)
    volatility = banded(draw, "volatility", difficulty)
    has_dividend = dividends and difficulty != "easy" and draw.count(0, 2) == 0
    while True:
        spot, strike = (banded(draw, scale, difficulty) for _ in range(2))
        if near_the_money(spot, strike, years, volatility):
            break
    return Contract(
        spot=spot,
        strike=strike,
        years=years,
        term=term,
        rate=banded(draw, "rate", difficulty),
        volatility=volatility,
        dividend=banded(draw, "dividend", difficulty) if has_dividend else None,
        option_type=draw.choice(("call", "put")),
        symbol=draw.choice(CURRENCIES),
    )


def changed(draw: Draw, contract: Contract, difficulty: str) -> tuple[Contract, str]:
    """The contract with one other number, and a phrase for it: "the volatility were 30%"."""
    name = draw.choice(("volatility", "rate", "spot", "years", "option_type"))
    if name == "option_type":
        other = "put" if contract.option_type == "call" else "call"
        return replace(contract, option_type=other), f"it were a {other} instead"
    if name == "spot":
        while True:
            scale = "index" if contract.spot >= 1000 else "share"
            spot = banded(draw, scale, difficulty)
            moved = replace(contract, spot=spot)
            near = near_the_money(spot, contract.strike, contract.years, contract.volatility)
            if near and spot != contract.spot:
                break
        said = money(draw, spot, contract.symbol)
        return moved, f"the spot were {said}"
    while True:
        value = banded(draw, name, difficulty)
        if value != getattr(contract, name):
            break
    if name == "years":
        moved = replace(contract, years=value, term="")
        return moved, f"there were {moved.said_time(draw)} left"
    said = percent(draw, value)
    if name == "rate":
        return replace(contract, rate=value), f"the interest rate were {said}"
    return replace(contract, volatility=value), f"the volatility were {said}"


_ARTICLE = re.compile(r"\b([Aa]) (?=up-|arithmetic|equal|8|11\b|18\b)")


def fill(draw: Draw, templates: tuple[str, ...], slots: Mapping[str, str]) -> str:
    """A prompt: a phrasing of this split with its slots filled, behind an optional greeting."""
    text = draw.phrase(templates).format_map(slots)
    return draw.choice(LEADS) + _ARTICLE.sub(r"\1n ", text)
