"""Scoring of reasoning: right answers, intervals, calibration on other items, cut-off runs."""

from __future__ import annotations

import gzip
import json
import pathlib
import random
from collections.abc import Sequence
from typing import Any

import pytest

from lilith.config import UserError
from lilith.evals.reasoning import (
    GSM8K,
    TABLE_HEAD,
    Result,
    answer_all,
    figures,
    figures_by_kind,
    fitted_monitor,
    held_out_confidences,
    is_right,
    markdown_row,
    read_gsm8k,
    read_results,
    wilson,
)
from lilith.evals.word_problems import Item, word_problems
from lilith.reasoning.calibration import CalibrationError
from lilith.reasoning.trace import ReasoningTrace


def item(place: int, answer: str = "7", topic: str = "own") -> Item:
    return Item(f"What is number {place}?", answer, topic)


def result(
    place: int, answer: str | None, topic: str = "own", share: float = 0.5, **fields: Any
) -> Result:
    """A result on an item whose answer is 7."""
    given = {"confidence": share, "tokens": 10, "seconds": 0.5, "signals": {"vote_share": share}}
    trace = ReasoningTrace(f"What is number {place}?", final_answer=answer, **(given | fields))
    return Result(item(place, topic=topic), trace)


def drawn(count: int, first: int = 0, seed: int = 0, topic: str = "own") -> list[Result]:
    """Results whose vote share s means a chance of s squared to be right; stated is s."""
    numbers = random.Random(seed)
    found = []
    for place in range(first, first + count):
        share = numbers.choice((0.2, 0.5, 0.8, 1.0))
        answer = "7" if numbers.random() < share**2 else "8"
        found.append(result(place, answer, topic, share))
    return found


# Items


def gsm8k(folder: pathlib.Path, lines: Sequence[str], packed: bool = False) -> pathlib.Path:
    (folder / "gsm8k").mkdir(exist_ok=True)
    content = "".join(line + "\n" for line in lines).encode()
    name = "test.jsonl.gz" if packed else "test.jsonl"
    (folder / "gsm8k" / name).write_bytes(gzip.compress(content) if packed else content)
    return folder


def line(question: str, answer: str) -> str:
    return json.dumps({"question": question, "answer": answer})


@pytest.mark.parametrize("packed", [False, True])
def test_items_of_gsm8k(tmp_path: pathlib.Path, packed: bool) -> None:
    lines = [line(f"Question {i}? ", f"So 3 #### no\nit is <<1+1=2>>2\n#### {i},000")
             for i in range(5)]  # fmt: skip
    data = gsm8k(tmp_path, lines, packed)
    found = read_gsm8k(data, first=1, count=3)
    assert found == [Item(f"Question {i}?", f"{i},000", GSM8K) for i in (1, 2, 3)]
    assert len(read_gsm8k(data, first=2)) == 3
    assert read_gsm8k(data, first=5, count=0) == []
    with pytest.raises(UserError, match=r"has 5 items; 4 to 6 are not all in it"):
        read_gsm8k(data, first=4, count=2)


@pytest.mark.parametrize(
    ("text", "words"),
    [("{", "JSONDecodeError"), ('{"question": "a"}', "KeyError: 'answer'"), ("[]", "TypeError"),
     (line("a", "it is 5"), "after ####"), (line("a", "#### "), "after ####"),
     (line(" ", "#### 5"), "needs a question"), ('{"question": 3, "answer": "#### 5"}', "Attrib")],
)  # fmt: skip
def test_lines_that_are_no_items(tmp_path: pathlib.Path, text: str, words: str) -> None:
    data = gsm8k(tmp_path, [line("good?", "#### 1"), text])
    with pytest.raises(UserError, match=r"line 2 of .* is no item of GSM8K") as caught:
        read_gsm8k(data)
    assert words in str(caught.value)


def test_missing_and_broken_files(tmp_path: pathlib.Path) -> None:
    with pytest.raises(UserError, match=r"neither .*test\.jsonl nor test\.jsonl\.gz"):
        read_gsm8k(tmp_path)
    gsm8k(tmp_path, ["x"], packed=True)
    whole = tmp_path / "gsm8k" / "test.jsonl.gz"
    whole.write_bytes(whole.read_bytes()[:-6])
    with pytest.raises(UserError, match="can not be read"):
        read_gsm8k(tmp_path)


def test_the_real_set(lilith_data: pathlib.Path) -> None:
    found = read_gsm8k(lilith_data)
    assert len(found) == 1319
    assert found[0].answer == "18"
    assert all(is_right(own, own.answer.replace(",", "")) for own in found)


# Scores


@pytest.mark.parametrize(
    ("answer", "said", "right"),
    [("12.5", "$12.50", True), ("12.5", "12.5 dollars", True), ("12.5", "12.4", False),
     ("12%", "12", True), ("12%", "12%", True), ("12%", "12 percent", True), ("12%", "13", False),
     ("25", "25%", True), ("1,000", "1000", True), ("18", None, False), ("18", "", False),
     ("0.7", "7/10", True), ("345", "345 minutes", True), ("18", "eighteen", True),
     ("18", "19", False)],
)  # fmt: skip
def test_right_and_wrong(answer: str, said: str | None, right: bool) -> None:
    assert is_right(item(0, answer), said) is right


@pytest.mark.parametrize(
    ("right", "items", "low", "high"),
    [(0, 10, 0.0, 0.2775328), (10, 10, 0.7224672, 1.0), (5, 10, 0.2365931, 0.7634069),
     (1, 100, 0.0017671, 0.0544862)],
)  # fmt: skip
def test_wilson_intervals(right: int, items: int, low: float, high: float) -> None:
    # from (p + z²/2n ± z sqrt(p(1-p)/n + z²/4n²)) / (1 + z²/n)
    assert wilson(right, items) == pytest.approx((low, high), abs=2e-6)
    # Newcombe, Statistics in Medicine 17 (1998), table I, method 3
    assert wilson(81, 263) == pytest.approx((0.2553, 0.3662), abs=5e-5)


@pytest.mark.parametrize(("right", "items"), [(0, 0), (2, 1), (-1, 3)])
def test_no_share(right: int, items: int) -> None:
    with pytest.raises(UserError, match="is no share"):
        wilson(right, items)


def test_figures_of_results() -> None:
    results = [
        result(0, "7", share=0.9), result(1, "8", share=0.9, tokens=30, seconds=1.5),
        result(2, None, share=0.0), result(3, "7 apples", share=0.6),
    ]  # fmt: skip
    found = figures(results, [0.5, 0.5, 0.0, 0.5])
    assert (found.items, found.right, found.accuracy, found.unanswered) == (4, 2, 0.5, 1)
    assert (found.low, found.high) == wilson(2, 4)
    assert (found.tokens, found.seconds) == (15, 0.75)
    assert found.raw.ece == pytest.approx((2 * 0.4 + 0.4) / 4)
    assert found.calibrated is not None
    assert found.calibrated.ece == pytest.approx(3 / 4 * abs(0.5 - 2 / 3))
    assert (found.raw.calibrated, found.calibrated.calibrated) == (False, True)
    unsure = figures([result(0, "7", confidence=None)])
    assert (unsure.raw.confidence, unsure.calibrated) == (0.0, None)
    with pytest.raises(UserError, match="no share"):
        figures([])


# Calibration on items other than those measured


def test_calibrated_confidence_means_what_it_says() -> None:
    measured, calibration = drawn(600), drawn(600, first=600, seed=1)
    raw = figures(measured)
    after = figures(measured, held_out_confidences(measured, calibration))
    crossed = figures(measured, held_out_confidences(measured, []))
    assert raw.raw.ece > 0.12
    for own in (after, crossed):
        assert own.calibrated is not None
        assert own.calibrated.ece < 0.05
        assert str(own.raw) == str(raw.raw)  # what was stated does not change


def test_no_item_is_judged_by_a_calibrator_fitted_on_it() -> None:
    measured, calibration = drawn(50), drawn(50, first=40, seed=1)
    with pytest.raises(UserError, match=r"10 items are among the measured and the calibration"):
        held_out_confidences(measured, calibration)
    # Each result says by its own signal alone whether it is right: only a leak would know.
    numbers = random.Random(3)
    secret = [result(i, numbers.choice("78"), share=i / 200) for i in range(200)]
    leaked = fitted_monitor(secret)
    found = held_out_confidences(secret, [])
    flipped = list(secret)
    flipped[0] = result(0, "8" if secret[0].right else "7", share=0.0)
    assert held_out_confidences(flipped, [])[0] == found[0]  # its own label is nothing to it
    assert held_out_confidences(flipped, [])[1] != found[1]  # to the others it is
    assert leaked.calibrator is not None


def test_answers_of_one_class_are_calibrated_to_its_share() -> None:
    measured = [result(i, "8") for i in range(10)]
    found = figures_by_kind(measured)["own"]
    assert found.calibrated is not None
    assert found.calibrated.ece == pytest.approx(1 / 10)  # each fold was fitted on eight wrong ones


def test_no_answers_leave_a_note() -> None:
    found = figures_by_kind([result(i, None) for i in range(10)])["own"]
    assert (found.calibrated, found.accuracy) == (None, 0.0)
    assert "no trace has an answer" in found.note
    assert markdown_row("direct", "own", found).endswith("| - |")
    with pytest.raises(CalibrationError, match="no trace has an answer"):
        fitted_monitor([result(0, None)])


def test_figures_of_both_kinds_and_their_row() -> None:
    measured = [*drawn(200, topic=GSM8K), *drawn(200, first=200, seed=2)]
    found = figures_by_kind(measured, drawn(300, first=400, seed=3))
    assert list(found) == ["GSM8K", "own", "both"]
    assert [own.items for own in found.values()] == [200, 200, 400]
    assert found["both"].right == found["GSM8K"].right + found["own"].right
    line = markdown_row("direct", "both", found["both"])
    assert line.count("|") == TABLE_HEAD.splitlines()[0].count("|")
    assert f"{found['both'].accuracy:.1%}" in line
    assert list(figures_by_kind(drawn(50))) == ["own"]


# A run that is cut off goes on


class Counting:
    """Answers 7, and counts what it is asked."""

    def __init__(self, fails_at: str = "") -> None:
        self.asked: list[str] = []
        self.batches: list[int] = []
        self.fails_at = fails_at

    def __call__(self, problems: Sequence[str]) -> list[ReasoningTrace]:
        if self.fails_at in problems:
            raise KeyboardInterrupt
        self.asked += problems
        self.batches.append(len(problems))
        return [ReasoningTrace(problem, final_answer="7", confidence=0.5) for problem in problems]


def test_every_result_is_kept_and_none_is_asked_twice(tmp_path: pathlib.Path) -> None:
    items = [item(place, "7" if place % 2 else "8") for place in range(7)]
    path, told = tmp_path / "deep" / "own.jsonl", []
    reason = Counting(fails_at=items[4].problem)
    with pytest.raises(KeyboardInterrupt):
        answer_all(reason, items, path, together=2)
    assert len(read_results(path)) == 4
    with path.open("a") as file:
        file.write('{"problem": "What is num')  # a kill in the middle of a line
    again = Counting()
    found = answer_all(again, items, path, together=2, progress=lambda *facts: told.append(facts))
    assert again.asked == [own.problem for own in items[4:]]
    assert again.batches == [2, 1]
    assert [own.item for own in found] == items
    assert [own.right for own in found] == [place % 2 == 1 for place in range(7)]
    assert told == [(6, 7, "3 right"), (7, 7, "3 right")]
    assert read_results(path) == found
    idle = Counting()
    assert answer_all(idle, items[:3], path) == found[:3]
    assert idle.asked == []


def test_results_survive_their_file(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "own.jsonl"
    own = word_problems(3)
    assert read_results(path) == []
    made = answer_all(Counting(), own, path, together=3)
    assert read_results(path) == made
    assert [json.loads(text)["right"] for text in path.read_text().splitlines()] == [False] * 3
    changed = [Item(own[0].problem, "another answer", own[0].topic)]
    asked = Counting()
    answer_all(asked, changed, path)  # the same words with another answer are another item
    assert len(asked.asked) == 1


@pytest.mark.parametrize("text", ["{}", "no json", '{"problem": "a", "answer": "b", "topic": "c", '
                                  '"trace": {"format": "x"}}'])  # fmt: skip
def test_a_broken_line_is_named(tmp_path: pathlib.Path, text: str) -> None:
    path = tmp_path / "own.jsonl"
    answer_all(Counting(), [item(0)], path)
    with path.open("a") as file:
        file.write(text + "\n")
    with pytest.raises(UserError, match=r"line 2 of .*own\.jsonl is not a result"):
        read_results(path)
