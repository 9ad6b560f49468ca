"""Regular expressions for numbers within bounds, so that what is written always validates."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Any

WHOLE_DIGITS = 12  # most before the point
PLACES = 12  # most after it
WHOLE = rf"(0|[1-9][0-9]{{0,{WHOLE_DIGITS - 1}}})"
DECIMALS = rf"(\.[0-9]{{1,{PLACES}}})?"


def number_regex(schema: Mapping[str, Any]) -> str:
    """A Lark terminal for the decimals that keep a JSON schema's bounds, exponents left out."""
    whole = schema.get("type") == "integer"
    low, strictly_above = _tighter(schema.get("minimum"), schema.get("exclusiveMinimum"), max)
    high, strictly_below = _tighter(schema.get("maximum"), schema.get("exclusiveMaximum"), min)
    if whole:
        low, strictly_above = _next_whole(low, strictly_above, 1), False
        high, strictly_below = _next_whole(high, strictly_below, -1), False
    shape = WHOLE if whole else WHOLE + DECIMALS
    positive = [f"/{shape}/"]
    negative = [f"/{shape}/"]
    if low is not None and low >= 0:
        positive.append(_at_least(low, strictly_above))
        negative = []
    if high is not None and high >= 0:
        positive.append(_at_most(high, strictly_below))
    if high is not None and (high < 0 or (high == 0 and strictly_below)):
        positive = []
        negative.append(_at_least(-high, strictly_below))
    if low is not None and low < 0:
        negative.append(_at_most(-low, strictly_above))
    # "-0" is a number of JSON too, but nobody writes it.
    parts = [" & ".join(f"({part})" for part in positive)] if positive else []
    if negative:
        negative.append(_at_least(Decimal(0), True))
        parts.append(f'"-" ({" & ".join(f"({part})" for part in negative)})')
    return " | ".join(f"({part})" for part in parts)


def _tighter(
    inclusive: float | None, exclusive: float | None, choose: Callable[..., float]
) -> tuple[Decimal | None, bool]:
    """The bound that decides, and whether it is itself left out."""
    given = [bound for bound in (inclusive, exclusive) if bound is not None]
    if not given:
        return None, False
    bound = choose(given)
    return Decimal(repr(float(bound))), bound == exclusive


def _next_whole(bound: Decimal | None, strictly: bool, step: int) -> Decimal | None:
    if bound is None:
        return None
    rounded = Decimal(math.ceil(bound) if step > 0 else math.floor(bound))
    return rounded + step if strictly and rounded == bound else rounded


def _at_least(bound: Decimal, strictly: bool) -> str:
    """Decimals that are not negative and at least (or above) a bound that is not negative."""
    whole, places = _digits(bound)
    tail = "[0-9]*"
    options = [rf"[1-9][0-9]{{{len(whole)},}}(\.[0-9]+)?"]  # one digit more, or several
    for i, digit in enumerate(whole):
        if digit != "9":
            lead = f"{whole[:i]}[{int(digit) + 1}-9]"
            options.append(rf"{lead}[0-9]{{{len(whole) - i - 1}}}(\.[0-9]+)?")
    for i, digit in enumerate(places):
        if digit != "9":
            options.append(rf"{whole}\.{places[:i]}[{int(digit) + 1}-9]{tail}")
    if strictly:
        options.append(rf"{whole}\.{places}[0-9]*[1-9]{tail}")
    else:
        options.append(rf"{whole}\.{places}{tail}" if places else rf"{whole}(\.[0-9]+)?")
    return f"/{'|'.join(f'({option})' for option in options)}/"


def _at_most(bound: Decimal, strictly: bool) -> str:
    """Decimals that are not negative and at most (or below) a bound that is not negative."""
    whole, places = _digits(bound)
    options = []
    if len(whole) > 1:
        options.append(rf"[0-9]{{1,{len(whole) - 1}}}(\.[0-9]+)?")
    for i, digit in enumerate(whole):
        if digit != "0":
            lead = f"{whole[:i]}[0-{int(digit) - 1}]"
            options.append(rf"{lead}[0-9]{{{len(whole) - i - 1}}}(\.[0-9]+)?")
    for i, digit in enumerate(places):
        if digit != "0":
            options.append(rf"{whole}\.{places[:i]}[0-{int(digit) - 1}][0-9]*")
    if places:
        options.append(whole)
        options += [rf"{whole}\.{places[:i]}" for i in range(1, len(places))]
    if not strictly:
        options.append(rf"{whole}\.{places}0*" if places else rf"{whole}(\.0+)?")
    if not options:
        return "/0/ & /1/"  # nothing that is not negative is below 0
    return f"/{'|'.join(f'({option})' for option in options)}/"


def _digits(bound: Decimal) -> tuple[str, str]:
    """The digits before and after the point."""
    whole, _, places = f"{bound:f}".partition(".")
    return whole.lstrip("0") or "0", places.rstrip("0")
