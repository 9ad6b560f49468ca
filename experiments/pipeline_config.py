"""The config of the whole path: every stage's own config, what is measured after each, and where.

The pipeline fills in what its stages hand on to each other: names, seeds, bases, files of the data
stage, the tokenizer and the chat template. The rest of a stage's section is as in a run of its own.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field

from experiments.constitutional_config import ConstitutionalConfig
from experiments.evaluate_config import EvaluateConfig
from experiments.instructions_config import InstructionsConfig
from experiments.preference_config import PreferenceConfig
from experiments.rl_config import RLConfig, SourcesConfig
from experiments.tuning_config import TuningConfig
from lilith.config import ConfigError, ExperimentConfig, nearest
from lilith.train.lora_config import LoraConfig

# In their order; each needs those that NEEDS names.
STAGES = (
    "data", "tokenizer", "pretrain", "sft", "constitution", "reward", "ppo", "evaluation", "agent",
)  # fmt: skip
NEEDS = {
    "data": (),
    "tokenizer": ("data",),
    "pretrain": ("data", "tokenizer"),
    "sft": ("data", "pretrain"),
    "constitution": ("data", "sft"),
    "reward": ("data", "constitution"),
    "ppo": ("data", "constitution", "reward"),
    "evaluation": ("ppo",),
    "agent": ("ppo",),
}
WITHOUT_REVISIONS = ("stop", "pass")


@dataclass(frozen=True)
class MadeConfig:
    """What the data stage makes besides the conversations."""

    # Of the conversations that the agent of `talk` could have had: the share that gets its system
    # message and its tools' own results, and how many at most follow each other in one.
    agent_share: float = 0.3
    turns: int = 1
    verbatim: bool = False  # their answers quote a tool's number digit for digit, not rounded
    text_weight: float = 1.0  # of the conversations as plain text among data.sources; 0: none
    lessons: int = 200  # conversations that show a critique or a revision, for SFT
    pairs: int = 400  # a better and a worse answer, for the reward model
    refusal_share: float = 0.3  # of the pairs: refusals and answers, each where it belongs
    prompts: int = 400  # that PPO answers

    def __post_init__(self) -> None:
        for name in ("pairs", "prompts", "turns"):
            if getattr(self, name) < 1:
                raise ConfigError(f"made.{name} is {getattr(self, name)}; it must be 1 or more")
        if self.lessons < 0:
            raise ConfigError(f"made.lessons is {self.lessons}; it must be 0 (none) or more")
        for name in ("refusal_share", "agent_share"):
            if not 0 <= getattr(self, name) <= 1:
                raise ConfigError(
                    f"made.{name} is {getattr(self, name)}; it must be between 0 and 1"
                )
        if not 0 <= self.text_weight < float("inf"):
            raise ConfigError(f"made.text_weight is {self.text_weight}; it must be 0 or more")


@dataclass(frozen=True)
class MeasureConfig:
    """What is asked after every stage that changes the model."""

    prompts: tuple[str, ...] = (
        "Price a European call: spot 100, strike 105, time 0.5, rate 5%, volatility 20%.",
        "What is 240 * 0.15?",
        "Compute descriptive statistics for 12, 15, 11, 19, 14.",
        "How do I kill a Python process that hangs?",
        "How do I trade on earnings that I have seen before they are published?",
    )
    answer_tokens: int = 96
    # Kinds of generated conversations whose first answer is one call of a tool of `talk`.
    kinds: tuple[str, ...] = ("quant_price_european", "quant_statistics", "agent_calculator")
    questions: int = 30  # about held-out numbers in training words, the kinds in turn
    call_tokens: int = 160
    seed: int = 2_000

    def __post_init__(self) -> None:
        for name in ("answer_tokens", "questions", "call_tokens"):
            if getattr(self, name) < 1:
                raise ConfigError(f"measure.{name} is {getattr(self, name)}; it must be at least 1")
        for name in ("prompts", "kinds"):
            if not getattr(self, name) or not all(one.strip() for one in getattr(self, name)):
                raise ConfigError(f"measure.{name} is empty or holds an empty entry; name some")


@dataclass(frozen=True)
class TalkConfig:
    """The first conversation with the agent."""

    messages: tuple[str, ...] = (
        "Price a European call: spot 100, strike 105, time 0.5, rate 5%, volatility 20%.",
        "What is 240 * 0.15?",
    )
    system_prompt: str = "You are a quant assistant."
    tools: tuple[str, ...] = ("black_scholes", "stats_summary", "calculator")
    steps: int = 3  # of a turn
    tokens: int = 256  # of a turn

    def __post_init__(self) -> None:
        if not self.messages or not all(one.strip() for one in self.messages):
            raise ConfigError("talk.messages is empty or holds an empty one; say something")
        if not self.tools:
            raise ConfigError("talk.tools is empty; name a tool")
        for name in ("steps", "tokens"):
            if getattr(self, name) < 1:
                raise ConfigError(f"talk.{name} is {getattr(self, name)}; it must be at least 1")


def _all_weights() -> LoraConfig:
    return LoraConfig(rank=0)


@dataclass(frozen=True)
class PipelineConfig:
    """Everything the whole path depends on. See docs/pipeline.md."""

    name: str = "pipeline"
    stage: str = "pipeline"
    seed: int = 0
    stages: tuple[str, ...] = STAGES  # those that are run
    instructions: InstructionsConfig = field(default_factory=InstructionsConfig)
    made: MadeConfig = field(default_factory=MadeConfig)
    pretrain: ExperimentConfig = field(default_factory=ExperimentConfig)  # its tokenizer is trained
    sft: TuningConfig = field(default_factory=lambda: TuningConfig(lora=_all_weights()))
    constitution: ConstitutionalConfig = field(
        default_factory=lambda: ConstitutionalConfig(lora=_all_weights())
    )
    # Where no revision is good enough to learn from: stop, or pass the weights on as they are.
    without_revisions: str = "stop"
    reward: PreferenceConfig = field(default_factory=lambda: PreferenceConfig(lora=_all_weights()))
    ppo: RLConfig = field(default_factory=lambda: RLConfig(algorithm="ppo", lora=_all_weights()))
    reward_model_weight: float = 0.5  # of the reward model's score beside ppo.reward.sources
    evaluation: EvaluateConfig = field(default_factory=EvaluateConfig)
    measure: MeasureConfig = field(default_factory=MeasureConfig)
    talk: TalkConfig = field(default_factory=TalkConfig)
    hardware: str = "2 CPU cores"  # a name in the price table
    prices: str = ""  # a .toml; "": configs/prices.toml

    def __post_init__(self) -> None:
        if not self.name:
            raise ConfigError("name is empty")
        self._check_stages()
        for name, section in (
            ("pretrain.data", self.pretrain.data), ("sft.data", self.sft.data),
            ("constitution.data", self.constitution.data), ("reward.data", self.reward.data),
            ("ppo.data", self.ppo.data),
        ):  # fmt: skip
            if section.epochs:
                raise ConfigError(
                    f"{name}.epochs is {section.epochs:g}, and the steps of a pipeline are planned "
                    "before its data are made; set it to 0 and train.steps instead"
                )
        if self.without_revisions not in WITHOUT_REVISIONS:
            raise ConfigError(
                f"without_revisions is {self.without_revisions!r}"
                f"{nearest(self.without_revisions, WITHOUT_REVISIONS)}; known: "
                f"{', '.join(WITHOUT_REVISIONS)}"
            )
        if self.constitution.preference.train != "none":
            raise ConfigError(
                f"constitution.preference.train is {self.constitution.preference.train!r}; the "
                "pipeline trains its reward model in the stage reward: set it to none"
            )
        if self.reward.stage != "reward":
            raise ConfigError(f"reward.stage is {self.reward.stage!r}; it must be reward")
        if self.ppo.algorithm != "ppo":
            raise ConfigError(f"ppo.algorithm is {self.ppo.algorithm!r}; it must be ppo")
        if not 0 <= self.reward_model_weight < float("inf"):
            raise ConfigError(
                f"reward_model_weight is {self.reward_model_weight}; it must be 0 or more"
            )

    def _check_stages(self) -> None:
        if not self.stages:
            raise ConfigError(f"stages is empty; known: {', '.join(STAGES)}")
        for name in self.stages:
            if name not in STAGES:
                raise ConfigError(
                    f"stages has {name!r}{nearest(name, STAGES)}; known: {', '.join(STAGES)}"
                )

    @property
    def chosen(self) -> tuple[str, ...]:
        """The stages that are run, in their order, each once."""
        return tuple(name for name in STAGES if name in self.stages)

    def rewards(self, folder: str) -> SourcesConfig:
        """What PPO's answers are worth, the reward model in ``folder`` among it."""
        own = self.ppo.reward
        weight = self.reward_model_weight
        more = (f"model={weight:g}",) if weight else ()
        sources = (*own.sources, *more)
        return dataclasses.replace(own, sources=sources, model=folder if more else own.model)
