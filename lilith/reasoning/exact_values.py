"""Values of arithmetic: fractions, and decimals of many digits for what is irrational.

A decimal is computed within :data:`CONTEXT`; every size is bounded.
"""

from __future__ import annotations

import decimal
import math
from decimal import Decimal
from fractions import Fraction

PRECISION = 60  # digits of an irrational value
MOST_BITS = 4096  # of a numerator or a denominator on the way
MOST_POWER_DIGITS = 300  # of an irrational power
MOST_FACTORIAL = 300
PI = Decimal("3.14159265358979323846264338327950288419716939937510582097494459")
CONTEXT = decimal.Context(prec=PRECISION, Emax=10_000, Emin=-10_000)

Value = Fraction | Decimal


class UndecidableError(ValueError):
    """An expression without a value that can be computed here: a division by zero, a giant."""


def exact_text(value: Value) -> str:
    """A value as ``Fraction`` reads it again: 52.5, 10/3; an irrational one to twenty digits."""
    if isinstance(value, Decimal):
        return f"{decimal.Context(prec=20).plus(value).normalize():f}"
    places = decimal_places(value)
    if places is None or places > 12:
        return str(value)
    digits = str(abs(value.numerator) * 10**places // value.denominator).rjust(places + 1, "0")
    sign = "-" if value < 0 else ""
    return f"{sign}{digits[:-places]}.{digits[-places:]}" if places else f"{sign}{digits}"


def decimal_places(value: Fraction) -> int | None:
    """How many decimals write the value exactly; None where no number of them does."""
    rest, counts = value.denominator, []
    for prime in (2, 5):
        count = 0
        while rest % prime == 0:
            rest, count = rest // prime, count + 1
        counts.append(count)
    return max(counts) if rest == 1 else None


def fraction(value: Value) -> Fraction:
    """The value itself; :class:`UndecidableError` where it is irrational."""
    if not isinstance(value, Fraction):
        raise UndecidableError("a root of an irrational degree")
    return value


def _bounded(value: Value) -> Value:
    if isinstance(value, Fraction):
        size = max(value.numerator.bit_length(), value.denominator.bit_length())
        if size > MOST_BITS:
            raise UndecidableError("a value on the way is too large")
    return value


def _decimal(value: Value) -> Decimal:
    if isinstance(value, Decimal):
        return value
    return Decimal(value.numerator) / Decimal(value.denominator)


def add(left: Value, right: Value) -> Value:
    """The sum."""
    if isinstance(left, Fraction) and isinstance(right, Fraction):
        return _bounded(left + right)
    return _decimal(left) + _decimal(right)


def multiply(left: Value, right: Value) -> Value:
    """The product."""
    if isinstance(left, Fraction) and isinstance(right, Fraction):
        return _bounded(left * right)
    return _decimal(left) * _decimal(right)


def divide(left: Value, right: Value) -> Value:
    """The quotient; :class:`UndecidableError` for a division by zero."""
    if not right:
        raise UndecidableError("a division by zero")
    if isinstance(left, Fraction) and isinstance(right, Fraction):
        return _bounded(left / right)
    return _decimal(left) / _decimal(right)


def factorial(value: Value) -> Value:
    """n! of a whole number up to :data:`MOST_FACTORIAL`, else :class:`UndecidableError`."""
    if not isinstance(value, Fraction) or value.denominator != 1 or value < 0:
        raise UndecidableError("a factorial of something else than a whole number")
    if value > MOST_FACTORIAL:
        raise UndecidableError("a factorial that is too large")
    return Fraction(math.factorial(int(value)))


def power(base: Value, exponent: Value) -> Value:
    """Exact where a fraction is the result; :class:`UndecidableError` past the bounds."""
    if isinstance(exponent, Fraction) and isinstance(base, Fraction):
        bits = max(base.numerator.bit_length(), base.denominator.bit_length())
        bits = 0 if base in (0, 1, -1) else bits
        if bits * abs(exponent) > MOST_BITS or abs(exponent) > 10**9:
            raise UndecidableError("a power that is too large")
        if not base and exponent < 0:
            raise UndecidableError("a division by zero")
        root = _exact_root(base, exponent.denominator)
        if root is not None:
            return root**exponent.numerator
    if base < 0:
        raise UndecidableError("a root of a negative number")
    if not base:
        return Fraction(0)
    count, real = _decimal(exponent), _decimal(base)
    if abs(count * real.log10()) > MOST_POWER_DIGITS:
        raise UndecidableError("a power that is too large")
    return real**count


def _exact_root(value: Fraction, degree: int) -> Fraction | None:
    """The root where it is a fraction; of a negative value only for an odd degree."""
    if degree == 1:
        return value
    if degree > 64 or (value < 0 and degree % 2 == 0):
        return None
    roots = []
    for whole in (abs(value.numerator), value.denominator):
        guess = math.isqrt(whole) if degree == 2 else _whole_root(whole, degree)
        if guess**degree != whole:
            return None
        roots.append(guess)
    return Fraction(roots[0] if value > 0 else -roots[0], roots[1])


def _whole_root(whole: int, degree: int) -> int:
    """The largest whole number whose power is at most ``whole``, by halving."""
    low, high = 0, 1 << (whole.bit_length() // degree + 1)
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if middle**degree <= whole else (low, middle - 1)
    return low
