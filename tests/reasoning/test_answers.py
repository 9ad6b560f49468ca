"""Answers that say the same are equal, others are not, and votes count them."""

from __future__ import annotations

import itertools
from fractions import Fraction

import hypothesis
import hypothesis.strategies as st
import pytest

from lilith.reasoning.answers import Vote, canonical, same_answer, votes

SAME = [
    ["0.5", "1/2", "50%", "$0.50", ".5", "\\frac{1}{2}", "one half", "$\\frac{1}{2}$", "½", "a half",  # noqa: E501
     "\\boxed{0.5}", "50 percent", "fifty percent", "0.50.", "\\(0.5\\)", "**0.5**", "x = 0.5"],
    ["1,000", "1000.0", "1e3", "one thousand", "1 thousand", "10^3", "1k", "1{,}000"],
    ["5 km", "5000 m", "5,000 meters", "5 kilometres"],
    ["b", "(B)", "B.", "option b", "B)", "$B$", "\\text{(B)}"],
    ["Paris", "paris.", "  PARIS!", "**Paris**", "The answer is Paris."],
    ["-3", "−3", "minus three", "-3.0"],
    ["twenty-five apples", "25 apples", "25", "25 apple"],
    ["2 1/2", "2.5", "two and a half", "5/2", "2½"],
    ["18 clips", "18 paper clips"],
    ["-$5", "$-5", "−$5.00"],
    ["3 hours", "180 minutes"],
    ["$0.50", "50 cents"],
    ["72 degrees", "72°"],
    ["well-known", "well known", "Well known!"],
    ["sqrt(2)", "\\sqrt{2}", "2^0.5"],
]  # fmt: skip
DIFFERENT = [
    ("5 km", "5 miles"), ("5 km", "5 kg"), ("5 apples", "5 oranges"), ("x-1", "x+1"), ("50", "50%"),
    ("3:30", "330"), ("5", "6"), ("$5", "€5"), ("B", "C"), ("a dog", "A"), ("C++", "C"), ("-5", "5"),  # noqa: E501
    ("1/3", "0.333"), ("", "x"), ("5 or 6", "5"), ("(3, 4)", "34"), ("one two", "3"), ("A", "1"),
    ("9**9**9", "5"), ("$5", "5 cents"),
]  # fmt: skip


@pytest.mark.parametrize("group", SAME, ids=[group[0] for group in SAME])
def test_answers_that_say_the_same_are_equal(group: list[str]) -> None:
    for a, b in itertools.permutations(group, 2):
        assert same_answer(a, b), (a, b)


@pytest.mark.parametrize(("a", "b"), DIFFERENT)
def test_answers_that_differ_are_not(a: str, b: str) -> None:
    assert not same_answer(a, b)
    assert not same_answer(b, a)


def test_no_answer_is_the_same_as_nothing() -> None:
    assert not same_answer(None, None)
    assert not same_answer("5", None)


def test_the_tolerance_is_a_share() -> None:
    assert same_answer("1/3", "0.333", tolerance=0.01)
    assert same_answer("1000", "1009", tolerance=0.01)
    assert not same_answer("1000", "1011", tolerance=0.01)


def test_the_form_says_its_kind() -> None:
    assert canonical("$1,234.50").value == Fraction(2469, 2)
    assert (canonical("$5").kind, canonical("$5").unit) == ("number", "dollars")
    assert (canonical("(c)").kind, canonical("(c)").text) == ("choice", "C")
    assert (canonical("Yes.").kind, canonical("Yes.").text) == ("text", "yes")


def test_votes_are_counted_most_first_and_ties_by_the_first_seen() -> None:
    found = votes(["7", "18", "$18", None, "20", "18.0", " ", "20 dollars", "x"])
    assert found == [
        Vote("18", 3, (1, 2, 5)), Vote("20", 2, (4, 7)), Vote("7", 1, (0,)), Vote("x", 1, (8,)),
    ]  # fmt: skip
    assert votes([None, ""]) == []


@hypothesis.given(
    st.fractions(-9999, 9999, max_denominator=999), st.sampled_from(["", " km", " apples"])
)
def test_a_number_equals_its_other_forms(value: Fraction, unit: str) -> None:
    latex = f"$\\frac{{{value.numerator}}}{{{value.denominator}}}$"
    for form in (f"{value}{unit}", latex):
        assert same_answer(form, str(value)), form
    assert not same_answer(str(value + 1), str(value))


@hypothesis.given(st.text(max_size=30))
@hypothesis.settings(max_examples=200, deadline=None)
def test_any_answer_has_a_form_and_equals_itself(text: str) -> None:
    assert same_answer(text, text)
    assert canonical(text).kind in ("number", "choice", "text")
