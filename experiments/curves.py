"""The curves of a report: what is drawn where a run's metrics hold it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

Curve = tuple[str, str, str, bool]  # key of the record, title, unit, whether it begins at zero

CURVES: tuple[Curve, ...] = (
    ("harmlessness", "Harmlessness", "share of harmful prompts, by iteration", True),
    ("helpfulness", "Helpfulness", "share of harmless prompts, by iteration", True),
    ("learning_rate", "Learning rate", "by step", True),
    ("tokens_per_second", "Throughput", "tokens per second", True),
    ("gradient_norm", "Gradient norm", "before clipping", True),
    ("accuracy", "Preference accuracy", "share of the batch's pairs", True),
    ("validation_accuracy", "Preference accuracy, held out", "share of pairs", True),
    ("reward_margin", "Reward margin", "chosen less rejected", True),
    ("margin", "Implicit reward margin", "chosen less rejected", True),
    ("chosen_log_prob", "Log-probability of the chosen answers", "nats an answer", False),
    ("reward", "Reward", "mean of an iteration's answers", False),
    ("validation_reward", "Reward, held out", "mean of the likeliest answers", False),
    ("kl", "KL to the reference", "nats an answer", True),
    ("entropy", "Entropy", "nats a token", True),
    ("answer_tokens", "Length", "tokens an answer", True),
    ("share_ended", "Ended", "share of answers", True),
    ("clip_fraction", "Clipped", "share of tokens", True),
    ("approximate_kl", "Distance from the policy that answered", "nats a token", True),
    ("explained_variance", "Explained variance", "of the returns, by the critic", False),
    ("value_loss", "Value loss", "half a squared reward", True),
    ("groups_learnt", "Prompts learnt from", "an iteration", True),
)
_REWARD = "reward_"


def reward_sources(metrics: Sequence[Mapping[str, Any]]) -> list[Curve]:
    """A curve for each reward source that the records name, where there is more than one."""
    if not any("answer_tokens" in record for record in metrics):
        return []
    found = {key for record in metrics for key in record if key.startswith(_REWARD)}
    if len(found) < 2:
        return []
    return [
        (key, f"Reward: {key.removeprefix(_REWARD).replace('_', ' ')}", "mean, unweighted", False)
        for key in sorted(found)
    ]
