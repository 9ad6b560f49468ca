"""The project's own word problems: exact, different, and none that a model is tuned on."""

from __future__ import annotations

import math
import re
from collections import Counter
from fractions import Fraction

import pytest

from lilith.config import UserError
from lilith.data.instructions.registry import kinds, make, user_prompt
from lilith.evals.word_problems import PERCENT, TEMPLATES, Item, word_problems
from lilith.reasoning.answers import canonical
from lilith.reasoning.prompting import question_kind

ITEMS = word_problems()


def numbers(item: Item) -> list[Fraction]:
    """The numbers in a problem's text, in order."""
    found = re.findall(r"\d[\d,]*(?:\.\d+)?", item.problem)
    return [Fraction(text.rstrip(",").replace(",", "")) for text in found]


def clock(hours: Fraction, minutes: Fraction) -> Fraction:
    return 60 * hours + minutes


# Each template's answer from the numbers that its text shows, worked out again here.
SOLVED = {
    "A lorry": lambda a, b, c: a * b - c,
    "A theatre": lambda a, b, c, d: a * b + c * d,
    "Noor": lambda a, b, c: (a - b) / c,
    "A tank": lambda a, b, c, d: a + (b - c) * d,
    "A coat": lambda a, b: a - a * b / 100,
    "members": lambda a, b: b / a * 100,
    "friends": lambda a, b, c: b * (1 + c / 100) / a,
    "A firm": lambda a, b, c: a * b / 100 * c / 100,
    "Ines": lambda a, b: a * b / 100,
    "Omar": lambda a, b, c: c / b / a * 100,
    "A credit": lambda a, b, c: b * (1 + a / 100) - c,
    "Account": lambda a, b, c, d: a * b / 100 + c * d / 100,
    "rice": lambda a, b: b / a,
    "batteries": lambda a, b, c, d: b / a - d / c,
    "cloth": lambda a, b, c: b / a * c,
    "Pears": lambda a, b, c, d: a * c + b * d,
    "A shift": lambda a, b, c, d, e: clock(c, d) - clock(a, b) - e,
    "Line": lambda i, a, j, b, h, m: Fraction(math.lcm(int(a), int(b))),
    "A team": lambda a, b, c: (a - c) / b,
    "A train": lambda a, b, c: a * b + a / 2,
    "A share rises": lambda a, b: (b - a) / a * 100,
    "A share costs": lambda a, b, c: (b - a + c) / a * 100,
    "A fund": lambda a, b, c: c * (1 + a / 100) * (1 - b / 100),
    "A position": lambda a, b: a * b / 100,
    "A portfolio is": lambda a, b, c, d: (a * c + b * d) / 100,
    "Yara": lambda a, b, c: a - (a + b) * c / 100,
    "A portfolio holds": lambda a, b, c, d, e: a * b + c * d + e,
    "Of a portfolio": lambda a, b: b / a * 100,
    "Kai": lambda a, b, c: max(c - a, Fraction(0)) - b,
    "put contracts": lambda a, b, c, d: a * b * max(c - d, Fraction(0)),
    "A call": lambda a, b: a + b,
    "Mara": lambda a, b, c, d: min(b, d) - a + c,
}


@pytest.mark.parametrize("seed", [0, 1, 12])
def test_every_answer_follows_from_the_text(seed: int) -> None:
    used: Counter[str] = Counter()
    for item in word_problems(200, seed):
        starts = [name for name in SOLVED if name in item.problem]
        name = max(starts, key=len)
        used[name] += 1
        found = SOLVED[name](*numbers(item))
        assert found == Fraction(item.answer.rstrip("%")), item
        assert found > 0
    assert set(used) == set(SOLVED)
    assert len(SOLVED) == sum(map(len, TEMPLATES.values()))


def test_a_hundred_problems_of_eight_topics() -> None:
    assert len(ITEMS) == len({item.problem for item in ITEMS}) == 100
    counts = Counter(item.topic for item in ITEMS)
    assert set(counts) == set(TEMPLATES)
    assert set(counts.values()) == {12, 13}
    assert ITEMS == word_problems(100) == word_problems(150)[:100]  # the same every time
    percentages = sum(item.answer.endswith("%") for item in ITEMS)
    assert percentages == sum("percent?" in item.problem or "percent, " in item.problem
                              or "What percent" in item.problem for item in ITEMS)  # fmt: skip
    assert 0 < percentages < 40
    assert len(PERCENT) == 6


def test_problems_of_another_seed_are_others() -> None:
    other = {item.problem for item in word_problems(100, 1)}
    assert not other & {item.problem for item in ITEMS}


def test_answers_are_numbers_and_the_problems_ask_for_them() -> None:
    for item in ITEMS:
        assert canonical(item.answer).kind == "number", item
        assert item.problem.endswith("?")
    asked = Counter(question_kind(item.problem) for item in ITEMS)
    assert set(asked) <= {"number", "auto"}, asked  # none is taken for a choice or for code


def test_no_template_of_the_training_generators_is_repeated() -> None:
    def shingles(text: str) -> set[tuple[str, ...]]:
        words = re.sub(r"[\d.,]*\d", "#", text.lower()).split()
        return {tuple(words[i : i + 8]) for i in range(len(words) - 7)}

    names = [name for name, kind in kinds().items() if kind.domain == "general"]
    arithmetic = [name for name in names if "refusal" not in name and "small_talk" not in name]
    assert {"word_problem", "percentages", "calculator"} <= set(arithmetic)
    trained = set().union(
        *(shingles(user_prompt(make(name, 0, i))) for name in arithmetic for i in range(60))
    )
    own = set().union(*(shingles(item.problem) for item in ITEMS))
    assert len(trained) > 500
    assert not trained & own


def test_bad_counts() -> None:
    assert word_problems(0) == []
    with pytest.raises(UserError, match="count is -1"):
        word_problems(-1)
    with pytest.raises(UserError, match=r"_two_years has no more problems; ask for fewer than \d+"):
        word_problems(32 * 60)
