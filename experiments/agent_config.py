"""The config of an agent at a terminal: which model and role, what a turn may cost."""

from __future__ import annotations

import math
from dataclasses import dataclass

from lilith.agent.roles import SYSTEM_PROMPTS
from lilith.config import ConfigError, nearest


@dataclass(frozen=True)
class AgentConfig:
    """An agent; see :class:`lilith.agent.agent.LILITHAgent`."""

    name: str = "agent"
    stage: str = "agent"
    model: str = "smollm2-135m-instruct"  # a name, a .gguf, or a folder; see load_checkpoint
    adapters: tuple[str, ...] = ()  # folders of adapters that are merged into the model, in order
    prompt: str | None = None  # answer this once and exit
    json: bool = False  # print each turn as a line of JSON, and nothing else
    role: str = "quant_dev"
    tools: tuple[str, ...] = ()  # that are granted, of create_quant_tools; none: all of them
    history: str = ""  # a file that /save wrote, to go on with
    temperature: float | None = None  # none: by the kind of work that a message asks for
    top_p: float = 0.95
    max_tokens: int = 2048  # of one turn, all its messages together
    message_tokens: int = 1024  # of one message
    steps: int = 8  # messages of the model in one turn
    seconds: float = 300.0  # after which a turn writes and calls nothing more
    # Of one tool. More than the library's 30: the first call of a JAX tool compiles it.
    tool_seconds: float = 120.0
    seed: int = 0
    reasoner: bool = False  # hard questions to the advanced reasoner, answers to the constitution
    grammar: bool = True  # hold calls to the tools' declarations while they are written

    def __post_init__(self) -> None:
        temperature = self.temperature
        for condition, field, remedy in (
            (bool(self.name), "name", "give the agent a name"),
            (self.stage == "agent", "stage", "an AgentConfig has stage 'agent'"),
            (bool(self.model.strip()), "model", "name a model, a file or a folder"),
            (all(one.strip() for one in self.adapters), "adapters", "name the folders"),
            (self.prompt is None or bool(self.prompt.strip()), "prompt", "ask something"),
            (self.role in SYSTEM_PROMPTS, "role", f"known: {', '.join(SYSTEM_PROMPTS)}"),
            (temperature is None or 0 <= temperature <= 2, "temperature",
             "it must be from 0 (always the likeliest token) to 2, or none: by the kind of work"),
            (0 < self.top_p <= 1, "top_p", "it must be above 0 and at most 1 (off)"),
            (self.max_tokens > 0, "max_tokens", "it must be positive"),
            (self.message_tokens > 0, "message_tokens", "it must be positive"),
            (self.steps > 0, "steps", "it must be positive"),
            (self.seconds > 0, "seconds", "it must be more than 0"),
            (0 < self.tool_seconds < math.inf, "tool_seconds", "it must be a time above 0"),
            (0 <= self.seed < 2**32, "seed", "it must be between 0 and 4,294,967,295"),
        ):  # fmt: skip
            if not condition:
                value = getattr(self, field)
                close = nearest(value, SYSTEM_PROMPTS) if field == "role" else ""
                raise ConfigError(f"{field} is {value!r}{close}; {remedy}")
