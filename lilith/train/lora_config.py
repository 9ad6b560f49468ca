"""What an adapter changes and how much of it there is; light, for configs."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

from lilith.config import ConfigError

# Weights that an adapter can change, and how many of their axes (after the layers') are inputs.
INPUTS = {
    "layers/attention/q": 1, "layers/attention/k": 1, "layers/attention/v": 1,
    "layers/attention/o": 2, "layers/mlp/gate": 1, "layers/mlp/up": 1, "layers/mlp/down": 1,
}  # fmt: skip


@dataclass(frozen=True)
class LoraConfig:
    """A low-rank adapter. Rank 0: none, all weights are trained."""

    rank: int = 0
    alpha: float = 32.0  # the change is scaled by alpha / rank
    dropout: float = 0.0  # share of the inputs that the change does not see, in training
    targets: tuple[str, ...] = ("attention/[qkvo]$", "mlp/(gate|up|down)$")  # patterns of paths
    dora: bool = False  # also train the length of each weight's columns

    def __post_init__(self) -> None:
        if self.rank < 0:
            raise ConfigError(f"lora.rank is {self.rank}; it must be positive, or 0 for no adapter")
        if not (math.isfinite(self.alpha) and self.alpha > 0):
            raise ConfigError(f"lora.alpha is {self.alpha}; it must be a positive number")
        if not 0 <= self.dropout < 1:
            raise ConfigError(f"lora.dropout is {self.dropout}; it must be from 0 to below 1")
        for pattern in self.targets:
            try:
                hit = any(re.search(pattern, path) for path in INPUTS)
            except re.error as error:
                raise ConfigError(f"lora.targets: {pattern!r} is no pattern: {error}") from None
            if not hit:
                raise ConfigError(f"lora.targets: {pattern!r} matches none of {', '.join(INPUTS)}")
        if self.rank and not self.targets:
            raise ConfigError("lora.targets is empty: name the weights to adapt")
