"""A calculator: exact where fractions suffice, else decimals of sixty digits; with units.

The text is read by a parser and never run as code. Every size is bounded, on the way too.
"""

from __future__ import annotations

import decimal
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction

from lilith.agent import calculator_functions as functions
from lilith.agent import calculator_quantities as quantities
from lilith.agent.calculator_quantities import Quantity, scalar
from lilith.agent.calculator_units import in_units, unit_quantity
from lilith.quant.tool import Answer, Parameter, Tool
from lilith.quant.tool_values import ToolError
from lilith.reasoning.exact_values import (
    CONTEXT,
    PI,
    PRECISION,
    UndecidableError,
    exact_text,
    factorial,
)
from lilith.reasoning.expressions import written_number
from lilith.reasoning.units import MAGNITUDES, UNITS

LONGEST = 2000  # characters of an expression
MOST_DEPTH = 60  # of brackets, signs and powers within each other
_CONSTANTS = {"pi": PI, "π": PI, "tau": 2 * PI, "e": CONTEXT.exp(Decimal(1))}
_SCALES = {**MAGNITUDES, "bp": Fraction(1, 10_000), "bps": Fraction(1, 10_000)}
_PATTERN = re.compile(
    r"""
    (?P<space>\s+)
  | (?P<grouped>\d{1,3}(?:,\d{3})+(?!\d)(?:\.\d+)?)
  | (?P<number>(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+(?![\w.]))?)
  | (?P<conversion>(?:in|to|as)\b)
  | (?P<name>[^\W\d]\w*|°)
  | (?P<power>\*\*|\^)
  | (?P<operator>//|[-+*/%!(),−–×·÷])
  | (?P<currency>[$€£¥₹])
  | (?P<other>.)
    """,
    re.VERBOSE,
)
_SAME = {"−": "-", "–": "-", "×": "*", "·": "*", "÷": "/"}


class CalculatorError(ValueError):
    """The text is no expression, or has no value; the message says why, the hint what to do."""

    def __init__(self, message: str, hint: str = "correct the expression") -> None:
        super().__init__(message)
        self.hint = hint


@dataclass(frozen=True)
class Token:
    """A piece of the text."""

    kind: str
    text: str
    start: int


@dataclass(frozen=True)
class Result:
    """What an expression gives.

    Attributes:
      value: a fraction where it is exact, else a decimal of sixty digits.
      unit: such as "km/h"; "" for a plain number.
      notes: how what can be read in two ways was read.
    """

    value: Fraction | Decimal
    unit: str
    notes: tuple[str, ...] = ()

    @property
    def exact(self) -> bool:
        """Whether nothing was rounded."""
        return isinstance(self.value, Fraction)

    @property
    def text(self) -> str:
        """The value in digits, or as a fraction where digits would not end, and the unit."""
        return f"{exact_text(self.value)} {self.unit}".strip()


def calculate(expression: str) -> Result:
    """The value of an expression.

    Numbers (``1,234.5``, ``2e-3``), ``+ - * / // % ^ **`` and ``!``, brackets, the functions of
    :mod:`lilith.agent.calculator_functions`, pi and e, percentages (``240 + 15%`` adds fifteen
    percent of 240, ``15% of 240``), basis points, million and the like, units and currencies
    (``3 km + 200 m``, ``90 km / 1.5 h in m/s``).

    Raises:
      CalculatorError: it is no expression, can be read in two ways, has no value, or is past the
        bounds of length, depth and size.
    """
    if len(expression) > LONGEST:
        raise CalculatorError(
            f"the expression has {len(expression)} characters and may have {LONGEST}",
            "calculate it in parts",
        )
    parser = _Parser(_tokens(expression))
    with decimal.localcontext(CONTEXT):
        try:
            value, unit = parser.whole()
        except (UndecidableError, quantities.FunctionError) as error:
            raise CalculatorError(f"there is no value: {error}") from None
        except (decimal.DecimalException, OverflowError):
            raise CalculatorError(
                "there is no value: a number on the way is too large", "use smaller numbers"
            ) from None
    return Result(value, unit, tuple(dict.fromkeys(parser.notes)))


def _tokens(text: str) -> list[Token]:
    found = []
    for match in _PATTERN.finditer(text):
        kind, written = match.lastgroup or "", match.group()
        if kind == "other":
            raise CalculatorError(
                f"{written!r} at character {match.start() + 1} has no meaning here",
                "use numbers, + - * / ^ %, brackets, functions such as sqrt(2), and units",
            )
        if kind != "space":
            found.append(Token(kind, _SAME.get(written, written), match.start()))
    return [*found, Token("end", "the end", len(text))]


class _Parser:
    """Recursive descent: sums of products of signed powers of operands with their endings."""

    def __init__(self, tokens: list[Token]) -> None:
        self.tokens, self.at, self.depth, self.calls = tokens, 0, 0, 0
        self.notes: list[str] = []
        self.written: dict[str, str] = {}  # by dimension, the unit that was written first

    @property
    def token(self) -> Token:
        return self.tokens[self.at]

    def is_next(self, *texts: str) -> bool:
        return self.token.kind in ("operator", "power", "name") and self.token.text in texts

    def take(self) -> Token:
        self.at += 1
        return self.tokens[self.at - 1]

    def expect(self, text: str) -> None:
        if not self.is_next(text):
            raise self.out_of_place(f"; {text!r} is missing")
        self.at += 1

    def out_of_place(self, more: str = "") -> CalculatorError:
        token = self.token
        if token.kind == "end":
            return CalculatorError(f"the expression ends too early{more}")
        return CalculatorError(
            f"{token.text[:40]!r} at character {token.start + 1} is out of place{more}"
        )

    def whole(self) -> tuple[Fraction | Decimal, str]:
        if self.token.kind == "end":
            raise CalculatorError("the expression is empty", "give one, such as 2 * (3 + 4)")
        value = self.sum()
        target = dict(self.written)
        wanted = None
        if self.token.kind == "conversion":
            self.take()
            first = self.at
            wanted = self.sum()
            text = "".join(token.text for token in self.tokens[first : self.at])
            if not wanted.dims:
                raise CalculatorError(f"{text[:40]!r} is no unit", "convert to one, such as km/h")
        if self.token.kind != "end":
            raise self.out_of_place()
        if wanted is None:
            return in_units(value, target)
        return quantities.divided_like(value, wanted), text

    def deeper(self) -> None:
        self.depth += 1
        if self.depth > MOST_DEPTH:
            raise CalculatorError(
                f"the expression is nested deeper than {MOST_DEPTH}", "calculate it in parts"
            )

    def sum(self) -> Quantity:
        value, percent = self.product()
        while self.is_next("+", "-"):
            sign = self.take().text
            right, right_percent = self.product()
            if right_percent and not percent:
                share = f"{exact_text(right.value * 100)}%"
                self.notes.append(f"{sign} {share} was read as {share} of what stands before it")
                right = quantities.multiplied(value, right)
            value = quantities.added(value, right if sign == "+" else quantities.negated(right))
            percent = percent and right_percent
        return value

    def product(self) -> tuple[Quantity, bool]:
        """The value, and whether it is nothing but a percentage."""
        first = self.at
        value = self.signed()
        percent = self.at > first and self.tokens[self.at - 1].text == "%"
        while True:
            if self.is_next("*", "of"):
                self.take()
                value = quantities.multiplied(value, self.signed())
            elif self.is_next("/"):
                self.take()
                value = quantities.divided(value, self.signed())
            elif self.is_next("//", "mod", "%"):  # a % that ends an operand was taken with it
                word = self.take().text
                combined = quantities.floored if word == "//" else quantities.remainder
                value = combined(value, self.signed())
            else:
                return value, percent
            percent = False

    def signed(self) -> Quantity:
        if self.is_next("+", "-"):
            self.deeper()
            minus = self.take().text == "-"
            value = self.signed()
            self.depth -= 1
            return quantities.negated(value) if minus else value
        return self.power()

    def power(self) -> Quantity:
        base = self.ended()
        if self.token.kind != "power":
            return base
        self.take()
        self.deeper()
        exponent = self.signed()  # so that powers associate to the right, and 2^-1 is read
        self.depth -= 1
        return quantities.raised(base, exponent)

    def ended(self) -> Quantity:
        """An operand and what may follow it: a unit, a percent sign, !, million."""
        after_number = self.token.kind in ("number", "grouped", "currency")
        value = self.operand()
        while True:
            token = self.token
            if self.is_next("!"):
                self.take()
                value = scalar(factorial(value.number("a factorial")))
            elif self.is_next("%") and not self.starts_operand(1):
                self.take()
                value = quantities.multiplied(value, scalar(Fraction(1, 100)))
            elif token.kind == "name" and token.text.lower() in _SCALES:
                self.take()
                value = quantities.multiplied(value, scalar(_SCALES[token.text.lower()]))
            elif token.kind == "name" and token.text.lower() == "percent":
                self.take()
                value = quantities.multiplied(value, scalar(Fraction(1, 100)))
            elif after_number and self.is_unit():
                value, after_number = quantities.multiplied(value, self.unit()), False
            elif self.starts_operand(0) and token.text not in ("of", "mod"):
                raise CalculatorError(
                    f"there is no operator before {token.text[:40]!r} at character "
                    f"{token.start + 1}", "write * where a product is meant",
                )  # fmt: skip
            else:
                return value

    def starts_operand(self, ahead: int) -> bool:
        """Whether an operand begins at the next token but ``ahead``."""
        token = self.tokens[min(self.at + ahead, len(self.tokens) - 1)]
        if token.text in ("of", "mod"):
            return False
        return token.kind in ("number", "grouped", "currency", "name") or token.text == "("

    def is_unit(self) -> bool:
        """Whether the next token is a unit: no function that is called, no $ before an amount."""
        if self.token.kind not in ("name", "currency") or self.token.text in _CONSTANTS:
            return False
        after = self.tokens[self.at + 1]
        before_amount = self.token.kind == "currency" and after.kind in ("number", "grouped")
        return (
            after.text != "(" and not before_amount and unit_quantity(self.token.text) is not None
        )

    def unit(self) -> Quantity:
        name = self.take().text
        found = unit_quantity(name)
        assert found is not None  # is_unit said so
        for dimension in found.dims:
            if len(found.dims) == 1 and found.dims[dimension] == 1:
                self.written.setdefault(dimension, name)
        if self.token.kind == "power" and self.tokens[self.at + 1].kind == "number":
            self.take()
            found = quantities.raised(found, scalar(written_number(self.take().text)))
        return found

    def operand(self) -> Quantity:
        token = self.token
        if token.kind in ("number", "grouped"):
            return self.number()
        if token.kind == "currency":
            unit = self.unit()
            return quantities.multiplied(self.number(), unit)
        if self.is_next("("):
            self.take()
            self.deeper()
            value = self.sum()
            self.expect(")")
            self.depth -= 1
            return value
        if token.kind != "name":
            raise self.out_of_place()
        if self.tokens[self.at + 1].text == "(" and token.text.lower() in functions.FUNCTIONS:
            return self.call(functions.FUNCTIONS[self.take().text.lower()])
        if token.text.lower() in _CONSTANTS:
            return scalar(_CONSTANTS[self.take().text.lower()])
        if self.is_unit():
            return self.unit()
        close = functions.nearest_name(token.text, [*_CONSTANTS, *UNITS])
        raise CalculatorError(
            f"{token.text[:40]!r} is neither a function nor a unit{close}",
            f"functions: {', '.join(functions.FUNCTIONS)}",
        )

    def number(self) -> Quantity:
        token = self.token
        if token.kind not in ("number", "grouped"):
            raise self.out_of_place("; a number is missing")
        if token.kind == "grouped" and self.calls:
            parts = token.text.replace(",", ", ")
            raise CalculatorError(
                f"{token.text[:60]!r} can be read as one number or as several arguments",
                f"write {token.text.replace(',', '')[:60]} or {parts[:80]}",
            )
        return scalar(written_number(self.take().text.rstrip(".").lower()))

    def call(self, function: functions.Function) -> Quantity:
        self.expect("(")
        self.deeper()
        self.calls += 1
        values: list[Quantity] = []
        while not self.is_next(")"):
            if values:
                self.expect(",")
            values.append(self.sum())
        self.expect(")")
        self.calls -= 1
        self.depth -= 1
        return function(values)


def _calculator(expression: str) -> Answer:
    try:
        found = calculate(expression)
    except CalculatorError as error:
        raise ToolError("no_value", "expression", str(error), error.hint) from None
    size = abs(Fraction(found.value))
    value = float(found.value) if size < Fraction(10) ** 308 else math.inf
    whole = found.exact and size.denominator == 1
    shown: Mapping[str, object] = {
        "value": int(found.value) if whole and size < 10**15 else value,
        "text": found.text,
        "exact": found.exact,
    }
    return Answer(
        shown,
        units={"value": found.unit} if found.unit else {},
        conventions={"arithmetic": "fractions" if found.exact else f"{PRECISION} decimal digits"},
        warnings=list(found.notes),
    )


calculator = Tool(
    "calculator",
    "Calculate exactly: + - * / ^ %, brackets, sqrt, exp, ln, log, sin, round, min, max, comb and "
    "the like, percentages (240 + 15%, 15% of 240), units (90 km / 1.5 h in m/s).",
    (Parameter("expression", "string", "what to calculate, such as 1200 * (1 + 4.5%)^10"),),
    _calculator,
)
