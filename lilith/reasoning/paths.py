"""Paths of steps: what a step states, and what the path to it is worth."""

from __future__ import annotations

import dataclasses
import math
import re

from lilith.reasoning.drafts import Attempt, thought
from lilith.reasoning.rounds import quoted
from lilith.reasoning.sampler import Sample
from lilith.reasoning.steps import extract_answer
from lilith.reasoning.trace import Thought

_MARK = re.compile(r"[\s*#_]*step\s*#?\d{1,4}\s*[:.)\-]*\s*(?:\*\*)?\s*", re.IGNORECASE)
# "the result is 12" may stand in the middle of the way; these words stand at its end.
_ANNOUNCED = re.compile(
    r"\banswer\b(?:\s+to\s+(?:the|this)\s+(?:problem|question))?(?:\*\*|__)?\s*(?:\bis\b|[:=])"
    r"|\\boxed\s*\{|(?:^|\n)[ \t]*\#{4}",
    re.IGNORECASE,
)
# A line that only states the answer; one with a sum in it is a step.
_ANSWER_LINE = re.compile(
    r"(?:^|\n)[\s*#_]*(?:the )?(?:final )?answer[\s*_]*:[^\n=+*/]*\Z", re.IGNORECASE
)


@dataclasses.dataclass(frozen=True)
class Path:
    """Steps from the problem on.

    Attributes:
      steps: their texts, without "Step 1:"; samples: what the model wrote for each.
      thoughts: the same steps with their arithmetic recomputed.
      answer: what the last step states; None where the path goes on.
      value: what it is worth; larger is better.
    """

    steps: tuple[str, ...] = ()
    samples: tuple[Sample, ...] = ()
    thoughts: tuple[Thought, ...] = ()
    answer: str | None = None
    value: float = 0.0

    @property
    def wrong(self) -> bool:
        """Whether arithmetic in it was recomputed as wrong."""
        return any(one.verified is False for one in self.thoughts)

    @property
    def likelihood(self) -> float:
        """exp of the mean log-probability of all tokens; 0 without any."""
        log_probs = [value for sample in self.samples for value in sample.log_probs]
        return math.exp(sum(log_probs) / len(log_probs)) if log_probs else 0.0

    @property
    def rank(self) -> tuple[float, float]:
        """What paths are ordered by: value, then likelihood."""
        return self.value, self.likelihood

    def text(self) -> str:
        """The steps as a model without a chat writes them."""
        return "\n".join(f"Step {number}: {step}" for number, step in enumerate(self.steps, 1))

    def grown(self, step: str, sample: Sample, kind: str) -> Path:
        """The path with another step, to a problem of a kind."""
        body = step if kind == "code" else _ANSWER_LINE.sub("", step).strip()
        thoughts = self.thoughts
        if body:
            thoughts = (*thoughts, thought(len(thoughts) + 1, body, sample.log_prob()))
        steps, samples = (*self.steps, step), (*self.samples, sample)
        return Path(steps, samples, thoughts, stated(step, kind))

    def shown(self) -> str:
        """The last step with the value, and why it may lose: for a decision's reason."""
        why = ", wrong arithmetic" if self.wrong else ""
        why += f", answers {quoted(self.answer)}" if self.answer is not None else ""
        return f"{quoted(self.steps[-1])} ({self.value:.3g}{why})"

    def last(self) -> Attempt:
        """The text that the answer is from."""
        sample = self.samples[-1]
        return Attempt(sample.text, self.answer, sample)


def clean(text: str) -> str:
    """A step without its mark."""
    mark = _MARK.match(text)
    return text[mark.end() :].strip() if mark else text.strip()


def stated(step: str, kind: str) -> str | None:
    """The answer that a step announces; None where it announces none of the kind."""
    if kind == "code":
        return extract_answer(step, kind)
    found = _ANNOUNCED.search(step)
    return extract_answer(step[found.start() :], kind) if found else None
