"""The config of reinforcement learning: what is answered, what it is worth, how it is learnt."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from experiments.tuning_config import FromModelConfig, RecordsConfig
from lilith.config import ConfigError, TrainConfig, nearest
from lilith.rl.collapse import CollapseBounds
from lilith.rl.update_config import ALGORITHMS, UpdateConfig, check_choices, check_range
from lilith.train.lora_config import LoraConfig


@dataclass(frozen=True)
class PromptDataConfig(RecordsConfig):
    """Conversations whose beginnings are the prompts; ``length`` is the longest conversation."""

    answered: str = "first"  # which of a conversation's answers the policy gives: first or last

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choices("data", self, answered=("first", "last"))


@dataclass(frozen=True)
class RolloutConfig:
    """What is collected in an iteration."""

    prompts: int = 8
    copies: int = 8  # answers to each prompt: the group of GRPO and RLOO
    answer_tokens: int = 256  # most of an answer, tools' replies included
    turns: int = 1  # how often the policy writes in a conversation
    tools: str = "none"  # who replies to tool calls: none, or quant (lilith.quant)
    rows: int = 64  # conversations generated together
    # Generation with the weights that are trained (one copy), or with a merged copy of them laid
    # out for speed; auto: a copy on a CPU.
    layout: str = "auto"
    tolerance: float = 5e-3  # nats that sampler and trainer may differ by at a token

    def __post_init__(self) -> None:
        check_range("rollout", self, 1, "prompts", "copies", "answer_tokens", "turns", "rows")
        check_range("rollout", self, 0, "tolerance", above=True)
        check_choices("rollout", self, tools=("none", "quant"), layout=("auto", "shared", "own"))


@dataclass(frozen=True)
class SourcesConfig:
    """What answers are worth: a weighted sum."""

    # NAME=WEIGHT: tool_call, tool_call_parts, tool_result, code, ended, or model, the reward model
    # in the folder below.
    sources: tuple[str, ...] = ("tool_call=1",)
    model: str = ""  # a folder that the stage reward has written
    seconds: float = 60.0  # after which a verifier is given up
    failure: float = 0.0  # the reward where it was given up or failed
    missing_eos_penalty: float = 0.0  # taken off an answer that did not end

    def __post_init__(self) -> None:
        check_range("reward", self, 0, "seconds", above=True)
        check_range("reward", self, 0, "missing_eos_penalty")
        if not math.isfinite(self.failure):
            raise ConfigError(f"reward.failure is {self.failure}; it must be a finite number")
        if "model" in self.weights() and not self.model:
            raise ConfigError(
                "reward.sources names the reward model, and reward.model is empty: give the folder "
                "that a run of the stage reward has written"
            )

    def weights(self) -> dict[str, float]:
        """``sources`` as numbers by name.

        Raises:
          ConfigError: an entry is not NAME=NUMBER, or there is none.
        """
        found: dict[str, float] = {}
        for entry in self.sources:
            name, _, text = entry.partition("=")
            try:
                found[name.strip()] = float(text)
            except ValueError:
                raise ConfigError(
                    f"reward.sources has {entry!r}; write NAME=WEIGHT, such as tool_call=1"
                ) from None
        if not found:
            raise ConfigError("reward.sources is empty; name at least one, such as tool_call=1")
        return found


@dataclass(frozen=True)
class RLConfig(FromModelConfig):
    """Everything a run of reinforcement learning depends on.

    ``train.steps`` counts iterations: answers collected, then learnt from. ``train.batch`` counts
    the answers of a minibatch, ``train.eval_rows`` the held-out prompts of a quick evaluation.
    """

    stage: str = "rl"
    algorithm: str = "grpo"  # or rloo, ppo
    data: PromptDataConfig = field(default_factory=PromptDataConfig)
    lora: LoraConfig = field(default_factory=lambda: LoraConfig(rank=8, alpha=16.0))
    rollout: RolloutConfig = field(default_factory=RolloutConfig)
    reward: SourcesConfig = field(default_factory=SourcesConfig)
    update: UpdateConfig = field(default_factory=UpdateConfig)
    collapse: CollapseBounds = field(default_factory=CollapseBounds)
    train: TrainConfig = field(
        default_factory=lambda: TrainConfig(
            steps=50, batch=16, log_every=1, eval_every=10, eval_rows=32, sample_every=10
        )
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.algorithm not in ALGORITHMS:
            raise ConfigError(
                f"algorithm is {self.algorithm!r}{nearest(self.algorithm, ALGORITHMS)}; known: "
                f"{', '.join(ALGORITHMS)}"
            )
        if self.algorithm != "ppo" and self.rollout.copies < 2:
            raise ConfigError(
                f"rollout.copies is {self.rollout.copies}; {self.algorithm} compares the answers "
                "to one prompt, so it needs at least 2"
            )
        if self.lora.dropout:
            raise ConfigError(
                f"lora.dropout is {self.lora.dropout}, and reinforcement learning draws none: an "
                "answer must be scored by the very policy that gave it; set lora.dropout=0"
            )
        if self.data.length <= self.rollout.answer_tokens:
            raise ConfigError(
                f"data.length is {self.data.length}, no longer than rollout.answer_tokens "
                f"({self.rollout.answer_tokens}): prompts would have no room; lengthen the one or "
                "shorten the other"
            )
        if self.update.resample and not self.update.drop_equal:
            raise ConfigError(
                "update.resample answers more prompts in place of dropped groups, and "
                "update.drop_equal is off; turn it on, or set update.resample=0"
            )

    @property
    def answers(self) -> int:
        """How many answers an iteration learns from."""
        return self.rollout.prompts * self.rollout.copies
