"""Exact arithmetic: expressions to fractions, the two tools that compute, and steps shown."""

from __future__ import annotations

import ast
from collections.abc import Callable
from decimal import Decimal
from fractions import Fraction
from functools import cache
from typing import Any

from lilith.data.instructions.conversations import plain, rounded
from lilith.quant.tool import Answer, Parameter, Tool
from lilith.shamshel import Sandbox

MOST_POWER = 400
_OPERATIONS: dict[type, Callable[[Fraction, Fraction], Fraction]] = {
    ast.Add: lambda a, b: a + b,
    ast.Sub: lambda a, b: a - b,
    ast.Mult: lambda a, b: a * b,
    ast.Div: lambda a, b: a / b,
}


def evaluate(expression: str) -> Fraction:
    """The exact value of numbers, ``+ - * / **`` and brackets.

    Raises:
      ValueError: something else in the expression, or a power that is not a whole number from
        -400 to 400.
      ZeroDivisionError: a division by zero.
    """
    try:
        tree = ast.parse(expression.strip(), mode="eval").body
    except SyntaxError as error:
        raise ValueError(f"{expression!r} is not an expression: {error.msg}") from None

    def value(node: ast.expr) -> Fraction:
        if isinstance(node, ast.Constant) and type(node.value) in (int, float):
            return Fraction(ast.get_source_segment(expression.strip(), node) or "")
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, (ast.USub, ast.UAdd)):
            inner = value(node.operand)
            return -inner if isinstance(node.op, ast.USub) else inner
        if isinstance(node, ast.BinOp):
            left, right = value(node.left), value(node.right)
            if isinstance(node.op, ast.Pow):
                if right.denominator != 1 or abs(right) > MOST_POWER:
                    raise ValueError(f"the power {right} is not a whole number up to {MOST_POWER}")
                return left ** int(right)
            if type(node.op) in _OPERATIONS:
                return _OPERATIONS[type(node.op)](left, right)
        raise ValueError(f"{ast.unparse(node)!r} is neither a number nor one of + - * / **")

    return value(tree)


def shown(value: Fraction) -> str:
    """Exactly: a decimal where that ends within 12 places, otherwise ``a/b``."""
    text = plain(value, 12)
    return text if Fraction(text) == value else f"{value.numerator}/{value.denominator}"


def json_number(value: Fraction) -> int | float:
    """Whole numbers as int, others to twelve decimals."""
    return int(value) if value.denominator == 1 else float(rounded(value, 12))


def _calculate(expression: str) -> Answer:
    return Answer({"value": json_number(evaluate(expression))})


@cache
def _sandbox() -> Sandbox:
    return Sandbox()


def _execute(code: str) -> Answer:
    run = _sandbox().run(code)
    return Answer({"status": run.status, "stdout": run.stdout})


CALCULATOR = Tool(
    "calculator",
    "Compute an expression of numbers, + - * / ** and brackets exactly.",
    (Parameter("expression", "string", "such as (120 - 85) * 1.5"),),
    _calculate,
)
EXECUTE_PYTHON = Tool(
    "execute_python",
    "Run Python (standard library) in a sandbox and return what it prints.",
    (Parameter("code", "string", "the program"),),
    _execute,
)


class Chain:
    """Numbered steps, each with an expression and its exact value.

    ``steps`` holds ``[expression, value as a fraction]``, for the check of a record.
    """

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.steps: list[list[str]] = []

    def step(self, why: str, expression: str, *, fraction: bool = False) -> Fraction:
        """Add ``why: expression = value``, as a decimal where it ends; returns the value."""
        value = evaluate(expression)
        pretty = expression.replace("**", "^").replace("*", "×")
        result = str(value) if fraction else shown(value)
        line = pretty if pretty == result else f"{pretty} = {result}"
        self.lines.append(f"Step {len(self.lines) + 1}: {why}: {line}")
        self.steps.append([expression, str(value)])
        return value

    def answer(self, text: str) -> str:
        """All lines and the answer."""
        return "\n".join([*self.lines, f"Answer: {text}"])

    def check(self, value: Fraction | Decimal) -> dict[str, Any]:
        """The steps and the answer for ``metadata.check``."""
        return {"steps": self.steps, "answer": str(Fraction(value))}
