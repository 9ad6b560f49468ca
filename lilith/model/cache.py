"""The key/value cache of decoding."""

from __future__ import annotations

import flax.struct
import jax
import jax.numpy as jnp

from lilith.config import ModelConfig


@flax.struct.dataclass
class KVCache:
    """Keys and values of the tokens seen so far, rows left-aligned.

    Attributes:
      k_LBSKH, v_LBSKH: [layers, batch, capacity, kv_heads, head_dim].
      length_B: int32 tokens held by each row; slots from there on are ignored.
    """

    k_LBSKH: jax.Array
    v_LBSKH: jax.Array
    length_B: jax.Array


def init_cache(config: ModelConfig, batch: int, capacity: int) -> KVCache:
    """An empty cache with room for ``capacity`` tokens a row."""
    shape = (config.layers, batch, capacity, config.kv_heads, config.key_dim)
    dtype = jnp.dtype(config.compute_dtype)
    return KVCache(jnp.zeros(shape, dtype), jnp.zeros(shape, dtype), jnp.zeros((batch,), jnp.int32))


def write_rows(cache_BSKH: jax.Array, rows_BTKH: jax.Array, start_B: jax.Array) -> jax.Array:
    """Put ``rows`` into each row of a layer's cache from that row's ``start`` on."""

    def write(cache: jax.Array, rows: jax.Array, start: jax.Array) -> jax.Array:
        return jax.lax.dynamic_update_slice(cache, rows.astype(cache.dtype), (start, 0, 0))

    return jax.vmap(write)(cache_BSKH, rows_BTKH, start_B)
