"""Writing, verifying and writing again, with the failures in hand."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from .limits import Limits
from .verdict import Verdict, verify


@dataclass(frozen=True)
class Attempt:
    """One source and its verdict."""

    source: str
    verdict: Verdict


def improve(
    write: Callable[[str], str],
    cases: Iterable[Any] | None = None,
    attempts: int = 3,
    *,
    entry_point: str | None = None,
    tests: str | None = None,
    limits: Limits | None = None,
    packages: Iterable[str] = (),
) -> list[Attempt]:
    """Call `write` until what it writes passes, or `attempts` times; returns every attempt.

    `write` is given the text of the last failures, "" the first time, and returns source. The
    other arguments are those of `verify`. Raises `ValueError` when attempts is below one, and
    whatever `write` or `verify` raises.
    """
    if attempts < 1:
        raise ValueError(f"attempts is {attempts}; it must be at least 1")
    known = list(cases or ())
    names = (packages,) if isinstance(packages, str) else tuple(packages)
    made: list[Attempt] = []
    feedback = ""
    while len(made) < attempts:
        source = write(feedback)
        verdict = verify(source, entry_point, known, tests, limits, names)
        made.append(Attempt(source, verdict))
        if verdict.passed:
            break
        feedback = verdict.text
    return made
