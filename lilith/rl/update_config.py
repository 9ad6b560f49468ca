"""How a policy learns from its answers; light, for configs."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from lilith.config import ConfigError, nearest

ALGORITHMS = ("grpo", "rloo", "ppo")


def check_choices(section: str, config: Any, **choices: tuple[str, ...]) -> None:
    """Raise :class:`ConfigError` unless each field named has one of its choices."""
    for name, known in choices.items():
        value = getattr(config, name)
        if value not in known:
            raise ConfigError(
                f"{section}.{name} is {value!r}{nearest(value, known)}; known: {', '.join(known)}"
            )


def check_range(section: str, config: Any, least: float, *names: str, above: bool = False) -> None:
    """Raise :class:`ConfigError` unless each field is finite and at least (or above) ``least``."""
    for name in names:
        value = getattr(config, name)
        if not math.isfinite(value) or value < least or (above and value == least):
            must = f"above {least:g}" if above else f"{least:g} or more"
            raise ConfigError(f"{section}.{name} is {value}; it must be {must}")


@dataclass(frozen=True)
class UpdateConfig:
    """How the policy learns from an iteration's answers; ``train.batch`` is a minibatch's rows."""

    epochs: int = 1  # passes over an iteration's answers
    clip_low: float = 0.2
    clip_high: float = 0.2  # above clip_low: DAPO's asymmetric clip
    kl_coefficient: float = 0.0  # price of leaving the reference
    kl: str = "fixed"  # or adaptive: the coefficient follows target_kl
    target_kl: float = 6.0  # nats an answer, for the adaptive coefficient
    stop_kl: float = 0.0  # nats a token from the collecting policy that end the epochs; 0: none
    entropy: float = 0.0  # coefficient of the entropy bonus
    # GRPO and RLOO. token: all tokens alike (DAPO); sequence: mean of each answer (GRPO);
    # constant: sums over a fixed length (Dr. GRPO).
    normalisation: str = "token"
    scale: bool = True  # divide a group's advantages by their deviation; False is Dr. GRPO
    drop_equal: bool = True  # leave groups out whose rewards are all equal (DAPO)
    resample: int = 0  # how often more prompts are answered in their place
    overlong: str = "keep"  # answers that did not end: keep, mask (not learnt), or penalty (DAPO)
    overlong_tokens: int = 64  # before the limit, over which the penalty grows to 1
    # PPO.
    gamma: float = 1.0
    lam: float = 0.95
    value_clip: float = 0.2
    value_coefficient: float = 0.5
    critic: str = "policy"  # what the critic starts from: the policy, or a reward model's folder

    def __post_init__(self) -> None:
        check_choices(
            "update",
            self,
            kl=("fixed", "adaptive"),
            overlong=("keep", "mask", "penalty"),
            normalisation=("token", "sequence", "constant"),
        )
        check_range("update", self, 1, "epochs", "overlong_tokens")
        check_range("update", self, 0, "clip_low", "clip_high", "target_kl", "value_clip",
                     above=True)  # fmt: skip
        check_range("update", self, 0, "kl_coefficient", "stop_kl", "entropy", "resample",
                     "value_coefficient")  # fmt: skip
        for name in ("gamma", "lam"):
            value = getattr(self, name)
            if not 0 <= value <= 1:
                raise ConfigError(f"update.{name} is {value}; it must be from 0 to 1")
        if not self.critic:
            raise ConfigError("update.critic is empty; name policy, or a reward model's folder")
