"""What is done to rewards before they are learnt from, and which groups are learnt from at all."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from lilith.rl.rollouts import Rollout


def missing_end_penalty(rollouts: Sequence[Rollout], penalty: float) -> np.ndarray:
    """Float32 [n]: -penalty for each answer that did not end by itself, 0 for the others."""
    return np.array([0.0 if own.ended else -penalty for own in rollouts], np.float32)


def overlong_penalty(rollouts: Sequence[Rollout], most: int, buffer: int) -> np.ndarray:
    """DAPO's soft punishment (Yu et al. 2025, section 3.4): 0 up to ``most - buffer`` tokens, then
    falling to -1 at ``most``; float32 [n].

    Args:
      most: tokens that an answer may have; buffer: over how many of them the penalty grows.
    """
    lengths = np.array([len(own.ids) - own.prompt_tokens for own in rollouts], np.float32)
    over = np.minimum(lengths - (most - buffer), buffer)
    return np.where(over > 0, -over / buffer, 0.0).astype(np.float32)


def varied_groups(rewards: np.ndarray, group: int) -> list[int]:
    """Numbers of the groups whose rewards are not all equal: only they teach anything.

    Args:
      rewards: float32 [n], n a multiple of ``group``; the answers to a prompt are neighbours.
    """
    grouped = rewards.reshape(-1, group)
    return np.flatnonzero(np.ptp(grouped, axis=1) > 0).tolist()
