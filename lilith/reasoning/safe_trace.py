"""A trace that may be shown: harmful requests declined before any thinking, what it holds of
personal data removed, and the way to an answer withheld where the answer was."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

from lilith.reasoning.constitution import SEVERITIES
from lilith.reasoning.drafts import thought
from lilith.reasoning.safety_rules import find_harm, refusal_for
from lilith.reasoning.trace import ReasoningTrace, Thought
from lilith.reasoning.violations import Violation, rule_violations, without_personal_data

WITHHELD = "withheld: these words go with what is against the constitution"


def declined(problem: str) -> tuple[str, tuple[Violation, ...]] | None:
    """A refusal of a request that the rules call harmful, and what they found; None for others."""
    flags = find_harm(problem)
    if not flags:
        return None
    found = tuple(
        Violation(flag.principle, flag.severity, flag.evidence, f"{flag.how}, in the request",
                  flag.category)
        for flag in flags
    )  # fmt: skip
    worst = max(found, key=lambda one: SEVERITIES.index(one.severity))
    return refusal_for(worst.category), found


def shown_thoughts(problem: str, trace: ReasoningTrace) -> tuple[Thought, ...]:
    """The steps without personal data; none where the rules find harm in them."""
    if harm_in_steps(problem, trace):
        return ()
    return tuple(_clean_thought(one, _cleaner(problem)) for one in trace.thoughts)


def harm_in_steps(problem: str, trace: ReasoningTrace) -> tuple[Violation, ...]:
    """What the rules find in the steps, personal data aside."""
    text = "\n".join(one.thought for one in trace.thoughts)
    return tuple(one for one in rule_violations(problem, text) if not one.data)


def shown_words(problem: str, words: str) -> str:
    """The words of a decision without personal data, or :data:`WITHHELD` where they do harm.

    What a violation's own evidence quotes stands in the trace's violations.
    """
    if any(not one.data and one.category for one in rule_violations(problem, words)):
        return WITHHELD
    return without_personal_data(problem, words)


def without_data(problem: str, trace: ReasoningTrace) -> ReasoningTrace:
    """The trace without personal data in its steps, alternatives and transcript."""
    clean = _cleaner(problem)
    return dataclasses.replace(
        trace,
        thoughts=tuple(_clean_thought(one, clean) for one in trace.thoughts),
        alternatives=tuple(
            dataclasses.replace(one, answer=_cleaned(one.answer, clean), text=clean(one.text))
            for one in trace.alternatives
        ),
        transcript=tuple(_cleaned(turn, clean) for turn in trace.transcript),
        error=clean(trace.error),
    )


def withheld(trace: ReasoningTrace) -> ReasoningTrace:
    """The trace without steps, alternatives and transcript: they say what the answer must not."""
    return dataclasses.replace(trace, thoughts=(), alternatives=(), transcript=())


def _cleaner(problem: str) -> Callable[[str], str]:
    return lambda text: without_personal_data(problem, text)


def _clean_thought(one: Thought, clean: Callable[[str], str]) -> Thought:
    text, calls = clean(one.thought), _cleaned(one.tool_calls, clean)
    if text == one.thought:
        return dataclasses.replace(one, tool_calls=calls)
    # The places of the arithmetic in the text have moved.
    checks = thought(one.step_number, text).checks
    return dataclasses.replace(one, thought=text, tool_calls=calls, checks=checks)


def _cleaned(value: Any, clean: Callable[[str], str]) -> Any:
    if isinstance(value, str):
        return clean(value)
    if isinstance(value, Mapping):
        return {key: _cleaned(item, clean) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(_cleaned(item, clean) for item in value)
    return value
