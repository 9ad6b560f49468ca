"""Messages and records put together, and numbers written as people write them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from decimal import Decimal
from fractions import Fraction
from typing import Any

from lilith.data.instructions.drawing import Conversation, Draw


def user(text: str) -> dict[str, Any]:
    """A user's message."""
    return {"role": "user", "content": text}


def assistant(text: str) -> dict[str, Any]:
    """An assistant's message."""
    return {"role": "assistant", "content": text}


def called(name: str, arguments: dict[str, Any], result: dict[str, Any]) -> list[dict[str, Any]]:
    """An assistant's message that calls tool ``name``, and the tool's answer."""
    call = {"name": name, "arguments": arguments}
    answer = json.dumps({"ok": True, "result": result}, separators=(",", ":"))
    return [
        {"role": "assistant", "content": "", "tool_calls": [call]},
        {"role": "tool", "content": answer},
    ]


def conversation(
    kind: str,
    domain: str,
    difficulty: str,
    messages: list[dict[str, Any]],
    check: dict[str, Any],
) -> Conversation:
    """A record; it requires tools where one of its messages calls one.

    Raises:
      TypeError: ``check`` can not be written as JSON.
    """
    json.dumps(check)
    metadata = {
        "domain": domain,
        "difficulty": difficulty,
        "requires_tools": any(message.get("tool_calls") for message in messages),
        "kind": kind,
        "check": check,
    }
    return {"messages": messages, "metadata": metadata}


def joined(items: Sequence[str], word: str = "and") -> str:
    """``a, b and c``."""
    return items[0] if len(items) == 1 else f"{', '.join(items[:-1])} {word} {items[-1]}"


def bullets(lines: Sequence[str]) -> str:
    """A list in Markdown, one item a line."""
    return "\n".join(f"- {line}" for line in lines)


def steps(lines: Sequence[str]) -> str:
    """A numbered list."""
    return "\n".join(f"{i}. {line}" for i, line in enumerate(lines, 1))


def table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A table in Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)


def rounded(value: Fraction | Decimal | int, places: int) -> Decimal:
    """To ``places`` decimals, halves away from zero, computed exactly."""
    scaled = abs(Fraction(value)) * 10**places
    units = int(scaled + Fraction(1, 2))
    return Decimal(-units if value < 0 else units).scaleb(-places)


def plain(value: Fraction | Decimal | int, places: int = 6) -> str:
    """A decimal without an exponent and without trailing zeros, at most ``places`` decimals."""
    text = f"{rounded(value, places):f}"
    text = text.rstrip("0").rstrip(".") if "." in text else text
    return "0" if text == "-0" else text


def grouped(value: Fraction | Decimal | int, places: int = 2) -> str:
    """``1,234.50``; whole numbers without decimals."""
    whole = Fraction(value).denominator == 1
    return f"{rounded(value, 0 if whole else places):,f}"


_MONEY = ("${}", "{} USD", "USD {}", "{} dollars", "€{}", "EUR {}", "£{}", "CHF {}")


def money_format(draw: Draw) -> str:
    """A pattern for amounts of one conversation: ``"${}"``, ``"CHF {}"``, ..."""
    return draw.choice(_MONEY)


def percent(draw: Draw, points: Decimal) -> str:
    """``20%``, ``20 percent``, ``0.2``, ...: ``points`` are hundredths."""
    shown = plain(points)
    ways = (f"{shown}%", f"{shown} %", f"{shown} percent", f"{shown} per cent")
    return draw.choice((*ways, f"{plain(points / 100)} (as a fraction)", f"{shown}%"))


def months(draw: Draw, count: int) -> str:
    """``6 months``, ``0.5yr``, ``half a year``, ..."""
    ways = [f"{count} months" if count != 1 else "1 month", f"{count}m"]
    if count % 3 == 0:
        years = plain(Fraction(count, 12))
        ways += [f"{years}yr", f"{years} years" if count != 12 else "1 year"]
    if count == 6:
        ways.append("half a year")
    return draw.choice(ways)
