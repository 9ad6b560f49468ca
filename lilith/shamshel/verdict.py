"""Deciding whether a candidate's source is right, outside of the process that runs it."""

from __future__ import annotations

import os
import re
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from . import plain, wire
from .client import Channel, Job, MechanismMissing, program
from .compare import same, shown
from .limits import Limits
from .result import printable, refusal
from .sandbox import source_problem
from .tests_plan import compile_tests

_slots = threading.BoundedSemaphore(2 * (os.cpu_count() or 1))
_ENDED = {
    "timeout": "no answer in time",
    "memory": "ran out of memory",
    "output": "printed or answered more than allowed",
    "killed": "was ended by a signal",
    "refused": "could not be run",
    "ok": "ended without an answer",
    "error": "ended without an answer",
}


class Case(NamedTuple):
    """One call and what must come of it.

    expected: plain data, or a built-in exception class that must be raised. tolerance: the
    greatest difference of numbers, absolute or relative; None for equality.
    """

    args: Sequence[Any]
    kwargs: Mapping[str, Any]
    expected: Any
    tolerance: float | None = None


@dataclass(frozen=True)
class Failure:
    """What went wrong once, as text: the call, what was expected, what came, and a remark."""

    input: str
    expected: str
    came: str
    message: str = ""

    def __post_init__(self) -> None:
        for name in ("input", "expected", "came", "message"):  # safe to print, as all results
            text = getattr(self, name).encode("utf-8", "replace")
            object.__setattr__(self, name, printable(text))

    def __str__(self) -> str:
        parts = [self.input] if self.input else []
        if self.expected:
            parts.append(f"expected {self.expected}")
        if self.came:
            parts.append(f"came {self.came}")
        if self.message:
            parts.append(self.message)
        return "; ".join(parts)


@dataclass(frozen=True)
class Verdict:
    """passed: whether every case and test held. wall_s: seconds. level: isolation in force."""

    passed: bool
    failures: tuple[Failure, ...] = ()
    wall_s: float = 0.0
    level: str = "default"
    text: str = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "text", "\n".join(map(str, self.failures)))


class _Gone(Exception):
    """The other process gave no valid answer."""


class _Party:
    """One of the two jails, asked in turns, within one span of time."""

    def __init__(self, job: Job, deadline: float) -> None:
        self.channel = Channel(job)
        self.deadline = deadline
        self.fresh = True

    def ask(self, raw: bytes) -> bytes:
        """Send and wait for the answer. Raises `_Gone` with the reason in words."""
        left = self.deadline - time.monotonic()
        if left <= 0:
            raise _Gone(_ENDED["timeout"])
        try:
            message = self.channel.exchange(raw, left, self.fresh)
        except wire.Closed:
            raise _Gone(_ENDED["error"]) from None
        self.fresh = False
        if message.get("failure"):
            raise MechanismMissing(*message["failure"])
        reply: bytes | None = message["reply"]
        if reply is None:
            lines = printable(message["stderr"]).strip().rsplit("\n", 1)
            raise _Gone(f"{_ENDED[message['status']]} {lines[-1][:300]}".strip())
        return reply


def _answer(raw: bytes) -> tuple[str, Any]:
    """Return ("value", v), ("raise", (names, text)) or ("refuse", why). Raises `_Gone`."""
    try:
        kind, *parts = plain.decode(raw)
        if kind == "value" and len(parts) == 1:
            return "value", parts[0]
        if kind == "refuse" and type(parts[0]) is str:
            return "refuse", parts[0][:300]
        if kind == "raise" and type(parts[1]) is str and all(type(n) is str for n in parts[0]):
            return "raise", (parts[0], parts[1])
    except (plain.NotPlainData, ValueError, TypeError, IndexError) as error:
        raise _Gone(f"malformed answer: {error}") from None
    raise _Gone("malformed answer")


def _judge(case: Case, raw: bytes) -> str | None:
    """Return what came instead, or None when the case holds."""
    kind, content = _answer(raw)
    wants_error = isinstance(case.expected, type)
    if kind == "refuse":
        return f"something else than plain data: {content}"
    if kind == "raise":
        names, text = content
        if wants_error and case.expected.__name__ in names:
            return None
        return f"{names[0] if names else ''}: {text}"
    if wants_error or not same(case.expected, content, case.tolerance):
        return shown(content)
    return None


def _prepare(cases: Iterable[Any], entry_point: str) -> list[tuple[Case, bytes, str]]:
    prepared = []
    for number, given in enumerate(cases):
        try:
            case = Case(*given)
            arguments, named = list(case.args), dict(case.kwargs)
            raw = plain.encode(("call", entry_point, arguments, named))
            error_class = isinstance(case.expected, type)
            if error_class and not issubclass(case.expected, BaseException):
                raise TypeError(f"expected is the class {case.expected.__name__}")
            if not error_class:
                plain.encode(case.expected)
        except (TypeError, ValueError, plain.NotPlainData) as error:
            raise ValueError(
                f"case {number} is not (args, kwargs, expected[, tolerance]) of plain data: {error}"
            ) from None
        text = [shown(a) for a in arguments] + [f"{k}={shown(v)}" for k, v in named.items()]
        prepared.append((case, raw, f"{entry_point}({', '.join(text)})"))
    return prepared


def _run_cases(candidate: _Party, prepared: list[tuple[Case, bytes, str]]) -> list[Failure]:
    failures: list[Failure] = []
    gone = ""
    for case, raw, text in prepared:
        wanted = case.expected.__name__ if isinstance(case.expected, type) else case.expected
        expected = wanted if isinstance(case.expected, type) else shown(wanted)
        if gone:
            failures.append(Failure(text, expected, "", f"not called: the candidate {gone}"))
            continue
        try:
            came = _judge(case, candidate.ask(raw))
        except _Gone as error:
            gone = str(error)
            failures.append(Failure(text, expected, "", gone))
            continue
        if came is not None:
            failures.append(Failure(text, expected, came))
    return failures


def _run_tests(tester: _Party, candidate: _Party) -> list[Failure]:
    """Relay the tests' calls to the candidate until the tests report."""
    broken = ""
    raw = b""
    while True:
        try:
            told = tester.ask(raw)
        except _Gone as error:
            return [
                Failure("", "", "", f"the candidate {broken}" if broken else f"the tests {error}")
            ]
        if told[:1] == b"D":
            break
        if broken:
            raw = b"X" + broken.encode()
            continue
        try:
            raw = b"V" + candidate.ask(told[1:])
        except _Gone as error:
            broken = str(error)
            raw = b"X" + broken.encode("utf-8", "replace")
    calls, found = plain.decode(told[1:])
    failures = [Failure(*parts) for parts in found]
    if broken and not failures:
        failures.append(Failure("", "", "", f"the candidate {broken}"))
    if not calls and not failures:
        failures.append(Failure("", "", "", "the tests never called the candidate"))
    return failures


def _last_function(source: str) -> str:
    # not by parsing it: deeply nested source can crash the parser, and with it this process
    names = re.findall(r"^def[ \t]+(\w+)", source, re.MULTILINE)
    return names[-1] if names else "<no function>"


def _jobs(source: str, plan: bytes | None, limits: Limits, packages: tuple[str, ...]) -> list[Job]:
    extra = ["/box/code"] if limits.level == "process" else []
    files = {**program("candidate"), "candidate.txt": source.encode()}
    jobs = [Job(limits, ["/box/code/start.pyc", *extra], files, {}, b"", packages, True)]
    if plan is not None:
        files = {**program("tester"), "tests.marshal": plan}
        job = Job(limits, ["/box/code/start.pyc", *extra], files, {}, b"", packages, True)
        jobs.append(replace(job, trusted=True))
    return [replace(job, collect=False) for job in jobs]


def _decide(
    jobs: list[Job], prepared: list[tuple[Case, bytes, str]], limits: Limits
) -> list[Failure]:
    deadline = time.monotonic() + limits.wall_s
    parties: list[_Party] = []
    try:
        for job in jobs:  # both start before either is waited for
            parties.append(_Party(job, deadline))
        candidate = parties[0]
        try:
            kind, content = _answer(candidate.ask(b"load"))
        except _Gone as error:
            return [Failure("", "", "", f"the source {error}")]
        if kind != "value":
            names, text = content if kind == "raise" else (["refused"], content)
            came = f"{names[0] if names else ''}: {text}"
            return [Failure("", "", came, "while the source was loaded")]
        failures = _run_cases(candidate, prepared)
        if len(parties) > 1:
            failures += _run_tests(parties[1], candidate)
        return failures
    finally:
        for party in parties:
            party.channel.close()


def verify(
    candidate_source: str,
    entry_point: str | None = None,
    cases: Iterable[Any] | None = None,
    tests: str | None = None,
    limits: Limits | None = None,
    packages: Iterable[str] = (),
) -> Verdict:
    """Decide whether `candidate_source` is right.

    entry_point: the function to call (default: the last one that the source defines). cases:
    tuples (args, kwargs, expected[, tolerance]), or `Case`. tests: trusted Python that calls the
    entry point: statements with asserts, `check(candidate)`, functions named test_*, or unittest
    classes; helpers that it needs belong into it. limits: of the candidate, and the same again of
    the tests; wall_s spans the whole verdict. packages: as in `Sandbox`.

    The candidate's process gets the arguments of calls and nothing else. A missing, late or
    malformed answer is a failure, as is one that is not plain data. Raises `ValueError` when there
    is nothing to verify by, when a case is not plain data, or when the tests are not Python.
    """
    limits = limits or Limits()
    problem = source_problem(candidate_source)
    if problem is not None:
        text = problem.stderr.strip() or problem.reason
        return Verdict(False, (Failure("", "", "", text),), level=limits.level)
    entry = entry_point or _last_function(candidate_source)
    prepared = _prepare(cases or (), entry)
    if not prepared and not (tests or "").strip():
        raise ValueError("nothing to verify by: give cases or tests")
    plan = compile_tests(tests, entry) if tests and tests.strip() else None
    jobs = _jobs(
        candidate_source,
        plan,
        limits,
        (packages,) if isinstance(packages, str) else tuple(packages),
    )
    with _slots:
        begin = time.monotonic()
        try:
            failures = _decide(jobs, prepared, limits)
        except MechanismMissing as error:
            reason = refusal(error.mechanism, error.reason, limits.level).reason
            failures = [Failure("", "", "", f"refused: {reason}")]
        except (wire.Closed, OSError) as error:
            failures = [Failure("", "", "", f"the supervisor is gone: {error}")]
        wall_s = time.monotonic() - begin
    return Verdict(not failures, tuple(failures), wall_s, limits.level)
