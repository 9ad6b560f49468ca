"""The config of reasoning about one problem: which model, which strategy, what it may cost."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from experiments.chat_config import TEMPLATES
from lilith.config import ConfigError, nearest

ADVANCED = "advanced"
# The values of lilith.reasoning.trace.ReasoningStrategy, which a config does not import.
STRATEGIES = (
    ADVANCED, "direct", "chain_of_thought", "self_consistency", "best_of_n", "tree_search",
    "program", "debate",
)  # fmt: skip
MOST_SHOTS = 3  # worked examples there are


@dataclass(frozen=True)
class BudgetConfig:
    """What reasoning may cost; of every strategy."""

    tokens: int = 8192  # written by the model
    seconds: float | None = 600.0  # none: no limit


@dataclass(frozen=True)
class ReasonConfig:
    """One problem, reasoned about; see :class:`lilith.reasoning.drafts.Settings`."""

    name: str = "reason"
    stage: str = "reason"
    checkpoint: str = "smollm2-135m-instruct"  # a name, a .gguf, or a folder; see load_checkpoint
    template: str = "model"  # the one that the model's file carries, or chatml: LILITH's own
    prompt: str | None = None  # the problem
    strategy: str = ADVANCED  # or one of STRATEGIES
    max_tokens: int = 512  # of one text
    samples: int = 8  # of self_consistency and best_of_n
    temperature: float = 0.7  # where several texts are drawn
    top_p: float = 1.0
    seed: int = 0
    shots: int = 0  # worked examples before the problem
    answer_kind: str = "auto"  # or number, choice, code, text
    width: int = 2  # of tree_search: paths kept
    branches: int = 3  # of tree_search: steps tried from each
    depth: int = 8  # of tree_search: most steps
    repairs: int = 2  # of program
    agents: int = 3  # of debate
    rounds: int = 2  # of debate
    ask_p_true: bool = True  # ask the model whether its answer is right, for the confidence
    budget: BudgetConfig = field(default_factory=BudgetConfig)
    threshold: float = 0.7  # of advanced: below this confidence it thinks again
    calibrator: str = ""  # a file that a monitor or a calibrator saved
    constitutional: bool = True  # of advanced: hold the answer to the constitution
    constitution: str = ""  # of advanced: a .toml; "": the project's own

    def __post_init__(self) -> None:
        seconds = self.budget.seconds
        for condition, name, remedy in (
            (bool(self.name), "name", "give the run a name"),
            (self.stage == "reason", "stage", "a ReasonConfig has stage 'reason'"),
            (bool(self.checkpoint.strip()), "checkpoint", "name a model, a file or a folder"),
            (self.template in TEMPLATES, "template", f"known: {', '.join(TEMPLATES)}"),
            (self.prompt is None or bool(self.prompt.strip()), "prompt", "give a problem"),
            (self.strategy in STRATEGIES, "strategy", f"known: {', '.join(STRATEGIES)}"),
            (math.isfinite(self.temperature) and self.temperature >= 0, "temperature",
             "it must be 0 (always the likeliest token) or more"),
            (0 < self.top_p <= 1, "top_p", "it must be above 0 and at most 1 (off)"),
            (0 <= self.seed < 2**32, "seed", "it must be between 0 and 4,294,967,295"),
            (0 <= self.shots <= MOST_SHOTS, "shots", f"it must be 0 to {MOST_SHOTS}"),
            (0 <= self.threshold <= 1, "threshold", "it must be 0 to 1"),
            (not self.constitution or self.strategy == ADVANCED, "constitution",
             "only strategy=advanced applies one"),
            (not self.constitution or self.constitutional, "constitution",
             "constitutional=false applies none"),
        ):  # fmt: skip
            if not condition:
                value = getattr(self, name)
                choices = {"strategy": STRATEGIES, "template": TEMPLATES}.get(name, ())
                close = nearest(value, choices) if choices else ""
                raise ConfigError(f"{name} is {value!r}{close}; {remedy}")
        if self.budget.tokens < 1:
            raise ConfigError(f"budget.tokens is {self.budget.tokens}; it must be at least 1")
        if seconds is not None and not seconds > 0:
            raise ConfigError(f"budget.seconds is {seconds:g}; it must be above 0, or none")
