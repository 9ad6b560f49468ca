"""What an agent did with one message, as plain data, and the events by which it is watched."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from lilith.agent.checks import NumberCheck
from lilith.agent.tool_calls import ToolResult
from lilith.reasoning.trace import ReasoningTrace, read_record, written_record

FORMAT = "lilith-agent-turn-1"
MOST_OF_ANSWER = 1 << 18  # characters of a tool's whole answer that a turn keeps
# How a turn can end, and what is said where there is no answer.
ENDINGS = {
    "answer": "",
    "declined": "",
    "stopped": "it was stopped",
    "steps": "it asked for more tools than a turn may have steps",
    "tokens": "it came to the limit of tokens",
    "seconds": "it came to the limit of time",
    "context": "the conversation no longer fits into the model's context",
    "repetition": "it asked for the same again, which had been answered",
    "loop": "it said the same again and again",
    "empty": "the model wrote nothing",
}


@dataclass(frozen=True)
class CallRecord:
    """A tool's call and what came of it.

    Attributes:
      name, arguments: what was called; the name is "" where the call could not be read.
      text: what the model wrote between the marks of the call.
      answer: the tool's whole answer (of one beyond :data:`MOST_OF_ANSWER`, what was shown).
      shown: of it what the model was given.
      seconds: how long the tool took.
      cached: the same call was answered before.
    """

    name: str
    arguments: Mapping[str, Any]
    text: str
    answer: Mapping[str, Any]
    shown: str
    seconds: float = 0.0
    cached: bool = False

    @classmethod
    def of(cls, result: ToolResult) -> CallRecord:
        """The record of a result."""
        call, answer = result.call, result.answer
        if len(json.dumps(answer)) > MOST_OF_ANSWER:
            answer = json.loads(result.text)
        return cls(
            call.name, call.arguments, call.text, answer, result.text, result.seconds,
            result.cached,
        )  # fmt: skip

    @property
    def ok(self) -> bool:
        """Whether the tool answered."""
        return self.answer.get("ok") is True


@dataclass(frozen=True)
class AgentStep:
    """A message of the model that called tools, and their results.

    Attributes:
      text: what it said before the calls.
      calls: in the order in which they were made.
      tokens: that it wrote; prompt_tokens: that it read.
      seconds: of writing and of the tools.
    """

    text: str
    calls: tuple[CallRecord, ...]
    tokens: int = 0
    prompt_tokens: int = 0
    seconds: float = 0.0


@dataclass(frozen=True)
class AgentTurn:
    """A message and what became of it.

    Attributes:
      message: the user's.
      answer: the agent's.
      steps: the tools that were called on the way.
      ended: "answer", or what ended the turn; a key of :data:`ENDINGS`.
      checks: each number of the answer, and where it comes from.
      kind: of work, see :func:`lilith.agent.roles.kind_of_work`; temperature: that it led to.
      role: of the agent, None where its system prompt was given as text.
      tokens: written by the model; prompt_tokens: read for the last message.
      seconds: of the whole turn; first_seconds: until the first text or call was there.
      left_out: turns of the conversation that did not fit the context.
      reasoning: of the advanced reasoner, where it was asked.
      violations: of the constitution by what the model had answered, JSON objects.
      notes: what else is to be known, in sentences.
    """

    message: str
    answer: str
    steps: tuple[AgentStep, ...] = ()
    ended: str = "answer"
    checks: tuple[NumberCheck, ...] = ()
    kind: str = "quant"
    temperature: float = 0.0
    role: str | None = None
    tokens: int = 0
    prompt_tokens: int = 0
    seconds: float = 0.0
    first_seconds: float = 0.0
    left_out: int = 0
    reasoning: ReasoningTrace | None = None
    violations: tuple[Mapping[str, Any], ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def calls(self) -> tuple[CallRecord, ...]:
        """All calls of the turn, in order."""
        return tuple(call for step in self.steps for call in step.calls)

    @property
    def unverified(self) -> tuple[NumberCheck, ...]:
        """Numbers of the answer that come from nowhere, or from wrong arithmetic."""
        return tuple(one for one in self.checks if not one.supported)

    def to_json(self) -> str:
        """The turn as JSON text, which :meth:`from_json` reads back to an equal turn.

        Raises:
          TraceError: a field holds what JSON can not.
        """
        return written_record(self, "turn", FORMAT)

    @classmethod
    def from_json(cls, text: str) -> AgentTurn:
        """The turn that :meth:`to_json` wrote.

        Raises:
          TraceError: the text is no JSON of a turn; the message names the field.
        """
        made: AgentTurn = read_record(cls, text, "turn", FORMAT)
        return made


@dataclass(frozen=True)
class Token:
    """More text of the answer, or of what is said before a call."""

    text: str


@dataclass(frozen=True)
class ToolCallStarted:
    """A tool is called. ``step`` and ``index`` tell which one, both from 0."""

    step: int
    index: int
    name: str
    arguments: Mapping[str, Any] = dataclasses.field(default_factory=dict)


@dataclass(frozen=True)
class ToolFinished:
    """What came of the call that began with the same ``step`` and ``index``."""

    step: int
    index: int
    call: CallRecord


@dataclass(frozen=True)
class Done:
    """The turn is over, and part of the conversation."""

    turn: AgentTurn


Event = Token | ToolCallStarted | ToolFinished | Done
