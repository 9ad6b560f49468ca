"""Verifiers of what the project's own conversations ask for: tool calls, their results, code.

Each reads the ``check`` of a prompt's record (see :mod:`lilith.data.instructions`), so that prompts
written by ``--config make_instructions`` can be learnt from as they are.
"""

from __future__ import annotations

import runpy
from collections.abc import Callable, Mapping
from typing import Any

from lilith.config import ConfigError, nearest
from lilith.data.instructions.code_checks import verify_code
from lilith.data.instructions.quant_talk import run, tools
from lilith.data.instructions.tool_prompts import read_call, same_call, same_value
from lilith.rl.rewards import Finished, Rule, Source, Verifier

# What a call that is not right is worth: it can be read, it names the right tool, and so much for
# the share of its arguments that are right. Together less than the 1 of a right call.
READABLE, RIGHT_TOOL, ARGUMENTS = 0.1, 0.2, 0.4
VERIFIER_SECONDS = 60.0  # SHAMSHEL's own limits end sooner


def tool_call(conversation: Finished) -> float:
    """1 for the expected tool with every argument right, else 0."""
    return float(same_call(_expected(conversation), read_call(conversation.answer)))


def tool_call_parts(conversation: Finished) -> float:
    """1 for a right call; less for one that can be read, names the tool, has arguments right."""
    expected, call = _expected(conversation), read_call(conversation.answer)
    if call is None:
        return 0.0
    if same_call(expected, call):
        return 1.0
    if call["name"] != expected["name"]:
        return READABLE
    wanted, given = expected["arguments"], call["arguments"]
    right = sum(name in given and same_value(wanted[name], given[name]) for name in wanted)
    every = len(wanted.keys() | given.keys())
    return READABLE + RIGHT_TOOL + ARGUMENTS * right / every


def tool_result(conversation: Finished) -> float:
    """1 where the call, run again, gives the result of the expected one, else 0.

    A call may be written in another way than the expected one and still be right.
    """
    expected, call = _expected(conversation), read_call(conversation.answer)
    if call is None or call["name"] not in tools():
        return 0.0
    answer = run(call)
    return float(bool(answer["ok"]) and same_value(run(expected)["result"], answer["result"]))


def code(conversation: Finished) -> float:
    """1 where the code of the answer does what the record's check says, run in SHAMSHEL."""
    record: Any = {
        "messages": list(conversation.messages),
        "metadata": {"check": conversation.check},
    }
    try:
        return float(verify_code(record))
    except ValueError:  # no block of code, or more than one
        return 0.0


def ended(conversation: Finished) -> float:
    """1 where the last turn ended by itself, else 0."""
    return float(conversation.ended)


def _expected(conversation: Finished) -> Mapping[str, Any]:
    calls = conversation.check.get("tool_calls")
    if not calls:
        raise ConfigError(
            "a prompt's record names no tool call in metadata.check.tool_calls, which this reward "
            "compares with; use prompts of --config make_instructions, or another reward"
        )
    return calls[0]


_CHEAP: dict[str, Callable[[Finished], float]] = {
    "tool_call": tool_call,
    "tool_call_parts": tool_call_parts,
    "ended": ended,
}
_SLOW: dict[str, Callable[[Finished], float]] = {"tool_result": tool_result, "code": code}
NAMES = (*_CHEAP, *_SLOW)


def source(name: str, *, seconds: float = VERIFIER_SECONDS, failure: float = 0.0) -> Source:
    """The rule or verifier called ``name``, or a function of one's own: "file.py:function".

    A function of one's own is given a :class:`lilith.rl.rewards.Finished` and gives a number.

    Raises:
      ConfigError: there is none of that name.
    """
    path, colon, function = name.rpartition(":")
    if colon:
        return Verifier(function, _own(path, function), seconds=seconds, failure=failure)
    if name in _CHEAP:
        return Rule(name, _CHEAP[name])
    if name in _SLOW:
        return Verifier(name, _SLOW[name], seconds=seconds, failure=failure)
    raise ConfigError(
        f"there is no reward source {name!r}{nearest(name, NAMES)}; known: {', '.join(NAMES)}, or "
        "FILE.py:FUNCTION for one of your own"
    )


def _own(path: str, function: str) -> Callable[[Finished], float]:
    """The function of that name in a Python file."""
    try:
        found = runpy.run_path(path).get(function)
    except Exception as error:
        raise ConfigError(
            f"the reward file {path} can not be run: {type(error).__name__}: {error}"
        ) from error
    if not callable(found):
        raise ConfigError(f"{path} has no function {function!r}; it is named in reward.sources")
    return found
