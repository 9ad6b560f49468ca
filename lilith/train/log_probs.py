"""Log-probabilities of given tokens and the entropies beside them, a chunk of tokens at a time."""

from __future__ import annotations

import math
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp

from lilith.config import ModelConfig
from lilith.model.layers import softcap
from lilith.model.params import Params
from lilith.model.transformer import forward, output_table
from lilith.sharding import DEFAULT_RULES, ShardingRules, constrain, without_trivial_axes
from lilith.train.state import Batch


class TokenLogProbs(NamedTuple):
    """Float32, in nats; 0 where there is no token.

    Attributes:
      log_probs_BT: of each target.
      entropy_BT: of the distribution that the target is drawn from.
    """

    log_probs_BT: jax.Array
    entropy_BT: jax.Array


class _Settings(NamedTuple):
    temperature: float
    softcap: float
    chunk: int
    vocab_axes: tuple[str, ...]


def token_log_probs(
    params: Params,
    batch: Batch,
    *,
    config: ModelConfig,
    temperature: float = 1.0,
    chunk: int = 1024,
    rules: ShardingRules = DEFAULT_RULES,
) -> TokenLogProbs:
    """Log-probabilities of ``batch.targets``, differentiable in ``params``.

    Args:
      params: all weights; those of the layers may be adapted.
      temperature: what the logits are divided by, above 0.
      chunk: tokens a device holds logits of at one time; the backward pass makes them again.

    Returns:
      log_probs_BT and entropy_BT, 0 where ``batch.segment_ids`` is 0.

    Raises:
      ValueError: a temperature that is not positive.
    """
    if not temperature > 0:
        raise ValueError(f"temperature is {temperature}; log-probabilities need one above 0")
    hidden_BTD = hidden_states(params, batch, config=config, rules=rules)
    # As in the cross-entropy: the devices of the context and tensor axes share the vocabulary, for
    # the rows of their batch shard, so those rows are made whole first.
    hidden_BTD = constrain(hidden_BTD, rules, "batch", None, "model")
    targets_BT = constrain(batch.targets, rules, "batch", None)
    table_VD = output_table(params, config).astype(hidden_BTD.dtype)
    table_VD = constrain(table_VD, rules, "loss_vocab", "model")
    settings = _Settings(temperature, config.logit_softcap, chunk, ())
    found = _on_shards(settings, rules, hidden_BTD, table_VD, targets_BT)
    real_BT = constrain(batch.segment_ids, rules, "batch", "length") > 0
    return TokenLogProbs(
        *(jnp.where(real_BT, constrain(x, rules, "batch", "length"), 0.0) for x in found)
    )


def sequence_log_probs(
    params: Params,
    batch: Batch,
    *,
    config: ModelConfig,
    temperature: float = 1.0,
    chunk: int = 1024,
    rules: ShardingRules = DEFAULT_RULES,
) -> jax.Array:
    """The sum of each row's log-probabilities, weighted by ``batch.loss_mask``; float32 [B].

    The arguments are those of :func:`token_log_probs`.
    """
    found = token_log_probs(
        params, batch, config=config, temperature=temperature, chunk=chunk, rules=rules
    )
    mask_BT = constrain(batch.loss_mask, rules, "batch", "length")
    return jnp.sum(found.log_probs_BT * mask_BT, axis=1)


def hidden_states(
    params: Params, batch: Batch, *, config: ModelConfig, rules: ShardingRules = DEFAULT_RULES
) -> jax.Array:
    """The normalised last hidden state [B, T, D] at each input, in the compute dtype."""
    return forward(
        params,
        batch.tokens,
        config,
        positions_BT=batch.positions,
        segments_BT=batch.segment_ids,
        rules=rules,
    )[0]


def _on_shards(
    settings: _Settings,
    rules: ShardingRules,
    hidden_BTD: jax.Array,
    table_VD: jax.Array,
    targets_BT: jax.Array,
) -> tuple[jax.Array, jax.Array]:
    """Run the chunks on each device's rows and its part of the vocabulary."""
    mesh = jax.sharding.get_abstract_mesh()
    if mesh.empty:
        return _chunked(settings, hidden_BTD, table_VD, targets_BT)
    hidden_spec, table_spec, row_spec = (
        without_trivial_axes(mesh.shape, rules.spec(*axes))
        for axes in (("batch", None, "model"), ("loss_vocab", "model"), ("batch", None))
    )
    return jax.shard_map(
        partial(_chunked, settings._replace(vocab_axes=table_spec[0] or ())),
        in_specs=(hidden_spec, table_spec, row_spec),
        out_specs=(row_spec, row_spec),
        check_vma=False,
    )(hidden_BTD, table_VD, targets_BT)


def _chunked(
    settings: _Settings, hidden_BTD: jax.Array, table_VD: jax.Array, targets_BT: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Log-probabilities and entropies [B, T] of this device's tokens."""
    tokens = targets_BT.size
    chunks = max(1, math.ceil(tokens / settings.chunk))
    size = math.ceil(tokens / chunks)
    # The scan sums the table's gradient over the chunks in the dtype that the table has there.
    table_VD = table_VD.astype(jnp.float32)

    def split(x: jax.Array) -> jax.Array:
        flat = x.reshape(tokens, *x.shape[2:])
        padding = [(0, chunks * size - tokens)] + [(0, 0)] * (flat.ndim - 1)
        return jnp.pad(flat, padding).reshape(chunks, size, *flat.shape[1:])

    one_chunk = jax.checkpoint(partial(_one_chunk, settings))

    def step(carry: None, chunk: tuple[jax.Array, jax.Array]) -> tuple[None, TokenLogProbs]:
        return carry, one_chunk(table_VD, *chunk)

    _, found = jax.lax.scan(step, None, (split(hidden_BTD), split(targets_BT)))
    log_probs_BT, entropy_BT = (x.reshape(-1)[:tokens].reshape(targets_BT.shape) for x in found)
    return log_probs_BT, entropy_BT


def _one_chunk(
    settings: _Settings, table_VD: jax.Array, hidden_CD: jax.Array, targets_C: jax.Array
) -> tuple[jax.Array, jax.Array]:
    axes = settings.vocab_axes

    def over_vocabulary(part_C: jax.Array) -> jax.Array:
        return jax.lax.psum(part_C, axes) if axes else part_C

    table_VD = table_VD.astype(hidden_CD.dtype)
    logits_CV = jnp.einsum("CD,VD->CV", hidden_CD, table_VD, preferred_element_type=jnp.float32)
    logits_CV = softcap(logits_CV, settings.softcap) / settings.temperature
    # Nothing depends on the shift, so it has no gradient.
    top_C = jnp.max(jax.lax.stop_gradient(logits_CV), axis=-1)
    top_C = jax.lax.pmax(top_C, axes) if axes else top_C
    logits_CV = logits_CV - top_C[:, None]
    exp_CV = jnp.exp(logits_CV)
    total_C = over_vocabulary(jnp.sum(exp_CV, axis=-1))
    mean_C = over_vocabulary(jnp.sum(exp_CV * logits_CV, axis=-1)) / total_C

    size = table_VD.shape[0]
    own_C = targets_C - (size * jax.lax.axis_index(axes) if axes else 0)
    chosen_C = jnp.take_along_axis(logits_CV, jnp.clip(own_C, 0, size - 1)[:, None], axis=1)[:, 0]
    chosen_C = over_vocabulary(jnp.where((own_C >= 0) & (own_C < size), chosen_C, 0.0))
    log_z_C = jnp.log(total_C)
    return chosen_C - log_z_C, log_z_C - mean_C
