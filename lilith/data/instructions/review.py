"""Code review, bug fixing and test writing about functions with seeded defects."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from lilith.data.instructions.code_defects import Defect, Subject, filled, seeded
from lilith.data.instructions.code_subjects import SUBJECTS
from lilith.data.instructions.code_writing import Case, written_value
from lilith.data.instructions.conversations import assistant, conversation, user
from lilith.data.instructions.drawing import Conversation, Draw

REVIEW_ASKS = (
    "Review this function. It {purpose}.\n\n{code}",
    "Can you check my code? It {purpose}.\n\n{code}",
    "Code review, please: a function that {purpose}.\n\n{code}\n\nLine numbers, please.",
    "Do you see a bug? It {purpose}.\n\n{code}",
    "Before I merge this (it {purpose}), is it right?\n\n{code}",
    "{code}\n\nThis {purpose}. What would you change?",
    "A colleague wrote this; it {purpose}. Please review.\n\n{code}",
    "Find the defects, if any. It {purpose}.\n\n{code}",
    "Pull request: a function that {purpose}.\n\n{code}\n\nComments?",
    "Is this correct? It {purpose}.\n\n{code}",
    "Look over this function, which {purpose}:\n\n{code}",
    "I do not trust my own code here. It {purpose}.\n\n{code}",
)
CLEAN = (
    "I find no defect: it {purpose}, bounds and edge cases included.",
    "It is right as it stands. It {purpose}, and the loop bounds and divisors are correct.",
    "No changes needed. The code {purpose}; I checked its bounds, divisors and signs.",
)


def _drawn(draw: Draw) -> tuple[Subject, dict[str, str], str, list[Case]]:
    """A subject, its words, its right source and its cases."""
    subject = draw.choice(SUBJECTS)
    words = {word: draw.choice(ways) for word, ways in subject.words.items()}
    words["name"] = draw.choice(subject.names)
    return subject, words, filled(subject.source, words), subject.cases(draw, words)


def _block(source: str) -> str:
    return f"```python\n{source}```"


def _check(by: str, words: dict[str, str], cases: list[Case], **more: Any) -> dict[str, Any]:
    return {"code": {"by": by, "entry_point": words["name"], "cases": cases, **more}}


def code_review(draw: Draw) -> Conversation:
    """A review that names line, reason and fix: one defect, two at the hard level, or none."""
    subject, words, source, cases = _drawn(draw)
    difficulty = draw.difficulty()
    chosen: list[Defect] = []
    if draw.count(1, 6) > 1:
        first = draw.choice(subject.defects)
        others = [d for d in subject.defects if d.right != first.right]
        chosen = [first, draw.choice(others)] if difficulty == "hard" else [first]
    fixes: list[list[Any]] = []
    remarks = []
    for defect in chosen:
        right, wrong = filled(defect.right, words), filled(defect.wrong, words)
        source, line = seeded(source, right, wrong)
        fixes.append([line, wrong, right])
        reason = filled(defect.reason, words)
        remarks.append((line, f"Line {line}: `{wrong}`\nWhy: {reason}.\nFix: `{right}`"))
    if remarks:
        count = "One defect" if len(remarks) == 1 else "Two defects"
        answer = f"{count}.\n\n" + "\n\n".join(text for _, text in sorted(remarks))
    else:
        answer = draw.choice(CLEAN).format(purpose=subject.purpose)
    ask = draw.phrase(REVIEW_ASKS).format(purpose=subject.purpose, code=_block(source))
    return conversation(
        "code_review", "code", difficulty, [user(ask), assistant(answer)],
        _check("review", words, cases, fixes=fixes),
    )  # fmt: skip


def outcome(namespace: dict[str, Any], name: str, args: list[Any]) -> Any:
    """What a function of our own templates answers; the class of the exception that it raises."""
    try:
        return namespace[name](*args)
    except ArithmeticError as error:
        return type(error)


def _same(got: Any, want: Any, tolerance: float | None) -> bool:
    if isinstance(got, type) or type(got) is not type(want):
        return False
    if isinstance(got, list):
        return len(got) == len(want) and all(_same(*pair, tolerance) for pair in zip(got, want))
    if tolerance is None or isinstance(got, bool):
        return bool(got == want)
    return abs(got - want) <= tolerance * max(1.0, abs(want))


def symptom(source: str, name: str, cases: list[Case]) -> tuple[str, str, str]:
    """The first call of a defective source that goes wrong, what comes, and what should.

    Raises:
      ValueError: every case holds.
    """
    namespace: dict[str, Any] = {}
    exec(source, namespace)  # a template of this package, not a stranger's code
    for args, want, tolerance in cases:
        got = outcome(namespace, name, args)
        if not _same(got, want, tolerance):
            raised = isinstance(got, type)
            came = f"raises {got.__name__}" if raised else f"gives `{written_value(got)}`"
            call = f"{name}({', '.join(map(repr, args))})"
            return call, came, f"`{written_value(want)}`"
    raise ValueError(f"the cases of {name} do not show its defect")


FIX_ASKS = (
    "`{call}` {came}, but I expect {want}. The function {purpose}. Fix it.\n\n{code}",
    "Bug: `{call}` {came} instead of {want}.\n\n{code}\n\nIt {purpose}.",
    "Please debug this. It {purpose}; `{call}` {came}, right would be {want}.\n\n{code}",
    "{code}\n\n`{call}` {came}. It should be {want}. What is wrong?",
    "My test fails: `{call}` {came}, expected {want}.\n\n{code}",
    "Why does `{call}` not give {want}? It {came}.\n\n{code}",
    "This {purpose}, or should. `{call}` {came}; I need {want}.\n\n{code}",
    "Repair this function. Observed: `{call}` {came}. Expected: {want}.\n\n{code}",
    "The reconciliation breaks because `{call}` {came}, not {want}.\n\n{code}\n\nCorrect "
    "it, please.",
    "Find and fix the bug; it {purpose}.\n\n{code}\n\nExample: `{call}` {came}, not {want}.",
    "Something is off: {want} expected from `{call}`, it {came}.\n\n{code}",
)


def code_fix(draw: Draw) -> Conversation:
    """A defect with its symptom: what is wrong, and the function mended."""
    subject, words, right_source, cases = _drawn(draw)
    difficulty = draw.difficulty()
    defect = draw.choice(subject.defects)
    right, wrong = filled(defect.right, words), filled(defect.wrong, words)
    source, line = seeded(right_source, right, wrong)
    call, came, want = symptom(source, words["name"], cases)
    ask = draw.phrase(FIX_ASKS).format(
        call=call, came=came, want=want, purpose=subject.purpose, code=_block(source)
    )
    reason = filled(defect.reason, words)
    answer = f"The mistake is in line {line}, `{wrong}`: {reason}."
    if difficulty != "easy":
        answer += f" It becomes `{right}`."
    answer += f"\n\n{_block(right_source)}"
    if difficulty == "hard":
        answer += f"\n\nNow `{call}` gives {want}; keep that call as a regression test."
    return conversation(
        "code_fix", "code", difficulty, [user(ask), assistant(answer)],
        _check("cases", words, cases, defect=True),
    )  # fmt: skip


TEST_ASKS = (
    "Write {style} tests for this function. It {purpose}.\n\n{code}",
    "I need unit tests ({style}) for a function that {purpose}.\n\n{code}",
    "Cover this with {style} tests, edge cases too:\n\n{code}",
    "{code}\n\nTests, please: {style}. It {purpose}.",
    "Add {style} tests that would catch a regression here.\n\n{code}",
    "Test this function, which {purpose}. Style: {style}.\n\n{code}",
    "Please give me {style} tests with concrete numbers for:\n\n{code}",
    "Our CI needs tests for this. It {purpose}. Use {style}.\n\n{code}",
    "What tests would you write? {style}, please.\n\n{code}",
    "Generate {style} tests; the function {purpose}.\n\n{code}",
    "Make sure this stays right: {style} tests.\n\n{code}",
)


def _label(args: list[Any], want: Any) -> str:
    values = args[0]
    if values == []:
        return "empty_input"
    if isinstance(want, bool):
        return "accepted" if want else "rejected"
    if isinstance(values, list) and len(values) > 1 and len(set(map(str, values))) == 1:
        return "constant_values"
    if want == -1:
        return "missing_key"
    return "known_value"


def _assertion(call: str, want: Any, tolerance: float | None, unit: bool) -> list[str]:
    if isinstance(want, bool):
        if unit:
            return [f"self.assert{want}({call})"]
        return [f"assert {call}" if want else f"assert not {call}"]
    if tolerance is None:
        return [f"self.assertEqual({call}, {want!r})" if unit else f"assert {call} == {want!r}"]
    if isinstance(want, list):
        shown = f"[{', '.join(f'{value:.9g}' for value in want)}]"
        lines = [f"got = {call}", f"want = {shown}"]
        if unit:
            return [*lines, "self.assertEqual(len(got), len(want))", "for a, b in zip(got, want):",
                    "    self.assertAlmostEqual(a, b, places=6)"]  # fmt: skip
        return [*lines, "assert len(got) == len(want)",
                "assert all(abs(a - b) < 1e-6 for a, b in zip(got, want))"]  # fmt: skip
    near = f"{want:.9g}"
    places = 3 if tolerance > 1e-4 else 6
    if unit:
        return [f"self.assertAlmostEqual({call}, {near}, places={places})"]
    return [f"assert abs({call} - {near}) < 1e-{places}"]


def tests_of(name: str, cases: list[Case], unit: bool) -> str:
    """Test source for cases: plain functions, or a unittest class."""
    parts: list[str] = []
    used: dict[str, int] = {}
    for args, want, tolerance in cases:
        label = _label(args, want)
        used[label] = used.get(label, 0) + 1
        title = f"test_{label}" + (f"_{used[label]}" if used[label] > 1 else "")
        body = _assertion(f"{name}({', '.join(map(repr, args))})", want, tolerance, unit)
        pad = "    " if unit else ""
        own = "self" if unit else ""
        parts.append("\n".join([f"{pad}def {title}({own}):", *(f"{pad}    {x}" for x in body)]))
    if unit:
        title = "".join(part.capitalize() for part in name.split("_"))
        return f"import unittest\n\n\nclass {title}Test(unittest.TestCase):\n" + "\n\n".join(
            parts
        ) + "\n"  # fmt: skip
    return "\n\n\n".join(parts) + "\n"


def code_tests(draw: Draw) -> Conversation:
    """Tests for a function: they pass on it, and fail on every defect that could be seeded."""
    subject, words, source, cases = _drawn(draw)
    unit = draw.count(0, 1) == 1
    difficulty = ("easy", "medium", "hard")[min(2, len(cases) - 3)]
    tests = tests_of(words["name"], cases, unit)
    ask = draw.phrase(TEST_ASKS).format(
        style="unittest" if unit else "pytest", purpose=subject.purpose, code=_block(source)
    )
    caught = sorted({defect.name for defect in subject.defects})
    answer = f"{_block(tests)}\n\nThey would catch, among others: {', '.join(caught)}."
    mutants = [[filled(d.right, words), filled(d.wrong, words)] for d in subject.defects]
    check = {"code": {"by": "tests", "entry_point": words["name"], "mutants": mutants}}
    return conversation(
        "code_tests", "code", difficulty, [user(ask), assistant(answer)], check
    )  # fmt: skip


GENERATORS: dict[str, Callable[[Draw], Conversation]] = {
    "code_review": code_review,
    "code_fix": code_fix,
    "code_tests": code_tests,
}
