"""The config of the stages that learn from preferences: a reward model, and DPO."""

from __future__ import annotations

from dataclasses import dataclass, field

from experiments.tuning_config import LoopConfig
from lilith.config import ConfigError, nearest
from lilith.train.lora_config import LoraConfig

KINDS = ("sigmoid", "ipo")


@dataclass(frozen=True)
class RewardConfig:
    """The loss of a reward model; see :func:`lilith.train.reward.reward_loss`."""

    centring: float = 0.01  # coefficient of (chosen + rejected)^2, which draws scores to mean 0

    def __post_init__(self) -> None:
        if not 0 <= self.centring < float("inf"):
            raise ConfigError(f"reward.centring is {self.centring}; it must be 0 (off) or more")


@dataclass(frozen=True)
class DpoConfig:
    """The loss of DPO; see :func:`lilith.train.dpo.dpo_loss`."""

    beta: float = 0.1  # how dear it is to leave the reference
    kind: str = "sigmoid"  # or ipo
    label_smoothing: float = 0.0  # probability that a label is wrong: conservative DPO
    sft: float = 0.0  # coefficient of the chosen answers' negative log-likelihood
    reference: str = ""  # a model as load_checkpoint takes it; empty: what training starts from

    def __post_init__(self) -> None:
        if not 0 < self.beta < float("inf"):
            raise ConfigError(f"dpo.beta is {self.beta}; it must be a positive number")
        if self.kind not in KINDS:
            raise ConfigError(
                f"dpo.kind is {self.kind!r}{nearest(self.kind, KINDS)}; known: {', '.join(KINDS)}"
            )
        if not 0 <= self.label_smoothing < 0.5:
            raise ConfigError(
                f"dpo.label_smoothing is {self.label_smoothing}; it must be from 0 to below 0.5"
            )
        if not 0 <= self.sft < float("inf"):
            raise ConfigError(f"dpo.sft is {self.sft}; it must be 0 (off) or more")


@dataclass(frozen=True)
class PreferenceConfig(LoopConfig):
    """Everything a run on preferences depends on: stage "reward" or "dpo".

    ``data.length`` counts the inputs of one side of a pair, ``train.batch`` and ``train.eval_rows``
    count pairs. Each stage reads the section of its own name.
    """

    own_stages = ("reward", "dpo")  # no field: the stages that this class is the config of

    stage: str = "reward"
    lora: LoraConfig = field(default_factory=lambda: LoraConfig(rank=8, alpha=16.0))
    reward: RewardConfig = field(default_factory=RewardConfig)
    dpo: DpoConfig = field(default_factory=DpoConfig)
