"""The config of a terminal chat: which model, how it samples, what it is asked."""

from __future__ import annotations

import math
from dataclasses import dataclass

from lilith.config import ConfigError, nearest

TEMPLATES = ("model", "chatml")


@dataclass(frozen=True)
class ChatConfig:
    """A chat with a model. Sampling as in ``model.generate``; temperature 0 is greedy."""

    name: str = "chat"
    stage: str = "chat"
    checkpoint: str = "smollm2-135m-instruct"  # a name, a .gguf, or a folder; see load_checkpoint
    template: str = "model"  # the one that the model's file carries, or chatml: LILITH's own
    prompt: str | None = None  # answer this once and exit
    system: str | None = None  # the system prompt; None: the template's own, if it has one
    history: str = ""  # a file that /save wrote, to go on with
    temperature: float = 0.0
    top_k: int = 0  # 0: off
    top_p: float = 1.0  # 1: off
    min_p: float = 0.0  # 0: off
    repetition_penalty: float = 1.0  # 1: off
    max_tokens: int = 512  # of one answer
    seed: int = 0
    truncate: bool = False  # leave out the oldest turns when the context is full
    speculative: int = 0  # tokens drafted at a time by looking the last ones up; 0: none

    def __post_init__(self) -> None:
        for condition, field, remedy in (
            (bool(self.name), "name", "give the chat a name"),
            (self.stage == "chat", "stage", "a ChatConfig has stage 'chat'"),
            (bool(self.checkpoint.strip()), "checkpoint", "name a model, a file or a folder"),
            (self.template in TEMPLATES, "template", f"known: {', '.join(TEMPLATES)}"),
            (self.prompt is None or bool(self.prompt.strip()), "prompt", "ask something"),
            (_finite(self.temperature) and self.temperature >= 0, "temperature",
             "it must be 0 (always the likeliest token) or more"),
            (self.top_k >= 0, "top_k", "it must be 0 (off) or more"),
            (0 < self.top_p <= 1, "top_p", "it must be above 0 and at most 1 (off)"),
            (0 <= self.min_p <= 1, "min_p", "it must be between 0 (off) and 1"),
            (_finite(self.repetition_penalty) and self.repetition_penalty > 0,
             "repetition_penalty", "it must be a positive number; 1 is off"),
            (self.max_tokens > 0, "max_tokens", "it must be positive"),
            (self.speculative >= 0, "speculative", "it must be 0 (off) or more"),
            (0 <= self.seed < 2**32, "seed", "it must be between 0 and 4,294,967,295"),
        ):  # fmt: skip
            if not condition:
                value = getattr(self, field)
                close = nearest(value, TEMPLATES) if field == "template" else ""
                raise ConfigError(f"{field} is {value!r}{close}; {remedy}")


def _finite(value: float) -> bool:
    return math.isfinite(value)
