"""The config of an evaluation: which benchmark, of which model, how much of it."""

from __future__ import annotations

from dataclasses import dataclass

from lilith.config import ConfigError, nearest

BENCHMARKS = ("tool_calls",)


@dataclass(frozen=True)
class EvaluateConfig:
    """One benchmark of one model."""

    name: str = "evaluate"
    stage: str = "evaluate"
    benchmark: str = "tool_calls"
    checkpoint: str = "smollm2-135m-instruct"  # a name, a .gguf, a folder, or an adapter's
    count: int = 200  # questions
    seed: int = 1_000
    max_tokens: int = 256  # of one answer
    # Kinds of generated conversations that are asked in turn; (): every one that is one tool call.
    kinds: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.benchmark not in BENCHMARKS:
            raise ConfigError(
                f"benchmark is {self.benchmark!r}{nearest(self.benchmark, BENCHMARKS)}; known: "
                f"{', '.join(BENCHMARKS)}"
            )
        for name in ("count", "max_tokens"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} is {getattr(self, name)}; it must be at least 1")
        if not self.checkpoint.strip():
            raise ConfigError("checkpoint is empty; name a model, a file or a folder")
