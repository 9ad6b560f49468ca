"""The config of self-improvement by a constitution: prompts, revisions, tuning, preferences."""

from __future__ import annotations

from dataclasses import dataclass, field

from experiments.preference_config import DpoConfig, RewardConfig
from experiments.tuning_config import ChatDataConfig, FromModelConfig
from lilith.config import ConfigError, nearest
from lilith.reasoning.self_improvement import RevisionSettings
from lilith.reasoning.self_preference import PairSettings
from lilith.train.lora_config import LoraConfig

TRAINED = ("none", "dpo", "reward")


@dataclass(frozen=True)
class PromptsConfig:
    """Which prompts are answered; a kind without files takes the project's own set."""

    harmful: int = 64  # prompts of each kind that are learnt from
    frightening: int = 32  # harmless, and sound alarming
    plain: int = 32  # answered and not revised: what keeps the model helpful
    held_out: int = 16  # more of each kind, never learnt from, for the report
    harmful_files: tuple[str, ...] = ()  # .jsonl or .csv: files, folders or patterns
    frightening_files: tuple[str, ...] = ()
    plain_files: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name in ("harmful", "frightening", "plain", "held_out"):
            if getattr(self, name) < 0:
                raise ConfigError(f"prompts.{name} is {getattr(self, name)}; it must be 0 or more")
        if not self.harmful + self.frightening:
            raise ConfigError(
                "prompts.harmful and prompts.frightening are both 0; there is nothing to revise"
            )


@dataclass(frozen=True)
class RevisedDataConfig(ChatDataConfig):
    """How revisions become rows; ``files`` are the run's own."""

    helpful_files: tuple[str, ...] = ()  # conversations that are mixed in
    helpful_limit: int = 200  # of each of these files; 0: all

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check_least(helpful_limit=0)
        if self.files:
            raise ConfigError(
                f"data.files is {', '.join(self.files)!r}, but what is learnt is written by the "
                "run; name conversations to mix in by data.helpful_files"
            )


@dataclass(frozen=True)
class SelfPreferenceConfig(PairSettings):
    """Pairs of the improved model's answers, judged by itself; what is trained on them."""

    prompts: int = 0  # of those that were learnt from, in their order; 0: no pairs
    human_files: tuple[str, ...] = ()  # pairs of people, mixed in
    human_limit: int = 200  # of each of these files; 0: all
    train: str = "none"  # on the pairs: dpo, reward, or none
    learning_rate: float = 5e-5
    epochs: float = 1.0
    validation_fraction: float = 0.15
    dpo: DpoConfig = field(default_factory=DpoConfig)
    reward: RewardConfig = field(default_factory=RewardConfig)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.train not in TRAINED:
            raise ConfigError(
                f"preference.train is {self.train!r}{nearest(self.train, TRAINED)}; known: "
                f"{', '.join(TRAINED)}"
            )
        for name in ("prompts", "human_limit"):
            if getattr(self, name) < 0:
                raise ConfigError(
                    f"preference.{name} is {getattr(self, name)}; it must be 0 or more"
                )
        if self.train != "none" and not self.prompts:
            raise ConfigError(
                f"preference.train is {self.train!r} and preference.prompts is 0; give it prompts "
                "to make pairs of"
            )
        for name in ("learning_rate", "epochs"):
            if not 0 < getattr(self, name) < float("inf"):
                raise ConfigError(f"preference.{name} is {getattr(self, name)}; it must be above 0")
        if not 0 < self.validation_fraction < 1:
            raise ConfigError(
                f"preference.validation_fraction is {self.validation_fraction}; it must be between "
                "0 and 1"
            )


@dataclass(frozen=True)
class ConstitutionalConfig(FromModelConfig):
    """Everything a run of self-improvement depends on. See docs/constitutional.md.

    ``lora``, ``optimizer``, ``train`` and ``checkpoint`` are those of the tuning of each iteration.
    """

    stage: str = "constitutional"
    iterations: int = 1  # of answering, revising and tuning
    constitution: str = ""  # a .toml; "": the project's own
    group: int = 8  # prompts answered together; a run that was killed goes on with such a group
    prompts: PromptsConfig = field(default_factory=PromptsConfig)
    revision: RevisionSettings = field(default_factory=RevisionSettings)
    data: RevisedDataConfig = field(default_factory=RevisedDataConfig)
    lora: LoraConfig = field(default_factory=lambda: LoraConfig(rank=8, alpha=16.0))
    preference: SelfPreferenceConfig = field(default_factory=SelfPreferenceConfig)

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("iterations", "group"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} is {getattr(self, name)}; it must be 1 or more")
