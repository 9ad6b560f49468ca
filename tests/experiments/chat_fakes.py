"""A model that answers by rule, in place of weights: for tests of the chat around it."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from typing import Any

from lilith.config import ModelConfig, UserError
from lilith.tokenizer import ByteTokenizer
from lilith.tokenizer.chat_template import CHATML, ChatTemplate


class FakeModel:
    """Answers "<turn>: <question>" word by word.

    Of these words "slow" makes it wait between all, "mute" fall silent, and "broken" fail.

    ``calls`` holds the messages and settings of every answer, ``closed`` how many were stopped.
    """

    def __init__(self, context: int = 2048, template: str | None = CHATML) -> None:
        self.config = ModelConfig(context=context)
        self.tokenizer = ByteTokenizer()
        self.chat_template = None if template is None else ChatTemplate(template)
        self.calls: list[tuple[list[dict[str, Any]], dict[str, Any]]] = []
        self.closed = 0
        self._streams: list[Iterator[str]] = []  # kept, so that none is closed by being forgotten

    def stream(self, prompt: Sequence[dict[str, Any]], **sampling: Any) -> Iterator[str]:
        """Pieces of the answer, at most ``max_tokens`` bytes of it."""
        self.calls.append((list(prompt), sampling))
        self._streams.append(self._answer(prompt, sampling))
        return self._streams[-1]

    def _answer(self, prompt: Sequence[dict[str, Any]], sampling: dict[str, Any]) -> Iterator[str]:
        question = prompt[-1]["content"]
        turn = sum(message["role"] == "user" for message in prompt)
        text = f"{turn}: {question}"[: sampling["max_tokens"]]
        try:
            for word in text.split(" "):
                if "slow" in question:
                    time.sleep(0.05)
                if word == "broken":
                    raise UserError("the model broke")
                if word == "mute":
                    time.sleep(600)
                yield word if word == text.split(" ")[0] else f" {word}"
        except GeneratorExit:
            self.closed += 1
            raise


class FakeInfo:
    """What load_checkpoint says of the model."""

    def __str__(self) -> str:
        return "fake: 0 parameters"


def load(where: str, **_: Any) -> tuple[FakeModel, ByteTokenizer, FakeInfo]:
    """In place of load_checkpoint: "base" has no chat template, "small" a context of 128."""
    model = FakeModel(
        context=128 if "small" in where else 2048, template=None if "base" in where else CHATML
    )
    return model, model.tokenizer, FakeInfo()
