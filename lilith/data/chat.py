"""Conversations to token ids, and which of them are learnt: what an assistant writes.

An answer begins where the template, asked to begin an answer, has ended; it ends with the
template's end of the turn. Both places come from renderings of the conversation's beginnings, which
must be beginnings of the whole: a template that rewrites history is found out, never trained on.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from lilith.data.chat_tools import written_out
from lilith.tokenizer import Tokenizer
from lilith.tokenizer.chat_template import (
    ChatTemplate,
    ChatTemplateError,
    RenderedText,
    check_messages,
)

Message = Mapping[str, Any]
_SHOWN = 40  # characters of a content in an error


@dataclass(frozen=True)
class Rendered:
    """A conversation as tokens.

    Attributes:
      ids: int32 [n].
      mask: bool [n], True where the token is learnt: what the assistant writes and its end of turn.
      turn_ends: of each assistant message its number in the conversation, and how many tokens there
        are up to the end of its turn.
    """

    ids: np.ndarray
    mask: np.ndarray
    turn_ends: tuple[tuple[int, int], ...] = ()


class ConversationError(ChatTemplateError):
    """A conversation can not be learnt from. ``reason`` says why in a few words, for counting."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


def render_conversation(
    messages: Sequence[Message],
    tokenizer: Tokenizer,
    template: ChatTemplate,
    *,
    tools: Sequence[Mapping[str, Any]] | None = None,
) -> Rendered:
    """Token ids of a conversation, and which of them are learnt.

    Learnt is all that follows what begins an answer (``add_generation_prompt``) up to the end of
    the turn: content, tool calls, the end-of-turn token. The white space that a template puts after
    that token is not, unless it is all that ends a turn. Text of users and tools never becomes a
    special token. The ids are those of ``template.encode``, but that no token reaches over the
    beginning or end of an answer: one that would is cut there, as it is for a model that answers.

    Tool calls, tool answers and descriptions of tools that the template does not know of are
    written into the text; see :func:`lilith.data.chat_tools.written_out`.

    Args:
      messages: ``{"role", "content"}``; an assistant's may have ``tool_calls``, a list of
        ``{"name", "arguments"}`` or of ``{"function": {"name", "arguments"}}``.
      tools: JSON descriptions of the tools that the assistant may call.

    Raises:
      ConversationError: roles are out of order, a turn is empty, or the template leaves a message
        out, changes what it wrote before, or does not end an answer.
      ChatTemplateError: a message is not well formed, or the template refuses or fails.
      TokenizerError: the text holds what the tokenizer can not write.
    """
    check_conversation(messages)
    prepared = written_out(messages, template, tools)
    roles = [message["role"] for message in prepared.messages]
    answers = [i for i, role in enumerate(roles) if role == "assistant"]
    prefixes = [view for i in answers for view in ((i, True), (i + 1, False))]
    if answers[-1] + 1 < len(roles):
        prefixes.append((len(roles), False))
    rendered = template.render_prefixes(prepared.messages, prefixes, tools=prepared.tools)
    whole = rendered[-1]
    cuts: list[int] = []
    for number, i in enumerate(answers):
        before, after = rendered[2 * number], rendered[2 * number + 1]
        cuts += _place(before, after, whole, prepared.origins[i])
    _check_contents(prepared.messages, prepared.origins, whole)

    pieces = whole.encode(tokenizer, cuts)
    ends = np.cumsum([len(piece) for piece in pieces])
    mask = np.concatenate(
        [np.full(len(piece), number % 2 == 1) for number, piece in enumerate(pieces)]
    )
    return Rendered(
        ids=np.array([index for piece in pieces for index in piece], np.int32),
        mask=mask,
        turn_ends=tuple(
            (prepared.origins[i], int(ends[2 * number + 1])) for number, i in enumerate(answers)
        ),
    )


def prompt_ids(
    messages: Sequence[Message],
    tokenizer: Tokenizer,
    template: ChatTemplate,
    *,
    tools: Sequence[Mapping[str, Any]] | None = None,
) -> list[int]:
    """Token ids that an answer to ``messages`` follows, exactly as :func:`render_conversation`
    has them in training: tools written out for a template that does not know of them.

    Raises:
      ChatTemplateError: a message is not well formed, or the template refuses or fails.
    """
    check_messages(messages)
    prepared = written_out(messages, template, tools)
    return template.encode(prepared.messages, tokenizer, tools=prepared.tools)


def check_conversation(messages: Any, *, answered: bool = True) -> None:
    """Raise unless ``messages`` is a conversation whose roles come in order, with an answer in it.

    An optional system message comes first; then users and assistants in turns. Tools answer an
    assistant's message that calls them (in ``tool_calls``, or in its text as ``<tool_call>``), at
    most one answer a call. An assistant's turn is empty if it has neither text nor calls. Where
    nothing must be ``answered``, no answer is needed.

    Raises:
      ChatTemplateError: a message is not well formed.
      ConversationError: otherwise.
    """
    check_messages(messages)
    before, calls = "", 0
    for i, message in enumerate(messages):
        role = message["role"]
        if role == "system" and i > 0:
            raise _out_of_order(f"messages[{i}] is a system message; only the first may be")
        if role == "tool":
            if calls == 0:
                raise _out_of_order(f"messages[{i}] is a tool's answer, but no call is open for it")
            calls -= 1
        elif role == before:
            raise _out_of_order(f"messages[{i}] follows another message of role {role!r}")
        elif role == "assistant":
            if before in ("", "system"):
                raise _out_of_order(f"messages[{i}] is an assistant's, but no user has spoken")
            calls = _calls(message)
        elif role == "user" and before == "tool":
            raise _out_of_order(f"messages[{i}] is a user's, but the tool's answer is unanswered")
        content = message.get("content") or ""
        if role == "assistant" and not content.strip() and not message.get("tool_calls"):
            raise ConversationError(
                "empty assistant turn", f"messages[{i}] is an assistant's turn without any text"
            )
        if role == "user" and not content.strip():
            raise ConversationError(
                "empty user turn", f"messages[{i}] is a user's turn without any text"
            )
        before = role
    if answered and all(message["role"] != "assistant" for message in messages):
        raise ConversationError(
            "no assistant turn", f"none of the {len(messages)} messages is an assistant's"
        )


def _calls(message: Message) -> int:
    """How many tool calls an assistant's message makes."""
    calls = len(message.get("tool_calls") or [])
    return calls or (message.get("content") or "").count("<tool_call>")


def _out_of_order(message: str) -> ConversationError:
    return ConversationError(
        "roles out of order",
        f"{message}; expected an optional system message, then user and assistant in turns",
    )


def _place(
    before: RenderedText, after: RenderedText, whole: RenderedText, origin: int
) -> tuple[int, int]:
    """Where an answer begins and ends in the whole text, its end-of-turn text included.

    Args:
      before: rendered up to the answer, with what begins it.
      after: rendered up to the answer's end.
      origin: the answer's number among the messages, for errors.
    """
    if not _begins(before, after):
        raise ConversationError(
            "template changes the beginning of an answer",
            f"the chat template begins an answer with {before.text[-_SHOWN:]!r} when asked to, "
            f"but writes messages[{origin}] differently; such an answer has no exact place",
        )
    if not _begins(after, whole):
        raise ConversationError(
            "template rewrites history",
            f"the chat template writes messages[{origin}] differently once messages follow it "
            "(it may leave out earlier reasoning); split the conversation, or use a template "
            "that keeps its history",
        )
    size = len(after.text)
    start, end = after.own[-1] if after.own else (size, size)
    start = max(start, len(before.text))
    if end < size or start >= size:
        raise ConversationError(
            "template does not end an answer",
            f"the chat template writes nothing after messages[{origin}] that ends its turn, so "
            "that a model could not learn to stop; use another template",
        )
    ending = after.text[start:].rstrip()
    return len(before.text), start + len(ending) if ending else size


def _begins(beginning: RenderedText, whole: RenderedText) -> bool:
    """Whether a rendering is the beginning of another, in its text and in who wrote it."""
    size = len(beginning.text)
    own = tuple((start, min(end, size)) for start, end in whole.own if start < size)
    return whole.text.startswith(beginning.text) and own == beginning.own


def _check_contents(
    messages: Sequence[Message], origins: Sequence[int], whole: RenderedText
) -> None:
    """Raise unless the content of every message is in the text, in order.

    What the template itself wrote does not count: a system message "user" is not found in its tags.
    """
    pieces, at = [], 0
    for start, end in whole.own:
        pieces += [whole.text[at:start], "\0" * (end - start)]
        at = end
    text, at = "".join([*pieces, whole.text[at:]]), 0
    for message, origin in zip(messages, origins):
        content = (message.get("content") or "").strip()
        forms = [content]
        if message["role"] == "tool":  # which some templates write as a JSON string
            forms += [json.dumps(content, ensure_ascii=ascii)[1:-1] for ascii in (True, False)]
        found = [place + len(form) for form in forms if (place := text.find(form, at)) >= 0]
        if not found:
            role = message["role"]
            raise ConversationError(
                f"template drops the {role} message",
                "the chat template leaves out, moves or changes the content of "
                f"messages[{origin}], the {role} message {content[:_SHOWN]!r}; use another "
                "template, or remove the message",
            )
        at = min(found)


def trained_runs(
    ids: Sequence[int] | np.ndarray, mask: Sequence[bool] | np.ndarray, tokenizer: Tokenizer
) -> list[tuple[str, bool]]:
    """The text of tokens in runs of equal ``mask``, each with whether it is learnt; for display."""
    ids, mask = np.asarray(ids), np.asarray(mask, bool)
    if not len(ids):
        return []
    starts = [0, *(np.flatnonzero(np.diff(mask)) + 1).tolist(), len(ids)]
    return [
        (tokenizer.decode(ids[start:end].tolist()), bool(mask[start]))
        for start, end in itertools.pairwise(starts)
    ]


def row_runs(row: Mapping[str, np.ndarray], tokenizer: Tokenizer) -> list[list[tuple[str, bool]]]:
    """Of each conversation in a training row its :func:`trained_runs`.

    Args:
      row: arrays of shape [length], as :class:`lilith.data.chat_rows.ChatRows` gives them.
    """
    runs = []
    for segment in range(1, int(row["segment_ids"].max()) + 1):
        mine = row["segment_ids"] == segment
        # A row holds inputs and the token after each: the first token and all targets are the text.
        ids = np.concatenate([row["tokens"][mine][:1], row["targets"][mine]])
        mask = np.concatenate([[False], row["loss_mask"][mine] > 0])
        runs.append(trained_runs(ids, mask, tokenizer))
    return runs
