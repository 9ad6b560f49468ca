"""Verdicts: what passes, what fails and how it is said, and repair."""

from __future__ import annotations

import collections
import decimal
import fractions
from typing import Any

import pytest

from lilith.shamshel import Case, Limits, improve, verify
from lilith.shamshel.compare import same

ADD = "def add(a, b):\n    return a + b\n"
CASES = [((1, 2), {}, 3), ((), {"a": 5, "b": 5}, 10)]
SLOW = Limits(wall_s=20, memory_mb=256)


def test_right_and_wrong_by_cases() -> None:
    verdict = verify(ADD, entry_point="add", cases=CASES, tests=None, limits=SLOW)
    assert verdict.passed
    assert verdict.failures == ()
    verdict = verify(ADD.replace("+", "-"), "add", CASES, limits=SLOW)
    assert not verdict.passed
    first = verdict.failures[0]
    assert (first.input, first.expected, first.came) == ("add(1, 2)", "3", "-1")
    assert str(verdict.failures[1]) == "add(a=5, b=5); expected 10; came 0"
    assert verdict.text.count("\n") == 1


VALUES: list[Any] = [
    None, True, -(10**400), 1.5, float("inf"), float("nan"), 2j, "é\n", b"\0", [1, [2]], (1, (2,)),
    {"a": {1: [2]}}, {1, 2}, frozenset([3]), range(3), bytearray(b"x"), decimal.Decimal("1.10"),
    fractions.Fraction(1, 3), collections.Counter("aab"), collections.deque([1, 2], 5),
    collections.OrderedDict(a=1), int,
]  # fmt: skip


@pytest.mark.parametrize("value", VALUES[:-1], ids=lambda v: type(v).__name__)
def test_plain_values_cross_both_ways(value: Any) -> None:
    source = "import collections, decimal, fractions\ndef echo(x):\n    return x\n"
    verdict = verify(source, "echo", [((value,), {}, value)], limits=SLOW)
    assert verdict.passed, verdict.text


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ("True", 1), ("1", True), ("[1]", (1,)), ("'1'", 1), ("None", 0), ("1.0000001", 1.0),
        ("{1: 2}", {1: 3}), ("{1}", [1]), ("float('nan')", 0.0), ("b'a'", "a"), ("[]", None),
    ],
)  # fmt: skip
def test_what_is_not_the_same(answer: str, expected: Any) -> None:
    assert not verify(f"def f(): return {answer}", "f", [((), {}, expected)], limits=SLOW).passed


def test_tolerance_only_where_the_case_says_so() -> None:
    source = "def f(): return [1.0001, {'a': 2.0}]"
    exact, near = [1.0, {"a": 2.0}], 1e-3
    assert not verify(source, "f", [((), {}, exact)], limits=SLOW).passed
    assert verify(source, "f", [((), {}, exact, near)], limits=SLOW).passed
    assert verify(source, "f", [Case((), {}, exact, tolerance=near)], limits=SLOW).passed
    assert same(10**400, 10**400 + 1, None) is False
    assert same(10**400, 1.0, 0.1) is False
    assert same(1 + 1j, 1.0001 + 1j, 1e-2)
    assert same({"a": float("nan")}, collections.OrderedDict(a=float("nan")))


def test_exceptions_cross_as_type_and_message() -> None:
    source = "class Own(KeyError): pass\ndef f(n):\n    raise (Own('k'), ValueError('v'))[n]"
    cases = [((0,), {}, KeyError), ((1,), {}, ValueError), ((1,), {}, KeyError), ((0,), {}, 1)]
    verdict = verify(source, "f", cases, limits=SLOW)
    assert [f.came for f in verdict.failures] == ["ValueError: v", "Own: 'k'"]
    tests = "import unittest\nclass T(unittest.TestCase):\n    def test(self):\n"
    tests += "        with self.assertRaisesRegex(ValueError, 'v'): candidate(1)\n"
    tests += "        self.assertRaises(KeyError, candidate, 0)"
    assert verify(source, "f", tests=tests, limits=SLOW).passed  # as the nearest built-in class
    wrong = tests.replace("KeyError", "OSError")
    assert not verify(source, "f", tests=wrong, limits=SLOW).passed


@pytest.mark.parametrize(
    "tests",
    [
        "def check(candidate):\n    assert candidate(1, 2) == 3",
        "assert add(1, 2) == 3\nassert candidate(b=1, a=1) == 2, 'why'",
        "def test_one():\n    assert add(1, 2) == 3",
        "import unittest\nclass T(unittest.TestCase):\n    def test(self):\n"
        "        self.assertEqual(add(1, 2), 3)\n        with self.subTest(): add(0, 0)",
    ],
)
def test_every_form_of_tests(tests: str) -> None:
    assert verify(ADD, "add", tests=tests, limits=SLOW).passed
    verdict = verify(ADD.replace("+", "*"), "add", tests=tests, limits=SLOW)
    assert not verdict.passed
    assert verdict.failures[0].input == "add(1, 2)"
    assert verdict.failures[0].came == "2"
    if "unittest" not in tests:
        assert verdict.failures[0].expected == "3"


def test_every_failing_statement_is_reported() -> None:
    tests = "assert add(1, 1) == 3\nassert add(2, 2) == 4\nassert add(3, 3) == 7"
    assert [f.expected for f in verify(ADD, "add", tests=tests, limits=SLOW).failures] == ["3", "7"]


def test_tests_may_make_the_candidate_s_objects_but_ask_only_the_entry_point() -> None:
    source = "class Pair:\n    def __init__(self, a): self.a = a\n"
    source += "def total(pairs): return sum(p.a for p in pairs)\ndef other(): return 3\n"
    tests = "p = Pair(1)\np.a = 4\nassert total([p, Pair(5)]) == 9"
    assert verify(source, "total", tests=tests, limits=SLOW).passed
    for trick in ("assert total([]) == other() - 3", "assert p == p", "assert not p", "assert p"):
        assert not verify(source, "total", tests=tests + "\n" + trick, limits=SLOW).passed, trick


def test_tests_that_call_nothing_do_not_pass() -> None:
    verdict = verify(ADD, "add", tests="assert True", limits=SLOW)
    assert not verdict.passed
    assert "never called" in verdict.text


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("def add(a, b", "SyntaxError"),
        ("", "defines no 'add'"),
        ("add = 5", "not callable"),
        ("1/0", "while the source was loaded"),
        ("\0", "NUL"),
        ("#" * (10 << 20), "at most"),
        ("import os; os._exit(0)", "ended without an answer"),
        ("while True: pass", "no answer in time"),
        ("def add(a, b): return object()", "not plain data"),
        ("def add(a, b): return lambda: 1", "not plain data"),
        ("def add(a, b):\n x = []\n x.append(x)\n return x", "nested deeper"),
        ("def add(a, b):\n while True: print('x' * 999)", "more than allowed"),
        ("def add(a, b): return [bytearray(b'1') * (1 << 20) for _ in range(1000)]", "memory"),
        ("def add(a, b): raise SystemExit(0)", "SystemExit"),
    ],
)
def test_bad_sources_fail_in_words(source: str, words: str) -> None:
    limits = Limits(wall_s=3, memory_mb=96)
    verdict = verify(source, "add", CASES, limits=limits)
    assert not verdict.passed
    assert words in verdict.text or words in repr(verdict.failures)
    assert not verify(source, "add", tests="assert add(1, 2) == 3", limits=limits).passed


def test_after_the_candidate_is_gone_the_rest_is_not_called() -> None:
    source = "import os\ndef f(n):\n    if n == 1: os._exit(0)\n    return n"
    verdict = verify(source, "f", [((n,), {}, n) for n in range(4)], limits=SLOW)
    assert [f.input for f in verdict.failures] == ["f(1)", "f(2)", "f(3)"]
    assert "not called" in verdict.failures[2].message


def test_a_test_can_not_swallow_that_the_candidate_is_gone() -> None:
    tests = "try:\n    candidate(1)\nexcept BaseException:\n    pass"
    for body in ("os._exit(0)", "return object()", "os.write(4, b'12345678' * 9)", "return int"):
        source = f"import os\ndef f(n):\n    {body}"
        verdict = verify(source, "f", tests=tests, limits=SLOW)
        assert verdict.passed == (body == "return int"), body


def test_bad_arguments_of_verify() -> None:
    with pytest.raises(ValueError, match="nothing to verify by"):
        verify(ADD, "add")
    with pytest.raises(ValueError, match="tests are not Python"):
        verify(ADD, "add", tests="assert (")
    for case in [(1,), ((object(),), {}, 1), ((1,), {}, object()), ((1,), {}, int), "abc", None]:
        with pytest.raises(ValueError, match="case 0 is not"):
            verify(ADD, "add", cases=[case])


def test_the_candidate_holds_neither_expected_values_nor_tests() -> None:
    source = (
        "import gc, glob\n"
        "def f(secretive):\n"
        "    text = repr(gc.get_objects())\n"
        "    for path in glob.glob('/box/**', recursive=True):\n"
        "        try: text += repr(open(path, 'rb').read())\n"
        "        except OSError: pass\n"
        "    text += open('/proc/self/mem', 'rb').name + repr(open('/proc/self/cmdline').read())\n"
        "    return any('-'.join(['MARKED', word]) in text for word in ('EXPECTED', 'TEST'))\n"
    )
    tests = "x = 'MARKED-TEST'\nassert f(1) == False"
    cases = [((1,), {}, "MARKED-EXPECTED")]
    verdict = verify(source, "f", cases, tests, SLOW)
    assert [f.came for f in verdict.failures] == ["False"], verdict.text


def test_the_process_level_says_so() -> None:
    verdict = verify(ADD, "add", CASES, "assert add(1, 2) == 3", Limits(level="process", wall_s=20))
    assert (verdict.passed, verdict.level) == (True, "process")


def test_improve_stops_at_the_first_pass_and_hands_back_the_failures() -> None:
    seen: list[str] = []

    def write(feedback: str) -> str:
        seen.append(feedback)
        return ADD if "expected 3; came -1" in feedback else ADD.replace("+", "-")

    attempts = improve(write, CASES, attempts=3, entry_point="add")
    assert [a.verdict.passed for a in attempts] == [False, True]
    assert seen[0] == ""
    assert seen[1] == attempts[0].verdict.text
    assert attempts[1].source == ADD


def test_improve_returns_every_attempt_and_infers_the_entry_point() -> None:
    attempts = improve(lambda _: "def wrong(a, b): return 0", CASES, attempts=2)
    assert [a.verdict.passed for a in attempts] == [False, False]
    attempts = improve(lambda _: ADD, tests="assert add(1, 2) == 3")
    assert len(attempts) == 1
    assert attempts[0].verdict.passed
    with pytest.raises(ValueError, match="attempts is 0"):
        improve(lambda _: ADD, CASES, attempts=0)


def test_the_one_answer_that_is_missing_fails_the_verdict() -> None:
    for source in ("import os\ndef f(): os._exit(0)", "def f(): raise KeyboardInterrupt"):
        assert not verify(source, "f", [((), {}, None)], limits=SLOW).passed
    assert not verify("import os\nos._exit(0)", "f", [((), {}, None)], limits=SLOW).passed


def test_what_a_candidate_says_is_safe_to_print() -> None:
    source = "def f(n):\n    if n: raise ValueError('\\x1b[2J\\u202e')\n    return '\\x1b[2J'"
    source += "\nclass Odd: pass\nOdd.__name__ = '\\x1b[2J'\ndef g(): return Odd()"
    verdict = verify(source, "f", [((0,), {}, 1), ((1,), {}, 1)], "assert f(1) == 2", SLOW)
    assert len(verdict.failures) == 3
    text = verdict.text + verify(source, "g", [((), {}, 1)], "assert g() == 2", SLOW).text
    assert "x1b[2J" in text
    assert "\x1b" not in text
    assert "\u202e" not in text


def test_the_entry_point_is_the_last_function_without_parsing_it_here() -> None:
    source = "def one(): return 1\ndef two(): return 2\n    \nclass A:\n    def three(self): pass"
    assert verify(source, cases=[((), {}, 2)], limits=SLOW).passed
    deep = "def f(): return 1\nx = " + "(" * 100_000 + ")" * 100_000
    assert not verify(deep, cases=[((), {}, 1)], limits=SLOW).passed
