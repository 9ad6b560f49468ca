"""The common shapes of a conversation in a JSON object, each read to the same messages.

A shape is told by its keys. Fields that a shape does not use become metadata.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from lilith.config import nearest
from lilith.data.chat_reasoning import REASONING_FIELDS
from lilith.data.chat_report import RecordError

Record = Mapping[str, Any]
Parsed = tuple[list[dict[str, Any]], Any, dict[str, Any]]  # messages, tools, metadata

_ROLES = {
    "system": "system", "developer": "system",
    "user": "user", "human": "user", "prompter": "user",
    "assistant": "assistant", "gpt": "assistant", "chatgpt": "assistant", "model": "assistant",
    "bot": "assistant", "function_call": "assistant", "tool_call": "assistant",
    "tool": "tool", "function": "tool", "function_response": "tool", "tool_response": "tool",
    "observation": "tool",
}  # fmt: skip
_CALLING = ("function_call", "tool_call")  # roles whose text is a call in JSON
_SYSTEM = ("system", "system_prompt")
_TURN = re.compile(r"(?:\A|\n\n)(Human|Assistant):")


def shape_of(record: Record) -> str | None:
    """The shape that the keys of a record tell of; None for none that is known."""
    has = record.keys().__contains__
    if has("messages"):
        return "messages"
    if has("conversations"):
        return "sharegpt"
    if has("replies") or isinstance(record.get("prompt"), Mapping):
        return "oasst"
    if has("message_id") and has("parent_id"):
        return "oasst_rows"
    if has("chosen") and has("rejected"):
        return "hh" if _is_transcript(record["chosen"]) and not has("prompt") else "preference"
    if has("instruction") and has("output"):
        own = has("context") or (has("metadata") and not has("input"))
        return "lilith" if own else "alpaca"
    if has("instruction") and has("response"):
        return "dolly"
    asked = any(map(has, _QUESTION))
    return None if not asked else "prompt_response" if any(map(has, _ANSWER)) else "prompt"


def parse(record: Record, shape: str) -> Parsed:
    """Messages, tools and metadata of a record.

    Raises:
      RecordError: it lacks a field that the shape needs, or one has a wrong type.
    """
    messages, tools, used = _PARSERS[shape](record)
    given = record.get("metadata")
    if given is not None and not isinstance(given, Mapping):
        raise wrong_type("metadata", given, "a JSON object")
    rest = {key: value for key, value in record.items() if key not in (*used, "metadata")}
    return messages, tools, rest | dict(given or {})


def rejected_side(messages: Sequence[Record], rejected: Any) -> list[dict[str, Any]]:
    """The whole conversation of a pair's rejected side.

    Args:
      messages: the whole conversation of the chosen side.
      rejected: a transcript; messages that begin as a conversation does; or an answer alone, as
        text or as messages that begin with an assistant's, which takes the place of the chosen
        answer: of as many messages at the end, where those have the same roles, else of all that
        follow the last user message.

    Raises:
      RecordError: it is none of these.
    """
    turns = _transcript(rejected, "rejected") if _is_transcript(rejected) else None
    if turns is None:
        turns = _turns(rejected, "assistant", "rejected")
    roles = [turn["role"] for turn in turns]
    if not turns or roles[0] not in ("assistant", "tool"):
        system = [dict(messages[0])] if messages and messages[0]["role"] == "system" else []
        return [*(system if roles[:1] == ["user"] else []), *turns]
    end = len(messages) - len(turns)
    if end < 0 or [message["role"] for message in messages[end:]] != roles:
        users = [i for i, message in enumerate(messages) if message["role"] == "user"]
        end = users[-1] + 1 if users else 0
    return [*map(dict, messages[:end]), *turns]


def parse_oasst(path: Sequence[Record], rest: Record) -> Parsed:
    """A path of messages of an OASST tree."""
    messages = [
        {"role": role_of(node.get("role"), f"reply {depth}"), "content": text_of(node, "text")}
        for depth, node in enumerate(path)
    ]
    kept = {key: path[0][key] for key in ("message_id", "lang") if path[0].get(key) is not None}
    return messages, None, kept | dict(rest)


def role_of(name: Any, where: str) -> str:
    """One of LILITH's four roles for the names that files use."""
    if not isinstance(name, str):
        raise wrong_type(f"the role of {where}", name, "text")
    role = _ROLES.get(name.strip().lower())
    if role is None:
        raise RecordError(
            "unknown role",
            f"the role of {where} is {name[:40]!r}{nearest(name, _ROLES)}; known: "
            f"{', '.join(_ROLES)}",
        )
    return role


def text_of(record: Record, *names: str) -> str:
    """The text of the first field of these names that is there."""
    for name in names:
        if name in record:
            if not isinstance(record[name], str):
                raise wrong_type(name, record[name], "text")
            return record[name]
    raise RecordError("missing field", f"there is no field {' or '.join(map(repr, names))}")


def wrong_type(name: str, value: Any, expected: str) -> RecordError:
    """The error of a field with a value of a wrong type."""
    return RecordError("wrong type", f"{name} is a {type(value).__name__}; expected {expected}")


_Parser = Callable[[Record], tuple[list[dict[str, Any]], Any, tuple[str, ...]]]


def _messages(record: Record) -> tuple[list[dict[str, Any]], Any, tuple[str, ...]]:
    return _conversation(record, "messages")


def _sharegpt(record: Record) -> tuple[list[dict[str, Any]], Any, tuple[str, ...]]:
    return _conversation(record, "conversations")


def _conversation(record: Record, name: str) -> tuple[list[dict[str, Any]], Any, tuple[str, ...]]:
    """Messages, below the system message of a field of its own where they have none."""
    messages = _list_of_messages(record.get(name), name)
    if not messages or messages[0]["role"] == "system":
        return messages, _tools(record), (name, "tools")
    return [*_system(record), *messages], _tools(record), (name, "tools", *_SYSTEM)


def _alpaca(record: Record) -> tuple[list[dict[str, Any]], Any, tuple[str, ...]]:
    return _instruction(record, "input", "output")


def _dolly(record: Record) -> tuple[list[dict[str, Any]], Any, tuple[str, ...]]:
    return _instruction(record, "context", "response")


def _lilith(record: Record) -> tuple[list[dict[str, Any]], Any, tuple[str, ...]]:
    return _instruction(record, "context", "output")


def _instruction(
    record: Record, more: str, answer: str
) -> tuple[list[dict[str, Any]], Any, tuple[str, ...]]:
    """An instruction with something to apply it to below, and the answer."""
    asked = text_of(record, "instruction")
    applied_to = "" if record.get(more) is None else text_of(record, more)
    if applied_to.strip():
        asked = f"{asked}\n\n{applied_to}"
    messages = [
        *_system(record),
        *_history(record),
        {"role": "user", "content": asked},
        {"role": "assistant", "content": text_of(record, answer)},
    ]
    return messages, _tools(record), ("instruction", more, answer, "history", "tools", *_SYSTEM)


def _history(record: Record) -> list[dict[str, Any]]:
    """The turns before an instruction: ``[[question, answer], ...]``."""
    turns = record.get("history") or []
    if not isinstance(turns, list) or not all(
        isinstance(pair, list) and len(pair) == 2 and all(isinstance(text, str) for text in pair)
        for pair in turns
    ):
        raise wrong_type("history", turns, "a list of pairs of question and answer")
    roles = ("user", "assistant")
    return [{"role": role, "content": text} for pair in turns for role, text in zip(roles, pair)]


_QUESTION = ("prompt", "question", "transcript")
_ANSWER = ("response", "completion", "answer")


def _prompt_response(record: Record) -> tuple[list[dict[str, Any]], Any, tuple[str, ...]]:
    asked, answer = _first_of(record, _QUESTION), _first_of(record, _ANSWER)
    messages = [
        *_system(record),
        *_turns(record[asked], "user", asked),
        *_turns(record[answer], "assistant", answer),
    ]
    return messages, _tools(record), (asked, answer, "tools", *_SYSTEM)


def _prompt(record: Record) -> tuple[list[dict[str, Any]], Any, tuple[str, ...]]:
    """A question without an answer: for stages that let a model answer."""
    asked = _first_of(record, _QUESTION)
    messages = [*_system(record), *_turns(record[asked], "user", asked)]
    return messages, _tools(record), (asked, "tools", *_SYSTEM)


def _preference(record: Record) -> tuple[list[dict[str, Any]], Any, tuple[str, ...]]:
    """The chosen answer is learnt; the rejected one stays in the metadata as it is."""
    for name in ("chosen", "rejected"):
        if name not in record:
            raise RecordError("missing field", f"there is no field {name!r}")
        _turns(record[name], "assistant", name)
    asked = _turns(record["prompt"], "user", "prompt") if "prompt" in record else []
    chosen = _turns(record["chosen"], "assistant", "chosen")
    if not isinstance(record["chosen"], str) and chosen[: len(asked)] == asked:
        asked = []  # the chosen conversation holds the prompt too
    return [*_system(record), *asked, *chosen], _tools(record), ("prompt", "chosen", "tools",
                                                                 *_SYSTEM)  # fmt: skip


def _hh(record: Record) -> tuple[list[dict[str, Any]], Any, tuple[str, ...]]:
    return _transcript(text_of(record, "chosen"), "chosen"), None, ("chosen",)


_PARSERS: dict[str, _Parser] = {
    "messages": _messages,
    "sharegpt": _sharegpt,
    "alpaca": _alpaca,
    "dolly": _dolly,
    "lilith": _lilith,
    "prompt_response": _prompt_response,
    "prompt": _prompt,
    "preference": _preference,
    "hh": _hh,
}


def _first_of(record: Record, names: Sequence[str]) -> str:
    for name in names:
        if name in record:
            return name
    raise RecordError("missing field", f"there is no field {' or '.join(map(repr, names))}")


def _turns(value: Any, role: str, name: str) -> list[dict[str, Any]]:
    """A prompt or an answer: one text, a transcript, or messages."""
    if isinstance(value, str):
        if role == "user" and _is_transcript(value):
            return _transcript(value, name)
        return [{"role": role, "content": value}]
    return _list_of_messages(value, name)


def _is_transcript(value: Any) -> bool:
    return isinstance(value, str) and value.lstrip().startswith("Human:")


def _transcript(text: str, name: str) -> list[dict[str, Any]]:
    """The turns of "Human: ...\\n\\nAssistant: ..."; a prompt may end by inviting the answer."""
    before, *parts = _TURN.split("\n\n" + text.strip())
    if before.strip() or not parts:
        raise RecordError(
            "not a transcript", f"{name} does not begin with 'Human:', as a transcript does"
        )
    turns = [
        {"role": role_of(speaker, name), "content": said.strip()}
        for speaker, said in zip(parts[::2], parts[1::2])
    ]
    if name == "prompt" and turns[-1] == {"role": "assistant", "content": ""}:
        turns.pop()
    return turns


def _system(record: Record) -> list[dict[str, Any]]:
    """A system message from a field of its own, where there is one with text."""
    for name in _SYSTEM:
        if record.get(name):
            return [{"role": "system", "content": text_of(record, name)}]
    return []


def _tools(record: Record) -> Any:
    """Descriptions of tools: a list of objects, or their JSON text."""
    tools = record.get("tools")
    if isinstance(tools, str) and tools.strip():
        try:
            tools = json.loads(tools)
        except ValueError:
            raise RecordError("wrong type", "tools is text, but not valid JSON") from None
    if not tools:
        return None
    if not isinstance(tools, list) or not all(isinstance(tool, Mapping) for tool in tools):
        raise wrong_type("tools", tools, "a list of JSON objects")
    return tools


def _list_of_messages(value: Any, name: str) -> list[dict[str, Any]]:
    if not isinstance(value, list):
        raise wrong_type(name, value, "a list of messages")
    return [_message(item, f"{name}[{i}]") for i, item in enumerate(value)]


def _message(item: Any, where: str) -> dict[str, Any]:
    """A message of OpenAI's form (role, content) or ShareGPT's (from, value)."""
    if not isinstance(item, Mapping):
        raise wrong_type(where, item, "a JSON object")
    named = _first_of(item, ("role", "from"))
    role = role_of(item[named], where)
    written = next((key for key in ("content", "value", "text") if key in item), None)
    content = _content(item[written], f"{where}.{written}") if written else None
    message: dict[str, Any] = {"role": role, "content": content}
    kept = ("name", "tool_calls", "tool_call_id", *REASONING_FIELDS)
    message |= {key: item[key] for key in kept if item.get(key) is not None}
    if item.get("function_call") is not None:  # OpenAI's older form
        message["tool_calls"] = [item["function_call"]]
    if item[named] in _CALLING:
        message |= {"content": None, "tool_calls": _calls(content, where)}
    if content is None and not message.get("tool_calls"):
        raise RecordError("missing field", f"{where} has no content")
    return message


def _content(value: Any, where: str) -> str | None:
    """Text, or OpenAI's list of parts of type text."""
    if value is None or isinstance(value, str):
        return value
    if not isinstance(value, list):
        raise wrong_type(where, value, "text")
    texts = []
    for part in value:
        if not isinstance(part, Mapping) or not isinstance(part.get("text"), str):
            kind = part.get("type") if isinstance(part, Mapping) else type(part).__name__
            raise RecordError(
                "not text", f"{where} has a part of type {kind!r}; only parts of text can be learnt"
            )
        texts.append(part["text"])
    return "".join(texts)


def _calls(content: str | None, where: str) -> list[Any]:
    """The tool calls that a message of ShareGPT's role ``function_call`` holds as JSON."""
    try:
        calls = json.loads(content or "")
    except ValueError:
        raise RecordError("wrong type", f"{where} is a call, but not valid JSON") from None
    calls = calls if isinstance(calls, list) else [calls]
    if not all(isinstance(call, Mapping) for call in calls):
        raise wrong_type(where, calls, "a JSON object with name and arguments")
    return calls
