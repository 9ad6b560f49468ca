"""Claims of arithmetic: found, recomputed exactly, and left alone where they are none."""

from __future__ import annotations

from fractions import Fraction

import hypothesis
import hypothesis.strategies as st
import pytest

from lilith.reasoning import arithmetic
from lilith.reasoning.arithmetic import ArithmeticCheck, check_arithmetic

# A text, and of each claim in it: right, wrong or not decidable, and the true value.
CLAIMS: list[tuple[str, list[tuple[bool | None, str]]]] = [
    ("12 * 3 = 36", [(True, "36")]),
    ("12 * 3 = 35", [(False, "36")]),
    ("15% of 240 is 36", [(True, "36")]),
    ("15% of 240 is 38", [(False, "36")]),
    ("(100 + 5) / 2 = 52.5", [(True, "52.5")]),
    ("3/4 of 80 = 60", [(True, "60")]),
    ("half of 80 is 40", [(True, "40")]),
    ("$1,200 - $350 = $850", [(True, "850")]),
    ("$1,200 - $350 = $950", [(False, "850")]),
    ("2^10 = 1024", [(True, "1024")]),
    ("2**10 = 1000", [(False, "1024")]),
    ("3² + 4² = 25", [(True, "25")]),
    ("sqrt(144) = 12", [(True, "12")]),
    ("√2 ≈ 1.4142", [(True, "1.4142135623730950488")]),
    ("√2 ≈ 1.4143", [(False, "1.4142135623730950488")]),
    ("36 ÷ 4 = 9", [(True, "9")]),
    ("6 × 7 = 42, 6 · 7 = 43", [(True, "42"), (False, "42")]),
    ("2 + 3 = 5 + 1 = 6", [(False, "5"), (True, "6")]),
    ("2 * 3 + 4 = 6 + 4 = 10", [(True, "10"), (True, "10")]),
    ("6 / 2 = 3 = 4", [(True, "3"), (False, "3")]),
    ("10 / 3 ≈ 3.33", [(True, "10/3")]),
    ("10 / 3 ≈ 3.34", [(False, "10/3")]),
    ("10 / 3 is about 3.33", [(True, "10/3")]),
    ("10 / 3 = 3.33", [(True, "10/3")]),
    ("10 / 3 = 3", [(False, "10/3")]),
    ("10 / 3 = 3.333...", [(True, "10/3")]),
    ("7 / 2 = 4", [(False, "3.5")]),
    ("7 / 2 ≈ 4", [(True, "3.5")]),
    ("1/8 = 0.13", [(False, "0.125")]),
    ("$10 * 1.0825 = $10.83", [(True, "10.825")]),
    ("1 / 3 = 33%", [(True, "1/3")]),
    ("45 / 60 * 100 = 75%", [(True, "75")]),
    ("100% / 1% = 100%", [(False, "100")]),
    ("240 + 15% = 276", [(True, "240.15")]),
    ("0.1 + 0.2 = 0.3", [(True, "0.3")]),
    ("5 apples + 3 pears = 8 fruits", [(True, "8")]),
    ("$5/hour * 8 hours = $40", [(True, "40")]),
    ("2 km + 500 m = 2.5 km", [(None, "502")]),
    ("**12 * 3 = 37**", [(False, "36")]),
    ("12 * 3 = **36**", [(True, "36")]),
    ("- 5 + 3 = 8", [(True, "8")]),
    ("-5 + 3 = -2", [(True, "-2")]),
    ("12 − 15 = −3", [(True, "-3")]),
    ("1. 5 + 3 = 8", [(True, "8")]),
    ("3) 4 * 5 = 20", [(True, "20")]),
    ("17 / 5 = 3 remainder 2", [(True, "3.4")]),
    ("17 ÷ 5 = 3 R 3", [(False, "3.4")]),
    ("17 % 5 = 2", [(True, "2")]),
    ("48/2 = <<48/2=24>>24 clips", [(True, "24")]),
    ("$2 \\times 3 = 7$", [(False, "6")]),
    ("\\frac{1}{2} + \\frac{1}{4} = \\frac{3}{4}", [(True, "0.75")]),
    ("5 \\text{ apples} + 3 = \\boxed{8}", [(True, "8")]),
    ("5 plus 3 equals 8", [(True, "8")]),
    ("2 1/2 + 1 = 3 1/2", [(True, "3.5")]),
    ("2(3 + 4) = 14", [(True, "14")]),
    ("5! = 120", [(True, "120")]),
    ("100 * 1.05^10 = 162.89", [(True, "16679880978201/102400000000")]),
    ("2.5 million + 500 thousand = 3 million", [(True, "3000000")]),
    ("84 / 12 = 7 dozen", [(True, "7")]),
    ("60 / 15 = 4 (15 minutes each)", [(True, "4")]),
    ("1+1=2 2+2=5", [(True, "2"), (False, "4")]),
    ("5 + 3\n= 8", [(True, "8")]),
    ("x = 11 - 3 = 8", [(True, "8")]),
    ("Total: 5 + 3 = 8.", [(True, "8")]),
    ("1 / 0 = 3", [(None, "")]),
    ("9**9**9 = 5", [(None, "")]),
    ("9^999999999999 = 5", [(None, "")]),
    ("sqrt(-4) = 2", [(None, "")]),
    ("400! = 5", [(None, "")]),
    ("1e999999 * 2 = 5", [(None, "")]),
    ("(" * 500 + "1 + 1" + ")" * 500 + " = 2", [(None, "")]),
    ("1" * 5000 + " + 1 = 2", [(None, "")]),
    ("2x + 3 = 11", []),
    ("x + 5 = 10", []),
    ("3 + 2x = 11", []),
    ("5 + 6 = 11x", []),
    ("8+4*m = 40", []),
    ("2g + 80 = 4g", []),
    ("(x + 3) * 4 = 20", []),
    ("f(5) + 3 = 8", []),
    ("log(100) = 2", []),
    ("x^2 + 3 = 12", []),
    ("1 hour = 60 minutes", []),
    ("The meeting is at 10:30 + 2 = 12:30", []),
    ("2024-01-01 = 2022", []),
    ("5 != 6 and 3 + 4 != 8 and 3 + 4 <= 9", []),
    ("3:5 = 0.6", []),
    ("Chapters 3-5 is 40 pages", []),
    ("3 out of 4 = 0.75", []),
    ("5 phones is $153 x 5", []),
    ("8 = 5 + x", []),
    ("5 + 3 = ?", []),
    ("__import__('os').system('x') = 5", []),
    ("no numbers is = nothing", []),
    ("", []),
]  # fmt: skip


def test_the_table_is_as_long_as_it_should_be() -> None:
    assert len(CLAIMS) >= 60


@pytest.mark.parametrize(("text", "expected"), CLAIMS, ids=[text[:30] for text, _ in CLAIMS])
def test_claims_are_found_and_judged(text: str, expected: list[tuple[bool | None, str]]) -> None:
    checks = check_arithmetic(text)
    assert [(check.right, check.true_value) for check in checks] == expected
    for check in checks:
        assert text[check.start : check.end] == check.text
        assert check.right is not None or check.note


def test_a_check_says_what_was_claimed() -> None:
    assert check_arithmetic("So it is 4 * 5 = 21 now") == [
        ArithmeticCheck("4 * 5 = 21", 9, 19, "21", "20", False)
    ]


def test_a_chain_says_that_its_sides_differ() -> None:
    assert "not equal" in check_arithmetic("2 + 3 = 5 + 1 = 6")[0].note


@pytest.mark.parametrize("piece", ["1+1=2 ", "=1", "(", "is ", "1+1=2\n", "9**"])
def test_ten_megabytes_are_looked_at_within_bounds(
    piece: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = 0
    tokens = arithmetic.tokens

    def counted(*arguments: int) -> object:
        nonlocal read
        for token in tokens(*arguments):
            read += 1
            yield token

    monkeypatch.setattr(arithmetic, "tokens", counted)
    check_arithmetic(piece * (10_000_000 // len(piece)))
    assert read <= arithmetic.MOST_TOKENS


SMALL = st.integers(1, 999)


@hypothesis.given(SMALL, SMALL, SMALL, st.sampled_from("+-*/"), st.sampled_from("+-*"))
@hypothesis.settings(max_examples=150, deadline=None)
def test_fractions_agree(a: int, b: int, c: int, first: str, second: str) -> None:
    operations = {
        "+": lambda x, y: x + y, "-": lambda x, y: x - y,
        "*": lambda x, y: x * y, "/": lambda x, y: x / y,
    }  # fmt: skip
    true = operations[second](operations[first](Fraction(a), b), Fraction(c))
    for claimed, right in ((true, True), (true + 1, False)):
        (check,) = check_arithmetic(f"We get ({a} {first} {b}) {second} {c} = {claimed} now.")
        assert (check.right, Fraction(check.true_value)) == (right, true)
        assert Fraction(check.claimed) == claimed


@hypothesis.given(st.text(alphabet="0123456789+-*/()=. x%$√^!,is≈\n{}\\", max_size=60))
@hypothesis.settings(max_examples=300, deadline=None)
def test_any_text_is_judged_without_an_exception(text: str) -> None:
    for check in check_arithmetic(text):
        assert text[check.start : check.end] == check.text
