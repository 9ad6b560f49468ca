"""Harmful requests and answers, flagged by their wording, and refusals that offer help instead.

Rules without a model: quick, exact about what they saw, and blind to anything said in other words.
They are made to be right when they speak rather than to see everything; a model's judgement beside
them sees more. The measured share of both is in ``tests/reasoning/test_safety_rules.py``.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from lilith.config import UserError, nearest
from lilith.reasoning.harm_rules import DECLINING, PROTECTIVE, RULES, UNSEEN
from lilith.reasoning.refusals import HARMS

CATEGORIES = tuple(HARMS)

_SENTENCE = re.compile(r"[^.!?\n]++(?:[.!?](?=\S)[^.!?\n]++)*+")


class SafetyError(UserError):
    """A category of harm that does not exist."""


@dataclass(frozen=True)
class SafetyFlag:
    """One violation by wording.

    ``principle`` is an id of the project's constitution, ``evidence`` the very words at ``span``,
    ``how`` says how it was found.
    """

    category: str
    principle: str
    severity: str  # low, medium or high
    evidence: str
    span: tuple[int, int]
    how: str


def find_harm(text: str, *, is_answer: bool = False) -> list[SafetyFlag]:
    """The harmful wordings in ``text``, at most one a category and sentence, in order.

    A sentence that is about recognising or preventing harm is excused, unless it also asks not to
    be caught; in an answer, so is one that declines or warns.
    """
    flags = []
    for sentence in _SENTENCE.finditer(text):
        words = sentence.group()
        if is_answer and DECLINING.search(words):
            continue
        if PROTECTIVE.search(words) and not UNSEEN.search(words):
            continue
        seen: set[str] = set()
        for rule in RULES:
            if rule.category not in seen and (match := rule.pattern.search(words)):
                seen.add(rule.category)
                flags.append(_flag(rule.category, match, sentence.start()))
    return flags


def refusal_for(category: str) -> str:
    """A friendly refusal of a request of ``category``: why not, and what would help instead.

    Raises:
      SafetyError: there is no such category.
    """
    if category not in HARMS:
        raise SafetyError(
            f"there is no category of harm {category!r}{nearest(category, CATEGORIES)}; "
            f"known: {', '.join(CATEGORIES)}"
        )
    return HARMS[category].refusal


def _flag(category: str, match: re.Match[str], offset: int) -> SafetyFlag:
    harm = HARMS[category]
    return SafetyFlag(
        category=category,
        principle=harm.principle,
        severity=harm.severity,
        evidence=match.group().strip(),
        span=(offset + match.start(), offset + match.end()),
        how=f"rule: the wording of a request about {harm.name}",
    )
