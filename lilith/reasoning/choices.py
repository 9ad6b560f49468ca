"""Which of two answers to take, by what can tell: tests, a verifier, recomputed arithmetic.

Each judge gives its choice with the reason in words, or None where it can not tell.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from lilith.reasoning.answers import LONGEST, same_answer
from lilith.reasoning.arithmetic import ArithmeticCheck, check_arithmetic
from lilith.reasoning.drafts import Attempt, empty_words
from lilith.reasoning.sampler import Sample
from lilith.reasoning.steps import is_loop
from lilith.reasoning.tested_code import Count
from lilith.reasoning.verification import Judgement

_NO_MISTAKES = "no mistakes"


@dataclass(frozen=True)
class Answer:
    """An answer, and what the judges of one answer alone say of it.

    Attributes:
      text: all of it.
      stated: what it states; all of it where it states nothing of the kind.
      word: the verifier's, or whether all tests pass.
      count: of tests that pass; None without any.
    """

    text: str
    stated: str
    word: Judgement
    count: Count | None = None


@dataclass(frozen=True)
class Choice:
    """Whether a revision is taken, why, and who says so."""

    kept: bool
    reason: str
    judged_by: str


def first_answer(revision: Answer) -> Choice:
    """Where there was no answer, the first that nobody calls wrong; a program even then."""
    if revision.count is not None:
        return Choice(True, f"there was no program before; this one {revision.count}", "form")
    if revision.word.verified is False:
        words = "there was no answer, and the verifier calls this one wrong"
        return Choice(False, words, "verifier")
    if revision.word.verified:
        return Choice(True, "the verifier finds the answer right", "verifier")
    return Choice(True, "there was no answer before", "form")


def by_tests(first: Count, second: Count) -> Choice:
    """The choice of tests: the revision where it passes more of them."""
    if second.passed > first.passed:
        return Choice(True, f"the revision {second}, the first {first}", "tests")
    words = f"the revision {second}, no more than the first, which {first}: the first stands"
    return Choice(False, words, "tests")


def by_verifier(first: Answer, second: Answer) -> Choice | None:
    """The choice of a verifier; None where it can not tell the revision right or wrong."""
    if second.word.verified is None:
        return None
    if second.word.verified:
        words = "the verifier finds the revision right and not the first"
        return Choice(True, words, "verifier")
    also = ", as the first" if first.word.verified is False else ""
    return Choice(
        False, f"the verifier calls the revision wrong{also}: the first stands", "verifier"
    )


def by_arithmetic(first: Answer, second: Answer) -> Choice | None:
    """The choice of recomputed arithmetic; None where neither has less wrong than the other.

    A revision with fewer wrong claims must also have a right one: to leave the arithmetic out
    mends nothing.
    """
    checks = check_arithmetic(second.text)
    before, after = wrong_claims(check_arithmetic(first.text)), wrong_claims(checks)
    fresh = [one for one in after if one.text not in {old.text for old in before}]
    if fresh:
        words = f"the revision has wrong arithmetic ({corrected(fresh[0])}): the first stands"
        return Choice(False, words, "arithmetic")
    if len(after) < len(before) and any(one.right for one in checks):
        words = (
            f"recomputed, the first has {len(before)} wrong claims ({corrected(before[0])}), "
            f"the revision {len(after)}"
        )
        return Choice(True, words, "arithmetic")
    return None


def wrong_claims(checks: Sequence[ArithmeticCheck]) -> list[ArithmeticCheck]:
    return [one for one in checks if one.right is False]


def corrected(check: ArithmeticCheck) -> str:
    return f"{check.text} is wrong: the left side is {check.true_value}"


def says_the_same(first: Answer, second: Answer, kind: str) -> bool:
    """Whether two answers say the same; programs and long texts only where they are equal."""
    if kind == "code" or max(len(first.stated), len(second.stated)) > LONGEST:
        one, other = ([x.rstrip() for x in a.stated.strip().split("\n")] for a in (first, second))
        return one == other
    return same_answer(first.stated, second.stated)


def no_critique(critique: str, said: Sample, standing: Answer) -> Choice | None:
    """Why a round ends with its critique; None where it goes on.

    Where the answer is known to be wrong, what is known is enough to go on by.
    """
    if standing.word.verified is False:
        return None
    if not critique:
        return Choice(False, "the model wrote no critique; the answer stands", "form")
    if is_loop(said.text):
        words = "the critique says the same again and again; the answer stands"
        return Choice(False, words, "form")
    wrong = wrong_claims(check_arithmetic(standing.text))
    if critique.lstrip("*\"' ").lower().startswith(_NO_MISTAKES) and not wrong:
        return Choice(False, "the critique finds no mistakes; the answer stands", "form")
    return None


def no_revision(found: Attempt, kind: str) -> Choice | None:
    """Why a text is no revision; None where it is one."""
    words = empty_words(found) if kind in ("number", "choice", "code") else ""
    if not found.sample.text.strip():
        words = empty_words(found)
    elif found.truncated:
        words = f"the revision did not end within {len(found.sample.tokens)} tokens"
    elif found.looped:
        words = "the revision says the same again and again"
    return Choice(False, f"{words}: it is no revision", "form") if words else None
