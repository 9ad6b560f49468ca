"""Arithmetic recomputed, tools answered, refusals and talk; and what holds for every kind."""

from __future__ import annotations

import json
import re
from decimal import Decimal
from fractions import Fraction

import pytest
from drawn_records import (
    CODE,
    FUNCTIONS,
    GENERAL,
    PLANNING,
    both_splits,
    generators,
    records,
    text_of,
)

from lilith.data.instructions import code_checks, conversations, exact
from lilith.data.instructions.arithmetic import UNITS
from lilith.data.instructions.drawing import DIFFICULTIES, Draw
from lilith.data.instructions.refusals import HARMS

STEPS = (
    "fractions", "percentages", "compound_interest", "simple_interest", "unit_conversion",
    "word_problem",
)  # fmt: skip
NUMBER = r"-?\d[\d,]*(?:\.\d+)?(?:/\d+)?"
NO = r"(I will not|No, I can not|I have to decline|That is something I will not|Sorry, no)"
# their figures are all counts, or come from the cases of a function
WITHOUT_NUMBERS = (
    "risk_matrix", "harmless_request", "greeting", "definition", "code_fix", "code_review",
    "code_tests",
)  # fmt: skip
KINDS = tuple(FUNCTIONS)
# Of 800 training prompts so many are different at least; greetings are few by nature.
DISTINCT = {"greeting": 300, "harmless_request": 450, "code_bonds": 550, "definition": 550}


def by_python(expression: str) -> Fraction:
    """The value of an expression of numbers, by Python's own grammar with fractions for them."""
    assert re.fullmatch(r"[\d.+\-*/() ]+", expression)
    exponents = re.sub(r"\*\* (\d+)", r"** \1", expression)
    text = re.sub(r"(?<!\*\* )(?<![\d.])(\d+(?:\.\d+)?)", r"Fraction('\1')", exponents)
    return Fraction(eval(text, {"Fraction": Fraction}))


@pytest.mark.parametrize("kind", STEPS)
def test_every_step_is_exact(kind: str) -> None:
    for record in both_splits(kind, 80):
        check, answer = record["metadata"]["check"], text_of(record, "assistant")
        lines = answer.splitlines()
        assert len(lines) == len(check["steps"]) + 1
        assert lines[-1].startswith("Answer: ")
        for number, (line, (expression, value)) in enumerate(zip(lines, check["steps"]), 1):
            assert line.startswith(f"Step {number}: ")
            assert by_python(expression) == Fraction(value)
            said = line.rsplit(" = ", 1)[-1].rsplit(": ", 1)[-1]
            assert Fraction(said) == Fraction(value)
        final = Fraction(check["answer"])
        assert final in (Fraction(check["steps"][-1][1]), -(-Fraction(check["steps"][-1][1]) // 1))
        numbers = [Fraction(n.replace(",", "")) for n in re.findall(NUMBER, lines[-1])]
        assert any(abs(number - final) <= Fraction(1, 200) for number in numbers)


def test_word_problems_by_hand() -> None:
    chain = exact.Chain()
    assert chain.step("Paid", "12 * 10.5") == 126
    assert chain.step("Share", "126 / 9 / 4") == Fraction(7, 2)
    first, second = "Step 1: Paid: 12 × 10.5 = 126", "Step 2: Share: 126 / 9 / 4 = 3.5"
    assert chain.answer("$3.50") == f"{first}\n{second}\nAnswer: $3.50"


def test_stories_by_their_inputs() -> None:
    """Every kind of story, solved from its words."""
    seen = set()
    for record in both_splits("word_problem", 150):
        ask, final = text_of(record, "user"), Fraction(record["metadata"]["check"]["answer"])
        if lots := re.findall(r"(\d+) at \$(\d+)", ask):
            pairs = [(int(n), int(p)) for n, p in lots]
            if "average" in ask:
                seen.add("average")
                assert final == Fraction(sum(n * p for n, p in pairs), sum(n for n, _ in pairs))
        if "batch server" in ask:
            seen.add("rate")
            hours = [int(n) for n in re.findall(r"(\d+) hours", ask)]
            assert final == 1 / sum(Fraction(1, n) for n in hours)
        if found := re.search(r"buy (\d+) shares at \$([\d.]+) and sell them at \$([\d.]+\d)", ask):
            seen.add("trade")
            count, paid, got = (Fraction(text.rstrip(".")) for text in found.groups())
            fee = re.search(r"fee of \$(\d+)", ask)
            assert final == count * (got - paid) - (2 * int(fee[1]) if fee else 0)
        if "data service" in ask and "profit" not in ask:
            seen.add("breakeven")
            fixed, unit, price = (int(n.replace(",", "")) for n in re.findall(r"\$([\d,]+)", ask))
            enough = [n for n in range(1, 2000) if n * (price - unit) >= fixed]
            assert final == enough[0]
        if "bonus" in ask:
            seen.add("bonus")
            pattern = r"\$([\d,]+) is split: (\d+)%.* (\d) analysts"
            bonus, share, people = re.search(pattern, ask).groups()
            each = number_in(bonus) * (100 - int(share)) / 100 / int(people)
            assert final == each / (2 if "next year" in ask else 1)
    assert seen == {"average", "rate", "trade", "breakeven", "bonus"}


def number_in(text: str) -> Fraction:
    """The first number of a text, commas and currency signs aside."""
    return Fraction(re.search(r"\d[\d,]*(?:\.\d+)?", text)[0].replace(",", ""))


def rate_in(text: str) -> Fraction:
    """A rate as people write it: 5%, 5 percent, 0.05 (as a fraction)."""
    return number_in(text) / (1 if "fraction" in text else 100)


def years_in(text: str) -> Fraction:
    """A term as people write it: 6 months, 6m, 0.5yr, half a year."""
    if text == "half a year":
        return Fraction(1, 2)
    return number_in(text) / (1 if "y" in text else 12)


def solved(kind: str, ask: str) -> Fraction:
    """The answer, from the words of the question."""
    if kind == "fractions":
        task = re.search(r"\d[\d/]*(?: [-+×÷] \d[\d/]*)+", ask)[0].split()
        value = Fraction(task[0])
        for sign, part in zip(task[1::2], task[2::2]):
            other = Fraction(part)
            value = {"+": value + other, "-": value - other, "×": value * other,
                     "÷": value / other}[sign]  # fmt: skip
        return value
    if kind == "percentages":
        if found := re.search(r"([\d.]+)% of (.*)", ask):
            return Fraction(found[1]) / 100 * number_in(found[2])
        if found := re.search(r"price of (.*) rises by (.*) and then falls by (.*%)", ask):
            return number_in(found[1]) * (1 + rate_in(found[2])) * (1 - rate_in(found[3]))
        found = re.search(r"rise of (.*) a position is worth (.*)", ask)
        return number_in(found[2]) / (1 + rate_in(found[1]))
    if kind == "compound_interest":
        found = re.search(
            r"(.*) earns (.*) a year, compounded.*?(?:year (.*) is added.*)?after (\d)", ask
        )
        factor, years = 1 + rate_in(found[2]), int(found[4])
        extra = number_in(found[3]) if found[3] else Fraction(0)
        return number_in(found[1]) * factor**years + extra * factor ** (years - 1)
    found = re.search(r"(.*) for (.*?) at (.*) a year, simple(.*)", ask)
    amount = number_in(found[1])
    interest = amount * rate_in(found[3]) * years_in(found[2])
    if "How much interest" in ask:
        return interest
    return amount + interest + (number_in(found[4]) if "fee" in found[4] else 0)


@pytest.mark.parametrize(
    "kind", ["fractions", "percentages", "compound_interest", "simple_interest"]
)
def test_answers_follow_from_the_words_of_the_question(kind: str) -> None:
    for record in both_splits(kind, 80):
        ask = text_of(record, "user")
        assert solved(kind, ask) == Fraction(record["metadata"]["check"]["answer"]), ask


def test_units_are_converted_the_right_way() -> None:
    for record in both_splits("unit_conversion", 80):
        ask, answer = text_of(record, "user"), text_of(record, "assistant").splitlines()
        amount = number_in(ask)
        there = {(a, b): Fraction(f) for a, b, f in UNITS if a in ask and b in ask}
        (((first, second), factor),) = there.items()
        back = answer[-1].split(",")[0].endswith(first)
        assert back or answer[-1].split(",")[0].endswith(second)
        value = amount / factor if back else amount * factor
        if price := re.search(r"\$(\d+)", ask):
            value *= int(price[1])
        assert value == Fraction(record["metadata"]["check"]["answer"])
    assert ("miles", "kilometres", "1.609344") in UNITS
    assert ("pounds", "kilograms", "0.45359237") in UNITS


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        ("1 + 2 * 3", Fraction(7)), ("0.1 + 0.2", Fraction(3, 10)), ("-(2 ** 3) / 4", Fraction(-2)),
        ("1.05 ** 2", Fraction("1.1025")), ("2 ** -2", Fraction(1, 4)), ("1e1 * 5", Fraction(50)),
    ],
)  # fmt: skip
def test_expressions_are_exact(expression: str, value: Fraction) -> None:
    assert exact.evaluate(expression) == value


@pytest.mark.parametrize(
    "expression", ["f()", "a + 1", "2 ** 0.5", "2 ** 9999", "1 +", "True", "[1]", "7 % 2"]
)  # fmt: skip
def test_other_expressions_are_refused(expression: str) -> None:
    with pytest.raises(ValueError, match=r"expression|power|neither"):
        exact.evaluate(expression)
    with pytest.raises(ZeroDivisionError):
        exact.evaluate("1 / 0")


def test_the_calculator_was_asked_and_answered_right() -> None:
    for record in both_splits("calculator", 80):
        messages = record["messages"]
        calls = [m["tool_calls"][0] for m in messages if m.get("tool_calls")]
        answers = [json.loads(m["content"]) for m in messages if m["role"] == "tool"]
        expected = record["metadata"]["check"]["calls"]
        assert len(calls) == len(answers) == len(expected)
        for call, answer, (expression, value) in zip(calls, answers, expected):
            assert call == {"name": "calculator", "arguments": {"expression": expression}}
            assert by_python(expression) == Fraction(value)
            assert abs(Fraction(str(answer["result"]["value"])) - Fraction(value)) < Fraction(
                1, 10**9
            )
        final = Fraction(expected[-1][1])
        places = 2 if abs(final) >= 1 else 4
        said = f"{conversations.rounded(final, places):f}".rstrip("0").rstrip(".") if final else "0"
        assert said in text_of(record, "assistant")
        assert "calculator(expression)" in messages[0]["content"]


def test_tools_answer_as_the_records_say() -> None:
    assert exact.CALCULATOR(expression="(120 - 85) * 1.5")["result"] == {"value": 52.5}
    code = {"code": "print(6 * 7)"}
    assert exact.EXECUTE_PYTHON(**code)["result"] == {"status": "ok", "stdout": "42\n"}


def test_programs_print_what_the_tool_said() -> None:
    sample = both_splits("python_tool", 14)
    assert code_checks.all_verified(sample) == [True] * len(sample)
    for record in sample:
        stdout = record["metadata"]["check"]["stdout"].strip()
        assert stdout in record["messages"][-1]["content"]
    content = json.loads(sample[0]["messages"][3]["content"])
    content["result"]["stdout"] = "wrong\n"
    sample[0]["messages"][3]["content"] = json.dumps(content)
    assert not code_checks.verified(sample[0])


def test_weekdays_by_hand() -> None:
    from lilith.data.instructions.arithmetic_tools import PROGRAMS
    from lilith.data.instructions.code_reading import printed

    code = PROGRAMS[0].code.replace("$first", "2025-05-01").replace("$last", "2025-05-31")
    assert printed(code)[0] == "22\n"


def test_refusals_refuse_and_help() -> None:
    topics = set()
    for record in both_splits("refusal", 120):
        answer = text_of(record, "assistant")
        topic = record["metadata"]["check"]["topic"]
        harm = next(harm for harm in HARMS if harm.name == topic)
        topics.add(topic)
        assert re.match(NO, answer)
        assert harm.why in answer
        assert any(way[8:] in answer or way[1:] in answer for way in harm.instead)
    assert len(topics) == len(HARMS) == 12
    for record in both_splits("harmless_request", 120):
        answer = text_of(record, "assistant")
        assert not re.search(r"\b(I will not|can not help|decline|Sorry)", answer)
        assert len(answer) > 80


@pytest.mark.parametrize("kind", ["rewriting", "summary"])
def test_facts_are_kept(kind: str) -> None:
    for record in both_splits(kind, 80):
        answer, ask = text_of(record, "assistant"), text_of(record, "user")
        assert all(fact in answer and fact in ask for fact in record["metadata"]["check"]["keeps"])
        if kind == "summary":
            assert len(answer) < len(ask) / 2


@pytest.mark.parametrize(
    ("value", "places", "text"),
    [("2.675", 2, "2.68"), ("-2.675", 2, "-2.68"), ("0.5", 0, "1"), ("1000", 2, "1000.00")],
)
def test_rounding(value: str, places: int, text: str) -> None:
    assert f"{conversations.rounded(Decimal(value), places):f}" == text


def test_numbers_as_people_write_them() -> None:
    assert conversations.plain(Fraction(1, 3), 4) == "0.3333"
    assert conversations.plain(Decimal("1200.500")) == "1200.5"
    assert conversations.plain(Fraction(-1, 10**9)) == "0"
    assert conversations.grouped(1234567) == "1,234,567"
    assert conversations.grouped(Fraction(2469, 2)) == "1,234.50"
    assert conversations.joined(["a", "b", "c"]) == "a, b and c"
    assert exact.shown(Fraction(1, 3)) == "1/3"
    assert exact.shown(Fraction(1, 8)) == "0.125"
    written = {conversations.months(Draw(0, "m", i), 6) for i in range(60)}
    assert written == {"6 months", "6m", "0.5yr", "0.5 years", "half a year"}


@pytest.mark.parametrize("kind", KINDS)
def test_records_are_well_formed(kind: str) -> None:
    module = next(
        domain
        for domain, names in (("planning", PLANNING), ("code", CODE), ("general", GENERAL))
        if kind in generators(*names)
    )
    sizes = []
    for record in both_splits(kind, 60):
        json.dumps(record)
        metadata, messages = record["metadata"], record["messages"]
        assert (metadata["domain"], metadata["kind"]) == (module, kind)
        assert metadata["difficulty"] in DIFFICULTIES
        roles = [m["role"] for m in messages if m["role"] != "system"]
        assert roles[0] == "user"
        assert roles[-1] == "assistant"
        assert messages[-1]["content"]
        assert metadata["requires_tools"] == any(m["role"] == "tool" for m in messages)
        assert all("{" not in m["content"] or m["role"] != "user" or "```" in m["content"]
                   or kind.startswith("code") for m in messages)  # fmt: skip
        sizes.append(sum(len(m["content"]) for m in messages))
    assert sorted(sizes)[len(sizes) * 9 // 10] < 1600


@pytest.mark.parametrize("kind", KINDS)
def test_seeds_decide_everything(kind: str) -> None:
    assert records(kind, 20) == records(kind, 20)
    assert records(kind, 20) != records(kind, 20, seed=1)
    assert records(kind, 20) != records(kind, 20, held_out=True)


@pytest.mark.parametrize("kind", KINDS)
def test_records_differ(kind: str) -> None:
    made = records(kind, 800)
    assert len({text_of(record, "user") for record in made}) >= DISTINCT.get(kind, 600)
    if kind not in ("greeting", "harmless_request"):
        assert {record["metadata"]["difficulty"] for record in made} >= {"easy", "hard"}


@pytest.mark.parametrize("kind", KINDS)
def test_held_out_words_and_numbers_are_never_trained_on(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    phrases: dict[bool, set] = {False: set(), True: set()}
    numbers: dict[bool, set] = {False: set(), True: set()}
    choose, draw_number = Draw.phrase, Draw.number

    def phrase(draw: Draw, templates):
        assert len(templates) >= 10
        found = choose(draw, templates)
        phrases[draw.held_out].add(found)
        return found

    def number(draw: Draw, *arguments: str):
        found = draw_number(draw, *arguments)
        numbers[draw.held_out].add((arguments, found))
        return found

    monkeypatch.setattr(Draw, "phrase", phrase)
    monkeypatch.setattr(Draw, "number", number)
    for record in both_splits(kind, 100):
        asked = text_of(record, "user").lower()
        known = [p if isinstance(p, str) else p[0] for p in phrases[True] | phrases[False]]
        pieces = [max(re.split(r"{\w+}", text), key=len).strip().lower() for text in known]
        assert any(piece in asked for piece in pieces)  # the phrasing is what is asked
    assert phrases[False]
    assert phrases[True]
    assert not phrases[False] & phrases[True]
    assert not numbers[False] & numbers[True]
    if kind not in WITHOUT_NUMBERS:
        assert numbers[False]
        assert numbers[True]
