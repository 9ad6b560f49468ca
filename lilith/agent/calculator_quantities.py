"""Quantities of the calculator: values with dimensions, exact where fractions suffice."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction

from lilith.reasoning.exact_values import Value, add, divide, multiply, power


class FunctionError(ValueError):
    """A function is given what it has no value for."""


@dataclass(frozen=True)
class Quantity:
    """A value and the exponents of its dimensions, none of which is 0."""

    value: Value
    dims: Mapping[str, int] = field(default_factory=dict)

    def number(self, what: str) -> Value:
        """The value of what has no unit, else an error that names ``what``."""
        if self.dims:
            raise FunctionError(f"{what} needs a plain number, and this one is a {named(self)}")
        return self.value


def scalar(value: Value) -> Quantity:
    """A plain number."""
    return Quantity(value)


def added(left: Quantity, right: Quantity) -> Quantity:
    """The sum of two quantities of one kind."""
    same_kind([left, right], "added")
    return Quantity(add(left.value, right.value), left.dims)


def negated(value: Quantity) -> Quantity:
    """Its negative."""
    return Quantity(-value.value, value.dims)


def multiplied(left: Quantity, right: Quantity) -> Quantity:
    """The product."""
    return Quantity(multiply(left.value, right.value), _joined(left.dims, right.dims, 1))


def divided(left: Quantity, right: Quantity) -> Quantity:
    """The quotient."""
    return Quantity(divide(left.value, right.value), _joined(left.dims, right.dims, -1))


def divided_like(value: Quantity, unit: Quantity) -> Value:
    """How many of ``unit`` a quantity of the same kind is."""
    same_kind([value, unit], "converted into each other")
    return divide(value.value, unit.value)


def floored(left: Quantity, right: Quantity) -> Quantity:
    """The quotient, rounded down."""
    found = divided(left, right)
    return Quantity(Fraction(math.floor(found.value)), found.dims)


def remainder(left: Quantity, right: Quantity) -> Quantity:
    """What is left of ``left`` after whole ``right``, with the sign of ``right``."""
    same_kind([left, right], "divided with a remainder")
    whole = Fraction(math.floor(divide(left.value, right.value)))
    return Quantity(add(left.value, -multiply(right.value, whole)), left.dims)


def raised(base: Quantity, exponent: Quantity) -> Quantity:
    """The power; of a quantity with a unit only where the unit's exponents stay whole."""
    count = exponent.number("an exponent")
    dims = {}
    for name, own in base.dims.items():
        whole = multiply(Fraction(own), count)
        if not isinstance(whole, Fraction) or whole.denominator != 1 or abs(whole) > 9:
            raise FunctionError(f"a {named(base)} has no such power")
        if whole:
            dims[name] = int(whole)
    return Quantity(power(base.value, count), dims)


def _joined(left: Mapping[str, int], right: Mapping[str, int], sign: int) -> dict[str, int]:
    names = dict.fromkeys([*left, *right])
    dims = {name: left.get(name, 0) + sign * right.get(name, 0) for name in names}
    return {name: exponent for name, exponent in dims.items() if exponent}


def named(value: Quantity) -> str:
    """What kind of quantity it is."""
    if not value.dims:
        return "plain number"
    return " ".join(f"{name}^{n}" if n != 1 else name for name, n in value.dims.items())


def same_kind(values: Sequence[Quantity], verb: str) -> None:
    """Raise FunctionError unless all have the same dimensions."""
    for other in values[1:]:
        if other.dims != values[0].dims:
            raise FunctionError(f"a {named(values[0])} and a {named(other)} can not be {verb}")
