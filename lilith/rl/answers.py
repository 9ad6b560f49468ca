"""Rollouts as the arrays that a policy learns from, and as conversations that are judged."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np

from lilith.data.prompts import ChatPrompt
from lilith.rl.rewards import Finished
from lilith.rl.rollouts import Rollout
from lilith.tokenizer import Tokenizer

WIDTH_STEP = 128  # rows are padded to a multiple of it, so that few shapes are compiled


def finished(rollout: Rollout, prompt: ChatPrompt, tokenizer: Tokenizer) -> Finished:
    """The conversation as reward sources see it: what the policy wrote is the assistant's."""
    messages = list(prompt.messages)
    start, answer = rollout.prompt_tokens, ""
    pairs = zip(rollout.ids[start:], rollout.learnt[start:])
    for own, run in itertools.groupby(pairs, key=lambda pair: pair[1]):
        text = tokenizer.decode([index for index, _ in run], skip_special=True)
        messages.append({"role": "assistant" if own else "tool", "content": text})
        answer = text if own else answer
    return Finished(messages, answer, rollout.ids, rollout.ended, prompt.check)


def answer_rows(
    rollouts: Sequence[Rollout], count: int, longest: int
) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Rows for the learner, one a rollout and empty ones up to ``count``.

    Args:
      longest: tokens that no conversation passes; rows are no longer than it needs.

    Returns:
      The arrays of :class:`lilith.train.state.Batch`, each [count, T], and the sampler's
      log-probabilities of the targets, float32 [count, T], 0 where the policy did not write.
    """
    most = max((len(rollout.ids) for rollout in rollouts), default=1) - 1
    width = max(1, min(-(-most // WIDTH_STEP) * WIDTH_STEP, longest))
    names = ("tokens", "targets", "segment_ids", "positions")
    rows = {name: np.zeros((count, width), np.int32) for name in names}
    rows["loss_mask"] = np.zeros((count, width), np.float32)
    sampled = np.zeros((count, width), np.float32)
    for number, rollout in enumerate(rollouts):
        size = len(rollout.ids) - 1
        rows["tokens"][number, :size] = rollout.ids[:-1]
        rows["targets"][number, :size] = rollout.ids[1:]
        rows["segment_ids"][number, :size] = 1
        rows["positions"][number, :size] = np.arange(size)
        rows["loss_mask"][number, :size] = rollout.learnt[1:]
        sampled[number, :size] = rollout.log_probs[1:]
    return rows, sampled
