"""Signs that a policy games its reward: the reward rises while something else leaves its bounds."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass

from lilith.config import ConfigError


@dataclass(frozen=True)
class CollapseBounds:
    """Where length, entropy and KL may be while the reward rises.

    Attributes:
      window: iterations that are compared with as many before them.
      length_ratio: the mean answer may not become this many times longer, nor shorter.
      least_entropy: nats a token.
      most_kl: nats an answer between policy and reference.
      rise: the reward counts as risen where its mean is higher by this much.
    """

    window: int = 5
    length_ratio: float = 2.0
    least_entropy: float = 0.02
    most_kl: float = 50.0
    rise: float = 0.0

    def __post_init__(self) -> None:
        if self.window < 1:
            raise ConfigError(f"collapse.window is {self.window}; it must be at least 1")
        if not self.length_ratio > 1:
            raise ConfigError(
                f"collapse.length_ratio is {self.length_ratio}; it must be above 1, such as 2"
            )
        for name in ("least_entropy", "most_kl", "rise"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value >= 0):
                raise ConfigError(f"collapse.{name} is {value}; it must be 0 or more")


class CollapseDetector:
    """Watches the figures of iterations and says in words what looks like collapse.

    ``state`` and ``restore`` carry it over a stop, so that a resumed run warns alike.
    """

    def __init__(self, bounds: CollapseBounds) -> None:
        self.bounds = bounds
        self._seen: deque[dict[str, float]] = deque(maxlen=2 * bounds.window)
        self._begun_length: float | None = None

    def look(self, reward: float, length: float, entropy: float, kl: float) -> list[str]:
        """Take an iteration's means; warnings, mostly none.

        Args:
          length: tokens an answer; entropy: nats a token; kl: nats an answer.
        """
        self._seen.append({"reward": reward, "length": length, "entropy": entropy, "kl": kl})
        bounds, window = self.bounds, self.bounds.window
        if len(self._seen) >= window and self._begun_length is None:
            self._begun_length = self._mean("length", slice(0, window))
        if len(self._seen) < 2 * window:
            return []
        before, now = slice(0, window), slice(window, None)
        rise = self._mean("reward", now) - self._mean("reward", before)
        if rise <= bounds.rise:
            return []
        signs = self._signs(now)
        return [
            f"the reward rose by {rise:.3g} over the last {window} iterations while {sign}; read "
            "the samples: the policy may be gaming its reward"
            for sign in signs
        ]

    def _signs(self, now: slice) -> list[str]:
        bounds, begun = self.bounds, self._begun_length or 1.0
        length, entropy, kl = (self._mean(name, now) for name in ("length", "entropy", "kl"))
        signs = []
        if length > begun * bounds.length_ratio:
            signs.append(f"answers grew from {begun:.0f} to {length:.0f} tokens")
        if length < begun / bounds.length_ratio:
            signs.append(f"answers shrank from {begun:.0f} to {length:.0f} tokens")
        if entropy < bounds.least_entropy:
            signs.append(
                f"the entropy fell to {entropy:.3g} nats a token (bound {bounds.least_entropy:g})"
            )
        if kl > bounds.most_kl:
            signs.append(
                f"the KL to the reference is {kl:.3g} nats an answer (bound {bounds.most_kl:g})"
            )
        return signs

    def _mean(self, name: str, part: slice) -> float:
        values = [seen[name] for seen in list(self._seen)[part]]
        return sum(values) / len(values)

    def state(self) -> dict[str, object]:
        """What it has seen, as JSON values."""
        return {"seen": list(self._seen), "begun_length": self._begun_length}

    def restore(self, state: Mapping[str, object]) -> None:
        """Go on from a saved state."""
        seen, begun = state["seen"], state["begun_length"]
        assert isinstance(seen, list)
        self._seen = deque(seen, maxlen=2 * self.bounds.window)
        self._begun_length = begun if isinstance(begun, float) else None
