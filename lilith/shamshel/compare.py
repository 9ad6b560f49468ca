"""Comparing plain data on the trusted side, and showing it."""

from __future__ import annotations

import math
from collections import deque
from decimal import Decimal
from fractions import Fraction
from typing import Any

_NUMBERS = (int, float, complex, Decimal, Fraction)
_MAX_TEXT = 2000


def _same_number(expected: Any, came: Any, tolerance: float | None) -> bool:
    if expected == came or (expected != expected and came != came):  # NaN equals NaN here
        return True
    if tolerance is None:
        return False
    try:
        if isinstance(expected, complex) or isinstance(came, complex):
            return abs(complex(expected) - complex(came)) <= tolerance * max(1.0, abs(expected))
        return math.isclose(expected, came, rel_tol=tolerance, abs_tol=tolerance)
    except (OverflowError, ValueError, ArithmeticError):  # beyond a float, and not equal
        return False


def same(expected: Any, came: Any, tolerance: float | None = None) -> bool:
    """Whether plain data agree: numbers by value (bool apart from them), all else by exact type.

    tolerance: the greatest difference of two numbers, absolute or relative to the larger one.
    NaN agrees with NaN.
    """
    if isinstance(expected, bool) or isinstance(came, bool):
        return type(expected) is type(came) and expected == came
    if isinstance(expected, _NUMBERS) and isinstance(came, _NUMBERS):
        return _same_number(expected, came, tolerance)
    if isinstance(expected, dict) and isinstance(came, dict):
        return len(expected) == len(came) and all(
            key in came and same(value, came[key], tolerance) for key, value in expected.items()
        )
    if type(expected) is not type(came):
        return False
    if isinstance(expected, (list, tuple, deque)):
        return len(expected) == len(came) and all(
            same(left, right, tolerance) for left, right in zip(expected, came, strict=True)
        )
    return bool(expected == came)


def shown(value: Any) -> str:
    """A value as text of bounded length."""
    try:
        text = repr(value)
    except (ValueError, RecursionError):  # an integer of too many digits to print
        text = f"<{type(value).__name__} too large to show>"
    return text if len(text) <= _MAX_TEXT else text[:_MAX_TEXT] + "..."
