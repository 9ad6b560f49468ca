"""The config of an evaluation: which benchmark, of which model, how much of it."""

from __future__ import annotations

import math
from dataclasses import dataclass

from lilith.config import ConfigError, nearest

BENCHMARKS = ("tool_calls", "agent")
WORDS = ("known", "held_out")


@dataclass(frozen=True)
class EvaluateConfig:
    """One benchmark of one model."""

    name: str = "evaluate"
    stage: str = "evaluate"
    benchmark: str = "tool_calls"  # the first answer; agent: whole turns with real tools
    checkpoint: str = "smollm2-135m-instruct"  # a name, a .gguf, a folder, or an adapter's
    count: int = 200  # questions
    seed: int = 1_000
    max_tokens: int = 256  # of one answer, or of one turn
    hang_seconds: float = 3600.0  # for one answer; 0: no limit
    # Kinds of generated conversations that are asked in turn; (): every one that is one tool call.
    kinds: tuple[str, ...] = ()
    # Of benchmark=agent: what it is told and granted, "" and (): the role's prompt, all tools. The
    # numbers of its questions are held out, and it is asked in words of training and in others.
    system_prompt: str = ""
    tools: tuple[str, ...] = ()
    words: tuple[str, ...] = WORDS

    def __post_init__(self) -> None:
        if self.benchmark not in BENCHMARKS:
            raise ConfigError(
                f"benchmark is {self.benchmark!r}{nearest(self.benchmark, BENCHMARKS)}; known: "
                f"{', '.join(BENCHMARKS)}"
            )
        for name in ("count", "max_tokens"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} is {getattr(self, name)}; it must be at least 1")
        if not 0 <= self.hang_seconds < math.inf:
            raise ConfigError(
                f"hang_seconds is {self.hang_seconds}; it must be 0 (no limit) or positive"
            )
        for one in self.words or ("",):
            if one not in WORDS:
                raise ConfigError(f"words has {one!r}{nearest(one, WORDS)}; known: "
                                  f"{', '.join(WORDS)}")  # fmt: skip
        if not self.checkpoint.strip():
            raise ConfigError("checkpoint is empty; name a model, a file or a folder")
