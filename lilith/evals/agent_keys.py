"""What an answer must say to be right: a figure, a day, a chain of tasks."""

from __future__ import annotations

import datetime
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from lilith.agent.checks import check_numbers

_WHOLE = 3  # digits of a whole number that say enough of a figure that is none


class Key(Protocol):
    """One thing that a right answer says."""

    def said_in(self, answer: str) -> bool: ...

    def to_dict(self) -> dict[str, Any]: ...


@dataclass(frozen=True)
class Figure:
    """A number that is said, rounded or as a percentage, with its sign or in words for it.

    It may be rounded to one decimal at two significant digits, to two decimals, to three
    significant digits, or to whole percents: a price of 9.62 may be 9.6 and not 10.

    Attributes:
      name: what it is; values: any of them is right, such as a Greek a year and a day.
    """

    name: str
    values: tuple[float, ...]

    def said_in(self, answer: str) -> bool:
        """Whether one of the values stands in the answer."""
        return any(self._said(value, answer) for value in self.values)

    def _said(self, value: float, answer: str) -> bool:
        found = check_numbers(answer, prompts=(), results=[(self.name, {"value": value})])
        return any(one.verdict == "result" and _says_enough(one.text, value) for one in found)

    def to_dict(self) -> dict[str, Any]:
        """The key as JSON."""
        return {"figure": self.name, "values": list(self.values)}


def _says_enough(text: str, value: float) -> bool:
    """Whether a number that is ``value`` rounded keeps enough of its digits."""
    written = text.replace(",", "").rstrip("%").strip()
    try:
        number = float(written)
    except ValueError:  # such as 1.2k
        return True
    if number == 0 or number == abs(value):
        return number == abs(value)
    decimals = len(written.partition(".")[2])
    digits = len(written.replace(".", "").strip("-").lstrip("0"))
    return "%" in text or decimals >= 2 or digits >= _WHOLE or (decimals == 1 and digits == 2)


@dataclass(frozen=True)
class Day:
    """A date, in digits or in words with the month's name; the year may be left out in words."""

    day: datetime.date

    def said_in(self, answer: str) -> bool:
        """Whether the date stands in the answer."""
        own = self.day
        month = f"{own:%B}"
        names = month if len(month) <= 4 else rf"(?:{month}|{month[:3]}\.?)"
        number = rf"0?{own.day}(?:st|nd|rd|th)?"
        year = rf"(?!,? (?!{own.year}\b)\d{{4}})"  # no other year follows
        forms = (
            rf"\b{own.isoformat()}\b",
            rf"\b{number} (?:of )?{names}\b{year}",
            rf"\b{names} {number}\b{year}",
        )
        return any(re.search(form, answer, re.IGNORECASE) for form in forms)

    def to_dict(self) -> dict[str, Any]:
        """The key as JSON."""
        return {"day": self.day.isoformat()}


@dataclass(frozen=True)
class Chain:
    """Tasks that are named one after the other, no other task between them.

    Attributes:
      path: the names, in order; tasks: the names of all tasks.
    """

    path: tuple[str, ...]
    tasks: tuple[str, ...]

    def said_in(self, answer: str) -> bool:
        """Whether the names stand in the answer as a chain that no other task goes on with."""
        words = "|".join(sorted(map(re.escape, self.tasks), key=len, reverse=True))
        named = list(re.finditer(rf"\b(?:{words})\b", answer, re.IGNORECASE))
        names = [found.group().lower() for found in named]
        wanted = [name.lower() for name in self.path]
        for first in range(len(names) - len(wanted) + 1):
            last = first + len(wanted) - 1
            if names[first : last + 1] == wanted and not (
                _linked(answer, named[first - 1 : first + 1] if first else ())
                or _linked(answer, named[last : last + 2])
            ):
                return True
        return False

    def to_dict(self) -> dict[str, Any]:
        """The key as JSON."""
        return {"path": list(self.path)}


def _linked(answer: str, two: Sequence[re.Match[str]]) -> bool:
    """Whether two names stand in one list: nothing but marks, "and" or "then" between them."""
    if len(two) < 2:
        return False
    between = answer[two[0].end() : two[1].start()]
    return bool(re.fullmatch(r"[\s,>|→*`\"'-]*(?:and|then|to)?[\s,>|→*`\"'-]*", between))


def figure(result: Mapping[str, Any], *path: str | int, name: str = "") -> Figure:
    """The figure at ``path`` of a tool's result, to ten digits: a weight of 1 is said as 1."""
    value: Any = result
    for key in path:
        value = value[key]
    return Figure(name or str(path[-1]), (float(f"{float(value):.10g}"),))
