"""Code answers, reviews, fixes and tests, decided in the sandbox."""

from __future__ import annotations

import copy
import importlib
from concurrent.futures import ThreadPoolExecutor

import pytest
from drawn_records import CODE, both_splits, generators, records, text_of

from lilith.data.instructions import code_checks
from lilith.data.instructions.code_defects import filled, seeded
from lilith.data.instructions.code_pricers import black_scholes
from lilith.data.instructions.code_subjects import SUBJECTS
from lilith.data.instructions.code_writing import Style, Task, source_of
from lilith.data.instructions.drawing import Draw
from lilith.data.instructions.review import symptom

KINDS = tuple(generators(*CODE))
WRITTEN = CODE[:6]  # modules of tasks
TASKS: list[Task] = [
    task
    for name in WRITTEN
    for task in importlib.import_module(f"lilith.data.instructions.{name}").TASKS
]


def at_once(function, items) -> list:
    with ThreadPoolExecutor(4) as pool:
        return list(pool.map(function, items))


def words_of(task, draw: Draw) -> dict[str, str]:
    return {word: draw.choice(ways) for word, ways in task.words.items()} | {
        "name": draw.choice(task.names)
    }


def test_every_body_of_every_task_is_right() -> None:
    jobs = []
    for task in TASKS:
        for i, body in enumerate(task.bodies):
            draw = Draw(i, task.names[0], 0)
            words = words_of(task, draw)
            style = Style(body, hints=bool(i % 2), docstring=i % 3, guarded=True, record=False)
            cases = task.cases(draw, words)
            cases += [[bad, {"raises": "ValueError"}, None] for _, _, bad in task.guards]
            check = {"entry_point": words["name"], "cases": cases, "packages": ["numpy"]}
            jobs.append((source_of(task, words, style), check))
    assert len(jobs) > 70
    passed = at_once(lambda job: code_checks.passes(*job), jobs)
    assert [job for job, good in zip(jobs, passed) if not good] == []


def test_wrong_code_does_not_pass_its_cases() -> None:
    task = next(task for task in TASKS if "sharpe_ratio" in task.names)
    draw = Draw(0, "sharpe", 0)
    words = words_of(task, draw)
    source = source_of(task, words, Style("numpy", False, 0, False, False))
    check = {"entry_point": words["name"], "cases": task.cases(draw, words), "packages": ["numpy"]}
    assert code_checks.passes(source, check)
    assert not code_checks.passes(source.replace("ddof=1", "ddof=0"), check)


@pytest.mark.parametrize("held_out", [False, True])
def test_every_seeded_defect_is_one(held_out: bool) -> None:
    jobs = []
    for subject in SUBJECTS:
        draw = Draw(3, subject.purpose, 0, held_out=held_out)
        words = words_of(subject, draw)
        source = filled(subject.source, words)
        check = {"entry_point": words["name"], "cases": subject.cases(draw, words)}
        jobs.append((source, check, True))
        for defect in subject.defects:
            right, wrong = filled(defect.right, words), filled(defect.wrong, words)
            jobs.append((seeded(source, right, wrong)[0], check, False))
    passed = at_once(lambda job: code_checks.passes(job[0], job[1]), jobs)
    assert [job for job, good in zip(jobs, passed) if good != job[2]] == []


@pytest.mark.parametrize("kind", KINDS)
def test_a_sample_of_records_is_verified(kind: str) -> None:
    sample = both_splits(kind, 4 if kind == "code_tests" else 6)
    assert code_checks.all_verified(sample) == [True] * len(sample)


def tampered(record: dict, role: str, old: str, new: str) -> dict:
    """A copy whose messages of a role hold ``new`` for the first ``old``."""
    copied = copy.deepcopy(record)
    message = next(m for m in copied["messages"] if m["role"] == role and old in m["content"])
    message["content"] = message["content"].replace(old, new, 1)
    return copied


def test_a_wrong_answer_is_not_verified() -> None:
    written = records("code_series", 1)[0]
    assert not code_checks.verified(tampered(written, "assistant", "    return", "    return 1 or"))
    output = records("code_output", 1)[0]
    output["metadata"]["check"]["code"]["stdout"] += "!"
    assert not code_checks.verified(output)


def test_a_fix_that_fixes_nothing_is_not_verified() -> None:
    record = records("code_fix", 1)[0]
    assert code_checks.verified(record)
    broken = code_checks.code_block(record, "user")
    right = code_checks.code_block(record, "assistant")
    assert not code_checks.verified(tampered(record, "assistant", right, broken))
    assert not code_checks.verified(tampered(record, "user", broken, right))


def test_a_review_that_is_wrong_is_not_verified() -> None:
    record = next(
        r for r in records("code_review", 40) if len(r["metadata"]["check"]["code"]["fixes"]) == 1
    )
    assert code_checks.verified(record)
    clean = copy.deepcopy(record)
    clean["metadata"]["check"]["code"]["fixes"] = []  # calls defective code clean
    assert not code_checks.verified(clean)
    line, wrong, right = record["metadata"]["check"]["code"]["fixes"][0]
    invented = tampered(record, "user", wrong, right)  # the code is right, a defect is claimed
    invented["metadata"]["check"]["code"]["fixes"] = [[line, right, right]]
    assert not code_checks.verified(invented)
    useless = copy.deepcopy(record)
    useless["metadata"]["check"]["code"]["fixes"][0] = [line, wrong, wrong]
    assert not code_checks.verified(useless)
    useless["metadata"]["check"]["code"]["fixes"][0] = [line + 1, wrong, wrong]
    with pytest.raises(ValueError, match=f"line {line + 1} is"):
        code_checks.verified(useless)


def test_weak_tests_are_not_verified() -> None:
    record = records("code_tests", 1)[0]
    name = record["metadata"]["check"]["code"]["entry_point"]
    block = code_checks.code_block(record, "assistant")
    weak = f"def test_it_is_there():\n    assert {name} is not None\n"
    assert not code_checks.verified(tampered(record, "assistant", block, weak))


def test_a_record_without_a_block_is_an_error() -> None:
    record = records("code_series", 1)[0]
    record["messages"][-1]["content"] = "No code."
    with pytest.raises(ValueError, match="0 Python blocks in the assistant's messages"):
        code_checks.verify_code(record)
    assert code_checks.verified({"messages": [], "metadata": {"check": {}}})


def test_reviews_name_line_reason_and_fix() -> None:
    clean = 0
    for record in both_splits("code_review", 60):
        fixes = record["metadata"]["check"]["code"]["fixes"]
        answer = text_of(record, "assistant")
        lines = code_checks.code_block(record, "user").split("\n")
        clean += not fixes
        assert fixes or "```" not in answer
        for number, wrong, right in fixes:
            assert lines[number - 1].strip() == wrong
            assert f"Line {number}: `{wrong}`\nWhy: " in answer
            assert f"Fix: `{right}`" in answer
        numbers = [int(part.split(":")[0]) for part in answer.split("Line ")[1:]]
        assert numbers == sorted(number for number, _, _ in fixes)
    assert 5 < clean < 40


def test_the_named_defects_are_all_there() -> None:
    names = {defect.name for subject in SUBJECTS for defect in subject.defects}
    assert names >= {
        "off by one", "look-ahead bias", "mutable default", "ddof", "annualisation",
        "division by zero", "float equality",
    }  # fmt: skip


def test_a_symptom_is_what_happens() -> None:
    source = "def half(x):\n    return x // 2\n"
    cases = [[[4], 2, None], [[5], 2.5, 1e-9]]
    assert symptom(source, "half", cases) == ("half(5)", "gives `2`", "`2.5`")
    crash = "def part(x):\n    return 1 / x\n"
    assert symptom(crash, "part", [[[0], 0.0, None]])[1] == "raises ZeroDivisionError"
    with pytest.raises(ValueError, match="do not show"):
        symptom(source, "half", cases[:1])


def test_a_line_that_is_not_unique_can_not_be_seeded() -> None:
    assert seeded("a = 1\n  b = 2\n", "b = 2", "b = 3") == ("a = 1\n  b = 3\n", 2)
    for text in ("a\na\n", "b\n"):
        with pytest.raises(ValueError, match="1 is needed"):
            seeded(text, "a", "c")


def test_black_scholes_by_known_values() -> None:
    at_the_money = [100.0, 100.0, 1.0, 0.05, 0.2]
    assert abs(black_scholes(at_the_money, 1) - 10.450583572185565) < 1e-12
    assert abs(black_scholes(at_the_money, -1) - 5.573526022256971) < 1e-12


def test_an_example_of_a_simulation_is_not_quoted_as_exact() -> None:
    made = [r for r in both_splits("code_pricers", 150) if "seed" in text_of(r, "user")]
    assert made
    for record in made:
        answer = text_of(record, "assistant")
        assert "gives a value near `" in answer or "Example" not in answer


def test_code_is_short() -> None:
    for kind in KINDS:
        for record in both_splits(kind, 40):
            for role in ("user", "assistant"):
                if "```python" in text_of(record, role):
                    block = code_checks.code_block(record, role)
                    assert block.count("\n") < 60
                    assert "$" not in block  # every word was put in


def test_the_request_says_what_the_answer_does() -> None:
    for record in both_splits("code_pricers", 80):
        ask, answer = text_of(record, "user"), text_of(record, "assistant")
        name = record["metadata"]["check"]["code"]["entry_point"]
        assert f"`{name}(" in ask or f"`def {name}(" in ask
        assert f"def {name}(" in answer
        assert ("raise ValueError" in answer) == ("Raise ValueError" in ask)
        assert ("@dataclass" in answer) == ("frozen dataclass" in ask)
        assert ('"""' in answer) == ("docstring" in ask)
