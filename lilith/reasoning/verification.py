"""Verifiers that people wrote, asked with care: they may raise, hang, or give no verdict."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

VERIFIER_SECONDS = 30.0
Result = TypeVar("Result")
# Whether the answer to a problem is right: True, False, or None where it can not tell.
Verifier = Callable[[str, str], bool | None]


@dataclass(frozen=True)
class Outcome(Generic[Result]):
    """What a function gave within its time.

    Attributes:
      value: what it gave; None where it was given up or raised.
      given_up: it was still at work when its time was over.
      error: what it raised, in words; "" where it raised nothing.
    """

    value: Result | None
    given_up: bool = False
    error: str = ""


def within(seconds: float, function: Callable[[], Result]) -> Outcome[Result]:
    """What ``function`` gives, waited for no longer than ``seconds``.

    One that is given up is left to itself, for nothing can end a thread: a function which can
    hang should also bound itself, as SHAMSHEL does.
    """
    found: list[Result] = []
    errors: list[str] = []

    def ask() -> None:
        try:
            found.append(function())
        except Exception as error:  # it is the user's: anything may go wrong in it
            errors.append(f"{type(error).__name__}: {error}")

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(seconds)
    if found:
        return Outcome(found[0])
    if errors:
        return Outcome(None, error=errors[0])
    return Outcome(None, given_up=True)


@dataclass(frozen=True)
class Judgement:
    """A verifier's word on an answer.

    Attributes:
      verified: True or False; None where it could not tell or did not work.
      note: why there is no verdict, in words; "" where there is one.
    """

    verified: bool | None
    note: str = ""


def judge(
    verifier: Verifier, problem: str, answer: str, seconds: float = VERIFIER_SECONDS
) -> Judgement:
    """Ask a verifier about an answer. What goes wrong in it is told in ``note``, never raised."""
    outcome: Outcome[Any] = within(seconds, lambda: verifier(problem, answer))
    if outcome.given_up:
        words = f"the verifier gave no verdict within {seconds:g} s and was given up"
        return Judgement(None, words)
    if outcome.error:
        return Judgement(None, f"the verifier raised {outcome.error}")
    if outcome.value is None:
        return Judgement(None, "the verifier could not tell")
    if isinstance(outcome.value, bool) or type(outcome.value).__name__ == "bool_":
        return Judgement(bool(outcome.value))
    return Judgement(
        None,
        f"the verifier gave {outcome.value!r}; a verdict is True, False or None",
    )
