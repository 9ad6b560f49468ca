"""What follows an answer that a policy has given: a tool's reply, as ids, never re-tokenised."""

from __future__ import annotations

import json
from collections.abc import Callable

from lilith.data.chat import prompt_ids, render_conversation
from lilith.data.instructions.quant_talk import run, tools
from lilith.data.instructions.tool_prompts import read_call
from lilith.data.instructions.tool_text import brief
from lilith.rl.rollouts import Reply, Rollout
from lilith.tokenizer import Tokenizer
from lilith.tokenizer.chat_template import ChatTemplate, ChatTemplateError

_BEFORE = ({"role": "user", "content": "q"}, {"role": "assistant", "content": "a"})


def tool_reply_ids(text: str, tokenizer: Tokenizer, template: ChatTemplate) -> list[int]:
    """Ids of a tool's message and of what begins the next answer, after an answer that has ended.

    They are the template's own, so that a conversation of several turns is the same as if it had
    been rendered whole. ``text`` never becomes a special token.

    Raises:
      ChatTemplateError: the template writes what came before differently once a tool has answered.
    """
    whole = prompt_ids([*_BEFORE, {"role": "tool", "content": text}], tokenizer, template)
    begun = render_conversation(_BEFORE, tokenizer, template)
    size = begun.turn_ends[-1][1]
    if whole[:size] != begun.ids[:size].tolist():
        raise ChatTemplateError(
            "the chat template writes an answer differently once a tool has replied to it; rewards "
            "over several turns need a template that keeps its history"
        )
    return whole[size:]


def quant_tool_answer(text: str) -> str | None:
    """What a quant tool answers to the call in ``text``, as a model is shown it; None: no call."""
    call = read_call(text)
    if call is None:
        return None
    if call["name"] not in tools():
        return json.dumps({"ok": False, "error": {"message": f"no tool {call['name']!r}"}})
    return brief(run(call))


def replying(
    answer: Callable[[str], str | None], tokenizer: Tokenizer, template: ChatTemplate
) -> Reply:
    """A reply for :func:`lilith.rl.rollouts.collect`: ``answer`` is given the turn's text.

    Args:
      answer: gives a tool's reply, or None where the turn calls no tool.
    """

    def reply(rollout: Rollout) -> list[int] | None:
        said = answer(last_turn(rollout, tokenizer))
        return None if said is None else tool_reply_ids(said, tokenizer, template)

    return reply


def last_turn(rollout: Rollout, tokenizer: Tokenizer) -> str:
    """The text of what the policy wrote last, without special tokens."""
    end = len(rollout.ids)
    start = end
    while start > 0 and rollout.learnt[start - 1]:
        start -= 1
    return tokenizer.decode(list(rollout.ids[start:end]), skip_special=True)
