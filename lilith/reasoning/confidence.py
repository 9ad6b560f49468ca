"""How sure to be of an answer: what is known about it, joined by a logistic function.

The weights here are a guess that was made before any measurement, and a trace says so
(``calibrated`` is False); :class:`lilith.reasoning.calibration.Calibrator` fits them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from lilith.reasoning import prompting
from lilith.reasoning.calibration import FEATURES, Calibrator
from lilith.reasoning.judgement import both_orders
from lilith.reasoning.sampler import Prompt, Sampler
from lilith.reasoning.trace import Thought

# Of each feature's distance from a middle value; a feature that is not known counts nothing.
_GUESSED = {
    "vote_share": (4.0, 0.5),
    "margin": (1.0, 0.3),
    "answer_log_prob": (1.0, -0.5),
    "p_true": (2.0, 0.5),
    "verifier": (4.0, 0.5),
    "truncated": (-3.0, 0.0),
}


def confidence(
    signals: Mapping[str, float], answer: str | None, calibrator: Calibrator | None = None
) -> tuple[float, bool]:
    """The probability that an answer is right, and whether it is calibrated.

    Without an answer it is 0, which needs no calibration to be right. A calibrator can not use a
    feature that it was not fitted with (votes, if no answer that it saw was voted on).
    """
    if answer is None:
        return 0.0, calibrator is not None
    row = {name: signals[name] for name in FEATURES if name in signals}
    if calibrator is not None:
        fitted = {name: value for name, value in row.items() if name in calibrator.features}
        return float(calibrator.predict([fitted])[0]), True
    score = sum(
        weight * (row[name] - middle) for name, (weight, middle) in _GUESSED.items() if name in row
    )
    return 1 / (1 + math.exp(-score)), False


def p_true(sampler: Sampler, problem: str, answer: str) -> float:
    """The model's own probability that an answer is right (Kadavath et al., 2022,
    arXiv:2207.05221), averaged over both orders of the two letters.

    Raises:
      BudgetEnded: the time is over.
      UserError: the question is longer than the context.
    """
    return word_probability(
        sampler, f"Problem: {problem}\nProposed answer: {answer}\n\nIs the proposed answer",
        "The proposed answer is", "right", "wrong",
    )  # fmt: skip


def word_probability(sampler: Sampler, question: str, lead: str, word: str, other: str) -> float:
    """The model's probability of ``word`` against ``other`` as the end of a question, averaged over
    both orders of their letters A and B. ``lead`` begins the reply of a model without a chat.

    Raises:
      BudgetEnded: the time is over.
      UserError: the question is longer than the context.
    """

    def asked(word_is_a: bool) -> Prompt:
        a, b = (word, other) if word_is_a else (other, word)
        text = f"{question} (A) {a} or (B) {b}? Reply with the letter only."
        prompt = prompting.ask(text, chat=sampler.chat)
        return f"{prompt}\n{lead} (" if isinstance(prompt, str) else prompt

    return both_orders(sampler, asked).probability


def arithmetic_verdict(thoughts: Sequence[Thought]) -> bool | None:
    """Whether all that was checked in the steps is right; None where nothing was.

    A program that failed speaks against the answer; that one ran does not speak for it.
    """
    decided = [
        one.verified
        for one in standing(thoughts)
        if one.verified is False or (one.verified and not one.tool_calls)
    ]
    return all(decided) if decided else None


def standing(thoughts: Sequence[Thought]) -> list[Thought]:
    """The steps that the answer rests on: of those that called a tool, the last one alone.

    A program that failed and was repaired is no fault of the answer.
    """
    last = max((place for place, one in enumerate(thoughts) if one.tool_calls), default=-1)
    return [one for place, one in enumerate(thoughts) if not one.tool_calls or place == last]
