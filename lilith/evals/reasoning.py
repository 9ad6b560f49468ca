"""How well reasoning works: right answers with their uncertainty, cost, and honest confidence.

Problems are GSM8K's (Cobbe et al., 2021, arXiv:2110.14168) and the project's own. Every answer is
kept as its trace, a line each, so that a measurement which was cut off goes on where it stood.
"""

from __future__ import annotations

import gzip
import json
import math
import os
import pathlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from lilith.config import UserError
from lilith.data.json_lines import JsonLines
from lilith.evals.word_problems import Item
from lilith.reasoning.answers import same_answer
from lilith.reasoning.calibration import CalibrationError
from lilith.reasoning.metacognition import (
    CalibrationReport,
    MetacognitiveMonitor,
    calibration_report,
)
from lilith.reasoning.trace import ReasoningTrace, TraceError

GSM8K = "gsm8k"
ANSWER_MARK = "####"  # before the answer in GSM8K's solutions
Z = 1.959964  # of a two-sided interval of 95%
FOLDS = 5
# Problems in, one trace for each out.
Reason = Callable[[Sequence[str]], Sequence[ReasoningTrace]]
Progress = Callable[[int, int, str], None]


@dataclass(frozen=True)
class Result:
    """An item and what reasoning came to."""

    item: Item
    trace: ReasoningTrace

    @property
    def right(self) -> bool:
        """Whether the trace's answer is the item's."""
        return is_right(self.item, self.trace.final_answer)


@dataclass(frozen=True)
class Figures:
    """What a strategy came to on some items.

    Attributes:
      items, right: counts; accuracy: their ratio; low, high: its interval of 95% (Wilson).
      unanswered: items without an answer, which count as wrong with a confidence of 0.
      tokens, seconds: means an item.
      raw: the confidence as it was stated; calibrated: after a calibration on items other than
        those measured, None where there was none.
      note: why there is no calibration; "" where there is one.
    """

    items: int
    right: int
    accuracy: float
    low: float
    high: float
    unanswered: int
    tokens: float
    seconds: float
    raw: CalibrationReport
    calibrated: CalibrationReport | None = None
    note: str = ""


def read_gsm8k(
    data: str | os.PathLike[str], split: str = "test", first: int = 0, count: int | None = None
) -> list[Item]:
    """Items ``first`` to ``first + count`` of a split of GSM8K, in the order of its file.

    Args:
      data: the folder that holds ``gsm8k/test.jsonl`` or ``gsm8k/test.jsonl.gz``.
      count: None takes all that follow.

    Raises:
      UserError: no such file, a line that is not of GSM8K, or fewer items than were asked for.
    """
    folder = pathlib.Path(data) / GSM8K
    places = [folder / f"{split}.jsonl", folder / f"{split}.jsonl.gz"]
    path = next((place for place in places if place.is_file()), None)
    if path is None:
        raise UserError(f"there is neither {places[0]} nor {places[1].name} beside it: GSM8K's "
                        f"{split} split is missing")  # fmt: skip
    opened = gzip.open if path.suffix == ".gz" else open
    try:
        with opened(path, "rt", encoding="utf-8") as file:
            lines = file.read().splitlines()
    except (OSError, EOFError, UnicodeDecodeError) as error:
        raise UserError(f"{path} can not be read: {error}") from None
    last = len(lines) if count is None else first + count
    if not 0 <= first <= last <= len(lines):
        raise UserError(f"{path} has {len(lines):,} items; {first} to {last} are not all in it")
    return [_gsm8k_item(line, f"line {place + 1} of {path}")
            for place, line in enumerate(lines) if first <= place < last]  # fmt: skip


def _gsm8k_item(line: str, where: str) -> Item:
    try:
        found = json.loads(line)
        mark, answer = found["answer"].rpartition(ANSWER_MARK)[1:]
        problem = found["question"].strip()
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{where} is no item of GSM8K: {type(error).__name__}: {error}") from None
    if not (problem and mark and answer.strip()):
        raise UserError(f"{where} is no item of GSM8K: it needs a question and an answer after "
                        f"{ANSWER_MARK}")  # fmt: skip
    return Item(problem, answer.strip(), GSM8K)


def is_right(item: Item, answer: str | None) -> bool:
    """Whether an answer is the item's; a percentage may be said with or without its sign."""
    if answer is None:
        return False
    expected, said = (text.strip().removesuffix("%").strip() for text in (item.answer, answer))
    return same_answer(item.answer, answer) or same_answer(expected, said)


def wilson(right: int, items: int, z: float = Z) -> tuple[float, float]:
    """The interval of a share (Wilson, 1927), which holds at 0 and 1 and for few items too.

    Raises:
      UserError: no items, or more right ones than items.
    """
    if not 0 <= right <= items or not items:
        raise UserError(f"{right} right of {items} items is no share; there must be items")
    share = right / items
    middle = (share + z**2 / (2 * items)) / (1 + z**2 / items)
    half = z * math.sqrt(share * (1 - share) / items + z**2 / (4 * items**2)) / (1 + z**2 / items)
    low = 0.0 if not right else middle - half
    return low, 1.0 if right == items else middle + half


def read_results(path: pathlib.Path) -> list[Result]:
    """What :func:`answer_all` wrote; a last line that was cut off is left out.

    Raises:
      UserError: another line is not a result.
    """
    if not path.exists():
        return []
    lines = path.read_bytes().split(b"\n")[:-1]  # what follows the last line's end was cut off
    found = []
    for number, line in enumerate(lines, 1):
        try:
            data = json.loads(line)
            item = Item(data["problem"], data["answer"], data["topic"])
            found.append(Result(item, ReasoningTrace.from_json(json.dumps(data["trace"]))))
        except (ValueError, KeyError, TypeError, TraceError) as error:
            raise UserError(f"line {number} of {path} is not a result ({error}); remove the file "
                            "to measure anew") from None  # fmt: skip
    return found


def answer_all(
    reason: Reason,
    items: Sequence[Item],
    path: pathlib.Path,
    *,
    together: int = 1,
    progress: Progress = lambda done, total, what: None,
) -> list[Result]:
    """A result for each item, those that ``path`` already holds taken from there.

    Each result is appended to ``path`` as soon as it is there.

    Args:
      together: how many problems ``reason`` is given at once.
    """
    known = {(own.item.problem, own.item.answer): own for own in read_results(path)}
    file = JsonLines(path)
    file.cut(len(file.records))  # what a kill cut off goes
    left = [item for item in items if (item.problem, item.answer) not in known]
    done = len(items) - len(left)
    path.parent.mkdir(parents=True, exist_ok=True)
    for first in range(0, len(left), together):
        chosen = left[first : first + together]
        traces = reason([item.problem for item in chosen])
        made = [Result(item, trace) for item, trace in zip(chosen, traces, strict=True)]
        file.append([_record(own) for own in made])
        known |= {(own.item.problem, own.item.answer): own for own in made}
        done += len(made)
        right = sum(known[item.problem, item.answer].right for item in items
                    if (item.problem, item.answer) in known)  # fmt: skip
        progress(done, len(items), f"{right} right")
    return [known[item.problem, item.answer] for item in items]


def _record(result: Result) -> dict[str, Any]:
    item = result.item
    return {
        "problem": item.problem, "answer": item.answer, "topic": item.topic,
        "right": result.right, "trace": json.loads(result.trace.to_json()),
    }  # fmt: skip


def fitted_monitor(results: Sequence[Result]) -> MetacognitiveMonitor:
    """A monitor whose confidence is calibrated on these results.

    Raises:
      CalibrationError: no result has an answer.
    """
    monitor = MetacognitiveMonitor()
    monitor.calibrate([own.trace for own in results], _labels(results))
    return monitor


def held_out_confidences(
    measured: Sequence[Result], calibration: Sequence[Result], folds: int = FOLDS
) -> list[float]:
    """The calibrated confidence of each measured result, never fitted on its own item.

    With calibration results the calibrator is fitted on those. Without any it is cross-fitted:
    every ``folds``-th result is judged by a calibrator that was fitted on the others.

    Raises:
      UserError: an item is among both.
      CalibrationError: what the calibrator would be fitted on has no answer.
    """
    shared = {own.item.problem for own in measured} & {own.item.problem for own in calibration}
    if shared:
        raise UserError(f"{len(shared)} items are among the measured and the calibration items, "
                        f"such as {min(shared)[:60]!r}")  # fmt: skip
    if calibration:
        monitor = fitted_monitor(calibration)
        return [monitor.confidence(own.trace)[0] for own in measured]
    found = [0.0] * len(measured)
    for fold in range(folds):
        rest = [own for place, own in enumerate(measured) if place % folds != fold]
        monitor = fitted_monitor(rest)
        for place in range(fold, len(measured), folds):
            found[place] = monitor.confidence(measured[place].trace)[0]
    return found


def figures(
    results: Sequence[Result], calibrated: Sequence[float] | None = None, note: str = ""
) -> Figures:
    """The figures of a strategy's results.

    Args:
      calibrated: see :func:`held_out_confidences`; in the order of ``results``.
      note: why there are none.

    Raises:
      UserError: there are no results.
    """
    right = sum(own.right for own in results)
    low, high = wilson(right, len(results))
    count, labels = len(results), _labels(results)
    raw = calibration_report([own.trace.confidence or 0.0 for own in results], labels)
    after = None if calibrated is None else calibration_report(calibrated, labels, True)
    return Figures(
        count, right, right / count, low, high,
        sum(own.trace.final_answer is None for own in results),
        sum(own.trace.tokens for own in results) / count,
        sum(own.trace.seconds for own in results) / count,
        raw, after, note,
    )  # fmt: skip


def kind_of(item: Item) -> str:
    """Whose problem it is: "GSM8K" or "own"."""
    return "GSM8K" if item.topic == GSM8K else "own"


def figures_by_kind(
    measured: Sequence[Result], calibration: Sequence[Result] = ()
) -> dict[str, Figures]:
    """Figures of each kind of item and, where there are both, of "both" together.

    One calibrator serves all kinds, as one that is saved for use does.
    """
    confidences, note = None, ""
    try:
        confidences = held_out_confidences(measured, calibration)
    except CalibrationError as error:
        note = str(error)
    kinds = list(dict.fromkeys(kind_of(own.item) for own in measured))
    found = {}
    for kind in [*kinds, *(["both"] if len(kinds) > 1 else [])]:
        places = [i for i, own in enumerate(measured) if kind in ("both", kind_of(own.item))]
        chosen = None if confidences is None else [confidences[i] for i in places]
        found[kind] = figures([measured[i] for i in places], chosen, note)
    return found


def markdown_row(strategy: str, kind: str, found: Figures) -> str:
    """A line of the table in ``docs/reasoning.md``."""
    after = "-" if found.calibrated is None else f"{found.calibrated.ece:.3f}"
    return (
        f"| {strategy} | {kind} | {found.accuracy:.1%} ({found.low:.1%} to {found.high:.1%}) | "
        f"{found.unanswered} | {found.tokens:,.0f} | {found.seconds:.2f} | {found.raw.ece:.3f} | "
        f"{after} |"
    )


TABLE_HEAD = (
    "| strategy | items | right (95% interval) | no answer | tokens an item | seconds an item | "
    "ECE as stated | ECE calibrated |\n|---|---|---|---|---|---|---|---|"
)


def _labels(results: Sequence[Result]) -> list[float]:
    return [float(own.right) for own in results]
