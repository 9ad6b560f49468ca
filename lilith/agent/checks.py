"""Where the numbers of an answer come from: a tool's result, the prompt, arithmetic, or nowhere."""

from __future__ import annotations

import bisect
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from lilith.reasoning.arithmetic import ArithmeticCheck, check_arithmetic
from lilith.reasoning.exact_values import UndecidableError
from lilith.reasoning.expressions import Token, tokens, written_number
from lilith.reasoning.units import MAGNITUDES

MOST_CHECKED = 500  # numbers of an answer
MOST_KNOWN = 200_000  # numbers of results and prompts
_LONGEST = 20_000  # characters of one text that are read
_ROUNDING = Fraction(1, 10**9)  # share by which floating point may differ
_BASIS_POINTS = re.compile(r"\s*(?:bps?|basis points?)\b", re.IGNORECASE)
_MARKER = re.compile(r"[ \t]*(?:[-*#>]+[ \t]*)*\(?\d{1,3}[.):](?=\s)")
_LABELS = re.compile(
    r"(?:step|part|option|section|figure|table|item|example|case|point|phase|stage|question|level)s?",
    re.IGNORECASE,
)
_DATE = re.compile(r"\d{4}-\d\d-\d\d")


@dataclass(frozen=True)
class NumberCheck:
    """A number of an answer.

    Attributes:
      text: as written, ``answer[start:end]``, a percent sign after it included.
      verdict: "result" (a tool gave it), "prompt" (the user or the system prompt did),
        "recomputed" (it is what right arithmetic in the answer comes to), "wrong" (it is what wrong
        arithmetic comes to), or "unverified".
      note: of which tool; what a wrong one should be; "" for others.
    """

    text: str
    start: int
    end: int
    verdict: str
    note: str = ""

    @property
    def supported(self) -> bool:
        """Whether it comes from somewhere."""
        return self.verdict not in ("wrong", "unverified")


class KnownNumbers:
    """Numbers that may be repeated, each with where it comes from."""

    def __init__(self) -> None:
        self._found: dict[Fraction, tuple[str, str]] = {}
        self._dates: dict[str, tuple[str, str]] = {}
        self._sorted: list[Fraction] | None = None

    def add_text(self, text: str, verdict: str, note: str = "") -> None:
        """The numbers written in a text; of a percentage also the share that it is."""
        for number in _numbers(text[:_LONGEST]):
            for value, _ in number.readings:
                self._add(value, verdict, note)
        for date in _DATE.findall(text[:_LONGEST]):
            self._dates.setdefault(date, (verdict, note))

    def add_result(self, value: Any, note: str) -> None:
        """The numbers of a tool's answer, wherever they stand in it."""
        for item in _leaves(value):
            if isinstance(item, str):
                if item.lstrip().startswith("<svg"):
                    continue  # places in a drawing are no figures
                self.add_text(item, "result", note)
            elif item == item and abs(item) != float("inf"):
                self._add(abs(Fraction(item)), "result", note)

    def add_recomputed(self, readings: Sequence[tuple[Fraction, Fraction]]) -> None:
        """What right arithmetic comes to, which may then be said again."""
        for value, _ in readings:
            self._add(value, "recomputed", "")

    def find(self, readings: Sequence[tuple[Fraction, Fraction]]) -> tuple[str, str] | None:
        """Where a number comes from: (value, by how much rounding may have moved it) as read."""
        if self._sorted is None:
            self._sorted = sorted(self._found)
        for value, slack in readings:
            slack += value * _ROUNDING
            at = bisect.bisect_left(self._sorted, value - slack)
            if at < len(self._sorted) and self._sorted[at] <= value + slack:
                return self._found[self._sorted[at]]
        return None

    def find_date(self, date: str) -> tuple[str, str] | None:
        """Where a date comes from."""
        return self._dates.get(date)

    def _add(self, value: Fraction, verdict: str, note: str) -> None:
        if len(self._found) < MOST_KNOWN and value not in self._found:
            self._found[value] = (verdict, note)
            self._sorted = None


@dataclass(frozen=True)
class _Number:
    """A number as written; ``readings`` are its values, each with half a unit of its last digit."""

    start: int
    end: int
    readings: tuple[tuple[Fraction, Fraction], ...]


def check_numbers(
    answer: str,
    *,
    prompts: Iterable[str],
    results: Iterable[tuple[str, Mapping[str, Any]]],
) -> tuple[NumberCheck, ...]:
    """Every number of an answer, and where it comes from.

    A number may be rounded to the digits it is written with (one of a single digit must be exact),
    stand as a percentage for a share, and have lost its sign to words such as "a loss of". What a
    claim of arithmetic comes to is recomputed; what goes into it needs a source of its own.
    Numbers of lists, of labels ("step 2") and within names ("P50") are no figures.

    Args:
      prompts: what the user wrote, and the system prompt.
      results: names of tools and their answers.
    """
    known = KnownNumbers()
    for text in prompts:
        known.add_text(text, "prompt")
    for name, result in results:
        known.add_result(result, name)
    claims = {end: claim for claim in check_arithmetic(answer) for end in _ends(answer, claim)}
    numbers = list(_numbers(answer))
    for one in numbers:
        if (claim := claims.get(one.end)) is not None and claim.right:
            known.add_recomputed(one.readings)
    found = [_checked(answer, one, known, claims) for one in numbers]
    for date in _DATE.finditer(answer):
        verdict, note = known.find_date(date.group()) or ("unverified", "")
        found.append(NumberCheck(date.group(), *date.span(), verdict, note))
    return tuple(sorted(found, key=lambda one: one.start)[:MOST_CHECKED])


def _checked(
    answer: str, one: _Number, known: KnownNumbers, claims: Mapping[int, ArithmeticCheck]
) -> NumberCheck:
    text = answer[one.start : one.end]
    claim = claims.get(one.end)
    if claim is not None and claim.right is False:
        note = f"{claim.text.strip()[:200]}: it is {claim.true_value}"
        return NumberCheck(text, one.start, one.end, "wrong", note)
    verdict, note = known.find(one.readings) or ("unverified", "")
    return NumberCheck(text, one.start, one.end, verdict, note)


def _ends(answer: str, claim: ArithmeticCheck) -> list[int]:
    """Where the number that a claim comes to ends."""
    own = list(_numbers(answer[claim.start : claim.end]))
    return [claim.start + own[-1].end] if own else []


def _numbers(text: str) -> Iterator[_Number]:
    """The figures in a text."""
    markers = {found.end() for line in _lines(text) if (found := _MARKER.match(text, line))}
    parts = list(tokens(text))
    for at, part in enumerate(parts):
        if part.kind != "number" or part.text[-1].isalpha():
            continue
        before = parts[at - 1] if at else None
        after = parts[at + 1] if at + 1 < len(parts) else None
        if after is not None and after.end in markers and after.start == part.end:
            continue
        if before is not None and (before.kind == "power" or _LABELS.fullmatch(before.text)):
            continue
        if before is not None and before.end == part.start and before.text in ("_", "#"):
            continue
        number = _number(text, part, after)
        if number is not None:
            yield number


def _number(text: str, part: Token, after: Token | None) -> _Number | None:
    try:
        value = abs(written_number(part.text))
    except UndecidableError:
        return None
    slack, end = _half_unit(part.text), part.end
    readings = [(value, slack)]
    if after is not None and after.kind == "percent":
        readings.append((value / 100, slack / 100))
        end = after.end
    elif after is not None and after.kind == "magnitude":
        size = MAGNITUDES[after.text.lower()]
        readings.append((value * size, slack * size))
        end = after.end
    elif basis := _BASIS_POINTS.match(text, part.end):
        readings.append((value / 10_000, slack / 10_000))
        end = basis.end()
    return _Number(part.start, end, tuple(readings))


def _half_unit(written: str) -> Fraction:
    """Half a unit of the last digit; nothing for a single digit, which nobody rounds to."""
    mantissa, _, exponent = written.lower().replace(",", "").replace("{}", "").partition("e")
    whole, _, decimals = mantissa.partition(".")
    if not mantissa.replace(".", "").isdecimal() or (not decimals and len(whole) < 2):
        return Fraction(0)
    return Fraction(1, 2) * Fraction(10) ** (int(exponent or 0) - len(decimals))


def _lines(text: str) -> Iterator[int]:
    """Where each line begins."""
    yield 0
    yield from (found.end() for found in re.finditer("\n", text))


def _leaves(value: Any) -> Iterator[Any]:
    """The texts and numbers within a JSON value."""
    if isinstance(value, Mapping):
        for item in value.values():
            yield from _leaves(item)
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from _leaves(item)
    elif isinstance(value, (str, int, float)) and not isinstance(value, bool):
        yield value
