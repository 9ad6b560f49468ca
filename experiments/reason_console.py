"""Reasoning as a person sees it: texts while the model writes them, then the trace in words."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from experiments.progress import format_duration, visible_text
from lilith.reasoning.arithmetic import ArithmeticCheck, check_arithmetic
from lilith.reasoning.reasoner_run import Event
from lilith.reasoning.sampler import Completion, Model
from lilith.reasoning.trace import Decision, ReasoningTrace, Thought

LONGEST = 100  # characters of a line that sums a text up


class Console:
    """Standard output, which falls silent when its reader has gone: the trace is still written."""

    def say(self, text: str = "") -> None:
        """Print lines; control characters and what the encoding lacks are made visible."""
        try:
            print(visible_text(text, sys.stdout.encoding or "utf-8"), flush=True)
        except BrokenPipeError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())

    def tell(self, event: Event) -> None:
        """Print a step or a decision of the advanced reasoner."""
        self.say(event_line(event))


class Watched:
    """A model whose texts are shown as it writes them: the first of each call line by line."""

    def __init__(self, model: Model, console: Console) -> None:
        self._model, self._console = model, console
        self.config, self.tokenizer = model.config, model.tokenizer
        self.chat_template = model.chat_template

    def encode(self, prompt: Any) -> list[int]:
        """As the model's own."""
        return self._model.encode(prompt)

    def score(self, prompt: Any, continuations: Sequence[str]) -> list[float]:
        """As the model's own."""
        return self._model.score(prompt, continuations)

    def generate_batch(
        self, prompts: Sequence[Any], *, n: int = 1, batch_size: int = 16, **settings: Any
    ) -> Sequence[Completion]:
        """As the model's own, shown."""
        count = len(prompts) * n
        shown = _Growing(self._console, f"text 1 of {count}" if count > 1 else "text")
        found = self._model.generate_batch(
            prompts, n=n, batch_size=batch_size, on_text=lambda new: shown.add(new[0]), **settings
        )
        shown.end(found[0].text)
        for place, one in enumerate(found[1:], 2):
            lines = [line for line in one.text.splitlines() if line.strip()]
            ends = _shortened(lines[-1]) if lines else "nothing"
            self._console.say(f"text {place} of {count}: {len(one.tokens):,} tokens, ends: {ends}")
        return found


class _Growing:
    """A text that is printed line by line while it grows."""

    def __init__(self, console: Console, title: str) -> None:
        self._console, self._title = console, title
        self._printed, self._open = 0, ""

    def add(self, piece: str) -> None:
        *whole, self._open = (self._open + piece).split("\n")
        for line in whole:
            self._line(line)
            self._printed += len(line) + 1

    def end(self, text: str) -> None:
        """Print what is still missing of the finished text; the grown one may end beyond it."""
        for line in text[self._printed :].split("\n"):
            self._line(line)

    def _line(self, line: str) -> None:
        if line.strip():
            self._console.say(f"{self._title} | {marked(line, check_arithmetic(line))}")


def marked(text: str, checks: Sequence[ArithmeticCheck]) -> str:
    """A text with a word behind each recomputed claim: right, or wrong and what it is."""
    for check in sorted(checks, key=lambda own: -own.end):
        if check.right is not None and text[check.start : check.end] == check.text:
            word = "right" if check.right else f"wrong: it is {check.true_value}"
            text = f"{text[: check.end]} [{word}]{text[check.end :]}"
    return text


def event_line(event: Event) -> str:
    """A step or a decision of the advanced reasoner."""
    return decision_line(event) if isinstance(event, Decision) else step_line(event)


def decision_line(decision: Decision) -> str:
    """What was decided, why, and what it cost."""
    seconds = _seconds(decision.seconds)
    return f"{decision.action}: {decision.reason} ({decision.tokens:,} tokens, {seconds})"


def trace_lines(trace: ReasoningTrace, decisions: bool = True) -> Iterator[str]:
    """The finished trace in words: steps, decisions, answers, confidence, cost."""
    for thought in trace.thoughts:
        yield step_line(thought)
    if decisions and trace.decisions:
        yield "decisions:"
        yield from (f"  {decision_line(decision)}" for decision in trace.decisions)
    if len(trace.alternatives) > 1:
        yield "answers that were found:"
        for other in trace.alternatives:
            score = "" if other.score is None else f", score {other.score:.4g}"
            yield f"  {_shortened(other.answer or 'none')}: {other.votes} votes{score}"
    if trace.truncated:
        yield "warning     the text was cut off at a limit"
    if trace.looped:
        yield "warning     the text says the same again and again"
    yield f"answer      {trace.final_answer or 'none'}"
    if trace.error:
        yield f"error       {trace.error}"
    if trace.confidence is not None:
        kind = "" if trace.calibrated else " (not calibrated)"
        yield f"confidence  {trace.confidence:.0%}{kind}"
    verdicts = {True: "a verifier accepts it", False: "a verifier rejects it"}
    if trace.verified is not None:
        yield f"verified    {verdicts[trace.verified]}"
    if not trace.is_safe or trace.violations:
        yield "safety      what the constitution objects to:"
        yield from (f"  {_violation(violation)}" for violation in trace.violations)
    yield f"cost        {trace.tokens:,} tokens written, {_seconds(trace.seconds)}"


def step_line(thought: Thought) -> str:
    """A step, its arithmetic marked."""
    words = {True: "", False: " [failed its check]", None: ""}
    text = marked(thought.thought, thought.checks)
    wrong = any(check.right is False for check in thought.checks)
    return f"Step {thought.step_number}: {text}{'' if wrong else words[thought.verified]}"


def _violation(violation: str | Mapping[str, Any]) -> str:
    if isinstance(violation, str):
        return violation
    return ", ".join(f"{name}: {value}" for name, value in violation.items() if value)


def _seconds(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds < 60 else format_duration(seconds)


def _shortened(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 3]}..."
