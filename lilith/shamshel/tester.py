"""The tests' side of a verdict: runs a trusted test source in a jail, against a proxy.

The candidate is elsewhere. A call leaves as plain data and its answer is decoded strictly, so that
what a test compares are values built here.
"""

from __future__ import annotations

import builtins
import marshal
import sys
from collections.abc import Callable
from typing import Any

from .frames import read_frame, write_frame
from .plain import NotPlainData, decode, encode

_MAX_TEXT = 2000
_MAX_FAILURES = 50


class CandidateError(Exception):
    """The candidate raised something that is not a built-in exception."""


class CandidateGone(BaseException):
    """No valid answer came; nothing more can be tested.

    The link keeps the reason, so that a test that swallows this fails all the same.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        LINK.gone = LINK.gone or reason or "gave no answer"


class Unequal(AssertionError):
    """A comparison for equality that failed, with both sides."""

    def __init__(self, came: Any, expected: Any, message: Any) -> None:
        super().__init__(message)
        self.came = came
        self.expected = expected


def shown(value: Any) -> str:
    """A value as text of bounded length."""
    try:
        text = repr(value)
    except BaseException as error:
        text = f"<{type(value).__name__}: {type(error).__name__}>"
    return text if len(text) <= _MAX_TEXT else text[:_MAX_TEXT] + "..."


def exception(names: list[str], text: str) -> Exception:
    """The nearest built-in exception of the candidate's."""
    for name in names:
        kind = getattr(builtins, name, None)
        if isinstance(kind, type) and issubclass(kind, Exception):
            if kind is Exception:
                break
            try:
                return kind(text)
            except TypeError:  # one that takes more than a message
                continue
    return CandidateError(f"{names[0] if names else ''}: {text}")


class Link:
    """The way to the candidate, with a note of the last call."""

    def __init__(self) -> None:
        self.calls = 0
        self.last = ""
        self.last_answer = ""
        self.gone = ""

    def ask(self, *request: Any, handles: bool) -> Any:
        """Send one request and return its value, or raise its exception."""
        if self.gone:
            raise CandidateGone(self.gone)
        try:
            raw = encode(request, _handle_number)
        except NotPlainData as error:
            raise TypeError(f"the tests pass the candidate something else: {error}") from None
        write_frame(b"C" + raw)
        reply = read_frame()
        if reply[:1] != b"V":
            raise CandidateGone(reply[1:].decode("utf-8", "replace"))
        try:
            raised: BaseException
            kind, *parts = decode(reply[1:], Remote if handles else None)
            if kind == "value":
                self.last_answer = shown(parts[0])
                return parts[0]
            if kind == "raise":
                self.last_answer = f"{parts[0][0]}: {parts[1]}"
                raised = exception(parts[0], parts[1])
            elif kind == "refuse":
                self.last_answer = parts[0]
                raised = CandidateGone(f"the answer is not plain data: {parts[0]}")
            else:
                raise NotPlainData("unknown kind of answer")
        except (NotPlainData, TypeError, ValueError, IndexError) as error:
            raise CandidateGone(f"malformed answer: {error}") from None
        raise raised

    def call(self, name: str, arguments: tuple[Any, ...], named: dict[str, Any]) -> Any:
        """Call the function under test."""
        self.calls += 1
        text = ", ".join([shown(a) for a in arguments] + [f"{k}={shown(named[k])}" for k in named])
        self.last, self.last_answer = f"{name}({text})"[:_MAX_TEXT], ""
        return self.ask("call", name, list(arguments), dict(named), handles=False)


LINK = Link()


class Remote:
    """An object of the candidate's. Its attributes can be read and set; it equals nothing."""

    def __init__(self, number: int) -> None:
        object.__setattr__(self, "_number", number)

    def __getattr__(self, name: str) -> Any:
        return LINK.ask("get", self, name, handles=True)

    def __setattr__(self, name: str, value: Any) -> None:
        LINK.ask("set", self, name, value, handles=False)

    def _refuse(self, *_: Any) -> Any:
        raise CandidateGone("an object of the candidate's can not be compared or tested")

    __eq__ = __ne__ = __lt__ = __gt__ = __le__ = __ge__ = __bool__ = __hash__ = _refuse
    __len__ = __iter__ = __contains__ = __call__ = _refuse


def _handle_number(value: Any) -> int | None:
    return object.__getattribute__(value, "_number") if type(value) is Remote else None


def proxy(name: str) -> Callable[..., Any]:
    """The function under test, as the tests see it."""

    def candidate(*arguments: Any, **named: Any) -> Any:
        return LINK.call(name, arguments, named)

    candidate.__name__ = candidate.__qualname__ = name
    return candidate


def maker(name: str) -> Callable[..., Any]:
    """A class of the candidate's: makes objects that stay there. It can not answer a test."""

    def make(*arguments: Any, **named: Any) -> Any:
        made = LINK.ask("make", name, list(arguments), dict(named), handles=True)
        if type(made) is not Remote:
            raise CandidateGone(
                f"{name} is the candidate's own and makes plain data: tests may "
                "ask only the entry point; put helpers into the test source"
            )
        return made

    return make


def equal(came: Any, expected: Any, message: Callable[[], Any] | None = None) -> None:
    """`assert came == expected`, keeping both sides for the report."""
    if not came == expected:
        raise Unequal(came, expected, message() if message else "not equal")


class Report:
    """What failed, as text."""

    def __init__(self) -> None:
        self.failures: list[tuple[str, str, str, str]] = []

    def add(self, error: BaseException) -> None:
        """Note one failure, with the last call before it."""
        if len(self.failures) >= _MAX_FAILURES:
            return
        came = LINK.last_answer
        expected = ""
        if isinstance(error, Unequal):
            expected = shown(error.expected)
            came = shown(error.came)
        try:
            text = f"{type(error).__name__}: {error}"[:_MAX_TEXT]
        except BaseException:
            text = type(error).__name__
        self.failures.append((LINK.last, expected, came, text))

    def attempt(self, action: Callable[..., Any], *arguments: Any) -> bool:
        """Run a piece of the tests; True when it passed."""
        try:
            action(*arguments)
        except CandidateGone:
            raise
        except BaseException as error:
            self.add(error)
            return False
        return True


def run_unittest(kinds: list[Any], report: Report) -> None:
    """Run TestCase classes."""
    import unittest

    class Result(unittest.TestResult):
        def addError(self, test: Any, err: Any) -> None:
            report.add(err[1])

        addFailure = addError

        def addSubTest(self, test: Any, subtest: Any, err: Any) -> None:
            if err is not None:
                report.add(err[1])

        def addUnexpectedSuccess(self, test: Any) -> None:
            report.add(AssertionError(f"{test} passed against expectation"))

    for kind in kinds:
        unittest.defaultTestLoader.loadTestsFromTestCase(kind).run(Result())


def run_tests(plan: tuple[str, list[Any], list[str]], report: Report) -> None:
    """Run the statements, then check(candidate), test functions and TestCase classes."""
    entry, statements, foreign = plan
    module = type(sys)("tests")
    sys.modules["tests"] = module
    names = module.__dict__
    for name in foreign:  # a forgotten import, or else a class of the candidate's
        library = name in sys.stdlib_module_names
        names[name] = __import__(name) if library else maker(name)
    candidate = names[entry] = proxy(entry)
    names.setdefault("candidate", candidate)
    names["__lilith_equal__"] = equal
    for code in statements:
        report.attempt(exec, code, names)
    own = {n: v for n, v in names.items() if getattr(v, "__module__", None) == "tests"}
    functions = {n: v for n, v in own.items() if isinstance(v, type(proxy))}
    if "check" in functions:
        report.attempt(functions["check"], candidate)
    for name, function in functions.items():
        if name.startswith("test_") and function.__code__.co_argcount == 0:
            report.attempt(function)
    if "unittest" in sys.modules:
        base = sys.modules["unittest"].TestCase
        kinds = [v for v in own.values() if isinstance(v, type) and issubclass(v, base)]
        run_unittest(kinds, report)


def main(code: str) -> None:
    """Run the tests once and report."""
    read_frame()
    with open(code + "/tests.marshal", "rb") as file:
        plan = marshal.load(file)
    report = Report()
    try:
        run_tests(plan, report)
    except CandidateGone:
        pass
    except BaseException as error:
        report.add(error)
    if LINK.gone:
        report.failures.append((LINK.last, "", LINK.gone, ""))
    write_frame(b"D" + encode((LINK.calls, report.failures)))
