"""Conversations to text and to token ids, by the Jinja template that a model's file carries.

Two strangers meet here. The template is a program, so it runs in a sandbox in a confined process
(``template_worker``). The conversation is text of users and tools, so none of it may become a
special token: a special token counts as one only if the template itself wrote all its characters.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lilith.config import nearest
from lilith.tokenizer.base import Tokenizer
from lilith.tokenizer.template_process import RENDERER, ChatTemplateError, one_line

__all__ = [
    "CHATML",
    "ROLES",
    "ChatTemplate",
    "ChatTemplateError",
    "RenderedText",
    "check_messages",
]

ROLES = ("system", "user", "assistant", "tool")
_MESSAGES_AT_ONCE = 2000  # in one request: a tenth of a second, far below the limit of time

# The template of models trained here. Tools are described in the system message.
CHATML = """\
{%- macro call(tool_call) -%}
  {%- set function = tool_call.function if tool_call.function is defined else tool_call -%}
  {{- '<tool_call>\\n{"name": ' + function.name|tojson + ', "arguments": ' -}}
  {%- if function.arguments is string -%}
    {{- function.arguments -}}
  {%- else -%}
    {{- function.arguments|tojson -}}
  {%- endif -%}
  {{- '}\\n</tool_call>' -}}
{%- endmacro -%}
{%- set system = messages[0].content if messages[0].role == 'system' else none -%}
{%- if system is not none or tools -%}
  {{- '<|im_start|>system\\n' -}}
  {%- if system is not none -%}{{- system -}}{%- endif -%}
  {%- if tools -%}
    {{- '\\n\\n' if system else '' -}}
    {{- 'You can call these tools, one JSON object a line:' -}}
    {%- for tool in tools -%}{{- '\\n' + tool|tojson -}}{%- endfor -%}
  {%- endif -%}
  {{- '<|im_end|>\\n' -}}
{%- endif -%}
{%- for message in messages[(0 if system is none else 1):] -%}
  {{- '<|im_start|>' + message.role + '\\n' -}}
  {%- if message.role == 'tool' -%}
    {{- '<tool_response>\\n' + message.content + '\\n</tool_response>' -}}
  {%- else -%}
    {%- set content = message.content or '' -%}
    {{- content -}}
    {%- for tool_call in message.tool_calls or [] -%}
      {{- '\\n' if content or not loop.first else '' -}}
      {{- call(tool_call) -}}
    {%- endfor -%}
  {%- endif -%}
  {{- '<|im_end|>\\n' -}}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- '<|im_start|>assistant\\n' -}}{%- endif -%}
"""


class ChatTemplate:
    """A chat template, as ``tokenizer_config.json`` or a GGUF file holds it.

    Args:
      source: the Jinja text. It is first looked at when something is rendered.
      bos, eos: written form of the tokens that the template knows as ``bos_token`` and
        ``eos_token``; empty: the template sees none.
    """

    def __init__(self, source: str, *, bos: str = "", eos: str = "") -> None:
        self.source, self.bos, self.eos = source, bos, eos

    @classmethod
    def of(cls, source: str, tokenizer: Tokenizer) -> ChatTemplate:
        """A template with the bos and eos tokens of the tokenizer that it goes with."""
        named = {index: text for text, index in tokenizer.special_tokens.items()}
        bos, eos = named.get(tokenizer.bos_id, ""), named.get(tokenizer.eos_id, "")
        return cls(source, bos=bos, eos=eos)

    def __repr__(self) -> str:
        return f"ChatTemplate({self.source[:40]!r}..., bos={self.bos!r}, eos={self.eos!r})"

    def render(
        self,
        messages: Sequence[Mapping[str, Any]],
        *,
        tools: Sequence[Mapping[str, Any]] | None = None,
        add_generation_prompt: bool = True,
    ) -> str:
        """The conversation as text. For a model use :meth:`encode`: in text a user's special
        token and the template's look the same.

        Args:
          messages: ``{"role": ..., "content": ...}``, and what else the template reads
            (``tool_calls``); fields that are None are left out.
          tools: JSON descriptions of the tools that the model may call.
          add_generation_prompt: end with what begins an assistant's answer.

        Raises:
          ChatTemplateError: a message is not well formed, or the template is not valid, refuses
            the conversation, fails, or takes too much time or memory.
        """
        return self._render(messages, tools, add_generation_prompt).text

    def encode(
        self,
        messages: Sequence[Mapping[str, Any]],
        tokenizer: Tokenizer,
        *,
        tools: Sequence[Mapping[str, Any]] | None = None,
        add_generation_prompt: bool = True,
    ) -> list[int]:
        """The conversation as token ids; arguments as for :meth:`render`.

        Special tokens that the template, bos or eos write become their ids. One that is written,
        wholly or in part, by a message or a tool's description stays ordinary text.

        Raises:
          ChatTemplateError: see :meth:`render`.
          TokenizerError: the text holds half of a surrogate pair.
        """
        return self._render(messages, tools, add_generation_prompt).encode(tokenizer)[0]

    def render_prefixes(
        self,
        messages: Sequence[Mapping[str, Any]],
        prefixes: Sequence[tuple[int, bool]],
        *,
        tools: Sequence[Mapping[str, Any]] | None = None,
    ) -> list[RenderedText]:
        """Several beginnings of a conversation as text, each rendered for itself.

        Args:
          messages, tools: as for :meth:`render`.
          prefixes: of each beginning, how many messages it has, and whether it ends with what
            begins an assistant's answer.

        Raises:
          ChatTemplateError: see :meth:`render`.
        """
        check_messages(messages)
        _check_tools(tools)
        own = {"bos_token": self.bos, "eos_token": self.eos}
        own = {name: text for name, text in own.items() if text}
        variables: dict[str, Any] = {
            "messages": [
                {field: value for field, value in message.items() if value is not None}
                for message in messages
            ],
            "tools": tools,
            "documents": None,
        }
        rendered: list[RenderedText] = []
        for some in _in_requests(prefixes):
            made = RENDERER.render(self.source, variables | own, list(own), some)
            rendered += [RenderedText(text, tuple(spans)) for text, spans in made]
        return rendered

    def _render(
        self,
        messages: Sequence[Mapping[str, Any]],
        tools: Sequence[Mapping[str, Any]] | None,
        add_generation_prompt: bool,
    ) -> RenderedText:
        check_messages(messages)
        whole = (len(messages), add_generation_prompt)
        return self.render_prefixes(messages, [whole], tools=tools)[0]


@dataclass(frozen=True)
class RenderedText:
    """A conversation as text, and which of it the template wrote.

    Attributes:
      own: spans [start, end) of ``text`` whose every character the template itself wrote.
    """

    text: str
    own: tuple[tuple[int, int], ...]

    def encode(self, tokenizer: Tokenizer, cuts: Sequence[int] = ()) -> list[list[int]]:
        """Token ids of the pieces of the text between ``cuts``, which are in ascending order.

        Special tokens within :attr:`own` become their ids, all else is ordinary text. Together the
        pieces are the ids of the whole text, but that no token reaches over a cut: where one would,
        what follows the cut is encoded for itself, as by a model that was given what comes before.

        Raises:
          ChatTemplateError: a cut is within a special token, or the tokenizer can not write what
            follows a cut without what comes before.
          TokenizerError: the text holds half of a surrogate pair.
        """
        special = tokenizer.special_tokens
        longest_first = sorted(special, key=len, reverse=True)
        pattern = re.compile("|".join(map(re.escape, longest_first)) or "(?!)")
        pieces: list[list[int]] = [[]]
        coming = list(cuts)
        at = 0
        for match in (m for span in self.own for m in pattern.finditer(self.text, *span)):
            _add_ordinary(pieces, tokenizer, self.text, at, match.start(), coming)
            if coming and coming[0] < match.end():
                raise ChatTemplateError(
                    f"the chat template begins or ends an answer within {match.group()!r}"
                )
            pieces[-1].append(special[match.group()])
            at = match.end()
        _add_ordinary(pieces, tokenizer, self.text, at, len(self.text), coming)
        return pieces


def _in_requests(prefixes: Sequence[tuple[int, bool]]) -> Iterator[list[tuple[int, bool]]]:
    """The prefixes in groups small enough for the renderer's limit of time."""
    group: list[tuple[int, bool]] = []
    messages = 0
    for prefix in prefixes:
        if group and messages + prefix[0] > _MESSAGES_AT_ONCE:
            yield group
            group, messages = [], 0
        group.append(prefix)
        messages += prefix[0]
    yield group


def _add_ordinary(
    pieces: list[list[int]],
    tokenizer: Tokenizer,
    text: str,
    start: int,
    end: int,
    coming: list[int],
) -> None:
    """Add the ids of ``text[start:end]``, none special, and take the cuts up to its end."""
    ids = _ordinary(tokenizer, text, start, end)
    while coming and coming[0] <= end:
        cut = coming.pop(0)
        before = _ordinary(tokenizer, text, start, cut)
        if ids[: len(before)] != before:
            after = _ordinary(tokenizer, text, cut, end)
            framed = tokenizer.decode_bytes([tokenizer.eos_id, *after])
            if framed != tokenizer.decode_bytes([tokenizer.eos_id]) + text[cut:end].encode():
                raise ChatTemplateError(
                    "the tokenizer joins the beginning or end of an answer to the text beside it: "
                    f"{text[max(start, cut - 20) : cut]!r} and {text[cut : min(end, cut + 20)]!r}"
                )
            ids = before + after
        pieces[-1] += before
        pieces.append([])
        ids, start = ids[len(before) :], cut
    pieces[-1] += ids


def _ordinary(tokenizer: Tokenizer, text: str, start: int, end: int) -> list[int]:
    """Ids of ``text[start:end]``, none special; other tokens stand before it if start > 0."""
    if start == end:
        return []
    return (tokenizer.encode_after_special if start else tokenizer.encode)(text[start:end])


def check_messages(messages: Any) -> None:
    """Raise ChatTemplateError unless ``messages`` is a conversation that can be rendered."""
    if not isinstance(messages, (list, tuple)):
        raise ChatTemplateError(
            f'messages is {_shown(messages)}; expected a list of {{"role": ..., "content": ...}}'
        )
    if not messages:
        raise ChatTemplateError("messages is empty; a conversation needs at least one message")
    for index, message in enumerate(messages):
        _check_message(message, f"messages[{index}]")


def _check_message(message: Any, where: str) -> None:
    if not isinstance(message, Mapping):
        raise ChatTemplateError(
            f'{where} is {_shown(message)}; expected {{"role": ..., "content": ...}}'
        )
    role, content, calls = (message.get(field) for field in ("role", "content", "tool_calls"))
    if role not in ROLES:
        close = nearest(role, ROLES) if isinstance(role, str) else ""
        raise ChatTemplateError(
            f"{where}.role is {_shown(role)}{close}; expected one of {', '.join(ROLES)}"
        )
    if calls is not None and not _is_list_of_objects(calls):
        raise ChatTemplateError(
            f"{where}.tool_calls is {_shown(calls)}; expected a list of objects"
        )
    if not isinstance(content, str) and not (content is None and role == "assistant" and calls):
        raise ChatTemplateError(
            f"{where}.content is {_shown(content)}; expected text (only an assistant's message "
            "with tool_calls goes without)"
        )
    for field, value in message.items():
        _check_json(value, f"{where}.{field}")


def _check_tools(tools: Any) -> None:
    if tools is None:
        return
    if not _is_list_of_objects(tools):
        raise ChatTemplateError(
            f"tools is {_shown(tools)}; expected a list of JSON descriptions of functions"
        )
    for index, tool in enumerate(tools):
        _check_json(tool, f"tools[{index}]")


def _is_list_of_objects(value: Any) -> bool:
    return isinstance(value, (list, tuple)) and all(isinstance(v, Mapping) for v in value)


def _check_json(value: Any, where: str) -> None:
    try:
        json.dumps(value)
    except (TypeError, ValueError, RecursionError) as error:
        raise ChatTemplateError(f"{where} can not be written as JSON: {error}") from None


def _shown(value: Any) -> str:
    """A wrong value in an error: its beginning, or for large things its type."""
    shown = one_line(repr(value)) if isinstance(value, (str, int, float, type(None))) else ""
    return shown[:60] if shown else f"a {type(value).__name__}"
