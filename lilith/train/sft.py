"""Supervised fine-tuning: next-token prediction on what an assistant says, all weights or LoRA."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from lilith.config import ModelConfig
from lilith.model.params import Params
from lilith.sharding import DEFAULT_RULES, ShardingRules, constrain
from lilith.train.lora import trained_weights
from lilith.train.lora_config import LoraConfig
from lilith.train.losses import CrossEntropy
from lilith.train.pretrain import pretrain_loss
from lilith.train.state import Batch


def sft_loss(
    params: Params,
    batch: Batch,
    *,
    config: ModelConfig,
    lora: LoraConfig = LoraConfig(),  # noqa: B008 (frozen)
    frozen: Params | None = None,
    key: jax.Array | None = None,
    neftune: float = 0.0,
    z_loss: float = 0.0,
    chunk: int = 1024,
    rules: ShardingRules = DEFAULT_RULES,
) -> CrossEntropy:
    """Sums of the next-token loss over the tokens that ``batch.loss_mask`` marks.

    Args:
      params: all weights; or, with ``lora.rank``, the adapter of the weights ``frozen``.
      key: draws dropout and NEFTune's noise; None for neither, as in evaluation.
      neftune: noise on the embeddings, uniform in +-neftune / sqrt(length x width), where length is
        the document's own (Jain et al. 2023, algorithm 1); 0 for none.
    """
    noise_key = dropout_key = None
    if key is not None:
        noise_key, dropout_key = jax.random.split(key)
    weights = trained_weights(params, lora, frozen=frozen, key=dropout_key)
    noise_BTD = None
    if neftune and noise_key is not None:
        noise_BTD = embedding_noise(noise_key, batch.segment_ids, config.d_model, neftune, rules)
    return pretrain_loss(
        weights, batch, config=config, z_loss=z_loss, chunk=chunk, noise_BTD=noise_BTD, rules=rules
    )


def embedding_noise(
    key: jax.Array, segments_BT: jax.Array, width: int, alpha: float, rules: ShardingRules
) -> jax.Array:
    """NEFTune's noise [B, T, width]: each document's depends on its own length."""
    segments_BT = constrain(segments_BT, rules, "batch", None)
    length_BT = jnp.sum(segments_BT[:, :, None] == segments_BT[:, None, :], axis=2)
    bound_BT1 = alpha / jnp.sqrt(length_BT * width)[:, :, None]
    noise_BTD = jax.random.uniform(key, (*segments_BT.shape, width), minval=-1.0, maxval=1.0)
    noise_BTD = constrain(noise_BTD, rules, "batch", None, "model")
    return constrain(noise_BTD * bound_BT1, rules, "batch", "length", "model")
