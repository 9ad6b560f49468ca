"""Warnings of a policy that games its reward, and none where it learns honestly."""

from __future__ import annotations

import json

import pytest

from lilith.config import ConfigError
from lilith.rl.collapse import CollapseBounds, CollapseDetector

HONEST = {"length": 50.0, "entropy": 0.5, "kl": 3.0}


def watch(detector: CollapseDetector, count: int = 12, rising: bool = True, **changed) -> list[str]:
    """Figures that are honest in the first half and then as ``changed`` says."""
    warnings = []
    for i in range(count):
        figures = HONEST | (changed if i >= count // 2 else {})
        warnings += detector.look(0.1 * i if rising else 0.5, **figures)
    return warnings


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"length": 200.0}, "answers grew from 50 to 200 tokens"),
        ({"length": 5.0}, "answers shrank from 50 to 5 tokens"),
        ({"entropy": 0.001}, "entropy fell to 0.001 nats a token"),
        ({"kl": 90.0}, "KL to the reference is 90 nats an answer"),
    ],
)
def test_each_bound_warns_while_the_reward_rises(changed, words) -> None:
    detector = CollapseDetector(CollapseBounds(window=3))
    found = watch(detector, **changed)
    assert any(words in warning for warning in found), found
    assert all("the reward rose by" in warning and "read the samples" in warning
               for warning in found)  # fmt: skip
    assert not watch(CollapseDetector(CollapseBounds(window=3)), rising=False, **changed)


def test_an_honest_run_is_left_alone() -> None:
    assert not watch(CollapseDetector(CollapseBounds(window=3)), 40)
    assert not watch(CollapseDetector(CollapseBounds(window=10)), 12, kl=1e3)  # too early to say


def test_a_resumed_run_warns_as_one_that_was_not_stopped() -> None:
    whole, cut = (CollapseDetector(CollapseBounds(window=3)) for _ in range(2))
    for i in range(12):
        figures = {"reward": 0.1 * i, "length": 50.0 * (1 + i), "entropy": 0.5, "kl": 1.0}
        wanted = whole.look(**figures)
        assert cut.look(**figures) == wanted
        resumed = CollapseDetector(CollapseBounds(window=3))
        resumed.restore(json.loads(json.dumps(cut.state())))
        cut = resumed
    assert wanted


@pytest.mark.parametrize(
    "bad",
    [{"window": 0}, {"length_ratio": 1.0}, {"least_entropy": -1.0}, {"most_kl": float("nan")}],
)
def test_bounds_that_make_no_sense(bad) -> None:
    with pytest.raises(ConfigError, match=f"collapse.{next(iter(bad))} is"):
        CollapseBounds(**bad)
