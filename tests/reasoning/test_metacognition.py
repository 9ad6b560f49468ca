"""The monitor: each reason to think again by itself, and confidence that is measured and kept."""

from __future__ import annotations

import json
import pathlib
import random
import subprocess
import sys
from typing import Any

import pytest

from lilith.reasoning.calibration import CalibrationError, Calibrator
from lilith.reasoning.confidence import confidence
from lilith.reasoning.drafts import thought
from lilith.reasoning.metacognition import (
    CalibrationReport,
    MetacognitiveMonitor,
    calibration_report,
    vote_share,
)
from lilith.reasoning.sampler import ReasoningError
from lilith.reasoning.trace import Alternative, ReasoningTrace, Thought


def sure(**fields: Any) -> ReasoningTrace:
    """A trace that nothing is wrong with, but for what ``fields`` say."""
    content: dict[str, Any] = {
        "problem": "Name it.", "final_answer": "42", "confidence": 0.9, **fields
    }  # fmt: skip
    return ReasoningTrace(**content)


def answered(count: int, seed: int = 0) -> tuple[list[ReasoningTrace], list[int]]:
    """Traces whose vote share is the chance that they are right, squared."""
    rng = random.Random(seed)
    traces, labels = [], []
    for _ in range(count):
        share = rng.random()
        traces.append(sure(confidence=None, signals={"vote_share": share, "truncated": 0.0}))
        labels.append(int(rng.random() < share**2))
    return traces, labels


def test_a_sure_answer_stands() -> None:
    monitor = MetacognitiveMonitor()
    trace = sure(thoughts=(thought(1, "2 + 2 = 4"),), verified=True, answer_kind="number")
    assert (monitor.should_refine(trace), monitor.reasons(trace)) == (False, [])


REASONS = {
    "low confidence": (
        {"confidence": 0.42}, "confidence", "confidence 0.42 is below 0.70",
    ),
    "hardly low confidence": (
        {"confidence": 0.6998}, "confidence", "confidence 0.699800 is below 0.700000",
    ),
    "disagreement by signal": (
        {"signals": {"vote_share": 0.375}},
        "disagreement", "the samples disagree: the answer has 38% of the votes, less than 60%",
    ),
    "disagreement by votes": (
        {"alternatives": (Alternative("41", 2), Alternative("42.0", 2))},
        "disagreement", "the samples disagree: the answer has 50% of the votes, less than 60%",
    ),
    "rejected": ({"verified": False}, "verification", "a verifier rejected the answer"),
    "a tool's failed step": (
        {"thoughts": (Thought(3, "It runs.", verified=False),)},
        "verification", "step 3 failed its check",
    ),
    "wrong arithmetic": (
        {"thoughts": (thought(1, "1 + 1 = 2"), thought(2, "So 12 * 3 = 38 pens."))},
        "arithmetic", 'step 2 claims "12 * 3 = 38" and the true value is 36',
    ),
    "unsafe": ({"is_safe": False}, "safety", "the answer is unsafe"),
    "violations": (
        {"violations": ("it harms", {"principle": "privacy", "severity": "high",
                                     "evidence": "***42"}), "is_safe": False},
        "safety", 'the answer is against the constitution: it harms; privacy (high): "***42"',
    ),
    "truncated": (
        {"truncated": True}, "truncation",
        "the text was cut off at a limit and does not end by itself",
    ),
    "looped": ({"looped": True}, "loop", "the text says the same again and again"),
    "nothing": (
        {"final_answer": None, "confidence": 0.0, "error": "the model wrote nothing"},
        "answer", "there is no answer: the model wrote nothing",
    ),
    "space": ({"final_answer": " \n"}, "answer", "there is no answer"),
    "no number": (
        {"final_answer": "blue", "answer_kind": "number"},
        "type", 'the question asks for a number and the answer "blue" holds none',
    ),
    "no number, by the problem": (
        {"final_answer": "blue", "problem": "How many pens are there?"},
        "type", 'the question asks for a number and the answer "blue" holds none',
    ),
    "no letter": (
        {"final_answer": "I can not tell", "answer_kind": "choice"},
        "type", 'the question asks for a letter and the answer "I can not tell" holds none',
    ),
    "no code": (
        {"final_answer": "sorry", "answer_kind": "code"},
        "type", 'the question asks for code and the answer "sorry" holds none',
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", REASONS)
def test_each_reason_alone(name: str) -> None:
    fields, kind, words = REASONS[name]
    monitor = MetacognitiveMonitor()
    trace = sure(**fields)
    assert monitor.should_refine(trace)
    assert [(reason.kind, reason.words) for reason in monitor.findings(trace)] == [(kind, words)]
    assert monitor.reasons(trace) == [words]


@pytest.mark.parametrize(
    ("kind", "answer"),
    [("number", "twenty-five"), ("number", "$1,234.50"), ("number", "1/2"), ("choice", "B"),
     ("choice", "(c)"), ("choice", "B) 12 dollars"), ("choice", "option D"),
     ("code", "x = 5"), ("code", "def f():\n    return 1"), ("code", "int main() {\n}"),
     ("code", "```\nls\n```"), ("text", "blue"), ("auto", "blue")],
)  # fmt: skip
def test_answers_of_their_type(kind: str, answer: str) -> None:
    assert MetacognitiveMonitor().reasons(sure(final_answer=answer, answer_kind=kind)) == []


def test_reasons_add_up() -> None:
    trace = sure(confidence=0.1, verified=False, truncated=True, looped=True)
    kinds = [reason.kind for reason in MetacognitiveMonitor().findings(trace)]
    assert kinds == ["confidence", "verification", "truncation", "loop"]


def test_thresholds() -> None:
    trace = sure(confidence=0.42, signals={"vote_share": 0.3})
    assert not MetacognitiveMonitor(0.42, agreement_threshold=0.3).should_refine(trace)
    assert MetacognitiveMonitor(0.43, agreement_threshold=0.3).should_refine(trace)
    for bad in (1.5, -0.1, "high", True, float("nan")):
        with pytest.raises(ReasoningError, match="confidence_threshold is"):
            MetacognitiveMonitor(bad)
    with pytest.raises(ReasoningError, match=r"agreement_threshold is 2; .* from 0 to 1"):
        MetacognitiveMonitor(agreement_threshold=2)


def test_votes_are_of_the_answer_itself() -> None:
    alternatives = (Alternative("41", 3, 0.1), Alternative("42", 1, 0.9), Alternative("42.0", 4))
    assert vote_share(sure(alternatives=alternatives)) == 5 / 8
    assert vote_share(sure(alternatives=(Alternative("42", 1),))) is None
    assert vote_share(sure()) is None


def test_confidence_is_the_formula_until_it_is_calibrated() -> None:
    signals = {"vote_share": 0.9, "p_true": 0.6, "unheard": 3.0}
    monitor = MetacognitiveMonitor()
    trace = sure(confidence=None, signals=signals)
    value, calibrated = monitor.confidence(trace)
    assert (value, calibrated) == confidence(signals, "42")
    assert calibrated is False
    told = monitor.with_confidence(trace)
    assert (told.confidence, told.calibrated) == (value, False)


def test_calibration_says_so_and_is_right_on_held_out_traces() -> None:
    monitor = MetacognitiveMonitor()
    held, labels = answered(2000, seed=1)
    before = monitor.report(held, labels)
    fitted = monitor.calibrate(*answered(4000))
    assert monitor.calibrator is fitted
    after = monitor.report(held, labels)
    assert before.calibrated is False
    assert after.calibrated is True
    assert after.ece <= 0.05 < before.ece
    told = monitor.with_confidence(held[0])
    assert told.calibrated is True
    assert told.confidence == fitted.predict([dict(held[0].signals)])[0]
    assert monitor.confidence(sure(final_answer=None, signals={"vote_share": 0.9})) == (0.0, True)


def test_traces_without_signals_are_calibrated_by_their_confidence() -> None:
    rng = random.Random(2)
    chances = [rng.random() for _ in range(800)]
    traces = [sure(confidence=chance) for chance in chances]
    labels = [int(rng.random() < chance**2) for chance in chances]
    monitor = MetacognitiveMonitor()
    monitor.calibrate(traces, labels)
    first = monitor.with_confidence(sure(confidence=0.5))
    assert first.calibrated
    assert first.confidence == pytest.approx(0.25, abs=0.1)
    # A calibrator of signals says nothing about a trace that has none.
    monitor.calibrate(*answered(200))
    assert monitor.confidence(sure(confidence=0.3)) == (0.3, False)


def test_a_calibrator_meets_signals_that_it_never_saw() -> None:
    monitor = MetacognitiveMonitor()
    monitor.calibrate(*answered(200))
    trace = sure(signals={"vote_share": 0.9, "truncated": 0.0, "p_true": 0.1})
    plain = sure(signals={"vote_share": 0.9, "truncated": 0.0})
    assert monitor.confidence(trace) == monitor.confidence(plain)


def test_traces_without_an_answer_teach_nothing() -> None:
    traces, labels = answered(60)
    nothing = sure(final_answer=None, signals={"vote_share": 0.9})
    monitor = MetacognitiveMonitor()
    fitted = monitor.calibrate([*traces, nothing], [*labels, 0])
    assert fitted.examples == 60
    assert fitted == Calibrator.fit([dict(trace.signals) for trace in traces], labels)
    with pytest.raises(CalibrationError, match="no trace has an answer"):
        monitor.calibrate([nothing, nothing], [0, 1])


@pytest.mark.parametrize(
    ("labels", "words"),
    [([1, 0], "there are 2 labels for 3 answers"), ([1, 0, 2], "label 2 is 2"),
     ([1, 0, 1, 0], "there are 4 labels for 3"), (["a", 0, 1], "not a number"),
     ([1, float("nan"), 0], "labels number 1 is nan")],
)  # fmt: skip
def test_bad_labels(labels: list[Any], words: str) -> None:
    traces = answered(3)[0]
    for work in (MetacognitiveMonitor().calibrate, MetacognitiveMonitor().report):
        with pytest.raises(CalibrationError, match=words):
            work(traces, labels)


def test_labels_that_are_all_the_same() -> None:
    traces = answered(3)[0]
    monitor = MetacognitiveMonitor()
    report = monitor.report(traces, [1, 1, 1])
    monitor.calibrate(traces, [1, 1, 1])
    assert [monitor.confidence(own) for own in traces] == [(pytest.approx(0.8), True)] * 3
    assert report.auroc is None
    assert "AUROC undefined, all labels are the same" in str(report)
    with pytest.raises(CalibrationError, match="no answers to measure"):
        monitor.report([], [])
    with pytest.raises(CalibrationError, match="no answers to measure"):
        monitor.calibrate([], [])


def test_save_and_load(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "monitor.json"
    monitor = MetacognitiveMonitor(0.8, agreement_threshold=0.5)
    monitor.save(path)
    assert MetacognitiveMonitor.load(path).calibrator is None
    monitor.calibrate(*answered(100))
    monitor.save(path)
    again = MetacognitiveMonitor.load(path)
    assert (again.confidence_threshold, again.agreement_threshold) == (0.8, 0.5)
    assert again.calibrator == monitor.calibrator
    trace = sure(signals={"vote_share": 0.7})
    assert again.confidence(trace) == monitor.confidence(trace)


def test_loading_what_is_no_monitor(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "monitor.json"
    with pytest.raises(CalibrationError, match="can not be read"):
        MetacognitiveMonitor.load(path)
    MetacognitiveMonitor().save(path)
    good = json.loads(path.read_text())
    for text in ("{", "[]", json.dumps({**good, "format": "other"}), json.dumps({"x": 1}),
                 json.dumps({**good, "calibrator": {"features": []}}),
                 json.dumps({**good, "confidence_threshold": 3})):  # fmt: skip
        path.write_text(text)
        with pytest.raises(CalibrationError, match=r"monitor\.json"):
            MetacognitiveMonitor.load(path)


def small_report() -> CalibrationReport:
    return calibration_report([0.1, 0.9, 0.95, 0.55], [0, 1, 0, 1])


def test_the_report_by_hand() -> None:
    report = small_report()
    # Each answer has a bin of its own but 0.95 and 0.9 (14th: from 14/15 on; 13th).
    assert report.ece == pytest.approx((0.1 + 0.1 + 0.95 + 0.45) / 4)
    assert report.brier == pytest.approx((0.01 + 0.01 + 0.9025 + 0.2025) / 4)
    assert report.auroc == pytest.approx(2 / 4)
    assert (report.examples, report.accuracy, report.confidence) == (4, 0.5, pytest.approx(0.625))
    assert report.risk_coverage.risk.tolist() == pytest.approx([1, 1 / 2, 1 / 3, 1 / 2])
    assert len(report.bins) == 15
    text = str(report)
    for words in ("4 answers, accuracy 50.0%", "(uncalibrated)", "ECE (15 bins) 0.400",
                  "Brier 0.281", "AUROC 0.500", "surest 25%: 100.0%", "0.93 to 1.00"):  # fmt: skip
        assert words in text
    assert "0.20 to 0.27" not in text


def test_the_plot(tmp_path: pathlib.Path) -> None:
    report = small_report()
    report.plot(tmp_path / "a.png")
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")
    report.plot(tmp_path / "a.svg")
    assert "<svg" in (tmp_path / "a.svg").read_text()
    with pytest.raises(CalibrationError, match=r"does not end in \.png or \.svg"):
        report.plot(tmp_path / "a.jpg")
    # One answer, all bins but one empty, nothing wrong: still a picture.
    calibration_report([1.0], [1]).plot(tmp_path / "b.png")


def test_monitoring_needs_neither_jax_nor_pyplot(tmp_path: pathlib.Path) -> None:
    code = (
        "import sys; from lilith.reasoning.metacognition import calibration_report\n"
        "heavy = [m for m in ('jax', 'matplotlib', 'sklearn') if m in sys.modules]\n"
        f"calibration_report([0.5], [1]).plot({str(tmp_path / 'a.png')!r})\n"
        "print(heavy, 'matplotlib.pyplot' in sys.modules)"
    )
    ended = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=120
    )
    assert (ended.stdout.strip(), ended.stderr) == ("[] False", "")
