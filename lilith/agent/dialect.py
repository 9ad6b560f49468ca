"""How a conversation is written for a model: by its own chat template, or by LILITH's.

A template that writes no tool calls, or no results, gets them in the text of a message, in the
form that LILITH's models are trained on. No text of a user or a tool keeps the marks of a role, a
call or a result.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from lilith.agent.tool_calls import CLOSE, OPEN
from lilith.agent.tool_results import safe_json, without_markers
from lilith.tokenizer.chat_template import CHATML, ChatTemplate, ChatTemplateError

Message = dict[str, Any]

RESULT_OPEN, RESULT_CLOSE = "<tool_response>", "</tool_response>"
# What only the template may write: a model that goes on with one of these has ended its message.
STOPS = (RESULT_OPEN, "<|im_start|>", "<|im_end|>")
LONGEST_UNREAD = 1000  # characters of a call that could not be read, as they are shown again
_OF_TOOLS = "of_tools"  # marks a message that stands for results, until it is sent
_CALL = {"type": "function", "function": {"name": "probe_name", "arguments": {"probe": 1}}}
_PROBE: list[Message] = [
    {"role": "system", "content": "probe"},
    {"role": "user", "content": "probe"},
    {"role": "assistant", "content": "", "tool_calls": [_CALL]},
]
_RESULT = {"role": "tool", "name": "probe_name", "content": "probe_result"}


class Dialect:
    """Writes messages for one model.

    Messages are those of :mod:`lilith.agent.history`: an assistant's may have ``calls``.

    Attributes:
      stops: texts at which a message of the model ends.
      notes: what is not as a reader would expect, in words.
    """

    def __init__(self, model: Any, tokenizer: Any) -> None:
        self._model, self._tokenizer = model, tokenizer
        self._default: ChatTemplate | None = None
        self.stops = STOPS
        self.notes: tuple[str, ...] = ()
        if model.chat_template is None:
            self._default = ChatTemplate.of(CHATML, tokenizer)
            self.notes = (
                "the model has no chat template, so LILITH's own (ChatML) is used; a model that "
                "was not trained on it may answer poorly",
            )
        template = self._default or model.chat_template
        calls = self._default is not None or _writes(template, _PROBE, OPEN, "probe_name")
        self._calls_in_text = not calls
        said = [{"role": "assistant", "content": "probe"}] if self._calls_in_text else _PROBE[2:]
        with_result = [*_PROBE[:2], *said, _RESULT]
        self._wraps = not _writes(template, with_result, RESULT_OPEN, "probe_result")
        self._results_as_user = self._wraps and not _writes(template, with_result, "probe_result")
        if self._calls_in_text or self._wraps:
            self.notes += (
                "the model's chat template knows no tools, so calls and results are written into "
                "the text of messages",
            )

    def prompt(self, messages: Sequence[Mapping[str, Any]]) -> Any:
        """What the model is given: messages for its own template, or token ids."""
        written = self.written(messages)
        if self._default is None:
            return written
        ids = self._default.encode(written, self._tokenizer)
        return [self._tokenizer.bos_id, *ids] if getattr(self._model, "add_bos", False) else ids

    def count(self, messages: Sequence[Mapping[str, Any]]) -> int:
        """How many tokens the messages take."""
        prompt = self.prompt(messages)
        return len(prompt if self._default is not None else self._model.encode(prompt))

    def written(self, messages: Sequence[Mapping[str, Any]]) -> list[Message]:
        """The messages as the template takes them."""
        made: list[Message] = []
        for message in messages:
            role, content = message["role"], message["content"]
            if role == "system":
                made.append({"role": role, "content": content})
            elif role == "user":
                made.append({"role": role, "content": without_markers(content)})
            elif role == "assistant":
                made.append(self._assistant(without_markers(content), message.get("calls", ())))
            else:
                self._add_result(made, message)
        return [{key: own for key, own in one.items() if key != _OF_TOOLS} for one in made]

    def _assistant(self, content: str, calls: Sequence[Mapping[str, Any]]) -> Message:
        if not calls:
            return {"role": "assistant", "content": content}
        readable = all(call["name"] for call in calls)
        if readable and not self._calls_in_text:
            own = [
                {"type": "function",
                 "function": {"name": call["name"], "arguments": dict(call["arguments"])}}
                for call in calls
            ]  # fmt: skip
            return {"role": "assistant", "content": content, "tool_calls": own}
        texts = [_call_text(call) for call in calls]
        return {
            "role": "assistant",
            "content": "\n".join([*([content] if content else []), *texts]),
        }

    def _add_result(self, made: list[Message], message: Mapping[str, Any]) -> None:
        content = without_markers(message["content"])
        if self._wraps:
            content = f"{RESULT_OPEN}\n{content}\n{RESULT_CLOSE}"
        if not self._results_as_user:
            made.append({"role": "tool", "name": message["name"], "content": content})
        elif made and made[-1].get(_OF_TOOLS):  # turns of users and assistants must alternate
            made[-1]["content"] += f"\n{content}"
        else:
            made.append({"role": "user", "content": content, _OF_TOOLS: True})


def _call_text(call: Mapping[str, Any]) -> str:
    """A call as it was written, unless its arguments hold marks; one that could not be read as
    text that is no call."""
    if not call["name"]:
        return without_markers(call["text"][:LONGEST_UNREAD])
    body = call["text"].strip()
    if body and without_markers(body) == body:
        return f"{OPEN}\n{body}\n{CLOSE}"
    own = {"name": call["name"], "arguments": call["arguments"]}
    return f"{OPEN}\n{safe_json(own)}\n{CLOSE}"


def _writes(template: Any, messages: Sequence[Mapping[str, Any]], *words: str) -> bool:
    """Whether a template writes these words, in this order, for the messages."""
    if not hasattr(template, "render"):  # of a model that takes messages as they are
        return True
    try:
        text, at = template.render(messages), 0
    except ChatTemplateError:
        return False
    for word in words:
        at = text.find(word, at)
        if at < 0:
            return False
    return True
