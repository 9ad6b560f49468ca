"""Knowing when not to trust an answer: reasons to think again, and confidence that is measured."""

from __future__ import annotations

import ast
import dataclasses
import json
import os
import pathlib
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from lilith.reasoning import confidence, prompting
from lilith.reasoning.answers import canonical, same_answer
from lilith.reasoning.calibration import (
    FEATURES,
    SCORE,
    CalibrationError,
    Calibrator,
    Numbers,
    ReliabilityBin,
    RiskCoverage,
    auroc,
    brier,
    ece,
    reliability,
    risk_coverage,
)
from lilith.reasoning.sampler import ReasoningError
from lilith.reasoning.steps import extract_answer
from lilith.reasoning.trace import ReasoningTrace

CONFIDENCE_THRESHOLD = 0.7
AGREEMENT_THRESHOLD = 0.6
BINS = 15  # of the calibration error
_FORMAT = "lilith-monitor-1"
_LONGEST = 120  # characters of an answer or a claim that are quoted
_LETTER = re.compile(r"\s*(?:(?:option|choice)\s+)?[(\[]?[A-J](?:[)\].:]|\s*$)", re.IGNORECASE)
_CODE_LINE = re.compile(r"[;{}]\s*$|^\s*(?:#include|func |fn |public |SELECT )", re.MULTILINE)


class Reason(NamedTuple):
    """Why an answer should not be trusted yet.

    ``kind`` is "answer", "type", "confidence", "disagreement", "verification", "arithmetic",
    "safety", "truncation" or "loop"; ``words`` say it to people.
    """

    kind: str
    words: str


class MetacognitiveMonitor:
    """Says whether to think again about an answer, why, and how sure to be of it.

    Args:
      confidence_threshold: below it an answer is too unsure, 0 to 1.
      calibrator: what :meth:`calibrate` fitted; None until then.
      agreement_threshold: below this share of the votes the samples disagree, 0 to 1.

    Raises:
      ReasoningError: a threshold is no number from 0 to 1.
    """

    def __init__(
        self,
        confidence_threshold: float = CONFIDENCE_THRESHOLD,
        calibrator: Calibrator | None = None,
        *,
        agreement_threshold: float = AGREEMENT_THRESHOLD,
    ) -> None:
        for name, value in (
            ("confidence_threshold", confidence_threshold),
            ("agreement_threshold", agreement_threshold),
        ):
            number = isinstance(value, (int, float)) and not isinstance(value, bool)
            if not number or not 0 <= value <= 1:
                raise ReasoningError(f"{name} is {value!r}; it must be a number from 0 to 1")
        self.confidence_threshold = confidence_threshold
        self.agreement_threshold = agreement_threshold
        self.calibrator = calibrator

    def should_refine(self, trace: ReasoningTrace) -> bool:
        """Whether there is any reason to think again."""
        return bool(self.findings(trace))

    def reasons(self, trace: ReasoningTrace) -> list[str]:
        """Every reason to think again, in words; none where the answer can stand."""
        return [reason.words for reason in self.findings(trace)]

    def findings(self, trace: ReasoningTrace) -> list[Reason]:
        """Every reason to think again, with its kind."""
        found = [*_answer_reasons(trace)]
        value, _ = self.confidence(trace)
        threshold = self.confidence_threshold
        if trace.final_answer is not None and value < threshold:
            places = 2 if round(value, 2) < threshold else 6  # 0.6998 is not below 0.70 in two
            words = f"confidence {value:.{places}f} is below {threshold:.{places}f}"
            found.append(Reason("confidence", words))
        counted = vote_share(trace)
        if counted is not None and counted < self.agreement_threshold:
            found.append(Reason(
                "disagreement",
                f"the samples disagree: the answer has {counted:.0%} of the votes, less than "
                f"{self.agreement_threshold:.0%}",
            ))  # fmt: skip
        return [*found, *_evidence_reasons(trace)]

    def confidence(self, trace: ReasoningTrace) -> tuple[float, bool]:
        """The probability that a trace's answer is right, and whether it is calibrated.

        It is made from the trace's signals, by the calibrator or by the formula of
        :mod:`lilith.reasoning.confidence`. A confidence that a trace without signals already has
        is mapped by a calibrator of such traces, and stands as it is without one.
        """
        given = trace.confidence
        plain = self.calibrator is not None and self.calibrator.features == (SCORE,)
        if self.calibrator is not None and plain and trace.final_answer is not None:
            score = self._uncalibrated(trace)
            return float(self.calibrator.predict([score])[0]), True
        if given is not None and not _row(trace):
            return given, trace.calibrated
        if given is not None and self.calibrator is None:
            return given, trace.calibrated
        return confidence.confidence(trace.signals, trace.final_answer, self.calibrator)

    def with_confidence(self, trace: ReasoningTrace) -> ReasoningTrace:
        """The trace with :meth:`confidence` in it; ``calibrated`` says whether it was measured."""
        value, calibrated = self.confidence(trace)
        return dataclasses.replace(trace, confidence=value, calibrated=calibrated)

    def calibrate(self, traces: Sequence[ReasoningTrace], labels: Numbers) -> Calibrator:
        """Fit the confidence to held-out traces whose answers are right (1) or wrong (0).

        Traces without an answer teach nothing: their confidence is 0. Where no trace has signals,
        their plain confidences are fitted.

        Raises:
          CalibrationError: no traces, a wrong number of labels, a label other than 0 and 1, or
            labels that are all the same.
        """
        reliability([0.0] * len(traces), labels)  # one label a trace, each 0 or 1
        kept = [(t, label) for t, label in zip(traces, labels) if t.final_answer is not None]
        if not kept:
            raise CalibrationError("no trace has an answer; there is nothing to calibrate")
        answered = [trace for trace, _ in kept]
        right = [float(label) for _, label in kept]
        rows = [_row(trace) for trace in answered]
        if any(rows):
            self.calibrator = Calibrator.fit(rows, right)
        else:
            scores = [self._uncalibrated(trace) for trace in answered]
            self.calibrator = Calibrator.fit(scores, right)
        return self.calibrator

    def report(self, traces: Sequence[ReasoningTrace], labels: Numbers) -> CalibrationReport:
        """How well the confidence fits what is right; on traces that it was not fitted on.

        Raises:
          CalibrationError: as :meth:`calibrate`, but for labels that are all the same.
        """
        found = [self.confidence(trace) for trace in traces]
        calibrated = bool(found) and all(known for _, known in found)
        return calibration_report([value for value, _ in found], labels, calibrated)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write thresholds and calibrator as JSON."""
        fitted = None if self.calibrator is None else dataclasses.asdict(self.calibrator)
        content = {
            "format": _FORMAT,
            "confidence_threshold": self.confidence_threshold,
            "agreement_threshold": self.agreement_threshold,
            "calibrator": fitted,
        }
        pathlib.Path(path).write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> MetacognitiveMonitor:
        """Read what :meth:`save` wrote; needs no scikit-learn.

        Raises:
          CalibrationError: the file can not be read or does not hold a monitor.
        """
        try:
            data = json.loads(pathlib.Path(path).read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise CalibrationError(f"the monitor {path} can not be read: {error}") from None
        names = {"format", "confidence_threshold", "agreement_threshold", "calibrator"}
        if not isinstance(data, dict) or set(data) != names or data["format"] != _FORMAT:
            raise CalibrationError(f"{path} is not a saved monitor: it needs {sorted(names)}, "
                                   f"the format {_FORMAT!r}")  # fmt: skip
        fitted = data["calibrator"]
        calibrator = None if fitted is None else Calibrator.from_data(fitted, str(path))
        try:
            return cls(data["confidence_threshold"], calibrator,
                       agreement_threshold=data["agreement_threshold"])  # fmt: skip
        except ReasoningError as error:
            raise CalibrationError(f"{path} is not a saved monitor: {error}") from None

    def _uncalibrated(self, trace: ReasoningTrace) -> float:
        """The confidence as it was before any calibration."""
        if trace.confidence is not None and not trace.calibrated:
            return trace.confidence
        return confidence.confidence(trace.signals, trace.final_answer)[0]


@dataclass(frozen=True)
class CalibrationReport:
    """Confidence against what was right.

    Attributes:
      examples: how many answers; accuracy: the share of right ones; confidence: their mean.
      ece: expected calibration error over ``BINS`` bins of equal width; brier: the Brier score.
      auroc: the chance that a right answer is more confident than a wrong one; None where all
        labels are the same.
      risk_coverage: the share of wrong answers among the most confident.
      bins: confidence and accuracy by bin.
      calibrated: whether every confidence came from a calibrator.
    """

    examples: int
    accuracy: float
    confidence: float
    ece: float
    brier: float
    auroc: float | None
    risk_coverage: RiskCoverage
    bins: tuple[ReliabilityBin, ...]
    calibrated: bool

    def __str__(self) -> str:
        kind = "calibrated" if self.calibrated else "uncalibrated"
        order = "undefined, all labels are the same" if self.auroc is None else f"{self.auroc:.3f}"
        lines = [
            f"{self.examples} answers, accuracy {self.accuracy:.1%}, mean confidence "
            f"{self.confidence:.1%} ({kind})",
            f"ECE ({len(self.bins)} bins) {self.ece:.3f}   Brier {self.brier:.3f}   AUROC {order}",
            f"area under risk-coverage {self.risk_coverage.area:.3f}"
            + "".join(f"   wrong in the surest {share:.0%}: {self._risk(share):.1%}"
                      for share in (0.25, 0.5, 0.75)),
            "confidence     answers   mean   right",
        ]  # fmt: skip
        lines += [
            f"{one.low:.2f} to {one.high:.2f} {one.count:9d} {one.confidence:6.1%} "
            f"{one.accuracy:7.1%}"
            for one in self.bins
            if one.confidence is not None and one.accuracy is not None
        ]
        return "\n".join(lines)

    def plot(self, path: str | os.PathLike[str]) -> None:
        """Draw the reliability of each bin and risk against coverage, as PNG or SVG by the suffix.

        Raises:
          CalibrationError: the suffix is neither .png nor .svg.
        """
        suffix = pathlib.Path(path).suffix.lower()
        if suffix not in (".png", ".svg"):
            raise CalibrationError(f"the plot {path} does not end in .png or .svg")
        from lilith.reasoning.calibration_plot import calibration_figure

        calibration_figure(self).savefig(path, format=suffix[1:], dpi=150)

    def _risk(self, coverage: float) -> float:
        """The share of wrong answers among the surest ``coverage`` of all, at least one."""
        place = max(1, round(coverage * self.examples)) - 1
        return float(self.risk_coverage.risk[place])


def calibration_report(
    confidences: Numbers, labels: Numbers, calibrated: bool = False
) -> CalibrationReport:
    """The report on confidences, [n] in [0, 1], and labels, [n] of 0 and 1.

    Raises:
      CalibrationError: as :func:`lilith.reasoning.calibration.reliability`.
    """
    bins = tuple(reliability(confidences, labels, BINS))
    count = len(confidences)
    accuracy = sum(float(label) for label in labels) / count
    return CalibrationReport(
        count, accuracy, sum(float(value) for value in confidences) / count,
        ece(confidences, labels, BINS), brier(confidences, labels),
        None if accuracy in (0.0, 1.0) else auroc(confidences, labels),
        risk_coverage(confidences, labels), bins, calibrated,
    )  # fmt: skip


def vote_share(trace: ReasoningTrace) -> float | None:
    """The share of the votes that the answer has; None where fewer than two texts were counted."""
    total = sum(other.votes for other in trace.alternatives)
    if "vote_share" in trace.signals:  # it counts texts without an answer too
        return trace.signals["vote_share"]
    if total < 2 or trace.final_answer is None:
        return None
    own = (o.votes for o in trace.alternatives if same_answer(o.answer, trace.final_answer))
    return sum(own) / total


def _row(trace: ReasoningTrace) -> dict[str, float | None]:
    """The signals of a trace that a confidence is made from."""
    return {name: trace.signals[name] for name in FEATURES if name in trace.signals}


def _answer_reasons(trace: ReasoningTrace) -> Iterator[Reason]:
    """Reasons in the answer itself: there is none, or it is of another type than was asked for."""
    answer = trace.final_answer
    if answer is None or not answer.strip():
        yield Reason("answer", "there is no answer" + (f": {trace.error}" if trace.error else ""))
        return
    kind = trace.answer_kind
    if kind == "auto":
        kind = prompting.question_kind(trace.problem)
    if kind in _HOLDS and not _HOLDS[kind](answer):
        wanted = {"number": "a number", "choice": "a letter", "code": "code"}[kind]
        yield Reason("type", f"the question asks for {wanted} and the answer {_quoted(answer)} "
                             "holds none")  # fmt: skip


def _evidence_reasons(trace: ReasoningTrace) -> Iterator[Reason]:
    """Reasons that a verifier, a recomputation, the constitution or the text's end gave."""
    if trace.verified is False:
        yield Reason("verification", "a verifier rejected the answer")
    for thought in confidence.standing(trace.thoughts):
        wrong = [check for check in thought.checks if check.right is False]
        for check in wrong:
            yield Reason(
                "arithmetic",
                f"step {thought.step_number} claims {_quoted(check.text)} and the true value is "
                f"{_shortened(check.true_value)}",
            )
        if thought.verified is False and not wrong:
            yield Reason("verification", f"step {thought.step_number} failed its check")
    if not trace.is_safe or trace.violations:
        said = "; ".join(_violation_words(violation) for violation in trace.violations)
        yield Reason("safety", f"the answer is against the constitution: {said}" if said
                     else "the answer is unsafe")  # fmt: skip
    if trace.truncated:
        yield Reason("truncation", "the text was cut off at a limit and does not end by itself")
    if trace.looped:
        yield Reason("loop", "the text says the same again and again")


def _violation_words(violation: str | Mapping[str, Any]) -> str:
    if isinstance(violation, str):
        return violation
    words = str(violation.get("principle", "a principle"))
    if violation.get("severity"):
        words += f" ({violation['severity']})"
    return f"{words}: {_quoted(str(violation['evidence']))}" if violation.get("evidence") else words


def _is_number(answer: str) -> bool:
    return (
        extract_answer(f"{prompting.ANSWER_MARK} {answer}", "number") is not None
        or canonical(answer).kind == "number"
    )


def _is_choice(answer: str) -> bool:
    return _LETTER.match(answer) is not None or canonical(answer).kind == "choice"


def _is_code(answer: str) -> bool:
    """Whether it is fenced, begins as code does, or is Python of more than a name or a value."""
    if extract_answer(answer, "code") is not None or _CODE_LINE.search(answer):
        return True
    try:
        body = ast.parse(answer).body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    plain = (ast.Name, ast.Constant)
    return any(not (isinstance(s, ast.Expr) and isinstance(s.value, plain)) for s in body)


_HOLDS: dict[str, Callable[[str], bool]] = {
    "number": _is_number,
    "choice": _is_choice,
    "code": _is_code,
}


def _quoted(text: str) -> str:
    return f'"{_shortened(text)}"'


def _shortened(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…"
