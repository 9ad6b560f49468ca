"""Whether the code of a conversation does what its check says, decided in SHAMSHEL.

``metadata.check["code"]`` says how, by its ``by``:

- ``cases``: the assistant's block passes ``cases`` (or ``tests``); with ``defect`` the user's block
  does not.
- ``review``: the user's block fails ``cases``, and passes them when ``fixes`` are put in:
  ``[line, text, fixed text]``, lines from 1. Without fixes it passes as it is.
- ``tests``: the assistant's block is tests that pass on the user's block and on none of
  ``mutants``: ``[text, other text]`` put in for the first occurrence.
- ``output``: the user's block prints ``stdout``.
- ``tool``: every call of ``execute_python`` prints what the tool's message says.
"""

from __future__ import annotations

import builtins
import itertools
import json
import re
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any

from lilith.data.instructions.drawing import Conversation
from lilith.shamshel import Limits, Sandbox, verify

LIMITS = Limits(wall_s=20, cpu_s=10)  # a busy machine is no defect
_BLOCK = re.compile(r"```python\n(.*?)```", re.DOTALL)


def code_block(conversation: Conversation, role: str) -> str:
    """The only Python block in the messages of ``role``.

    Raises:
      ValueError: there is none, or more than one.
    """
    text = "\n".join(m["content"] for m in conversation["messages"] if m["role"] == role)
    found = _BLOCK.findall(text)
    if len(found) != 1:
        raise ValueError(f"{len(found)} Python blocks in the {role}'s messages; 1 is needed")
    return str(found[0])


def with_fixes(source: str, fixes: Iterable[Any]) -> str:
    """``source`` with lines replaced; raises ValueError where a line is not as the fix says."""
    lines = source.split("\n")
    for number, text, fixed in fixes:
        if lines[number - 1].strip() != text:
            raise ValueError(f"line {number} is {lines[number - 1]!r}, not {text!r}")
        indent = lines[number - 1][: len(lines[number - 1]) - len(lines[number - 1].lstrip())]
        lines[number - 1] = indent + fixed
    return "\n".join(lines)


def _expected(value: Any) -> Any:
    """What JSON holds, as a case wants it: ``{"raises": name}`` is an exception class."""
    if isinstance(value, dict) and set(value) == {"raises"}:
        return getattr(builtins, value["raises"])
    return value


def passes(source: str, check: dict[str, Any]) -> bool:
    """Whether ``source`` passes the cases or tests of a check."""
    cases: list[Any] = [
        (args, {}, _expected(want), tol) for args, want, tol in check.get("cases", ())
    ]
    return verify(
        source, check["entry_point"], cases, check.get("tests"), LIMITS, check.get("packages", ())
    ).passed


def _passes_tests(source: str, check: dict[str, Any], tests: str) -> bool:
    return passes(source, {"entry_point": check["entry_point"], "tests": tests})


@cache
def _sandbox() -> Sandbox:
    return Sandbox(LIMITS)


def _tool_outputs(conversation: Conversation) -> bool:
    messages = conversation["messages"]
    for call, answer in itertools.pairwise(messages):
        for made in call.get("tool_calls", ()):
            if made["name"] != "execute_python":
                continue
            run = _sandbox().run(made["arguments"]["code"])
            said = json.loads(answer["content"])["result"]
            if (run.status, run.stdout) != (said["status"], said["stdout"]):
                return False
    return True


def verify_code(conversation: Conversation) -> bool:
    """Run the check of a record with code.

    Raises:
      KeyError: the record has no check of code.
      ValueError: the check does not fit the messages.
    """
    check = conversation["metadata"]["check"]["code"]
    way = check["by"]
    if way == "tool":
        return _tool_outputs(conversation)
    if way == "output":
        run = _sandbox().run(code_block(conversation, "user"))
        return run.status == "ok" and run.stdout == check["stdout"]
    if way == "tests":
        source = code_block(conversation, "user")
        tests = code_block(conversation, "assistant")
        mutants = [source.replace(text, other, 1) for text, other in check["mutants"]]
        if source in mutants:
            raise ValueError("a mutant is the source itself")
        return _passes_tests(source, check, tests) and not any(
            _passes_tests(mutant, check, tests) for mutant in mutants
        )
    if way == "review":
        source = code_block(conversation, "user")
        if check["fixes"] and passes(source, check):
            return False
        return passes(with_fixes(source, check["fixes"]), check)
    if check.get("defect") and passes(code_block(conversation, "user"), check):
        return False
    return passes(code_block(conversation, "assistant"), check)


def verified(conversation: Conversation) -> bool:
    """:func:`verify_code`, and True for a record without code to check."""
    return "code" not in conversation["metadata"]["check"] or verify_code(conversation)


def all_verified(conversations: Iterable[Conversation], workers: int = 4) -> list[bool]:
    """:func:`verified` for many, ``workers`` at once: each waits for processes of its own."""
    with ThreadPoolExecutor(workers) as pool:
        return list(pool.map(verified, conversations))
