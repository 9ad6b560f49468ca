"""The config of a stage that starts from a model: which one, what it is shown, what is trained."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from lilith.config import (
    REMAT_POLICIES,
    CheckpointConfig,
    ConfigError,
    MeshConfig,
    ModelConfig,
    OptimizerConfig,
    TrainConfig,
    nearest,
    profiled_steps,
)
from lilith.train.lora_config import LoraConfig

CHOICES = {
    "template": ("model", "chatml"),
    "too_long": ("drop", "truncate"),
    "on_error": ("stop", "skip"),
}


@dataclass(frozen=True)
class RecordsConfig:
    """Files of conversations, and how they become rows. See docs/tuning.md."""

    files: tuple[str, ...] = ()  # files, folders or patterns
    shape: str = "auto"  # of the records: messages, alpaca, dolly, ...; auto looks at each file
    length: int = 512  # tokens a row
    template: str = "model"  # the one that the model carries, or chatml: LILITH's own
    on_error: str = "stop"  # a record that is not well formed; or skip and count it
    limit: int = 0  # conversations read at most; 0: all
    validation_fraction: float = 0.05  # of conversations, by content hash
    evaluation_files: tuple[str, ...] = ()  # what overlaps with these is dropped
    overlap: int = 13  # words in a row that count as an overlap
    epochs: float = 0.0  # passes over all rows, which then set train.steps; 0: train.steps counts
    workers: int = 0  # reading processes beside the training one

    def __post_init__(self) -> None:
        self._check_choices(("template", "on_error"))
        self._check_least(length=2, overlap=1, limit=0, workers=0)
        if not 0 <= self.epochs < float("inf"):
            raise ConfigError(f"data.epochs is {self.epochs}; it must be 0 or more")
        if not 0.0 < self.validation_fraction < 1.0:
            raise ConfigError(
                f"data.validation_fraction is {self.validation_fraction}; it must be between 0 "
                "and 1"
            )

    def _check_choices(self, names: Iterable[str]) -> None:
        for name in names:
            value, choices = getattr(self, name), CHOICES[name]
            if value not in choices:
                raise ConfigError(
                    f"data.{name} is {value!r}{nearest(value, choices)}; known: "
                    f"{', '.join(choices)}"
                )

    def _check_least(self, **least: int) -> None:
        for name, value in least.items():
            if getattr(self, name) < value:
                raise ConfigError(
                    f"data.{name} is {getattr(self, name)}; it must be at least {value}"
                )


@dataclass(frozen=True)
class ChatDataConfig(RecordsConfig):
    """Conversations whose answers are learnt."""

    too_long: str = "drop"  # a conversation longer than a row; or truncate it at a turn
    chain_of_thought: bool = True  # learn the reasoning too, where records have some
    watched_files: tuple[str, ...] = ()  # never trained on; their loss shows what is forgotten
    watched_limit: int = 200  # conversations read of each of them

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check_choices(("too_long",))
        self._check_least(watched_limit=1)


@dataclass(frozen=True)
class FromModelConfig:
    """What every stage that starts from a model depends on; each adds its own."""

    name: str = "unnamed"
    stage: str = ""  # picks the runner in experiments/
    seed: int = 0
    base: str = "smollm2-135m-instruct"  # a name, a .gguf, or a folder; see load_checkpoint
    adapters: tuple[str, ...] = ()  # folders of adapters that are merged into the base first
    model: ModelConfig = field(default_factory=ModelConfig)  # the base's, once it is loaded
    add_bos: bool = True  # likewise
    stop_ids: tuple[int, ...] = ()  # likewise
    compute_dtype: str = "auto"  # auto: float32 on a CPU, bfloat16 elsewhere
    remat: str = "dots"  # what a layer keeps for its backward pass: none, dots, attention, full
    data: RecordsConfig = field(default_factory=RecordsConfig)
    lora: LoraConfig = field(default_factory=LoraConfig)
    mesh: MeshConfig = field(default_factory=MeshConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    checkpoint: CheckpointConfig = field(default_factory=CheckpointConfig)

    def __post_init__(self) -> None:
        if not self.name:
            raise ConfigError("name is empty")
        if not self.base.strip():
            raise ConfigError("base is empty; name the model to start from")
        if self.compute_dtype not in ("auto", "float32", "bfloat16"):
            raise ConfigError(
                f"compute_dtype is {self.compute_dtype!r}; known: auto, float32, bfloat16"
            )
        if self.remat not in REMAT_POLICIES:
            raise ConfigError(
                f"remat is {self.remat!r}{nearest(self.remat, REMAT_POLICIES)}; known: "
                f"{', '.join(REMAT_POLICIES)}"
            )


@dataclass(frozen=True)
class LoopConfig(FromModelConfig):
    """What a stage adds that trains from a model by :mod:`experiments.loop`."""

    profile: str = ""  # FIRST:LAST, the steps that are traced; "": none

    def __post_init__(self) -> None:
        super().__post_init__()
        profiled_steps(self.profile)


@dataclass(frozen=True)
class TuningConfig(LoopConfig):
    """Everything an instruction-tuning run depends on."""

    stage: str = "sft"
    data: ChatDataConfig = field(default_factory=ChatDataConfig)
    neftune: float = 0.0  # noise on the embeddings in training; 5 is usual, 0 is off

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.neftune < float("inf"):
            raise ConfigError(f"neftune is {self.neftune}; it must be 0 (off) or more")
