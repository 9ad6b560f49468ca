"""How many of its tests a source passes, so that of two sources that fail the better is known.

A verdict of SHAMSHEL says whether all hold. Cases are counted in it; a text of tests is taken apart
into its asserts and test functions, and each is run by itself beside what they share.
"""

from __future__ import annotations

import ast
import re
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from lilith.reasoning.sampler import ReasoningError
from lilith.shamshel import Limits, Verdict, verify

MOST_PIECES = 64  # of a text of tests that are counted; one with more is passed or not


@dataclass(frozen=True)
class Count:
    """How many of ``total`` tests hold; ``failures`` of the others, in words."""

    passed: int
    total: int
    failures: str = ""

    @property
    def all_pass(self) -> bool:
        """Whether every one holds."""
        return self.passed == self.total

    def __str__(self) -> str:
        return f"passes {self.passed} of {self.total} tests"


@dataclass(frozen=True)
class CodeTests:
    """What a source is tested by; the fields are the arguments of :func:`lilith.shamshel.verify`.

    ``seconds`` is how long the pieces of a failing text of tests are counted; what is not run by
    then counts as failed.

    Raises:
      ReasoningError: there are neither tests nor cases, or the tests are not Python.
    """

    tests: str | None = None
    cases: Iterable[Any] | None = None
    entry_point: str | None = None
    limits: Limits | None = None
    packages: Sequence[str] = ()
    seconds: float = 30.0
    pieces: tuple[str, ...] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "cases", tuple(self.cases or ()))
        text = self.tests or ""
        if not text.strip() and not self.cases:
            raise ReasoningError("there is nothing to test by: give tests or cases")
        object.__setattr__(self, "pieces", taken_apart(text))

    def count(self, source: str) -> Count:
        """Run a source against its tests.

        Raises:
          ReasoningError: a case is not plain data.
        """
        passed, total, failures = 0, 0, []
        cases = tuple(self.cases or ())
        if cases:
            verdict = self._verdict(source, cases=cases)
            total += len(cases)
            # One failure a case, but for a source that can not be loaded: it fails them all.
            loaded = all(failure.input for failure in verdict.failures)
            passed += len(cases) - len(verdict.failures) if loaded else 0
            failures.append(verdict.text)
        if self.pieces:
            verdict = self._verdict(source, tests=self.tests)
            total += len(self.pieces)
            passed += len(self.pieces) if verdict.passed else self._passed_pieces(source)
            failures.append(verdict.text)
        return Count(passed, total, "\n".join(filter(None, failures)))

    def _passed_pieces(self, source: str) -> int:
        if len(self.pieces) == 1:
            return 0
        end = time.monotonic() + self.seconds
        passed = 0
        for piece in self.pieces:
            if time.monotonic() < end:
                passed += self._verdict(source, tests=piece).passed
        # All hold by themselves and not together: one spoils another.
        return min(passed, len(self.pieces) - 1)

    def _verdict(self, source: str, **by: Any) -> Verdict:
        try:
            return verify(
                source, self.entry_point or self._entry(source), limits=self.limits,
                packages=self.packages, **by,
            )  # fmt: skip
        except ValueError as error:
            raise ReasoningError(f"the tests can not be run: {error}") from None

    def _entry(self, source: str) -> str | None:
        """The last function of the source that the tests name; None leaves it to ``verify``."""
        own = re.findall(r"^def[ \t]+(\w+)", source, re.MULTILINE)
        named = set(re.findall(r"\w+", self.tests or ""))
        return next((name for name in reversed(own) if name in named), None)


def taken_apart(tests: str) -> tuple[str, ...]:
    """A text of tests for each assert, test function and test class in it, with what they share.

    Asserts in the body of a function ``check(candidate)`` count each. A text of one piece, or of
    more than :data:`MOST_PIECES`, is given whole; an empty one has none.

    Raises:
      ReasoningError: it is not Python.
    """
    if not tests.strip():
        return ()
    try:
        tree = ast.parse(tests)
        single = [place for place, node in enumerate(tree.body) if _is_test(node)]
        made: list[list[ast.stmt]] = []
        for place in single:
            for alone in _alone(tree.body[place]):
                others = ((at, node) for at, node in enumerate(tree.body) if at not in single)
                body = [*((at, node) for at, node in others), (place, alone)]
                made.append([node for _, node in sorted(body, key=lambda one: one[0])])
        if not 2 <= len(made) <= MOST_PIECES:
            return (tests,)
        return tuple(ast.unparse(ast.Module(body=body, type_ignores=[])) for body in made)
    except (SyntaxError, ValueError, RecursionError) as error:
        raise ReasoningError(f"the tests are not Python: {error}") from None


def _is_test(node: ast.stmt) -> bool:
    if isinstance(node, ast.FunctionDef):
        return node.name == "check" or node.name.startswith("test_")
    # A class without a test in it is a helper of the tests.
    return isinstance(node, ast.Assert) or (
        isinstance(node, ast.ClassDef)
        and any(isinstance(one, ast.FunctionDef) and one.name[:4] == "test" for one in node.body)
    )


def _alone(node: ast.stmt) -> list[ast.stmt]:
    """A test as several of one assert each, where it is a function ``check``."""
    if not isinstance(node, ast.FunctionDef) or node.name != "check":
        return [node]
    asserts = [one for one in node.body if isinstance(one, ast.Assert)]
    if len(asserts) < 2:
        return [node]
    return [
        ast.FunctionDef(
            name=node.name, args=node.args, decorator_list=node.decorator_list,
            body=[one for one in node.body if one is kept or not isinstance(one, ast.Assert)],
            returns=node.returns, type_comment=None, lineno=node.lineno, col_offset=0,
        )
        for kept in asserts
    ]  # fmt: skip
