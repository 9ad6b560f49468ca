"""Held-out questions with the tool call that answers each, and whether a given call is the same."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lilith.config import ConfigError
from lilith.data.instructions.agent_prompt import agent_tools
from lilith.data.instructions.quant_talk import tools
from lilith.data.instructions.registry import make, prompt_digest

TOLERANCE = 1e-9  # relative
_CALL = re.compile(r"<tool_call>\s*(.*?)\s*</tool_call>", re.DOTALL)
# The kinds in which one question is answered by one call.
CALL_KINDS = (
    "quant_price_european", "quant_greeks", "quant_implied_volatility", "quant_american",
    "quant_barrier", "quant_asian", "quant_monte_carlo", "quant_delta_hedge", "quant_portfolio",
    "quant_frontier", "quant_backtest_metrics", "quant_backtest", "quant_statistics",
)  # fmt: skip


@dataclass(frozen=True)
class ToolPrompt:
    """A question and the call that answers it.

    Attributes:
      messages: the system's, with the tools, and the user's.
      expected: ``{"name", "arguments"}``.
      kind, index: which generated conversation it is from.
    """

    messages: list[dict[str, Any]]
    expected: dict[str, Any]
    kind: str
    index: int


def tool_call_prompts(
    seed: int,
    count: int,
    *,
    held_out: bool = True,
    known_words: bool = False,
    kinds: Sequence[str] = CALL_KINDS,
) -> list[ToolPrompt]:
    """``count`` different questions, the ``kinds`` in turn.

    Args:
      held_out: ask in held-out words about held-out numbers, the default; else in training ones.
      known_words: ask about held-out numbers in training words.
      kinds: of generated conversations whose first answer is one tool call.

    Raises:
      ConfigError: a negative count, no kind, or one that is not answered by one tool call.
    """
    if count < 0:
        raise ConfigError(f"count is {count}; ask for 0 or more prompts")
    if not kinds:
        raise ConfigError("no kind of question is named; name some, such as quant_statistics")
    prompts: list[ToolPrompt] = []
    seen: set[bytes] = set()
    turn = 0
    while len(prompts) < count:
        index, at = divmod(turn, len(kinds))
        turn += 1
        record = make(kinds[at], seed, index, held_out=held_out, known_words=known_words)
        if prompt_digest(record) not in seen:
            seen.add(prompt_digest(record))
            messages = record["messages"]
            first = [message["role"] for message in messages].index("assistant")
            expected = _only_call(messages[first], kinds[at])
            prompts.append(ToolPrompt(messages[:first], expected, kinds[at], index))
    return prompts


def _only_call(answer: Mapping[str, Any], kind: str) -> dict[str, Any]:
    calls = answer.get("tool_calls") or []
    if len(calls) != 1:
        raise ConfigError(
            f"conversations of kind {kind!r} are not answered by one tool call; ask for kinds such "
            f"as {', '.join(CALL_KINDS[:3])}"
        )
    return calls[0]


def read_call(text: str) -> dict[str, Any] | None:
    """The first ``<tool_call>`` of an answer, or None where there is none that can be read."""
    found = _CALL.search(text)
    if found is None:
        return None
    try:
        call = json.loads(found[1])
    except ValueError:
        return None
    whole = isinstance(call, dict) and isinstance(call.get("arguments"), dict)
    return call if whole and isinstance(call.get("name"), str) else None


def same_call(expected: Mapping[str, Any], given: Any) -> bool:
    """Whether ``given`` calls the same tool with the same arguments as ``expected``.

    Numbers agree within :data:`TOLERANCE`, relative; an optional argument that one of them leaves
    out counts as its declared default; order does not matter. Anything else that differs, an
    argument that the tool does not have, and anything that is not a call at all, is not the same.
    """
    if not isinstance(given, Mapping) or given.get("name") != expected["name"]:
        return False
    arguments = given.get("arguments")
    if not isinstance(arguments, Mapping) or set(given) - {"name", "arguments"}:
        return False
    known = {**tools(), **agent_tools()}
    parameters = {own.name: own for own in known[expected["name"]].parameters}
    if set(arguments) - set(parameters):
        return False
    for name, own in parameters.items():
        sides = [side.get(name, own.default) for side in (expected["arguments"], arguments)]
        if not same_value(*sides):
            return False
    return True


def same_value(expected: Any, given: Any) -> bool:
    """Whether two JSON values agree, numbers within :data:`TOLERANCE`, relative."""
    if _is_number(expected) and _is_number(given):
        try:
            return math.isclose(expected, given, rel_tol=TOLERANCE, abs_tol=0.0)
        except OverflowError:  # a whole number beyond all floats
            return expected == given
    if isinstance(expected, Mapping) and isinstance(given, Mapping):
        return set(expected) == set(given) and all(
            same_value(expected[k], given[k]) for k in expected
        )
    if isinstance(expected, (list, tuple)) and isinstance(given, (list, tuple)):
        return len(expected) == len(given) and all(map(same_value, expected, given))
    return type(expected) is type(given) and expected == given


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
