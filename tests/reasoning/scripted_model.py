"""A model without weights: it says what a script says, with log-probabilities from the script."""

from __future__ import annotations

import math
import re
import types
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

NEVER_ENDS = "<never ends>"  # at the end of a line: it is repeated up to the limit


@dataclass(frozen=True)
class Said:
    """A completion of the script."""

    text: str
    tokens: tuple[int, ...]
    log_probs: tuple[float, ...]
    finish_reason: str
    prompt_tokens: int


class WordTokenizer:
    """Each word with the space before it is a token; ids are given out as words are seen."""

    def __init__(self) -> None:
        self._ids: dict[str, int] = {}
        self._words: list[str] = []

    def encode(self, text: str) -> list[int]:
        found = []
        for word in re.findall(r"\s*\S+|\s+\Z", text):
            if word not in self._ids:
                self._ids[word] = len(self._words)
                self._words.append(word)
            found.append(self._ids[word])
        return found

    def decode(self, ids: Sequence[int]) -> str:
        return "".join(self._words[index] for index in ids)


class ScriptedModel:
    """Says the lines of a script, one a text, in the order in which it is asked.

    Args:
      lines: what it writes; a pair (text, log_prob) gives each of its tokens that log-probability
        (else -0.1). A function is given the prompt's text and the place of the text among the n of
        its prompt, and returns one of these.
      scores: the log-probabilities that ``score`` gives, a list per call in order, or a function
        of the prompt's text and the continuations. Without any, all continuations are alike.
      chat: whether it has a chat template.

    Attributes:
      prompts: the text of each prompt that it was asked with; settings: of each call; scored: the
        text of each prompt that ``score`` was asked with.
    """

    def __init__(
        self,
        lines: Sequence[Any] | Callable[[str, int], Any] = (),
        scores: Sequence[Sequence[float]] | Callable[[str, Sequence[str]], Sequence[float]] = (),
        *,
        chat: bool = True,
        context: int = 4096,
    ) -> None:
        self.config = types.SimpleNamespace(context=context)
        self.tokenizer = WordTokenizer()
        self.chat_template = object() if chat else None
        self._lines = lines if callable(lines) else list(lines)
        self._scores = scores if callable(scores) else list(scores)
        self.prompts: list[str] = []
        self.settings: list[Mapping[str, Any]] = []
        self.scored: list[str] = []

    def encode(self, prompt: Any) -> list[int]:
        return self.tokenizer.encode(shown(prompt))

    def generate_batch(
        self, prompts: Sequence[Any], *, n: int = 1, batch_size: int = 16, **settings: Any
    ) -> list[Said]:
        from lilith.config import UserError

        self.settings.append({"n": n, "batch_size": batch_size, **settings})
        for prompt in prompts:
            if len(self.encode(prompt)) >= self.config.context:
                raise UserError("the prompt is longer than the context")
        found = []
        for prompt in prompts:
            self.prompts.append(shown(prompt))
            found += [self._say(prompt, place, settings) for place in range(n)]
        return found

    def score(self, prompt: Any, continuations: Sequence[str]) -> list[float]:
        self.scored.append(shown(prompt))
        if callable(self._scores):
            return list(self._scores(shown(prompt), continuations))
        if not self._scores:
            return [math.log(1 / len(continuations))] * len(continuations)
        return list(self._scores.pop(0))

    def _say(self, prompt: Any, place: int, settings: Mapping[str, Any]) -> Said:
        if callable(self._lines):
            line = self._lines(shown(prompt), place)
        else:
            assert self._lines, f"the script is over, and the model is asked:\n{shown(prompt)}"
            line = self._lines.pop(0)
        text, log_prob = line if isinstance(line, tuple) else (line, -0.1)
        endless = text.endswith(NEVER_ENDS)
        text = text.removesuffix(NEVER_ENDS)
        for stop in settings.get("stop", ()):
            text = text.split(stop)[0]
        most = settings["max_tokens"]
        ids = self.tokenizer.encode(text)
        if endless:
            ids = (ids * (most // max(1, len(ids)) + 1))[:most]
        cut = endless or len(ids) > most
        ids = ids[:most]
        return Said(
            self.tokenizer.decode(ids), tuple(ids), (log_prob,) * len(ids),
            "length" if cut else "stop", len(self.encode(prompt)),
        )  # fmt: skip


def shown(prompt: Any) -> str:
    """A prompt as one text: messages as "role: content" lines."""
    if isinstance(prompt, str):
        return prompt
    return "\n".join(f"{message['role']}: {message['content']}" for message in prompt)
