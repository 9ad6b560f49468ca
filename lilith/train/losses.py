"""Losses as (sum, weight) pairs, so that pieces of a batch add up to the whole exactly.

The vocabulary cross-entropy never holds more than ``chunk`` tokens of logits on a device, and
makes its own gradients while the logits are at hand: three matrix products instead of the four
of recomputation, and no [batch, length, vocab] array.
"""

from __future__ import annotations

import math
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec

from lilith.sharding import ShardingRules, constrain, without_trivial_axes


class CrossEntropy(NamedTuple):
    """Sums over tokens, float32 scalars.

    Attributes:
      objective: what is minimised: nll plus the z-loss. Only this one is differentiable.
      nll: negative log-likelihood, in nats.
      weight: sum of the token weights; divide by it for means.
    """

    objective: jax.Array
    nll: jax.Array
    weight: jax.Array


class _Settings(NamedTuple):
    z_loss: float
    softcap: float
    chunk: int
    rules: ShardingRules


def cross_entropy(
    hidden_BTD: jax.Array,
    table_VD: jax.Array,
    targets_BT: jax.Array,
    weights_BT: jax.Array,
    *,
    z_loss: float = 0.0,
    softcap: float = 0.0,
    chunk: int = 1024,
    rules: ShardingRules,
) -> CrossEntropy:
    """Weighted cross-entropy of ``hidden @ table.T`` against ``targets``.

    Args:
      hidden_BTD: hidden states, in the compute dtype.
      table_VD: output table in its stored dtype; its gradient comes in that dtype.
      targets_BT: int32 ids in [0, V).
      weights_BT: float32 weight of each token, 0 to leave it out.
      z_loss: coefficient of log(Z)^2 (Chowdhery et al. 2022, section 5).
      softcap: logits are cap * tanh(logits / cap); 0 for none.
      chunk: tokens a device holds logits of at one time.
    """
    settings = _Settings(z_loss, softcap, chunk, rules)
    # Every device of the context and tensor axes works on its own part of the vocabulary, for the
    # rows of its batch shard, so those rows are made whole first.
    hidden_BTD = constrain(hidden_BTD, rules, "batch", None, "model")
    targets_BT = constrain(targets_BT, rules, "batch", None)
    weights_BT = constrain(weights_BT, rules, "batch", None)
    table_VD = constrain(table_VD.astype(hidden_BTD.dtype), rules, "loss_vocab", "model")
    with jax.named_scope("loss"):
        objective, nll = _sums(settings, hidden_BTD, table_VD, targets_BT, weights_BT)
    return CrossEntropy(objective, jax.lax.stop_gradient(nll), jnp.sum(weights_BT))


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def _sums(
    settings: _Settings,
    hidden_BTD: jax.Array,
    table_VD: jax.Array,
    targets_BT: jax.Array,
    weights_BT: jax.Array,
) -> tuple[jax.Array, jax.Array]:
    sums, _ = _on_shards(settings, hidden_BTD, table_VD, targets_BT, weights_BT, gradients=False)
    return sums


def _sums_forward(settings, hidden_BTD, table_VD, targets_BT, weights_BT):
    sums, gradients = _on_shards(
        settings, hidden_BTD, table_VD, targets_BT, weights_BT, gradients=True
    )
    return sums, gradients


def _sums_backward(settings, gradients, cotangents):
    del settings
    scale, _ = cotangents
    d_hidden, d_table = gradients
    # Targets are integers and weights are data: neither has a gradient.
    return (
        (scale * d_hidden).astype(d_hidden.dtype),
        scale.astype(d_table.dtype) * d_table,
        None,
        None,
    )


_sums.defvjp(_sums_forward, _sums_backward)


def _on_shards(settings, hidden_BTD, table_VD, targets_BT, weights_BT, *, gradients):
    """Run the chunked loss on each device's shard and add the pieces up."""
    rules, mesh = settings.rules, jax.sharding.get_abstract_mesh()
    if mesh.empty:
        return _chunked(
            settings, (), hidden_BTD, table_VD, targets_BT, weights_BT, gradients=gradients
        )
    hidden_spec, table_spec, row_spec = (
        without_trivial_axes(mesh.shape, rules.spec(*axes))
        for axes in (("batch", None, "model"), ("loss_vocab", "model"), ("batch", None))
    )
    batch_axes, vocab_axes = row_spec[0] or (), table_spec[0] or ()

    def shard(hidden, table, targets, weights):
        sums, grads = _chunked(
            settings, vocab_axes, hidden, table, targets, weights, gradients=gradients
        )
        sums = jax.lax.psum(sums, batch_axes) if batch_axes else sums
        if grads is not None:
            d_hidden, d_table = grads
            grads = (
                jax.lax.psum(d_hidden, vocab_axes) if vocab_axes else d_hidden,
                jax.lax.psum(d_table, batch_axes) if batch_axes else d_table,
            )
        return sums, grads

    return jax.shard_map(
        shard,
        in_specs=(hidden_spec, table_spec, row_spec, row_spec),
        out_specs=(
            (PartitionSpec(), PartitionSpec()),
            (hidden_spec, table_spec) if gradients else None,
        ),
        check_vma=False,
    )(hidden_BTD, table_VD, targets_BT, weights_BT)


def _chunked(settings, vocab_axes, hidden_BTD, table_VD, targets_BT, weights_BT, *, gradients):
    """Sums (and gradients) of this device's tokens over its part of the vocabulary."""
    width = hidden_BTD.shape[-1]
    tokens = targets_BT.size
    chunks = max(1, math.ceil(tokens / settings.chunk))
    size = math.ceil(tokens / chunks)

    def split(x: jax.Array) -> jax.Array:
        flat = x.reshape(tokens, *x.shape[2:])
        padding = [(0, chunks * size - tokens)] + [(0, 0)] * (flat.ndim - 1)
        return jnp.pad(flat, padding).reshape(chunks, size, *flat.shape[1:])

    def step(carry, chunk):
        objective, nll, d_table = carry
        sums, grads = _one_chunk(settings, vocab_axes, table_VD, *chunk, gradients=gradients)
        if grads is None:
            return (objective + sums[0], nll + sums[1], None), None
        return (objective + sums[0], nll + sums[1], d_table + grads[1]), grads[0]

    zero = jnp.zeros((), jnp.float32)
    start = (zero, zero, jnp.zeros(table_VD.shape, jnp.float32) if gradients else None)
    xs = (split(hidden_BTD), split(targets_BT), split(weights_BT))
    if chunks == 1:
        (objective, nll, d_table), d_hidden = step(start, jax.tree.map(lambda x: x[0], xs))
    else:
        (objective, nll, d_table), d_hidden = jax.lax.scan(step, start, xs)
    if not gradients:
        return (objective, nll), None
    d_hidden = d_hidden.reshape(chunks * size, width)[:tokens].reshape(hidden_BTD.shape)
    return (objective, nll), (d_hidden, d_table.astype(table_VD.dtype))


def _one_chunk(settings, vocab_axes, table_VD, hidden_CD, targets_C, weights_C, *, gradients):
    logits_CV = jnp.einsum("CD,VD->CV", hidden_CD, table_VD, preferred_element_type=jnp.float32)
    slope_CV = None
    if settings.softcap:
        squashed = jnp.tanh(logits_CV / settings.softcap)
        logits_CV, slope_CV = settings.softcap * squashed, 1.0 - jnp.square(squashed)
    top_C = jnp.max(logits_CV, axis=-1)
    top_C = jax.lax.pmax(top_C, vocab_axes) if vocab_axes else top_C
    exp_CV = jnp.exp(logits_CV - top_C[:, None])
    total_C = jnp.sum(exp_CV, axis=-1)
    total_C = jax.lax.psum(total_C, vocab_axes) if vocab_axes else total_C
    log_z_C = top_C + jnp.log(total_C)

    size = table_VD.shape[0]
    start = size * jax.lax.axis_index(vocab_axes) if vocab_axes else 0
    own_C = targets_C - start
    chosen_C = jnp.take_along_axis(logits_CV, jnp.clip(own_C, 0, size - 1)[:, None], axis=1)[:, 0]
    chosen_C = jnp.where((own_C >= 0) & (own_C < size), chosen_C, 0.0)
    chosen_C = jax.lax.psum(chosen_C, vocab_axes) if vocab_axes else chosen_C

    nll = jnp.sum(weights_C * (log_z_C - chosen_C))
    objective = nll + settings.z_loss * jnp.sum(weights_C * jnp.square(log_z_C))
    if not gradients:
        return (objective, nll), None
    growth_C = weights_C * (1.0 + 2.0 * settings.z_loss * log_z_C) / total_C
    is_target_CV = own_C[:, None] == jnp.arange(size)[None, :]
    d_logits_CV = exp_CV * growth_C[:, None] - jnp.where(is_target_CV, weights_C[:, None], 0.0)
    if slope_CV is not None:
        d_logits_CV = d_logits_CV * slope_CV
    d_logits_CV = d_logits_CV.astype(hidden_CD.dtype)
    d_hidden_CD = jnp.einsum("CV,VD->CD", d_logits_CV, table_VD)
    d_table_VD = jnp.einsum("CV,CD->VD", d_logits_CV, hidden_CD, preferred_element_type=jnp.float32)
    return (objective, nll), (d_hidden_CD, d_table_VD)
