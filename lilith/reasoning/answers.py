"""Answers in one form, so that those that say the same are equal and can be counted.

Numbers are compared as numbers (0.5, 1/2, 50%, "one half", ``\\frac{1}{2}``), with their units
where both have one; letters of choices in any case; all else as text without case, space and
punctuation.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from typing import NamedTuple

from lilith.reasoning.expressions import value_of
from lilith.reasoning.units import (
    CURRENCIES,
    MAGNITUDES,
    number_in_words,
    singular,
    unit_of,
)

LONGEST = 10_000  # characters of an answer that are compared
_LATEX = (
    (re.compile(r"\\(?:text|mathrm|mathbf|textbf|mbox|operatorname)\s*\{([^{}]*)\}"), r" \1 "),
    (re.compile(r"\\(?:left|right|displaystyle)(?![a-z])|\\[,;:!() ]|\\quad|\\[\[\]]"), " "),
    (re.compile(r"\{,\}"), ","),
    (re.compile(r"\\([%$#&_])"), r"\1"),
    (re.compile(r"\^\s*(?:\\circ|\{\s*\\circ\s*\})"), "°"),
)
_BOXED = re.compile(r"\\(?:boxed|fbox)\s*\{(.*)\}", re.DOTALL)
_MATHS = re.compile(r"(\$\$?)(?!\d[\d,.]*\s*$)(.+?)\1", re.DOTALL)
_SAID = re.compile(
    r"(?:(?:final|the|my|correct|so|is)\s+)*answer\s*(?:is\s*:?|[:=])\s*|[a-z]\s*=\s*(?=[-−+.\d$\\√(])",
    re.IGNORECASE,
)
_ABOUT = re.compile(
    r"(?:about|approximately|approx\.?|roughly|around|nearly|almost|[~≈]|\\approx)\s*",
    re.IGNORECASE,
)
_CHOICE = re.compile(
    r"(?:(?:option|choice|answer)\s*)?(?:[(\[]\s*([a-z])\s*[)\]]|([a-z])\s*[).:]?)", re.IGNORECASE
)
_NUMBER_THEN_UNIT = re.compile(
    r"(?P<number>.*?[\d%)}½⅓⅔¼¾⅕⅛π²³])\s*(?P<unit>[^\W\d][^\d=+*^]*|°\s?[CF]?|[$€£¥₹¢])?", re.DOTALL
)
_LOOSE = re.compile(r"['’`]")
_MARKS = re.compile(r"(?<!\d)[.,:]|[.,:](?!\d)|[;!?\"“”„()\[\]{}*_#]")
_HYPHEN = re.compile(r"(?<=[^\W\d_]{2})[-–—](?=[^\W\d_]{2})")


@dataclass(frozen=True)
class Canonical:
    """An answer in one form.

    Attributes:
      kind: "number", "choice" or "text".
      text: what a choice (its letter) or a text is compared by; a number's value in words.
      value: a number's value, in the base unit of its dimension where its unit is known.
      unit: the dimension of a known unit ("length", "dollars"), any other unit's words, or "".
      bare: a number's value as written, before its unit was converted.
    """

    kind: str
    text: str
    value: Fraction | None = None
    unit: str = ""
    bare: Fraction | None = None


class Vote(NamedTuple):
    """Answers that say the same: the first of them, how many, and at which places they stand."""

    representative: str
    votes: int
    members: tuple[int, ...]


def canonical(answer: str) -> Canonical:
    """The one form of an answer as it was stated."""
    plain = _plain(answer)
    number = _number(plain)
    if number is not None:
        return number
    choice = _CHOICE.fullmatch(plain)
    if choice:
        return Canonical("choice", (choice[1] or choice[2]).upper())
    text = _HYPHEN.sub(" ", unicodedata.normalize("NFKC", plain).casefold())
    text = " ".join(_MARKS.sub(" ", _LOOSE.sub("", text)).split())
    return Canonical("text", text or " ".join(plain.split()))


def same_answer(
    a: str | Canonical | None, b: str | Canonical | None, tolerance: float = 1e-9
) -> bool:
    """Whether two answers say the same; no answer (None) is the same as nothing.

    Args:
      tolerance: by what share of the larger one two numbers may differ.
    """
    if a is None or b is None:
        return False
    one = a if isinstance(a, Canonical) else canonical(a)
    other = b if isinstance(b, Canonical) else canonical(b)
    if one.value is None or other.value is None or one.bare is None or other.bare is None:
        return (one.kind, one.text) == (other.kind, other.text)
    if one.unit and other.unit:
        if not _same_unit(one.unit, other.unit):
            return False
        return _close(one.value, other.value, tolerance)
    return _close(one.bare, other.bare, tolerance)


def votes(answers: Iterable[str | None], tolerance: float = 1e-9) -> list[Vote]:
    """Answers counted by what they say: most first, ties by the first seen.

    ``members`` of a vote are places in ``answers``. Places without an answer (None, or only
    space) are in none. An answer joins the first group whose representative says the same.
    """
    groups: list[tuple[str, Canonical, list[int]]] = []
    for place, answer in enumerate(answers):
        if answer is None or not answer.strip():
            continue
        form = canonical(answer)
        for _, other, members in groups:
            if same_answer(form, other, tolerance):
                members.append(place)
                break
        else:
            groups.append((answer, form, [place]))
    counted = [Vote(first, len(members), tuple(members)) for first, _, members in groups]
    return sorted(counted, key=lambda vote: -vote.votes)


def plain_latex(text: str) -> str:
    """A text without LaTeX's marks of spacing, brackets' sizes and words; fractions stay."""
    for pattern, replacement in _LATEX:
        text = pattern.sub(replacement, text)
    return text


def _plain(answer: str) -> str:
    """An answer without what only wraps it: a box, dollars of maths, emphasis, a full stop."""
    text = unicodedata.normalize("NFC", answer[:LONGEST]).strip()
    for _ in range(4):  # "**Answer: $\boxed{5}$.**" has four wrappings
        before = text
        text = text.strip().strip("*_`").strip()
        boxed = _BOXED.fullmatch(text)
        text = boxed[1] if boxed else text
        maths = _MATHS.fullmatch(text)
        text = maths[2] if maths else text
        text = text[2:-2] if re.fullmatch(r"\\[(\[].*\\[)\]]", text, re.DOTALL) else text
        text = re.sub(r"(?<=[^.])[.,;!]$", "", text.strip())
        said = _SAID.match(text)
        text = text[said.end() :] if said and said.end() < len(text) else text
        if text == before:
            break
    return plain_latex(text).strip()


def _number(plain: str) -> Canonical | None:
    """The answer as a number with its unit; None where it is none."""
    about = _ABOUT.match(plain)
    text = plain[about.end() :] if about else plain
    text = text.replace("−", "-").strip()
    if not text or len(text) > 600:
        return None
    text, unit = _currency(text)
    value = _value(text)
    if value is None and (found := _NUMBER_THEN_UNIT.fullmatch(text)):
        words = (found["unit"] or "").strip(" .")
        value, unit = _value(found["number"]), unit or words
        first, _, rest = words.partition(" ")
        if value is not None and first.lower() in MAGNITUDES:
            value, unit = value * MAGNITUDES[first.lower()], unit if unit != words else rest
    if value is None:
        value, unit = _spelled(text, unit)
    if value is None:
        return None
    return _with_unit(value, unit)


def _with_unit(value: Fraction, unit: str) -> Canonical:
    known = unit_of(unit) if unit else None
    if known is None and unit.lower().startswith("per cent"):
        return Canonical("number", str(value / 100), value / 100, "", value / 100)
    if known is None:
        words = " ".join(singular(word) for word in re.findall(r"[^\W_]+", unit.lower()))
        return Canonical("number", str(value), value, words, value)
    dimension, size = known
    return Canonical("number", f"{value * size} {dimension}", value * size, dimension, value)


def _currency(text: str) -> tuple[str, str]:
    """The text without a sign of currency before its number, and that sign."""
    found = re.match(rf"([-+]?\s*\(?)([{CURRENCIES}])(?=[-\s]*[\d.])", text)
    if found is None:
        return text, ""
    return text[: found.start(2)] + text[found.end() :].lstrip(), found[2]


def _spelled(text: str, unit: str) -> tuple[Fraction | None, str]:
    """A number in words, and what unit follows it: "twenty-five apples"."""
    words = text.split()
    for count in range(min(len(words), 12), 0, -1):
        value = number_in_words(" ".join(words[:count]))
        if value is not None and len(words) - count <= 3:
            rest = " ".join(words[count:])
            if rest.lower() in ("percent", "per cent"):
                return value / 100, unit
            return value, unit or rest
    return None, ""


def _value(text: str) -> Fraction | None:
    value = value_of(text)
    return Fraction(value) if isinstance(value, Decimal) else value


def _same_unit(one: str, other: str) -> bool:
    """Whether units are the same; "clip" and "paper clip" share their last word."""
    return one == other or one.split()[-1] == other.split()[-1]


def _close(one: Fraction, other: Fraction, tolerance: float) -> bool:
    return abs(one - other) <= Fraction(tolerance) * max(abs(one), abs(other))
