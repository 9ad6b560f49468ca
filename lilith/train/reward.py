"""Reward models: a scalar head on the last real token, and the loss of their preferences.

The trained tree is ``{"model": all weights or the adapter, "head": {"weight": [D], "bias": []}}``.
"""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp

from lilith.config import ModelConfig
from lilith.model.params import Params, ParamSpec, init_from_specs
from lilith.model.transformer import forward
from lilith.sharding import DEFAULT_RULES, ShardingRules, activation_spec, constrain
from lilith.train.lora import trained_weights
from lilith.train.lora_config import LoraConfig
from lilith.train.preferences import LossSums, PairBatch, lay_out_pairs, loss_sums, won


def head_specs(config: ModelConfig) -> Params:
    """The specs of a scalar head; the weight starts with deviation 1/sqrt(d_model + 1).

    Stiennon et al. 2020, "Learning to summarize from human feedback".
    """
    deviation = 1.0 / math.sqrt(config.d_model + 1)
    return {
        "weight": ParamSpec((config.d_model,), (None,), scale=deviation),
        "bias": ParamSpec((), (), init="zeros"),
    }


def init_head(seed: int, config: ModelConfig) -> Params:
    """A head to start from, float32."""
    return init_from_specs(seed, head_specs(config), jnp.float32)


def head_scores(
    head: Params, hidden_BTD: jax.Array, rules: ShardingRules = DEFAULT_RULES
) -> jax.Array:
    """The head's value at every token, float32 [B, T]."""
    hidden_BTD = constrain(hidden_BTD.astype(jnp.float32), rules, "batch", "length", None)
    scores_BT = jnp.einsum(
        "BTD,D->BT",
        hidden_BTD,
        head["weight"].astype(jnp.float32),
        precision=jax.lax.Precision.HIGHEST,
        out_sharding=activation_spec(rules, "batch", "length"),
    )
    return scores_BT + head["bias"].astype(jnp.float32)


def reward_scores(
    params: Params,
    tokens_BT: jax.Array,
    length_B: jax.Array,
    *,
    config: ModelConfig,
    lora: LoraConfig = LoraConfig(),  # noqa: B008 (frozen)
    frozen: Params | None = None,
    key: jax.Array | None = None,
    rules: ShardingRules = DEFAULT_RULES,
) -> jax.Array:
    """Rewards of whole conversations, float32 [B]: the head's value at the last real token.

    Args:
      params: ``{"model", "head"}``; with ``lora.rank``, the model is the adapter of ``frozen``.
      tokens_BT: int32 ids, padded on the right with anything.
      length_B: int32 real tokens of each row; 0 gives the reward 0.
      key: draws dropout; None for none, as in evaluation.
    """
    weights = trained_weights(params["model"], lora, frozen=frozen, key=key)
    tokens_BT = _divisible(constrain(tokens_BT, rules, "batch", None), rules)
    length_B1 = constrain(length_B, rules, "batch")[:, None]
    place_1T = jnp.arange(tokens_BT.shape[1], dtype=jnp.int32)[None]
    real_BT = (place_1T < length_B1).astype(jnp.int32)
    hidden_BTD, _ = forward(weights, tokens_BT, config, segments_BT=real_BT, rules=rules)
    scores_BT = constrain(head_scores(params["head"], hidden_BTD, rules), rules, "batch", None)
    return jnp.sum(jnp.where(place_1T == length_B1 - 1, scores_BT, 0.0), axis=1)


def _divisible(tokens_BT: jax.Array, rules: ShardingRules) -> jax.Array:
    """Rows padded so that the mesh axes of their length, if there are any, divide it."""
    mesh = jax.sharding.get_abstract_mesh()
    pieces = math.prod(mesh.shape[axis] for axis in rules.length) if not mesh.empty else 1
    return jnp.pad(tokens_BT, ((0, 0), (0, -tokens_BT.shape[1] % pieces)))


def bradley_terry(
    difference_P: jax.Array, label_P: jax.Array, margin_P: jax.Array | float = 0.0
) -> jax.Array:
    """-log of the probability of a preference, in nats, elementwise.

    The first side is better with probability sigmoid(difference - margin) (Bradley, Terry 1952; the
    margin is that of Touvron et al. 2023, Llama 2, section 3.2.2); the result is the cross-entropy
    against ``label_P``. No difference overflows.
    """
    logit_P = difference_P - margin_P
    return label_P * jax.nn.softplus(-logit_P) + (1.0 - label_P) * jax.nn.softplus(logit_P)


def reward_loss(
    params: Params,
    pairs: PairBatch,
    *,
    config: ModelConfig,
    lora: LoraConfig = LoraConfig(),  # noqa: B008 (frozen)
    frozen: Params | None = None,
    key: jax.Array | None = None,
    centring: float = 0.0,
    rules: ShardingRules = DEFAULT_RULES,
) -> LossSums:
    """Sums over pairs of the Bradley-Terry loss, and ``centring`` (chosen + rejected)^2 with it.

    Centring leaves the differences alone and draws the scores to mean 0 (Eisenstein et al. 2023,
    "Helping or herding?"). ``params``, ``lora``, ``frozen`` and ``key`` are those of
    :func:`reward_scores`.

    Returns:
      Figures ``accuracy`` (of the side that the label prefers; a tie counts half),
      ``chosen_reward``, ``rejected_reward`` and ``reward_margin`` (their difference).
    """
    pairs = lay_out_pairs(pairs, rules)
    rewards_PS = reward_scores(
        params,
        pairs.tokens_PST.reshape(-1, pairs.tokens_PST.shape[2]),
        pairs.length_PS.reshape(-1),
        config=config,
        lora=lora,
        frozen=frozen,
        key=key,
        rules=rules,
    ).reshape(-1, 2)
    chosen_P, rejected_P = rewards_PS[:, 0], rewards_PS[:, 1]
    difference_P = chosen_P - rejected_P
    nll_P = bradley_terry(difference_P, pairs.label_P, pairs.margin_P)
    figures = {
        "accuracy": won(difference_P, pairs.label_P),
        "chosen_reward": chosen_P,
        "rejected_reward": rejected_P,
        "reward_margin": difference_P,
    }
    objective_P = nll_P + centring * jnp.square(chosen_P + rejected_P)
    return loss_sums(objective_P, nll_P, pairs.weight_P, jnp.sum(pairs.weight_P), figures)
