"""The calculator's functions by name: exact where fractions suffice, else sixty digits."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterable, Sequence
from decimal import Decimal
from fractions import Fraction

from lilith.agent.calculator_quantities import (
    FunctionError,
    Quantity,
    divided,
    negated,
    raised,
    remainder,
    same_kind,
)
from lilith.config import nearest
from lilith.reasoning.exact_values import (
    MOST_BITS,
    PI,
    UndecidableError,
    Value,
    add,
    divide,
    factorial,
    multiply,
    power,
)

MOST_ARGUMENT = 10**6  # of sines and the like, whose argument loses digits when it is reduced
MOST_PLACES = 50  # of round
_LAST_TERM = Decimal("1e-70")  # series end with it
_NOTHING = Decimal("1e-52")  # sin(pi) is 0: what is left comes from the digits of pi


Function = Callable[[Sequence[Quantity]], Quantity]


def nearest_name(word: str, more: Iterable[str]) -> str:
    """The words "did you mean" with the closest function, constant or unit, or nothing."""
    return nearest(word[:40].lower(), [*FUNCTIONS, *more])


def _decimal(value: Value) -> Decimal:
    return value if isinstance(value, Decimal) else Decimal(value.numerator) / value.denominator


def _numbers(values: Sequence[Quantity], name: str) -> list[Value]:
    return [value.number(name) for value in values]


def _whole(value: Value, name: str) -> int:
    if not isinstance(value, Fraction) or value.denominator != 1:
        raise FunctionError(f"{name} needs whole numbers")
    return int(value)


def _real(
    name: str, compute: Callable[[Decimal], Decimal], at_zero: Value | None = None
) -> Function:
    """A function of one plain number that is irrational nearly everywhere."""

    def call(values: Sequence[Quantity]) -> Quantity:
        _count(name, values, 1, 1)
        value = values[0].number(name)
        if not value and at_zero is not None:
            return Quantity(at_zero)
        return Quantity(compute(_decimal(value)))

    return call


def _count(name: str, values: Sequence[Quantity], least: int, most: int | None) -> None:
    if len(values) < least or (most is not None and len(values) > most):
        wanted = (
            str(least)
            if most == least
            else f"at least {least}" + ("" if most is None else f" and at most {most}")
        )
        raise FunctionError(f"{name} takes {wanted} arguments and got {len(values)}")


def _exp(x: Decimal) -> Decimal:
    if abs(x) > 20_000:
        raise UndecidableError("a power that is too large")
    return x.exp()


def _ln(x: Decimal) -> Decimal:
    if x <= 0:
        raise FunctionError("only numbers above zero have a logarithm")
    return x.ln()


def _natural_log(values: Sequence[Quantity]) -> Quantity:
    _count("ln", values, 1, 1)
    return _log(values)


def _log(values: Sequence[Quantity]) -> Quantity:
    """The natural logarithm, or the one to a base."""
    _count("log", values, 1, 2)
    numbers = _numbers(values, "log")
    if len(numbers) == 1:
        return Quantity(Fraction(0) if numbers[0] == 1 else _ln(_decimal(numbers[0])))
    return Quantity(_log_to(numbers[0], numbers[1]))


def _log_to(value: Value, base: Value) -> Value:
    if base == 1:
        raise FunctionError("1 is no base of a logarithm")
    found = _ln(_decimal(value)) / _ln(_decimal(base))
    near = Fraction(round(found))
    if abs(near) < 10_000 and isinstance(base, Fraction) and isinstance(value, Fraction):
        try:  # log10(1000) is 3, and not nearly 3
            return near if power(base, near) == value else found
        except UndecidableError:
            return found
    return found


def _sin(x: Decimal) -> Decimal:
    x = _reduced(x)
    term = total = x
    n = 1
    while abs(term) > _LAST_TERM:
        term = -term * x * x / ((n + 1) * (n + 2))
        total, n = total + term, n + 2
    return total if abs(total) > _NOTHING else Decimal(0)


def _cos(x: Decimal) -> Decimal:
    x = _reduced(x)
    term = total = Decimal(1)
    n = 0
    while abs(term) > _LAST_TERM:
        term = -term * x * x / ((n + 1) * (n + 2))
        total, n = total + term, n + 2
    return total if abs(total) > _NOTHING else Decimal(0)


def _reduced(x: Decimal) -> Decimal:
    if abs(x) > MOST_ARGUMENT:
        raise FunctionError(f"an angle beyond {MOST_ARGUMENT} has lost its digits")
    return x - 2 * PI * (x / (2 * PI)).to_integral_value()


def _atan(x: Decimal) -> Decimal:
    if abs(x) > 1:
        return (PI / 2).copy_sign(x) - _atan(1 / x)
    halvings = 0
    while abs(x) > Decimal("0.1"):  # atan x = 2 atan(x / (1 + sqrt(1 + x^2)))
        x, halvings = x / (1 + (1 + x * x).sqrt()), halvings + 1
    term = total = x
    n = 1
    while abs(term) > _LAST_TERM:
        term = -term * x * x
        n += 2
        total += term / n
    return total * 2**halvings


def _asin(x: Decimal) -> Decimal:
    if abs(x) > 1:
        raise FunctionError("asin and acos need a number from -1 to 1")
    return (PI / 2).copy_sign(x) if abs(x) == 1 else _atan(x / (1 - x * x).sqrt())


# Exact values where the angle in degrees is a multiple of 30: sin, by degrees.
_HALF = Fraction(1, 2)
_EXACT_SIN: dict[Fraction | int, Fraction] = {0: 0 * _HALF, 30: _HALF, 90: 2 * _HALF, 150: _HALF,
              180: 0 * _HALF, 210: -_HALF, 270: -2 * _HALF, 330: -_HALF}  # fmt: skip


def _circular(name: str, compute: Callable[[Decimal], Decimal], shift: int) -> Function:
    """sin or cos of radians, or of an angle in degrees; ``shift`` makes a sine of it."""

    def call(values: Sequence[Quantity]) -> Quantity:
        _count(name, values, 1, 1)
        value = values[0]
        if dict(value.dims) == {"angle": 1}:
            turn = None
            if isinstance(value.value, Fraction):
                turn = _EXACT_SIN.get((value.value + shift) % 360)
            if turn is not None:
                return Quantity(turn)
            return Quantity(compute(_decimal(value.value) * PI / 180))
        plain = value.number(name)
        return Quantity(compute(_decimal(plain)) if plain else _EXACT_SIN[shift])

    return call


def _tan(values: Sequence[Quantity]) -> Quantity:
    _count("tan", values, 1, 1)
    below = FUNCTIONS["cos"](values)
    if not below.value:
        raise FunctionError("tan has no value there")
    return divided(FUNCTIONS["sin"](values), below)


def _root(values: Sequence[Quantity], degree: int | None, name: str) -> Quantity:
    _count(name, values, 1 if degree else 2, 1 if degree else 2)
    count = Fraction(degree) if degree else values[1].number(name)
    if not count:
        raise FunctionError("there is no root of degree 0")
    if values[0].value < 0 and count != 2 and isinstance(count, Fraction) and count.numerator % 2:
        return negated(raised(negated(values[0]), Quantity(divide(Fraction(1), count))))
    return raised(values[0], Quantity(divide(Fraction(1), count)))


def _round(values: Sequence[Quantity]) -> Quantity:
    """To the nearest; halves go away from zero, as in school and in bookkeeping."""
    _count("round", values, 1, 2)
    places = _whole(values[1].number("round"), "round") if len(values) > 1 else 0
    if abs(places) > MOST_PLACES:
        raise FunctionError(f"round takes at most {MOST_PLACES} places")
    unit = Fraction(10) ** -places
    count = Fraction(values[0].value) / unit
    whole = math.floor(abs(count) + Fraction(1, 2))
    return Quantity((whole if count >= 0 else -whole) * unit, values[0].dims)


def _to_whole(name: str, compute: Callable[[Value], int]) -> Function:
    def call(values: Sequence[Quantity]) -> Quantity:
        _count(name, values, 1, 1)
        return Quantity(Fraction(compute(values[0].value)), values[0].dims)

    return call


def _of_many(name: str, compute: Callable[[list[Value]], Value], least: int = 1) -> Function:
    def call(values: Sequence[Quantity]) -> Quantity:
        _count(name, values, least, None)
        same_kind(values, f"given to {name} together")
        return Quantity(compute([value.value for value in values]), values[0].dims)

    return call


def _sum(values: list[Value]) -> Value:
    return functools.reduce(add, values)


def _mean(values: list[Value]) -> Value:
    return divide(_sum(values), Fraction(len(values)))


def _median(values: list[Value]) -> Value:
    ordered = sorted(values)
    middle = len(ordered) // 2
    return ordered[middle] if len(ordered) % 2 else _mean(ordered[middle - 1 : middle + 1])


def _stdev(values: list[Value]) -> Value:
    """Of a sample: divided by n - 1."""
    mean = _mean(values)
    squares = [multiply(add(x, -mean), add(x, -mean)) for x in values]
    return power(divide(_sum(squares), Fraction(len(values) - 1)), Fraction(1, 2))


def _count_of(name: str, compute: Callable[[int, int], int]) -> Function:
    """comb and perm, refused where the result would be past the bounds."""

    def call(values: Sequence[Quantity]) -> Quantity:
        _count(name, values, 2, 2)
        n, k = (_whole(value, name) for value in _numbers(values, name))
        if n < 0 or k < 0:
            raise FunctionError(f"{name} needs numbers of at least 0")
        small = min(k, max(n - k, 0)) if name == "comb" else k
        if k <= n and small * max(n.bit_length() - 1, 0) > 2 * MOST_BITS:
            raise UndecidableError(f"a {name} that is too large")
        return Quantity(add(Fraction(compute(n, k)), Fraction(0)))

    return call


def _of_whole(name: str, compute: Callable[..., int]) -> Function:
    def call(values: Sequence[Quantity]) -> Quantity:
        _count(name, values, 2, None)
        found: Value = Fraction(_whole(values[0].number(name), name))
        for value in _numbers(values[1:], name):
            found = add(Fraction(compute(int(found), _whole(value, name))), Fraction(0))
        return Quantity(found)

    return call


def _factorial(values: Sequence[Quantity]) -> Quantity:
    _count("factorial", values, 1, 1)
    return Quantity(factorial(values[0].number("factorial")))


def _of_two(name: str, compute: Callable[[Quantity, Quantity], Quantity]) -> Function:
    def call(values: Sequence[Quantity]) -> Quantity:
        _count(name, values, 2, 2)
        return compute(*values)

    return call


def _absolute(values: Sequence[Quantity]) -> Quantity:
    _count("abs", values, 1, 1)
    return values[0] if values[0].value >= 0 else negated(values[0])


def _log_base(base: int) -> Function:
    def call(values: Sequence[Quantity]) -> Quantity:
        _count(f"log{base}", values, 1, 1)
        return Quantity(_log_to(values[0].number(f"log{base}"), Fraction(base)))

    return call


FUNCTIONS: dict[str, Function] = {
    "sqrt": lambda values: _root(values, 2, "sqrt"),
    "cbrt": lambda values: _root(values, 3, "cbrt"),
    "root": lambda values: _root(values, None, "root"),
    "exp": _real("exp", _exp, Fraction(1)),
    "ln": _natural_log,
    "log": _log,
    "log2": _log_base(2),
    "log10": _log_base(10),
    "sin": _circular("sin", _sin, 0),
    "cos": _circular("cos", _cos, 90),
    "tan": _tan,
    "asin": _real("asin", _asin, Fraction(0)),
    "acos": _real("acos", lambda x: PI / 2 - _asin(x)),
    "atan": _real("atan", _atan, Fraction(0)),
    "sinh": _real("sinh", lambda x: (_exp(x) - _exp(-x)) / 2, Fraction(0)),
    "cosh": _real("cosh", lambda x: (_exp(x) + _exp(-x)) / 2, Fraction(1)),
    "tanh": _real("tanh", lambda x: 1 - 2 / (_exp(2 * x) + 1), Fraction(0)),
    "abs": _absolute,
    "round": _round,
    "floor": _to_whole("floor", math.floor),
    "ceil": _to_whole("ceil", math.ceil),
    "trunc": _to_whole("trunc", math.trunc),
    "min": _of_many("min", min),
    "max": _of_many("max", max),
    "sum": _of_many("sum", _sum),
    "mean": _of_many("mean", _mean),
    "median": _of_many("median", _median),
    "stdev": _of_many("stdev", _stdev, least=2),
    "comb": _count_of("comb", math.comb),
    "perm": _count_of("perm", math.perm),
    "factorial": _factorial,
    "gcd": _of_whole("gcd", math.gcd),
    "lcm": _of_whole("lcm", math.lcm),
    "mod": _of_two("mod", remainder),
    "pow": _of_two("pow", raised),
}
