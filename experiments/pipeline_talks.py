"""Generated conversations as the agent of a pipeline's `talk` has them.

Its system message stands before them, and each result is what its tools show: a model that is tuned
on one form of a result and reads another at the end would guess.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import random
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from experiments.pipeline_config import TalkConfig
from lilith.agent.agent import agent_system_message
from lilith.agent.checks import NumberCheck, check_numbers
from lilith.agent.registry import ToolRegistry, create_quant_tools
from lilith.agent.tool_calls import ToolCall, ToolRunner
from lilith.data.instructions.drawing import Conversation

Record = Mapping[str, Any]
_SIZE = re.compile(r"\d+(?:\.\d+)?(?:e[+-]?\d+)?")  # of a number, its sign aside


@dataclasses.dataclass
class Counts:
    """What became of conversations: ``agent`` have its form, ``left_out`` said another number."""

    agent: int = 0
    left_out: int = 0


class AgentTalks:
    """Gives conversations the form that an agent's have.

    Attributes:
      system: the agent's system message.
    """

    def __init__(self, registry: ToolRegistry, talk: TalkConfig) -> None:
        self._registry = registry
        self.system = {
            "role": "system",
            "content": agent_system_message(talk.system_prompt, registry),
        }

    def fits(self, record: Record) -> bool:
        """Whether the agent could have had this conversation: it has every tool that is called."""
        called = {call["name"] for call in _calls(record["messages"])}
        return all(name in self._registry for name in called)

    def asked(self, record: Record) -> list[dict[str, Any]]:
        """The agent's system message and what the user says first."""
        return [self.system, next(own for own in record["messages"] if own["role"] == "user")]

    def rewritten(self, record: Record, *, verbatim: bool = False) -> Conversation | None:
        """The conversation in the agent's form; None where its words no longer fit the results.

        Every call is run again, and each number of an answer must come from a result or the user.

        Args:
          verbatim: a number of an answer that is a result's, rounded, is written as the result
            shows it.
        """
        runner = ToolRunner(self._registry)
        calls: list[Mapping[str, Any]] = []
        results: list[tuple[str, Mapping[str, Any]]] = []
        messages = [self.system]
        for message in record["messages"]:
            if message["role"] == "system":
                continue
            if message["role"] == "tool":
                call = calls.pop(0)
                (result,) = runner.run([ToolCall(call["name"], call["arguments"])])
                results.append((call["name"], json.loads(result.text)))
                message = {**message, "content": result.text}
            calls += message.get("tool_calls") or ()
            messages.append(message)
        users = [own["content"] for own in messages if own["role"] == "user"]
        for place, message in enumerate(messages):
            if message["role"] != "assistant":
                continue
            found = check_numbers(message["content"], prompts=users, results=results)
            if any(one.verdict == "unverified" for one in found):
                return None
            if verbatim:
                text = _unrounded(message["content"], found, results)
                messages[place] = {**message, "content": text}
        return Conversation(messages=messages, metadata=dict(record["metadata"]))


@contextlib.contextmanager
def agent_talks(talk: TalkConfig) -> Iterator[AgentTalks]:
    """What rewrites conversations for the agent of ``talk``; its tools end with the context."""
    with create_quant_tools(others=True) as tools:
        yield AgentTalks(tools.only(talk.tools), talk)


def in_agent_form(
    records: Iterable[Record],
    talks: AgentTalks,
    *,
    share: float,
    turns: int,
    verbatim: bool,
    seed: int,
    counts: Counts,
) -> Iterator[Record]:
    """The records, a ``share`` of those that the agent could have had in its form.

    Of those without a call it is half as much: the model is asked without tools, too.

    Args:
      turns: of those, up to so many follow each other in one conversation, how many is drawn.
      verbatim: as :meth:`AgentTalks.rewritten` takes it.
      counts: filled in.
    """
    draw = random.Random(f"{seed} agent form")
    waiting: list[Conversation] = []
    wanted = draw.randint(1, turns)
    for record in records:
        wanted_share = share if _calls(record["messages"]) else share / 2
        if not (talks.fits(record) and draw.random() < wanted_share):
            yield record
            continue
        rewritten = talks.rewritten(record, verbatim=verbatim)
        if rewritten is None:
            counts.left_out += 1
            continue
        counts.agent += 1
        waiting.append(rewritten)
        if len(waiting) == wanted:
            yield _joined(waiting)
            waiting, wanted = [], draw.randint(1, turns)
    if waiting:
        yield _joined(waiting)


def _joined(records: list[Conversation]) -> Record:
    """One conversation after the other, as one."""
    first, *others = records
    later = [message for record in others for message in record["messages"][1:]]
    return {"messages": [*first["messages"], *later], "metadata": first["metadata"]}


def _unrounded(
    answer: str,
    numbers: Sequence[NumberCheck],
    results: Sequence[tuple[str, Mapping[str, Any]]],
) -> str:
    """The answer with each rounded number of a result as the result shows it, where one fits."""
    known = {text for name, result in results for text in _SIZE.findall(json.dumps(result))}
    for one in sorted(numbers, key=lambda own: -own.start):
        text = one.text.replace(",", "")
        size = text.lstrip("-")
        decimals = len(size.partition(".")[2])
        if one.verdict != "result" or not _SIZE.fullmatch(size):
            continue
        fits = {text for text in known if f"{float(text):.{decimals}f}" == size}
        if len(fits) == 1:
            answer = answer[: one.start] + text[: -len(size)] + fits.pop() + answer[one.end :]
    return answer


def _calls(messages: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    return [call for message in messages for call in message.get("tool_calls") or ()]
