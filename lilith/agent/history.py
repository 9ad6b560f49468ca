"""What was said, and what of it a model is shown: within a budget of tokens."""

from __future__ import annotations

import bisect
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from lilith.agent.tool_results import safe_json
from lilith.agent.turn import ENDINGS, AgentStep, AgentTurn
from lilith.config import UserError

Message = dict[str, Any]

MOST_TURNS = 500  # that are kept; older ones are forgotten, so that memory stays bounded
# What is shown is cut to this share of the budget once it is over it: the next turns then only add
# to what the model has read, and it reads nothing twice.
LOW_MARK = 0.75
LEFT_OUT = "left out to save room; call the tool again where it is needed"


class ContextError(UserError):
    """What must be shown does not fit into the model's context."""


@dataclass(frozen=True)
class Fitted:
    """Messages within the budget.

    Attributes:
      tokens: that they take.
      left_out: whole turns that are not among them.
    """

    messages: list[Message]
    tokens: int
    left_out: int


class History:
    """The turns of a conversation.

    Args:
      count: how many tokens messages take, as the model reads them.

    Attributes:
      turns: oldest first; all of them, also those that a model is no longer shown.
    """

    def __init__(self, count: Callable[[Sequence[Message]], int]) -> None:
        self._count = count
        self.turns: list[AgentTurn] = []
        self._shrunk = self._left_out = 0  # of the oldest turns

    def add(self, turn: AgentTurn) -> None:
        """One more turn."""
        self.turns.append(turn)
        if len(self.turns) > MOST_TURNS:
            del self.turns[0]
            self._shrunk = max(0, self._shrunk - 1)
            self._left_out = max(0, self._left_out - 1)

    def replace(self, turns: Sequence[AgentTurn]) -> None:
        """Other turns in the place of all these."""
        self.turns = list(turns)[-MOST_TURNS:]
        self._shrunk = self._left_out = 0

    def fit(self, system: str, current: Sequence[Message], budget: int) -> Fitted:
        """What is shown of the conversation before and with the messages of the turn that runs.

        While it is over the budget, the results of tools in earlier turns are shrunk, oldest first;
        then earlier turns are left out, oldest first and each as a whole; at last the results
        within the running turn are shrunk, but for those of its last step. The system prompt and
        the user's message stay.

        Args:
          current: the messages of the running turn, the user's first.
          budget: tokens.

        Raises:
          ContextError: the rest is still over the budget.
        """
        all_turns = len(self.turns)
        states = [(shrunk, self._left_out) for shrunk in range(self._shrunk, all_turns + 1)]
        states += [(all_turns, out) for out in range(self._left_out + 1, all_turns + 1)]
        known: dict[int, Fitted] = {}

        def tokens(place: int) -> int:
            if place not in known:
                known[place] = self._shown(system, current, *states[place])
            return known[place].tokens

        def first_within(limit: float) -> int:
            return bisect.bisect_left(range(len(states)), True, key=lambda at: tokens(at) <= limit)

        if tokens(0) <= budget:
            return known[0]
        place = first_within(LOW_MARK * budget)
        if place == len(states):
            place = first_within(budget)
        if place < len(states):
            tokens(place)
            self._shrunk, self._left_out = states[place]
            return known[place]
        last = self._shown(system, shrunk_before_last(current), *states[-1])
        if last.tokens > budget:
            raise ContextError(
                f"the message with the system prompt takes {last.tokens:,} tokens, and the model "
                f"can be shown {budget:,} at once; shorten it"
            )
        self._shrunk = self._left_out = all_turns
        return last

    def _shown(self, system: str, current: Sequence[Message], shrunk: int, left_out: int) -> Fitted:
        messages: list[Message] = [{"role": "system", "content": system}] if system else []
        for place, turn in enumerate(self.turns[left_out:], left_out):
            own = messages_of(turn)
            messages += [shrunk_result(one) for one in own] if place < shrunk else own
        messages += current
        return Fitted(messages, self._count(messages), left_out)


def messages_of(turn: AgentTurn) -> list[Message]:
    """A turn as messages."""
    last = turn.answer.strip() or f"({ENDINGS.get(turn.ended) or 'no answer'})"
    return [
        {"role": "user", "content": turn.message},
        *messages_of_steps(turn.steps),
        {"role": "assistant", "content": last},
    ]


def messages_of_steps(steps: Sequence[AgentStep]) -> list[Message]:
    """The calls of a turn and their results as messages."""
    made: list[Message] = []
    for step in steps:
        calls = [
            {"name": call.name, "arguments": call.arguments, "text": call.text}
            for call in step.calls
        ]
        made.append({"role": "assistant", "content": step.text, "calls": calls})
        made += [
            {"role": "tool", "name": call.name or "unknown", "content": call.shown}
            for call in step.calls
        ]
    return made


def shrunk_result(message: Message) -> Message:
    """A result in few words, with the references in it; any other message as it is."""
    if message["role"] != "tool":
        return message
    told = json.loads(message["content"])
    if told.get("ok"):
        short: dict[str, Any] = {"ok": True, "result": LEFT_OUT}
        references = _references(told)
        short |= {"refs": references} if references else {}
    else:
        error = told.get("error")
        code = error.get("code") if isinstance(error, dict) else None
        short = {"ok": False, "error": {"code": code}}
    text = safe_json(short)
    return message if len(text) >= len(message["content"]) else {**message, "content": text}


def shrunk_before_last(current: Sequence[Message]) -> list[Message]:
    """The messages of a running turn with all results shrunk but those of the last step."""
    last = max((at for at, one in enumerate(current) if one["role"] == "assistant"), default=0)
    return [*map(shrunk_result, current[:last]), *current[last:]]


def _references(value: Any) -> list[str]:
    """The names of kept values in a result."""
    if isinstance(value, dict):
        own = [value["ref"]] if isinstance(value.get("ref"), str) else []
        return own + [name for item in value.values() for name in _references(item)]
    return [name for item in value for name in _references(item)] if isinstance(value, list) else []
