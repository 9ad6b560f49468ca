"""The config of generated conversations: how many, of what, written where."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from lilith.config import ConfigError


@dataclass(frozen=True)
class DomainWeights:
    """How the conversations are shared among domains; only the proportions matter."""

    code: float = 60.0
    quant: float = 20.0
    planning: float = 10.0
    general: float = 10.0

    def __post_init__(self) -> None:
        weights = vars(self)
        for name, weight in weights.items():
            if not math.isfinite(weight) or weight < 0:
                raise ConfigError(f"domains.{name} is {weight:g}; it must be 0 or more")
        if not sum(weights.values()):
            raise ConfigError(
                f"domains.{', domains.'.join(weights)} add to 0; give at least one a weight"
            )


@dataclass(frozen=True)
class InstructionsConfig:
    """Two files of conversations: for training, and held-out words and numbers for evaluation."""

    name: str = "make_instructions"
    stage: str = "make_instructions"
    count: int = 10_000  # training conversations
    held_out_count: int = 500  # for evaluation; 0 writes none
    held_out: bool = False  # write the held-out file only; the training one is drawn, not written
    output: str = ""  # the training file; "": conversations.jsonl in the run's folder
    domains: DomainWeights = field(default_factory=DomainWeights)
    # Weights of kinds within their domain, as quant_frontier=3; 1 unless the generator's table
    # says otherwise, and 0 leaves a kind out. A * stands for any letters: *=0,plan_*=1.
    kinds: tuple[str, ...] = ()
    seed: int = 0
    verify: bool = True  # run every code answer in SHAMSHEL and drop what fails; needs Linux
    overwrite: bool = False  # replace files that hold something else

    def __post_init__(self) -> None:
        for condition, name, remedy in (
            (bool(self.name), "name", "give the run a name"),
            (self.stage == "make_instructions", "stage",
             "an InstructionsConfig has stage 'make_instructions'"),
            (self.count >= 0, "count", "it must be 0 or more"),
            (self.held_out_count >= 0, "held_out_count", "it must be 0 (none) or more"),
            (self.output == "" or self.output.endswith(".jsonl"), "output",
             "name a file that ends in .jsonl"),
            (0 <= self.seed < 2**32, "seed", "it must be between 0 and 4,294,967,295"),
        ):  # fmt: skip
            if not condition:
                raise ConfigError(f"{name} is {getattr(self, name)!r}; {remedy}")
        self.kind_weights()

    def kind_weights(self) -> dict[str, float]:
        """``kinds`` as numbers by name.

        Raises:
          ConfigError: an entry is not of the form name=number.
        """
        weights = {}
        for entry in self.kinds:
            name, equals, text = entry.partition("=")
            try:
                weights[name.strip()] = float(text)
            except ValueError:
                equals = ""
            if not equals or not 0 <= weights[name.strip()] < math.inf:
                raise ConfigError(
                    f"kinds has {entry!r}; write KIND=WEIGHT with a weight of 0 or more, such as "
                    "quant_frontier=3"
                )
        return weights
