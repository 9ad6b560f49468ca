"""Several questions in one conversation, each on a matter of its own, with its own call."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from lilith.data.instructions import (
    conversations,
    quant_exotics,
    quant_options,
    quant_portfolios,
    quant_returns,
)
from lilith.data.instructions.drawing import DIFFICULTIES, Conversation, Draw
from lilith.data.instructions.quant_talk import system_tools

QUESTIONS = 2
# Kinds of one question and one call. A frontier's answer is too long to stand beside another.
SINGLE = {
    name: function
    for module in (quant_options, quant_exotics, quant_portfolios, quant_returns)
    for name, function in module.GENERATORS.items()
    if name != "quant_frontier"
}


def quant_session(draw: Draw) -> Conversation:
    """Two different questions in a row, with one system message that lists both tools."""
    names = draw.random.sample(sorted(SINGLE), QUESTIONS)
    parts = [SINGLE[name](draw) for name in names]
    checks = [part["metadata"]["check"] for part in parts]
    right = list(dict.fromkeys(call["name"] for own in checks for call in own["tool_calls"]))
    messages = [{"role": "system", "content": system_tools(draw, *right)}]
    for part in parts:
        messages += part["messages"][1:]
    difficulty = max((part["metadata"]["difficulty"] for part in parts), key=DIFFICULTIES.index)
    return conversations.conversation(
        "quant_session", "quant", difficulty, messages, joined_checks(checks)
    )


def joined_checks(checks: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The check of conversations that follow each other; see :class:`quant_talk.Talk`."""
    whole: dict[str, Any] = {"tool_calls": [], "computed_by": [], "results": [], "quoted": []}
    for own in checks:
        shift = len(whole["computed_by"])
        for entry in own["quoted"]:
            moved = {key: entry[key] + shift for key in ("call", "less") if key in entry}
            whole["quoted"].append({**entry, **moved})
        for name in ("tool_calls", "computed_by", "results"):
            whole[name] += own[name]
    return whole


GENERATORS: dict[str, Callable[[Draw], Conversation]] = {"quant_session": quant_session}
