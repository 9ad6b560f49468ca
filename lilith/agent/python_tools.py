"""Python as a tool: a session that runs it, a verdict that judges it. Both are SHAMSHEL's."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from typing import Any

from lilith.config import UserError
from lilith.quant.tool import Answer, Parameter, Tool
from lilith.quant.tool_values import ToolError
from lilith.shamshel import Limits, Sandbox, Session, Verdict, verify

LIMITS = Limits(wall_s=10.0, cpu_s=10.0)
MOST_OUTPUT = 8000  # characters of stdout and of stderr, each; the middle is left out
MOST_FAILURES = 10
LONGEST_TESTS = 50_000  # characters
_ENDED = {
    "timeout": "the code ran longer than {limits.wall_s:g} s and was ended",
    "memory": "the code needed more than {limits.memory_mb} MiB and was ended",
    "output": "the code printed more than {limits.output_kb} KiB and was ended",
    "killed": "the code was ended by a signal",
}
_LOST = "the session began anew: names defined before are gone"


class PythonSession:
    """``execute_python`` with the state of one conversation.

    Args:
      packages: distributions that the code may import besides the standard library.
      limits: of each call.

    Raises:
      UserError: a package is not installed.
    """

    def __init__(self, packages: Sequence[str] = (), limits: Limits = LIMITS) -> None:
        try:
            self._sandbox = Sandbox(limits, packages)
        except ValueError as error:
            raise UserError(str(error)) from None
        self._session: Session | None = None
        self._lock = threading.Lock()

    def tool(self) -> Tool:
        """The tool that runs code in this session."""
        have = ", ".join(self._sandbox.packages)
        return Tool(
            "execute_python",
            "Run Python in a sandbox without network or files of the host; names stay defined "
            "between calls. Print what you want to see; the value of a last line that is an "
            f"expression comes back as value. Importable: the standard library"
            f"{f', {have}' if have else ''}.",
            (Parameter("code", "string", "Python source to run"),),
            self._run,
        )

    def close(self) -> None:
        """End the session's process. The next call begins a new one."""
        with self._lock:
            if self._session is not None:
                self._session.close()
                self._session = None

    def _run(self, code: str) -> Answer:
        with self._lock:
            if self._session is None:
                self._session = self._sandbox.session()
            # The session keeps the value of a last line that is an expression in "_".
            before = self._session.run("_ = None")
            run = before if before.status == "refused" else self._session.run(code)
            value = self._value(self._session, code) if run.status == "ok" else None
        limits = self._sandbox.limits
        if run.status == "refused":
            raise _refusal(run.reason)
        lost = [_LOST] if run.state_lost or before.state_lost else []
        ended = _ENDED.get(run.status, "").format(limits=limits)
        error = run.stderr.strip().rpartition("\n")[2] if run.status == "error" else ""
        return Answer(
            {
                "status": run.status,
                "stdout": _cut(run.stdout),
                "stderr": _cut(run.stderr),
                "value": None if value is None or not run.stdout.endswith(value + "\n") else value,
                "error": error or ended or None,
            },
            diagnostics={"wall_s": round(run.wall_s, 3), "cpu_s": round(run.cpu_s, 3)},
            warnings=[*([ended] if ended else []), *lost],
        )

    def _value(self, session: Session, code: str) -> str | None:
        """The repr of the code's last expression; what parses the code is in the sandbox too."""
        asked = session.run(
            f"if (__import__('ast').parse({code!r}).body or ['']"
            ")[-1].__class__.__name__ == 'Expr' and _ is not None: print(repr(_))"
        )
        text = asked.stdout.removesuffix("\n")
        return text if asked.status == "ok" and text else None


def verify_code_tool(packages: Sequence[str] = (), limits: Limits = LIMITS) -> Tool:
    """``verify_code``: whether a source passes tests, judged outside of the process that runs it.

    Raises:
      UserError: a package is not installed.
    """
    try:
        sandbox = Sandbox(limits, packages)
    except ValueError as error:
        raise UserError(str(error)) from None

    def verify_code(
        code: str, tests: str | None, entry_point: str | None, cases: list[Any] | None
    ) -> Answer:
        if not (tests and tests.strip()) and not cases:
            raise ToolError(
                "missing_argument",
                "tests",
                "there is nothing to verify by: neither tests nor cases were given",
                "give tests (Python with asserts that call the function) or cases",
            )
        if tests:
            _check_tests(sandbox, tests)
        verdict = _verified(code, tests, entry_point, cases, limits, packages)
        refused = [text for text in verdict.text.splitlines() if text.startswith("refused:")]
        if refused:
            raise _refusal(refused[0])
        told = [str(failure)[:MOST_OUTPUT] for failure in verdict.failures[:MOST_FAILURES]]
        rest = len(verdict.failures) - len(told)
        return Answer(
            {"passed": verdict.passed, "failures": told},
            units={"wall_s": "seconds"},
            diagnostics={"wall_s": round(verdict.wall_s, 3)},
            warnings=[f"{rest} more failures are left out"] if rest else [],
        )

    return Tool(
        "verify_code",
        "Judge Python code by tests or cases, in a sandbox: whether all pass, and what failed.",
        (
            Parameter("code", "string", "Python source that defines the function to judge"),
            Parameter(
                "tests", "string", "Python that calls the function: asserts, test_* functions",
                default=None,
            ),
            Parameter(
                "entry_point", "string", "name of the function; by default the last one defined",
                default=None,
            ),
            Parameter(
                "cases", "list",
                'calls and what must come of them: {"args": [...], "kwargs": {}, "expected": ..., '
                '"tolerance": 1e-9}',
                default=None, least=1, most=1000,
            ),
        ),
        verify_code,
    )  # fmt: skip


def _check_tests(sandbox: Sandbox, tests: str) -> None:
    """Refuse tests that are no Python. Compiling can crash an interpreter, so another one does."""
    if len(tests) > LONGEST_TESTS:
        raise ToolError(
            "too_long",
            "tests",
            f"tests has {len(tests)} characters and may have {LONGEST_TESTS}",
            "give fewer tests",
        )
    run = sandbox.run(f"compile({tests!r}, 'tests.py', 'exec')")
    if run.status == "refused":
        raise _refusal(run.reason)
    if run.status != "ok":
        why = run.stderr.strip().rpartition("\n")[2] or run.status
        raise ToolError(
            "not_python", "tests", f"tests can not be compiled: {why}", "correct the tests"
        )


def _verified(
    code: str,
    tests: str | None,
    entry_point: str | None,
    cases: list[Any] | None,
    limits: Limits,
    packages: Sequence[str],
) -> Verdict:
    try:
        rows = [_case(number, case) for number, case in enumerate(cases or ())]
        return verify(code, entry_point, rows, tests, limits, packages)
    except ValueError as error:
        raise ToolError(
            "not_verifiable", "cases" if cases else "tests", str(error), "correct what is named"
        ) from None


def _case(number: int, case: Any) -> tuple[Any, ...]:
    known = {"args", "kwargs", "expected", "tolerance"}
    if (
        not isinstance(case, Mapping)
        or "expected" not in case
        or set(case) - known
        or not isinstance(case.get("args", []), list)
        or not isinstance(case.get("kwargs", {}), Mapping)
        or not isinstance(case.get("tolerance"), (int, float, type(None)))
    ):
        raise ToolError(
            "not_a_case",
            "cases",
            f"cases[{number}] is {str(case)[:80]}, which is no case",
            'write {"args": [...], "kwargs": {...}, "expected": ..., "tolerance": ...}; only '
            "expected must be there",
        )
    given = (case.get("args", []), case.get("kwargs", {}), case["expected"])
    return (*given, case.get("tolerance"))


def _refusal(reason: str) -> ToolError:
    return ToolError(
        "sandbox_refused",
        None,
        f"the sandbox can not run code on this machine: {reason}",
        "answer without running code, and say that nothing was run",
    )


def _cut(text: str) -> str:
    """The text, or its beginning and end where it is long."""
    if len(text) <= MOST_OUTPUT:
        return text
    half = MOST_OUTPUT // 2
    left_out = len(text) - 2 * half
    return f"{text[:half]}\n[{left_out} characters left out]\n{text[-half:]}"
