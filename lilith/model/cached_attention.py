"""Attention over a key/value cache: only the blocks of it that hold something are read.

The online softmax of Milakov, Gimelshein 2018 over blocks of keys, in a loop whose length is the
longest row's, so that a large cache costs memory and no time. Not differentiable: for decoding.
"""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp

from lilith.model.blocked_attention import MASKED

BLOCK = 128  # keys read at a time; a cache holds a multiple of it, or less than one


def cached_attention(
    q_BTNH: jax.Array,
    k_BKHS: jax.Array,
    v_BKSH: jax.Array,
    index_BT: jax.Array,
    window: int | None,
) -> jax.Array:
    """softmax(q k^T / sqrt(H)) v over each query's visible slots, [B, T, N, H].

    Args:
      k_BKHS, v_BKSH: the cache of a layer, S at most :data:`BLOCK` or a multiple of it. Keys lie
        with their slots last, as the product with a query reads them.
      index_BT: the slot of each query, rising along T; it sees the slots up to its own.
      window: how many slots back a query sees, its own included; None for all.
    """
    batch, length, heads, width = q_BTNH.shape
    kv_heads, capacity = v_BKSH.shape[1:3]
    block = BLOCK if capacity > 2 * BLOCK else capacity  # a small cache is read whole
    q_BTKGH = q_BTNH.reshape(batch, length, kv_heads, heads // kv_heads, width)
    q_BKGTH = q_BTKGH.transpose(0, 2, 3, 1, 4) * jnp.asarray(1 / math.sqrt(width), q_BTNH.dtype)
    oldest = jnp.zeros((), index_BT.dtype)
    if window is not None:
        oldest = jnp.maximum(jnp.min(index_BT) - window + 1, 0)

    def read(i: jax.Array, carry: Any) -> Any:
        largest, total, out = carry
        k = jax.lax.dynamic_slice_in_dim(k_BKHS, i * block, block, axis=3)
        v = jax.lax.dynamic_slice_in_dim(v_BKSH, i * block, block, axis=2)
        slot = i * block + jnp.arange(block)
        visible = slot <= index_BT[:, :, None]
        if window is not None:
            visible &= index_BT[:, :, None] - slot < window
        scores = jnp.einsum("BKGTH,BKHS->BKGTS", q_BKGTH, k, preferred_element_type=jnp.float32)
        scores = jnp.where(visible[:, None, None], scores, MASKED)
        larger = jnp.maximum(largest, jnp.max(scores, axis=-1))
        shrink = jnp.exp(largest - larger)
        weights = jnp.exp(scores - larger[..., None])
        added = jnp.einsum(
            "BKGTS,BKSH->BKGTH", weights.astype(v.dtype), v, preferred_element_type=jnp.float32
        )
        total = total * shrink + jnp.sum(weights, axis=-1)
        return larger, total, out * shrink[..., None] + added

    out = jnp.zeros_like(q_BKGTH, jnp.float32)
    total = jnp.zeros_like(q_BKGTH[..., 0], jnp.float32)
    # A block that a row can not see at all leaves its maximum at MASKED and its weights at 1; the
    # row's own slot, which it always sees, is read later or earlier and makes them vanish.
    start = (jnp.full_like(total, MASKED), total, out)
    if block == capacity:
        _, total, out = read(jnp.zeros((), jnp.int32), start)
    else:
        blocks = (jnp.max(index_BT) + block) // block
        _, total, out = jax.lax.fori_loop(oldest // block, blocks, read, start)
    out_BKGTH = (out / total[..., None]).astype(q_BTNH.dtype)
    return out_BKGTH.transpose(0, 3, 1, 2, 4).reshape(batch, length, heads, width)
