"""A model without weights that streams what a script says, for the agent's tests."""

from __future__ import annotations

import json
import re
import types
from collections.abc import Callable, Iterator, Sequence
from typing import Any

AS_THEY_ARE = object()  # a template that takes messages as they are


class Words:
    """Each word with the space before it is a token."""

    special_tokens: dict[str, int] = {}  # noqa: RUF012

    def encode(self, text: str) -> list[int]:
        return [len(word) for word in re.findall(r"\s*\S+|\s+\Z", text)]


class StreamingModel:
    """Says the lines of a script, one a message, in the order in which it is asked.

    Args:
      lines: what it writes; an exception among them is raised in the middle of a message. A
        function is given the prompt and returns a line.
      piece: characters of a piece of the stream.

    Attributes:
      prompts: that it was asked with; settings: of each call; closed: streams that were closed
        before their end.
    """

    def __init__(
        self,
        lines: Sequence[Any] | Callable[[Any], Any] = (),
        *,
        context: int = 4096,
        piece: int = 5,
        template: Any = AS_THEY_ARE,
        tokenizer: Any = None,
    ) -> None:
        self.config = types.SimpleNamespace(context=context)
        self.tokenizer = Words() if tokenizer is None else tokenizer
        self.chat_template = template
        self._lines = lines if callable(lines) else list(lines)
        self._piece = piece
        self.prompts: list[Any] = []
        self.settings: list[dict[str, Any]] = []
        self.closed = 0

    def encode(self, prompt: Any) -> list[int]:
        if hasattr(self.chat_template, "render"):
            return self.chat_template.encode(prompt, self.tokenizer)
        return self.tokenizer.encode(shown(prompt))

    def stream(self, prompt: Any, **settings: Any) -> Iterator[str]:
        self.prompts.append(prompt)
        self.settings.append(settings)
        assert callable(self._lines) or self._lines, f"the script is over:\n{shown(prompt)}"
        line = self._lines(prompt) if callable(self._lines) else self._lines.pop(0)
        return self._pieces(line, settings)

    def _pieces(self, line: Any, settings: dict[str, Any]) -> Iterator[str]:
        if isinstance(line, BaseException):
            yield "It is "
            raise line
        for stop in settings["stop"]:
            line = line.partition(stop)[0]
        words = re.findall(r"\s*\S+|\s+\Z", line)
        line = "".join(words[: settings["max_tokens"]])
        try:
            for at in range(0, len(line), self._piece):
                yield line[at : at + self._piece]
        except GeneratorExit:
            self.closed += 1
            raise


def shown(prompt: Any) -> str:
    """A prompt as one text: messages as "role: content" lines, with their calls."""
    if isinstance(prompt, str):
        return prompt
    return "\n".join(
        f"{one['role']}: {one['content']}"
        + "".join(f" CALL {json.dumps(call['function'])}" for call in one.get("tool_calls", ()))
        for one in prompt
    )


def call(name: str, **arguments: Any) -> str:
    """A call as a model writes it."""
    written = json.dumps({"name": name, "arguments": arguments})
    return f"<tool_call>\n{written}\n</tool_call>"
