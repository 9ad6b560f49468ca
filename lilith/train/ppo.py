"""Proximal policy optimisation (Schulman et al. 2017) of a language model, token by token."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import flax.struct
import jax
import jax.numpy as jnp

from lilith.config import ModelConfig
from lilith.model.params import Params
from lilith.sharding import DEFAULT_RULES, ShardingRules, constrain
from lilith.train.advantages import kl_estimate, require_float32
from lilith.train.log_probs import TokenLogProbs, hidden_states, token_log_probs
from lilith.train.lora import trained_weights
from lilith.train.lora_config import LoraConfig
from lilith.train.preferences import LossSums, loss_sums
from lilith.train.reward import head_scores
from lilith.train.state import Batch


@flax.struct.dataclass
class RolloutBatch:
    """Conversations that the policy has had, with what was known when it had them; all [B, T].

    Attributes:
      rows: the tokens; ``loss_mask`` is 1 at the targets that the policy drew itself.
      old_log_probs_BT: float32 log-probability of each target under the policy that drew it.
      advantages_BT: float32, whitened or not.
      returns_BT: float32, what the critic learns; None where there is no critic.
      old_values_BT: float32, the critic's values at the time; None where there is no critic.
      reference_BT: float32 log-probabilities under the reference; None where the loss needs none.
    """

    rows: Batch
    old_log_probs_BT: jax.Array
    advantages_BT: jax.Array
    returns_BT: jax.Array | None = None
    old_values_BT: jax.Array | None = None
    reference_BT: jax.Array | None = None


class PolicyTerm(NamedTuple):
    """Of each token: the loss [B, T], and what is reported of it."""

    loss_BT: jax.Array
    figures: dict[str, jax.Array]


def clipped_policy_loss(
    log_probs: jax.Array,
    old_log_probs: jax.Array,
    advantages: jax.Array,
    clip_low: float,
    clip_high: float,
) -> jax.Array:
    """-min(ratio A, clip(ratio, 1 - clip_low, 1 + clip_high) A), elementwise (equation 7).

    ``clip_high`` above ``clip_low`` is the asymmetric clip of DAPO (Yu et al. 2025, section 3.1).

    Raises:
      TypeError: advantages that are not float32.
    """
    require_float32(advantages=advantages)
    ratio = jnp.exp(log_probs - old_log_probs)
    clipped = jnp.clip(ratio, 1.0 - clip_low, 1.0 + clip_high)
    return -jnp.minimum(ratio * advantages, clipped * advantages)


def clipped_value_loss(
    values: jax.Array, old_values: jax.Array, returns: jax.Array, clip: float
) -> jax.Array:
    """Half the larger squared error, of the value and of the value held near its old one.

    Raises:
      TypeError: returns that are not float32.
    """
    require_float32(returns=returns)
    near = old_values + jnp.clip(values - old_values, -clip, clip)
    return 0.5 * jnp.maximum(jnp.square(values - returns), jnp.square(near - returns))


def token_rewards(
    score_B: jax.Array,
    log_probs_BT: jax.Array,
    reference_BT: jax.Array,
    mask_BT: jax.Array,
    *,
    kl_coefficient: float | jax.Array,
    rules: ShardingRules = DEFAULT_RULES,
) -> jax.Array:
    """Float32 rewards [B, T]: -kl_coefficient (log pi - log ref) a token, the score at the last.

    Ziegler et al. 2019, equation 2. Tokens outside the mask get 0; so does a row without any token,
    whose score has nowhere to go.

    Raises:
      TypeError: scores or log-probabilities that are not float32.
    """
    require_float32(scores=score_B, log_probs=log_probs_BT, reference_log_probs=reference_BT)
    own_BT = constrain(jnp.asarray(mask_BT) > 0, rules, "batch", None)
    penalty_BT = kl_coefficient * kl_estimate(log_probs_BT - reference_BT, "k1")
    penalty_BT = constrain(penalty_BT, rules, "batch", None)
    seen_BT = jnp.cumsum(own_BT, axis=1)
    last_BT = own_BT & (seen_BT == seen_BT[:, -1:])
    score_B1 = constrain(jnp.asarray(score_B), rules, "batch")[:, None]
    rewards_BT = jnp.where(own_BT, -penalty_BT, 0.0) + jnp.where(last_BT, score_B1, 0.0)
    return constrain(rewards_BT, rules, "batch", "length")


def adaptive_kl(coefficient: float, observed: float, target: float, *, gain: float = 0.1) -> float:
    """The KL coefficient after a batch whose KL to the reference was ``observed``.

    It grows by ``gain`` times the relative error, held within +-0.2 (Ziegler et al. 2019, section
    2.2, where the gain is 0.1).

    Raises:
      ValueError: a target that is not positive, or an observed KL that is NaN.
    """
    if not target > 0:
        raise ValueError(f"the target KL is {target}; it must be positive")
    observed = float(observed)
    if math.isnan(observed):
        raise ValueError("the observed KL is NaN, which no coefficient can follow")
    error = min(max(observed / target - 1.0, -0.2), 0.2)
    return coefficient * (1.0 + gain * error)


def policy_term(
    found: TokenLogProbs,
    batch: RolloutBatch,
    *,
    clip_low: float,
    clip_high: float,
    rules: ShardingRules = DEFAULT_RULES,
) -> PolicyTerm:
    """The clipped loss of each token; at those that the policy did not draw it means nothing.

    The figures are ``clip_fraction`` (where the clip holds the gradient back), ``approximate_kl``
    (k3 of the old policy against this one), ``entropy``, ``ratio`` and ``policy_loss``.
    """
    require_float32(advantages=batch.advantages_BT, old_log_probs=batch.old_log_probs_BT)
    mask_BT, old_BT, advantages_BT = (
        constrain(x, rules, "batch", "length")
        for x in (batch.rows.loss_mask, batch.old_log_probs_BT, batch.advantages_BT)
    )
    # Elsewhere the old log-probability may be anything, and its ratio could overflow.
    old_BT = jnp.where(mask_BT > 0, old_BT, found.log_probs_BT)
    loss_BT = clipped_policy_loss(found.log_probs_BT, old_BT, advantages_BT, clip_low, clip_high)
    log_ratio_BT = found.log_probs_BT - old_BT
    ratio_BT = jnp.exp(log_ratio_BT)
    return PolicyTerm(
        loss_BT,
        {
            "clip_fraction": (loss_BT > -ratio_BT * advantages_BT).astype(jnp.float32),
            "approximate_kl": kl_estimate(-log_ratio_BT, "k3"),
            "entropy": found.entropy_BT,
            "ratio": ratio_BT,
            "policy_loss": loss_BT,
        },
    )


def critic_values(
    critic: Params,
    rows: Batch,
    *,
    config: ModelConfig,
    lora: LoraConfig = LoraConfig(),  # noqa: B008 (frozen)
    frozen: Params | None = None,
    key: jax.Array | None = None,
    rules: ShardingRules = DEFAULT_RULES,
) -> jax.Array:
    """Float32 values [B, T]: the critic's head at each input, before its target is drawn.

    Args:
      critic: ``{"model", "head"}`` as a reward model's; with ``lora.rank``, the model is the
        adapter of ``frozen``.
      key: draws dropout; None for none.
    """
    weights = trained_weights(critic["model"], lora, frozen=frozen, key=key)
    hidden_BTD = hidden_states(weights, rows, config=config, rules=rules)
    return head_scores(critic["head"], hidden_BTD, rules)


def value_term(
    values_BT: jax.Array,
    batch: RolloutBatch,
    *,
    value_clip: float,
    rules: ShardingRules = DEFAULT_RULES,
) -> jax.Array:
    """The clipped loss of the critic's values, [B, T]; off the policy's tokens it means nothing.

    Raises:
      ValueError: a batch without returns or old values.
    """
    if batch.returns_BT is None or batch.old_values_BT is None:
        raise ValueError(
            "PPO needs returns_BT and old_values_BT in its batch; the critic gives them"
        )
    old_BT = constrain(batch.old_values_BT, rules, "batch", "length")
    returns_BT = constrain(batch.returns_BT, rules, "batch", "length")
    return clipped_value_loss(values_BT, old_BT, returns_BT, value_clip)


def ppo_loss(
    params: Params,
    batch: RolloutBatch,
    *,
    config: ModelConfig,
    critic_config: ModelConfig | None = None,
    lora: LoraConfig = LoraConfig(),  # noqa: B008 (frozen)
    critic_lora: LoraConfig | None = None,
    frozen: Params | None = None,
    key: jax.Array | None = None,
    clip_low: float = 0.2,
    clip_high: float = 0.2,
    value_clip: float = 0.2,
    value_coefficient: float = 0.5,
    entropy_coefficient: float = 0.0,
    temperature: float = 1.0,
    chunk: int = 1024,
    rules: ShardingRules = DEFAULT_RULES,
) -> LossSums:
    """Sums over the policy's tokens of policy loss + value loss - entropy, with their coefficients.

    Args:
      params: ``{"policy": all weights or the adapter, "critic": {"model", "head"}}``.
      critic_config: the critic's model; None for one like the policy's.
      critic_lora: the critic's adapter; None for one like the policy's.
      frozen: ``{"policy", "critic"}``, the weights below the adapters; one tree may be both.
      key: draws dropout; None for none, which makes the ratio of a first epoch 1.
      value_clip: how far a value may move from its old one.
      temperature: at which the answers were drawn.

    Returns:
      Figures of :func:`policy_term`, and ``value_loss`` (before its coefficient); nll is the whole
      objective.

    Raises:
      ValueError: a batch without returns or old values; an adapter without what is below it.
    """
    below: dict[str, Any] = frozen or {}
    keys = (None, None) if key is None else jax.random.split(key)
    policy = trained_weights(params["policy"], lora, frozen=below.get("policy"), key=keys[0])
    found = token_log_probs(
        policy, batch.rows, config=config, temperature=temperature, chunk=chunk, rules=rules
    )
    values_BT = critic_values(
        params["critic"],
        batch.rows,
        config=config if critic_config is None else critic_config,
        lora=lora if critic_lora is None else critic_lora,
        frozen=below.get("critic"),
        key=keys[1],
        rules=rules,
    )
    term = policy_term(found, batch, clip_low=clip_low, clip_high=clip_high, rules=rules)
    value_BT = value_term(values_BT, batch, value_clip=value_clip, rules=rules)
    mask_BT = constrain(batch.rows.loss_mask, rules, "batch", "length")
    objective_BT = (
        term.loss_BT + value_coefficient * value_BT - entropy_coefficient * found.entropy_BT
    )
    figures = term.figures | {"value_loss": value_BT}
    return loss_sums(objective_BT, objective_BT, mask_BT, jnp.sum(mask_BT), figures)
