"""Targets with and without the reasoning that leads to an answer.

Reasoning is what stands between ``<think>`` and ``</think>`` in an answer, what a message or a
record has in a field of its own, and in an answer that ends in a line ``#### answer`` (as GSM8K's
do) all that comes before that line.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

# Fields of a message, or of a record's metadata, that hold the reasoning of an answer.
REASONING_FIELDS = ("reasoning", "reasoning_content", "rationale", "chain_of_thought")
_THOUGHT = re.compile(r"<think>.*?</think>\s*", re.DOTALL)
_FINAL_LINE = re.compile(r"(?:\A|\n)####[ \t]*([^\n]*\S)\s*\Z")


def with_reasoning(
    messages: Sequence[Mapping[str, Any]], metadata: Mapping[str, Any]
) -> list[dict[str, Any]]:
    """The messages with reasoning kept: what is in fields becomes ``<think>`` text.

    An assistant's message with such a field begins with ``<think>\\n...\\n</think>\\n\\n``; one in
    the metadata belongs to the last answer. An answer that has ``<think>`` text keeps its own.
    """
    made = [dict(message) for message in messages]
    answers = [message for message in made if message.get("role") == "assistant"]
    for message in answers:
        own = _taken(message)
        if not own and message is answers[-1]:
            own = _taken(dict(metadata))
        content = message.get("content") or ""
        if own and "<think>" not in content:
            message["content"] = f"<think>\n{own}\n</think>\n\n{content}"
    return made


def without_reasoning(messages: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The messages with the reasoning of the assistant's left out; the answers alone are learnt.

    A ``<think>`` that is never closed reaches to the end of its message, and a ``</think>`` that
    was never opened from its beginning. A last line ``#### answer`` leaves ``answer``.
    """
    made = [dict(message) for message in messages]
    for message in made:
        if message.get("role") == "assistant":
            _taken(message)
            if isinstance(message.get("content"), str):
                message["content"] = _answer(message["content"])
    return made


def _answer(content: str) -> str:
    """An answer's text without its reasoning."""
    text = _THOUGHT.sub("", content)
    text = text.rpartition("</think>")[2].lstrip() if "</think>" in text else text
    text = text.partition("<think>")[0]
    final = _FINAL_LINE.search(text)
    text = final.group(1) if final else text
    return text if text == content else text.strip()


def _taken(fields: dict[str, Any]) -> str:
    """Take the fields of reasoning out; the text of the first that has any."""
    texts = [fields.pop(name, None) for name in REASONING_FIELDS]
    return next((text.strip() for text in texts if isinstance(text, str) and text.strip()), "")
