"""Claims of arithmetic in a text, found and recomputed exactly.

A claim is two expressions with "=", "is", "≈" or the like between them, at least one of which
computes something: ``12 * 3 = 36``, ``15% of 240 is 36``, ``10 / 3 ≈ 3.33``. Words after a number
are its unit. Algebra, code, dates and ratios are left alone.
"""

from __future__ import annotations

import dataclasses
import itertools
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction

from lilith.reasoning.exact_values import (
    UndecidableError,
    Value,
    exact_text,
    fraction,
)
from lilith.reasoning.expressions import (
    NotArithmeticError,
    Token,
    agrees,
    compute,
    tokens,
    written_number,
)
from lilith.reasoning.units import unit_of

MOST_TOKENS = 20_000  # of lines with a relation that are looked at, in one text
MOST_UNIT_WORDS = 3
_BINARY = frozenset({"plus", "minus", "power", "times", "divide", "modulo", "of"})
_OPERATIONS = _BINARY | {"frac", "sqrt", "twice", "factorial", "squared"}
_ENDINGS = frozenset({"number", "close", "percent", "pi", "magnitude", "factorial", "squared"})
_EXPRESSION = _OPERATIONS | _ENDINGS | {"open", "currency", "unit"}
_NO_UNIT = re.compile(
    r"and|so|then|but|which|that|with|the|an?|is|are|was|if|or|to|from|for|in|by|on|we|s?he|they|it"
    r"|because|since|therefore|thus|hence|now|gives|not|while|when|where|as|at",
    re.IGNORECASE,
)
_EXACT = re.compile(r"=|is|are|equals?|to|makes|gives|leaves", re.IGNORECASE)
_LINE = re.compile(r"(?<![=≈])\n(?!\s*&?\s*(?:=|≈|\\approx))")
_RELATION = re.compile(
    r"[=≈≃≅]|\\approx|\\simeq|\b(?:is|are|equals?|makes|gives|leaves|comes\s+to)\b", re.IGNORECASE
)
_TWO_READINGS = re.compile(r"[/÷]\s+\d+/\d+")
_DIGIT = re.compile(r"\d")
_APART = frozenset(("<<", ">>", "\\\\"))  # marks that an expression may stand close to
_BULLET = re.compile(r"\s*(?:>\s*)*(?:[-*+•–]\s+)?(?:\*\*(?=\S))?")
_REMAINDER = re.compile(
    r"\s*,?\s*(?:with\s+)?(?:an?\s+)?(?:remainder|rem\.?|r)\s*(?:of\s*)?(\d{1,18})\b", re.IGNORECASE
)


@dataclass(frozen=True)
class ArithmeticCheck:
    """A claim, recomputed.

    Attributes:
      text: the claim as written, ``source[start:end]``.
      start, end: where it stands in the text that was checked.
      claimed: the value that is claimed, as ``Fraction`` reads it; "" where it can not be computed.
      true_value: what the left side comes to, as ``Fraction`` reads it (an irrational value to
        twenty digits); "" where it can not be computed.
      right: True, False, or None where it is not decidable.
      note: why it is not decidable, or what is special about it; "" for most.
    """

    text: str
    start: int
    end: int
    claimed: str
    true_value: str
    right: bool | None
    note: str = ""


@dataclass(frozen=True)
class _Side:
    """An expression beside a relation; ``whole`` is False where something hangs on to it."""

    parts: tuple[Token, ...]
    whole: bool

    @property
    def computes(self) -> bool:
        return self.whole and any(
            (part.kind in _OPERATIONS and not (part.kind == "minus" and index == 0))
            or [after.kind for after in self.parts[index : index + 2]] == ["percent", "number"]
            for index, part in enumerate(self.parts)
        )


def check_arithmetic(text: str) -> list[ArithmeticCheck]:
    """Every claim of arithmetic in a text, in order, recomputed.

    With "=" a claim is right where both sides are the same number; where the true value does not
    end, or ends only after four decimals, also where it is rounded correctly to the decimals
    written (to the cent for money). With "≈", "about" and the like, rounding to the digits
    written is right always. Of a chain ``2 + 3 = 5 + 1 = 6`` each link is a claim.

    Looks at the first :data:`MOST_TOKENS` tokens of lines with a relation: the time is bounded.
    """
    checks: list[ArithmeticCheck] = []
    left = MOST_TOKENS
    start = 0
    for found in itertools.chain(_LINE.finditer(text), [None]):
        end = found.start() if found else len(text)
        if left > 0 and _DIGIT.search(text, start, end) and _RELATION.search(text, start, end):
            line = list(itertools.islice(tokens(text, _line_start(text, start, end), end), left))
            left -= len(line)
            checks += _line_checks(text, _with_units(line))
        start = found.end() if found else end
    return checks


def _line_start(text: str, start: int, end: int) -> int:
    """Where a line's text begins after the mark of a list."""
    found = _BULLET.match(text, start, end)
    return found.end() if found else start


def _with_units(line: list[Token]) -> list[Token]:
    """The tokens with the words that are units, emphasis and letters of algebra told apart."""
    made: list[Token] = []
    at = 0
    while at < len(line):
        token = line[at]
        ended = bool(made) and made[-1].kind in (*_ENDINGS, "unit")
        if token.kind == "word" and ended:
            count = _unit_words(line, at)
            made += [word._replace(kind="unit") for word in line[at : at + count]]
            at += count
            if count:
                continue
        if token.kind == "divide" and ended and token.text == "/" and _is_word(line, at + 1):
            made.append(token._replace(kind="unit"))  # $5/hour
        elif not (token.text in ("*", "**") and _is_emphasis(line, at, ended)):
            made.append(token)
        at += 1
    return made


def _is_word(line: Sequence[Token], at: int) -> bool:
    return at < len(line) and line[at].kind == "word" and len(line[at].text) > 1


def _unit_words(line: Sequence[Token], at: int) -> int:
    """How many words from here are the unit of the number before them."""
    end = at
    while end < len(line) and line[end].kind == "word" and end - at <= MOST_UNIT_WORDS:
        end += 1
    words = line[at:end]
    if len(words) > MOST_UNIT_WORDS or any(_NO_UNIT.fullmatch(word.text) for word in words):
        return 0
    if any(len(word.text) == 1 and unit_of(word.text) is None for word in words):
        return 0  # 2x + 3y
    follows = line[end].kind if end < len(line) else "sign"
    return 0 if follows in ("number", "open", "currency", "frac", "sqrt") else len(words)


def _is_emphasis(line: Sequence[Token], at: int, ended: bool) -> bool:
    """Whether ``*`` or ``**`` is Markdown: it stands close to one side only, or has no operand."""
    follows = line[at + 1] if at + 1 < len(line) else None
    if not ended or follows is None or follows.kind in ("relation", "sign", "other"):
        return True
    tight = line[at - 1].end == line[at].start
    if follows.kind == "word":
        return not tight and line[at].end == follows.start
    return line[at].text == "**" and tight and line[at].end != follows.start


def _line_checks(text: str, line: Sequence[Token]) -> Iterator[ArithmeticCheck]:
    """The claims of a line: each relation with the expressions on both sides of it."""
    relations = [index for index, token in enumerate(line) if token.kind == "relation"]
    edges = [-1, *relations, len(line)]
    spans = list(itertools.pairwise(edges))
    chained: Value | None = None  # the value of the chain before the left side
    for number, at in enumerate(relations):
        before, after = line[spans[number][0] + 1 : at], line[at + 1 : spans[number + 1][1]]
        left, right = _left_side(text, line, before, at), _right_side(text, after)
        joined = number > 0 and len(left.parts) == len(before)
        chained = chained if joined else None
        if not left.whole or not right.whole:
            chained = None
            continue
        claim = _claim(text, left, line[at], right, chained)
        if claim is not None and (claim.right or not _is_range(left, line[at])):
            yield claim
            chained = chained or _value(left.parts)
        else:
            chained = None


def _left_side(text: str, line: Sequence[Token], before: Sequence[Token], at: int) -> _Side:
    """The longest expression that ends where the relation begins."""
    count = 0
    while count < len(before) and before[-1 - count].kind in _EXPRESSION:
        count += 1
    parts = list(before[len(before) - count :])
    parts = parts[max((i for i in range(len(parts)) if _two_numbers(parts, i)), default=0) :]
    opened: list[int] = []
    cut = 0
    for index, part in enumerate(parts):
        if part.kind == "open":
            opened.append(index)
        elif part.kind == "close":
            if not opened:
                cut = index + 1
            else:
                opened.pop()
    cut = max(cut, opened[-1] + 1 if opened else 0)
    parts = parts[cut:]
    while parts and parts[0].kind == "unit":
        parts.pop(0)
    if not any(part.kind in ("number", "pi") for part in parts):
        return _Side((), False)
    first = at - len(parts)
    earlier = line[first - 1] if first > 0 else None
    return _Side(tuple(parts), _begins(text, parts[0], earlier))


def _two_numbers(parts: Sequence[Token], at: int) -> bool:
    """Whether a number begins here right after another one: two expressions, but for 2 1/2."""
    if at == 0 or parts[at].kind not in ("number", "currency") or parts[at - 1].kind != "number":
        return False
    if parts[at].text in "½⅓⅔¼¾⅕⅛":
        return False
    kinds = [part.kind for part in parts[at : at + 3]]
    return kinds != ["number", "divide", "number"] or parts[at].end != parts[at + 1].start


def _is_aside(parts: Sequence[Token], at: int) -> bool:
    """Whether "(" begins a remark on the number before it: "4 (15 minutes)"."""
    opens = at > 0 and parts[at].text == "(" and parts[at - 1].kind in ("number", "unit")
    return opens and parts[at - 1].end < parts[at].start


def _begins(text: str, first: Token, earlier: Token | None) -> bool:
    """Whether an expression begins here, and does not go on from a letter of algebra or a call."""
    if earlier is None or earlier.kind in ("relation", "open"):
        return first.kind not in _BINARY or first.kind in ("plus", "minus")
    close = earlier.end == first.start
    if first.kind in _BINARY:
        # "x - 5" goes on from x; "is: -5" and "get -5" have a sign.
        tight = first.kind in ("plus", "minus") and text[first.end : first.end + 1] not in (" ", "")
        word = earlier.kind == "word" and len(earlier.text) > 1
        return tight and not close and (word or earlier.text in ":,;")
    if earlier.text in _APART:
        return True
    return not (close and (earlier.kind in ("word", "other") or earlier.text in "_'\"\\"))


def _right_side(text: str, after: Sequence[Token]) -> _Side:
    """The longest expression that begins after the relation."""
    count = depth = 0
    while count < len(after) and after[count].kind in _EXPRESSION:
        depth += (after[count].kind == "open") - (after[count].kind == "close")
        if depth < 0 or _two_numbers(after, count) or _is_aside(after, count):
            break
        count += 1
    parts, rest = list(after[:count]), after[count:]
    while parts and parts[-1].kind == "unit" and len(parts) > 1:
        parts.pop()
    if not any(part.kind in ("number", "pi") for part in parts):
        return _Side((), False)
    if count and after[count - 1].kind in _BINARY:
        return _Side((), False)  # 8 = 5 + x
    close = bool(rest) and count > 0 and rest[0].start == after[count - 1].end
    hangs = close and (rest[0].kind in ("word", "other", "open") or rest[0].text in "_\\'")
    return _Side(tuple(parts), not (hangs and rest[0].text not in _APART))


def _is_range(left: _Side, relation: Token) -> bool:
    """Whether "3-5 is", "10/3 is": a range or a date before a verb."""
    if not relation.text[:1].isalpha():
        return False
    operations = [i for i, part in enumerate(left.parts) if part.kind in _OPERATIONS and i]
    return bool(operations) and all(
        left.parts[i].kind in ("minus", "divide")
        and left.parts[i - 1].end == left.parts[i].start
        and i + 1 < len(left.parts)
        and left.parts[i].end == left.parts[i + 1].start
        for i in operations
    )


def _value(parts: Sequence[Token], *, relative_percent: bool = False) -> Value | None:
    try:
        return compute(parts, relative_percent=relative_percent)
    except ValueError:
        return None


def _claim(
    text: str, left: _Side, relation: Token, right: _Side, chained: Value | None
) -> ArithmeticCheck | None:
    """The check of one relation; None where it is no claim of arithmetic."""
    if not left.computes and not right.computes and chained is None:
        return None
    if not left.computes and not right.computes and _units(left.parts) != _units(right.parts):
        return None  # ... = 1.5 hours = 90 minutes
    start, end = left.parts[0].start, right.parts[-1].end
    note = ""
    values: list[Value | None] = []
    for side in (left, right):
        try:
            values.append(compute(side.parts))
        except NotArithmeticError:
            return None
        except UndecidableError as error:
            values.append(None)
            note = note or str(error)
    true, claimed = values
    shown = ["" if value is None else exact_text(value) for value in values]
    check = ArithmeticCheck(text[start:end], start, end, shown[1], shown[0], None, note)
    if true is None or claimed is None:
        return check
    remainder = _REMAINDER.match(text, end)
    if remainder:
        return _with_remainder(check, left.parts, claimed, remainder, text)
    about = _EXACT.fullmatch(relation.text.strip("= ").rpartition(" ")[2] or "=") is None
    if right.parts[0].kind == "number" and _ellipsis_follows(text, end):
        about = True
    good = agrees(true, claimed, right.parts, about)
    if not good and chained is not None:
        good = not left.computes and agrees(chained, claimed, right.parts, about)
    if not good and any(part.kind == "percent" for part in left.parts):
        other = _value(left.parts, relative_percent=True)
        good = other is not None and agrees(other, claimed, right.parts, about)
    if good or _agrees_loosely(true, claimed, left, right, about):
        return dataclasses.replace(check, right=True)
    return _not_right(check, left, relation, right)


def _agrees_loosely(true: Value, claimed: Value, left: _Side, right: _Side, about: bool) -> bool:
    """Whether a claim is right as people write percent and dozens."""
    kinds = {part.kind for part in left.parts}, {part.kind for part in right.parts}
    if "percent" in kinds[1] - kinds[0] and agrees(true / 100, claimed, right.parts, about):
        return True  # 45 / 60 * 100 = 75%
    if "percent" in kinds[0] and agrees(true * 100, claimed, right.parts, about):
        return True  # 45 / 60 * 100% = 75
    if not any(part.text.lower() == "dozen" for part in (*left.parts, *right.parts)):
        return False
    plain = [
        [part for part in side.parts if part.text.lower() != "dozen"] for side in (left, right)
    ]
    values = [_value(parts) for parts in plain]  # 84 / 12 = 7 dozen
    return None not in values and values[0] == values[1]


def _not_right(
    check: ArithmeticCheck, left: _Side, relation: Token, right: _Side
) -> ArithmeticCheck | None:
    """Wrong, unless what is written is no claim or can be read in another way."""
    written = (*left.parts, *right.parts)
    named = any(part.kind == "unit" for part in left.parts) or relation.text[:1].isalpha()
    if right.computes and not left.computes and named:
        return None  # "5 phones is $153 x 5": the left side names what is computed
    if left.parts[0].text[:1] == "0" and left.parts[0].text.isdigit() and left.parts[0].text != "0":
        return None  # the end of "350 000"
    if _TWO_READINGS.search(check.text):
        return dataclasses.replace(check, note="a / b/c can be read in two ways")
    units = _units((*left.parts, *right.parts))
    if len({unit[1] for unit in units}) > 1:
        return dataclasses.replace(check, note="units of different size are mixed")
    if any(part.kind == "unit" and len(part.text) == 1 for part in written):
        return None  # 2g + 80 = 4g
    if right.computes and len(right.parts) > 1:
        note = 'the two sides of "=" are not equal'
        return dataclasses.replace(check, right=False, note=note)
    return dataclasses.replace(check, right=False)


def _units(parts: Sequence[Token]) -> set[tuple[str, Fraction]]:
    """The known units in an expression."""
    found = (unit_of(part.text) for part in parts if part.kind in ("unit", "currency"))
    return {unit for unit in found if unit is not None}


def _ellipsis_follows(text: str, end: int) -> bool:
    return text.startswith(("...", "…", "\\dots", "\\ldots"), end)


def _with_remainder(
    check: ArithmeticCheck, left: Sequence[Token], claimed: Value, found: re.Match[str], text: str
) -> ArithmeticCheck:
    """17 / 5 = 3 remainder 2."""
    check = dataclasses.replace(check, text=text[check.start : found.end()], end=found.end())
    parts = [part for part in left if part.kind not in ("currency", "unit")]
    if [part.kind for part in parts] != ["number", "divide", "number"]:
        return dataclasses.replace(check, note="a remainder of something else than a division")
    top, bottom = written_number(parts[0].text), written_number(parts[2].text)
    rest = int(found[1])
    return dataclasses.replace(
        check, right=fraction(claimed) * bottom + rest == top and rest < bottom
    )
