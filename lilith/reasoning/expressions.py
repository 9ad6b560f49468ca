"""Arithmetic as people, LaTeX and small models write it, read into tokens and computed exactly.

Nothing is ever evaluated as code. Values are fractions; what is irrational (roots, powers that are
not whole, pi) is a decimal of many digits. Every size is bounded.
"""

from __future__ import annotations

import decimal
import re
from collections.abc import Iterator, Sequence
from decimal import Decimal
from fractions import Fraction
from typing import NamedTuple

from lilith.reasoning.exact_values import (
    CONTEXT,
    PI,
    UndecidableError,
    Value,
    add,
    decimal_places,
    divide,
    factorial,
    fraction,
    multiply,
    power,
)
from lilith.reasoning.units import CURRENCIES, MAGNITUDES, PARTS

MOST_DIGITS = 300  # of one written number
MOST_DEPTH = 40  # brackets within brackets
MOST_PLACES = 4  # nobody who writes "=" rounds what ends within four decimals
_CLOSE = Decimal("1e-40")  # irrational values are the same within this share
_SUPERSCRIPTS = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁻", "0123456789-")
_VULGAR = {"½": "1/2", "⅓": "1/3", "⅔": "2/3", "¼": "1/4", "¾": "3/4", "⅕": "1/5", "⅛": "1/8"}


class NotArithmeticError(ValueError):
    """The tokens are not an expression of arithmetic."""


class Token(NamedTuple):
    """A piece of a text. ``kind`` is the name of its group in the pattern below."""

    kind: str
    start: int
    end: int
    text: str


_NUMBER = r"\d{1,3}(?:(?:,|\{,\})\d{3})+(?![\d])(?:\.\d+)?|\d+(?:\.\d+)?(?:[eE][+-]?\d{1,9}\b)?"
_ABOUT = r"(?:about|approximately|approx\.?|roughly|around|nearly|almost|some|~|≈|\\approx)"
_PATTERN = re.compile(
    rf"""
    (?P<space>[\s&`\u200b]+|~(?!\d)|\\[,;:! ]|\\quad|\\[()\[\]]|\\(?:left|right)(?![a-z])
      |\\boxed(?=\s*\{{)
      |\\\\(?=\s*&?\s*=))
  | (?P<other>\\\\|\d{{4}}-\d\d-\d\d|\d+:\d\d(?::\d\d)?|\d+(?:\.\d+){{2,}}
      |<<|>>|<=|>=|=>|[!:+*/-]=|=!=)
  | (?P<relation>={{1,3}}\s*{_ABOUT}?|≈|≃|≅|\\approx|\\simeq|~=
      |(?:which\s+)?(?:is\s+equal\s+to|equals?(?:\s+to)?|is|are|makes|gives|leaves|comes\s+to)
       (?![\w'])(?:\s+{_ABOUT})?)
  | (?P<number>(?:{_NUMBER}|(?<!\d)\.\d+)|[½⅓⅔¼¾⅕⅛]|(?:\b(?:an?|one)[\s-])?\b(?:half|third|quarter
      |fourth|fifth|sixth|eighth|tenth)(?=\s+of\b))
  | (?P<ellipsis>\.\.\.|…|\\l?dots)
  | (?P<frac>\\[dt]?frac(?=\s*\{{))
  | (?P<sqrt>\\sqrt|√|sqrt(?=\s*[({{])|square\s+root\s+of)
  | (?P<pi>π|\\pi(?![a-z])|\bpi\b)
  | (?P<plus>\+|plus\b)
  | (?P<minus>[-−–]|minus\b)
  | (?P<power>\*\*|\^|(?=[⁰¹²³⁴⁵⁶⁷⁸⁹⁻]))
  | (?P<times>[*×·∙⋅✕✖]|\\times(?![a-z])|\\cdot(?![a-z])|[xX](?=\s*[\d($.√])|times\b
      |multiplied\s+by\b)
  | (?P<divide>[/÷]|\\div(?![a-z])|divided\s+by\b)
  | (?P<modulo>mod(?:ulo)?\b)
  | (?P<twice>twice\b)
  | (?P<of>of(?:\s+(?:the|his|her|its|their|these|those|all|that))?\b(?=\s*[\d($.√\\]))
  | (?P<percent>\\?%|per\s?cent\b)
  | (?P<factorial>!)
  | (?P<squared>squared\b|cubed\b)
  | (?P<open>[(\[{{])
  | (?P<close>[)\]}}])
  | (?P<currency>\\?[{CURRENCIES}])
  | (?P<magnitude>(?:dozen|hundred|thousand|million|billion|trillion)\b|k\b)
  | (?P<word>\\(?:text|mathrm|mbox)\s*\{{[^{{}}]{{0,80}}\}}|[^\W\d]\w*(?:['’][a-z]+)?|°[CF]?)
  | (?P<sign>.)
    """,
    re.VERBOSE | re.IGNORECASE,
)
_SUPERSCRIPT = re.compile("[⁰¹²³⁴⁵⁶⁷⁸⁹⁻]+")


def tokens(text: str, start: int = 0, end: int | None = None) -> Iterator[Token]:
    """The tokens of ``text[start:end]`` without spaces, lazily; positions are those of ``text``."""
    position, stop = start, len(text) if end is None else end
    while position < stop:
        found = _PATTERN.match(text, position, stop)
        assert found is not None  # "sign" takes any character
        kind = found.lastgroup or ""
        if kind == "power" and not found.group():
            yield Token("power", position, position, "")
            found = _SUPERSCRIPT.match(text, position, stop)
            assert found is not None
            kind = "number"
        if kind != "space":
            yield Token(kind, found.start(), found.end(), found.group())
        position = found.end()


def compute(parts: Sequence[Token], *, relative_percent: bool = False) -> Value:
    """The value of an expression; currencies and tokens made "unit" count for nothing.

    Args:
      relative_percent: ``240 + 15%`` adds fifteen percent of 240, as a pocket calculator does.

    Raises:
      NotArithmeticError: the tokens are no expression.
      UndecidableError: it has no value, or one past the bounds; the message says which.
    """
    parser = _Parser([part for part in parts if part.kind not in ("currency", "unit")],
                     relative_percent)  # fmt: skip
    with decimal.localcontext(CONTEXT):
        try:
            value = parser.sum()
        except (decimal.DecimalException, OverflowError):
            raise UndecidableError("a value on the way is too large") from None
    if parser.position != len(parser.parts):
        raise NotArithmeticError(f"{parser.parts[parser.position].text!r} is out of place")
    return value


def value_of(text: str) -> Value | None:
    """The value of a text that is an expression and nothing else; None for any other text."""
    if len(text) > 2 * MOST_DIGITS:
        return None
    parts = list(tokens(text))
    if any(part.kind in ("word", "ellipsis") for part in parts):
        return None
    try:
        return compute(parts)
    except ValueError:
        return None


def written_number(text: str) -> Fraction:
    """The value of one token of kind ``number``.

    Raises:
      UndecidableError: it has more than :data:`MOST_DIGITS` digits, or a giant exponent.
    """
    if text in _VULGAR:
        return Fraction(_VULGAR[text])
    plain = text.translate(_SUPERSCRIPTS).replace("{,}", "").replace(",", "")
    if plain[-1].isalpha():
        return PARTS[re.split(r"[\s-]", plain.lower())[-1]]
    mantissa, _, exponent = plain.lower().partition("e")
    if len(mantissa) > MOST_DIGITS or abs(int(exponent or 0)) > MOST_DIGITS:
        raise UndecidableError(f"a number of more than {MOST_DIGITS} digits")
    return Fraction(plain)


def agrees(true: Value, claimed: Value, written: Sequence[Token], about: bool) -> bool:
    """Whether a claimed value stands for the true one, with the rounding that its digits allow.

    Args:
      written: the tokens of the claimed value.
      about: it is given as an approximation.
    """
    if isinstance(true, Decimal) or isinstance(claimed, Decimal):
        gap = abs(_as_decimal(true) - _as_decimal(claimed))
        same = gap <= _CLOSE * max(abs(_as_decimal(true)), Decimal(1))
        true, claimed = Fraction(_as_decimal(true)), Fraction(_as_decimal(claimed))
        places = None
    else:
        same, places = true == claimed, decimal_places(true)
    if same:
        return True
    unit = _last_digit(written)
    gap_exact = abs(true - claimed)
    if unit is None:
        return about and gap_exact * 200 <= abs(true)
    if about:
        # 3,300 for 3,333: noughts at the end are rounding too, within a twentieth.
        small = unit if unit < 1 else Fraction(1)
        return gap_exact * 2 <= small or (gap_exact * 2 <= unit and gap_exact * 20 <= abs(true))
    money = any(part.kind == "currency" for part in written) and unit == Fraction(1, 100)
    endless = places is None or places > MOST_PLACES
    rounds = endless and unit < 1 and (places is None or unit <= Fraction(1, 100))
    return (rounds or money) and gap_exact * 2 <= unit


def _as_decimal(value: Value) -> Decimal:
    return value if isinstance(value, Decimal) else Decimal(value.numerator) / value.denominator


def _last_digit(written: Sequence[Token]) -> Fraction | None:
    """What one of the last digit written is worth; None where more than a number is written."""
    parts = [part for part in written if part.kind not in ("unit", "currency", "open", "close")]
    parts = parts[1:] if parts and parts[0].kind in ("minus", "plus") else parts
    if not parts or parts[0].kind != "number" or not parts[0].text[-1].isdigit():
        return None
    whole, _, decimals = parts[0].text.replace(",", "").partition(".")
    unit = Fraction(1, 10 ** len(decimals))
    if not decimals:
        unit = Fraction(10 ** (len(whole) - len(whole.rstrip("0") or "0")))
    for part in parts[1:]:
        if part.kind not in ("percent", "magnitude"):
            return None
        unit *= Fraction(1, 100) if part.kind == "percent" else MAGNITUDES[part.text.lower()]
    return unit


class _Parser:
    """Recursive descent: sums of products of signed powers of operands with their endings."""

    def __init__(self, parts: list[Token], relative_percent: bool) -> None:
        self.parts, self.relative = parts, relative_percent
        self.position = self.depth = 0

    def kind(self, ahead: int = 0) -> str:
        at = self.position + ahead
        return self.parts[at].kind if at < len(self.parts) else ""

    def take(self, kind: str) -> Token:
        if self.kind() != kind:
            raise NotArithmeticError(f"a {kind} is missing")
        self.position += 1
        return self.parts[self.position - 1]

    def sum(self) -> Value:
        value = self.product()
        while (kind := self.kind()) in ("plus", "minus"):
            self.position += 1
            first = self.position
            right = self.product()
            percent = self.position - first == 2 and self.kind(-1) == "percent"
            if percent and self.relative:
                right = multiply(value, right)
            value = add(value, right if kind == "plus" else -right)
        return value

    def product(self) -> Value:
        first = self.position
        value = self.signed()
        divided = False
        while True:
            kind = self.kind()
            if kind in ("times", "divide", "modulo", "of"):
                if kind == "of" and self.position - first == 1 and _is_whole(self.parts[first]):
                    raise NotArithmeticError("3 of 8 is no product")
                self.position += 1
            elif kind in ("open", "sqrt", "pi") and self.kind(-1) in ("number", "close", "pi"):
                if divided:
                    raise UndecidableError("1/2(3) can be read in two ways")
                kind = "times"
            elif kind == "number" and self.kind(-1) == "percent":
                kind = "modulo"
            else:
                return value
            divided = divided or kind == "divide"
            value = self.combined(kind, value)

    def combined(self, kind: str, left: Value) -> Value:
        modulo_sign = self.kind(-1) == "percent"
        right = self.signed()
        if kind in ("times", "of"):
            return multiply(left, right)
        if kind == "divide":
            return divide(left, right)
        left = multiply(left, Fraction(100)) if modulo_sign else left  # 17 % 5 is no percentage
        if not isinstance(left, Fraction) or not isinstance(right, Fraction) or right <= 0:
            raise UndecidableError("a remainder of something else than fractions")
        return left % right

    def signed(self) -> Value:
        sign = 1
        while self.kind() in ("plus", "minus"):
            sign = -sign if self.kind() == "minus" else sign
            self.position += 1
        value = self.power()
        return value if sign > 0 else -value

    def power(self) -> Value:
        operands = [self.ended()]
        while self.kind() == "power":
            self.position += 1
            negative = self.kind() == "minus"
            self.position += negative
            exponent = self.ended()
            operands.append(-exponent if negative else exponent)
        value = operands.pop()
        while operands:
            value = power(operands.pop(), value)
        return value

    def ended(self) -> Value:
        """An operand and what may follow it: percent, factorial, squared, million."""
        value = self.operand()
        while (kind := self.kind()) in ("percent", "factorial", "squared", "magnitude"):
            word = self.take(kind).text.lower()
            if kind == "percent":
                value = multiply(value, Fraction(1, 100))
            elif kind == "magnitude":
                value = multiply(value, MAGNITUDES[word])
            elif kind == "squared":
                value = power(value, Fraction(2 if word == "squared" else 3))
            else:
                value = factorial(value)
        return value

    def operand(self) -> Value:
        kind = self.kind()
        if kind == "number":
            return self.number()
        if kind == "pi":
            self.position += 1
            return PI
        if kind == "twice":
            self.position += 1
            return multiply(Fraction(2), self.operand())
        if kind == "frac":
            self.position += 1
            return divide(self.bracketed(), self.bracketed())
        if kind == "sqrt":
            self.position += 1
            degree = Fraction(2)
            if self.kind() == "open" and self.parts[self.position].text == "[":
                degree = fraction(self.bracketed())
            return power(self.operand(), divide(Fraction(1), degree))
        return self.bracketed()

    def bracketed(self) -> Value:
        opened = self.take("open").text
        self.depth += 1
        if self.depth > MOST_DEPTH:
            raise UndecidableError(f"brackets deeper than {MOST_DEPTH}")
        value = self.sum()
        if self.take("close").text != {"(": ")", "[": "]", "{": "}"}[opened]:
            raise NotArithmeticError("brackets of two kinds")
        self.depth -= 1
        return value

    def number(self) -> Value:
        token = self.take("number")
        value = written_number(token.text)
        if not _is_whole(token) or self.kind() != "number":
            return value
        # 2 1/2 and 2½ are one number, with a proper fraction of whole numbers after a space.
        following = self.parts[self.position]
        if following.text in _VULGAR:
            self.position += 1
            return value + written_number(following.text)
        if (self.kind(1), self.kind(2)) == ("divide", "number"):
            top, bottom = self.parts[self.position], self.parts[self.position + 2]
            if _is_whole(top) and _is_whole(bottom) and int(top.text) < int(bottom.text):
                self.position += 3
                return value + Fraction(int(top.text), int(bottom.text))
        return value


def _is_whole(token: Token) -> bool:
    return token.kind == "number" and token.text.isascii() and token.text.isdigit()
