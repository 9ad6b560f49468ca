"""Tool calls and tool answers for templates that know of them, and for those that do not.

What a template knows is found by trying it once: whether the name of a tool that is described or
called, and what a tool answers, are in the text that it writes.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lilith.tokenizer.chat_template import ChatTemplate, ChatTemplateError

_QUESTION: dict[str, Any] = {"role": "user", "content": "probe_question"}
_CALL: dict[str, Any] = {"name": "probe_tool", "arguments": {"probe_key": "probe_value"}}
_TOOLS_FOLLOW = "You can call these tools, one JSON object a line:"


@dataclass(frozen=True)
class ToolStyle:
    """How a template takes tools.

    Attributes:
      calls: "flat" (``{"name", "arguments"}``), "function" (``{"type", "function": {...}}``), or
        "text": written into the content as ``<tool_call>`` JSON ``</tool_call>``.
      answers: "tool" as they are, "wrapped" in ``<tool_response>`` text, or "user": wrapped, in a
        user's message.
      describes: whether it writes the tools' descriptions; otherwise they go into the system
        message.
    """

    calls: str
    answers: str
    describes: bool


@dataclass(frozen=True)
class Prepared:
    """Messages and tools as a template takes them.

    Attributes:
      origins: of each message its number in the conversation that was given.
    """

    messages: list[dict[str, Any]]
    origins: list[int]
    tools: list[dict[str, Any]] | None


def written_out(
    messages: Sequence[Mapping[str, Any]],
    template: ChatTemplate,
    tools: Sequence[Mapping[str, Any]] | None = None,
) -> Prepared:
    """A conversation in which a template leaves out nothing about tools.

    A template that ignores ``tool_calls`` (such as SmolLM2's) gets them in the content, as
    ``<tool_call>\\n{"name": ..., "arguments": {...}}\\n</tool_call>``, and tools' answers as
    ``<tool_response>\\n...\\n</tool_response>``: of role tool if it takes that role, else of role
    user. Descriptions that it ignores end the system message, one JSON object a line. Used for
    training and for generation alike, so that a model meets what it was trained on.

    Raises:
      ChatTemplateError: a tool call has no name, or its arguments are no JSON object.
    """
    about_tools = tools or any(m["role"] == "tool" or m.get("tool_calls") for m in messages)
    if not about_tools:
        return Prepared([dict(m) for m in messages], list(range(len(messages))), None)
    style = tool_style(template)
    made: list[dict[str, Any]] = []
    origins: list[int] = []
    for number, message in enumerate(messages):
        changed = _written(message, style, number)
        if made and changed["role"] == made[-1]["role"] == "user":
            # Two tools' answers, or one and a question: templates want users and assistants in turn
            made[-1]["content"] += "\n" + changed["content"]
            continue
        made.append(changed)
        origins.append(number)
    if not tools or style.describes:
        return Prepared(made, origins, [dict(tool) for tool in tools] if tools else None)
    described = "\n".join([_TOOLS_FOLLOW, *(_json(tool) for tool in tools)])
    if made[0]["role"] == "system":
        content = made[0]["content"]
        made[0]["content"] = f"{content}\n\n{described}" if content else described
    else:
        made.insert(0, {"role": "system", "content": described})
        origins.insert(0, 0)
    return Prepared(made, origins, None)


def tool_style(template: ChatTemplate) -> ToolStyle:
    """How a template takes tools, found by trying it once."""
    return _tool_style(template.source, template.bos, template.eos)


@functools.lru_cache(maxsize=32)
def _tool_style(source: str, bos: str, eos: str) -> ToolStyle:
    template = ChatTemplate(source, bos=bos, eos=eos)
    asked = [_QUESTION]
    describes = "probe_tool" in _tried(template, asked, [_description()])
    for calls in ("flat", "function"):
        called = [*asked, {"role": "assistant", "content": "", "tool_calls": [_formed(calls)]}]
        text = _tried(template, called)
        if "probe_tool" in text and "probe_value" in text:
            answered = [*called, {"role": "tool", "content": '{"probe": "answer"}'}]
            text = _tried(template, answered)
            known = "probe" in text.rpartition("probe_value")[2]
            return ToolStyle(calls, "tool" if known else "user", describes)
    answered = [*asked, {"role": "assistant", "content": "probe"},
                {"role": "tool", "content": "probe_answer"}]  # fmt: skip
    text = _tried(template, answered)
    if "probe_answer" not in text:
        return ToolStyle("text", "user", describes)
    return ToolStyle("text", "tool" if "<tool_response>" in text else "wrapped", describes)


def _description() -> dict[str, Any]:
    function = {
        "name": "probe_tool",
        "description": "probe",
        "parameters": {"type": "object", "properties": {"probe_key": {"type": "string"}}},
    }
    return {"type": "function", "function": function}


def _formed(calls: str) -> dict[str, Any]:
    return _CALL if calls == "flat" else {"type": "function", "function": _CALL}


def _tried(
    template: ChatTemplate,
    messages: list[dict[str, Any]],
    tools: list[dict[str, Any]] | None = None,
) -> str:
    """What the template writes; nothing where it refuses."""
    try:
        return template.render(messages, tools=tools, add_generation_prompt=False)
    except ChatTemplateError:
        return ""


def _written(message: Mapping[str, Any], style: ToolStyle, number: int) -> dict[str, Any]:
    """One message as the style wants it."""
    made = dict(message)
    if made["role"] == "tool" and style.answers != "tool":
        made["content"] = f"<tool_response>\n{made['content']}\n</tool_response>"
        made["role"] = "user" if style.answers == "user" else "tool"
    if not made.get("tool_calls"):
        return made
    calls = [_call(call, f"messages[{number}].tool_calls[{i}]")
             for i, call in enumerate(made.pop("tool_calls"))]  # fmt: skip
    content = made.get("content") or ""
    if style.calls == "text":
        texts = [f"<tool_call>\n{_json(call)}\n</tool_call>" for _, call in calls]
        made["content"] = "\n".join([content, *texts] if content else texts)
        return made
    made["content"] = content
    made["tool_calls"] = [
        {**rest, **call}
        if style.calls == "flat"
        else {"type": "function", **rest, "function": call}
        for rest, call in calls
    ]
    return made


def _call(call: Mapping[str, Any], where: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """What else a tool call says (its id), and its name and arguments."""
    function = call.get("function", call)
    name = function.get("name") if isinstance(function, Mapping) else None
    if not isinstance(name, str) or not name:
        raise ChatTemplateError(f"{where} has no name of a tool")
    arguments = function.get("arguments", {})
    if isinstance(arguments, str):  # as OpenAI writes them
        try:
            arguments = json.loads(arguments)
        except ValueError:
            arguments = None
    if not isinstance(arguments, Mapping):
        raise ChatTemplateError(f"{where}.arguments is no JSON object")
    rest = {k: v for k, v in call.items() if k not in ("function", "name", "arguments", "type")}
    return rest, {"name": name, "arguments": dict(arguments)}


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)
