"""The config of an ahead-of-time compilation: which step, of which model, for which pod."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from lilith.config import (
    ConfigError,
    MeshConfig,
    ModelConfig,
    OptimizerConfig,
    nearest,
)
from lilith.train.lora_config import LoraConfig

STEPS = ("train", "prefill", "decode")


@dataclass(frozen=True)
class CompilePodConfig:
    """One step of one model on one topology. Nothing runs and nothing is allocated."""

    name: str = "compile_pod"
    stage: str = "compile_pod"
    model: ModelConfig = field(default_factory=ModelConfig)
    topology: str = "v5e:4x4"  # a chip and a shape
    slices: int = 1  # of that shape, connected by the data centre's network
    step: str = "train"  # train, prefill, decode
    mesh: MeshConfig = field(default_factory=MeshConfig)
    batch: float = 1.0  # rows a device; the whole batch, batch times devices, must be whole rows
    length: int = 0  # tokens a row: trained on, or held while generating; 0: model.context
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    lora: LoraConfig = field(default_factory=LoraConfig)  # with a rank: train an adapter alone
    accumulation: int = 1  # micro-batches a step
    z_loss: float = 1e-4
    loss_chunk: int = 2048
    check: bool = True  # a large weight that is not split, or too little memory, is an error
    overlap: bool = False  # train with the compiler options of lilith/pods/overlap_flags.py
    xla: tuple[str, ...] = ()  # further options of the TPU compiler, "name=value"
    search: bool = False  # try meshes, remat policies, batches and attention blocks; train only
    search_limit: int = 40  # compilations, those of an earlier run in the same folder included

    def __post_init__(self) -> None:
        if self.step not in STEPS:
            raise ConfigError(
                f"step is {self.step!r}{nearest(self.step, STEPS)}; known: {', '.join(STEPS)}"
            )
        if not (math.isfinite(self.batch) and self.batch > 0):
            raise ConfigError(f"batch is {self.batch}; it must be a positive number of rows")
        for name in ("slices", "accumulation", "loss_chunk", "search_limit"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} is {getattr(self, name)}; it must be at least 1")
        if self.search and self.step != "train":
            raise ConfigError(
                f"search=true looks for the fastest training step, and step is {self.step!r}; "
                "leave one of them out"
            )
        if self.lora.rank and self.step != "train":
            raise ConfigError(
                f"lora.rank is {self.lora.rank} and step is {self.step!r}; an adapter is merged "
                "before generation: leave lora.rank out"
            )
        if not 0 <= self.length <= self.model.context:
            raise ConfigError(
                f"length is {self.length}; it must be at most model.context "
                f"({self.model.context}), or 0 for all of it"
            )
        for option in self.xla:
            if not all(option.partition("=")):
                raise ConfigError(f"xla option {option!r} is not of the form name=value")

    @property
    def row_length(self) -> int:
        """Tokens a row."""
        return self.length or self.model.context
