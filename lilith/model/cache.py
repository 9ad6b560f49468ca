"""The key/value cache of decoding."""

from __future__ import annotations

from typing import Any

import flax.struct
import jax
import jax.numpy as jnp

from lilith.config import ModelConfig
from lilith.model.cached_attention import BLOCK


@flax.struct.dataclass
class KVCache:
    """Keys and values of the tokens seen so far, rows left-aligned.

    Attributes:
      k_LBKHS: keys [layers, batch, kv_heads, head_dim, capacity], or a tuple with an array for each
        layer: as the model's layers are.
      v_LBKSH: values [layers, batch, kv_heads, capacity, head_dim], likewise.
      length_B: int32 tokens held by each row; slots from there on are ignored.
    """

    k_LBKHS: Any
    v_LBKSH: Any
    length_B: jax.Array

    @property
    def capacity(self) -> int:
        """How many tokens a row can hold."""
        return self.v_LBKSH[0].shape[2]


def init_cache(config: ModelConfig, batch: int, capacity: int, *, layered: bool = False) -> KVCache:
    """An empty cache with room for at least ``capacity`` tokens a row.

    Args:
      layered: an array for each layer, for parameters whose layers are a tuple.
    """
    if capacity > BLOCK:
        capacity = -(-capacity // BLOCK) * BLOCK
    keys = (batch, config.kv_heads, config.key_dim, capacity)
    values = (batch, config.kv_heads, capacity, config.key_dim)
    dtype = jnp.dtype(config.compute_dtype)

    def zeros(shape: tuple[int, ...]) -> Any:
        if layered:
            return tuple(jnp.zeros(shape, dtype) for _ in range(config.layers))
        return jnp.zeros((config.layers, *shape), dtype)

    return KVCache(zeros(keys), zeros(values), jnp.zeros((batch,), jnp.int32))


def write_keys(cache_BKHS: jax.Array, rows_BTKH: jax.Array, start_B: jax.Array) -> jax.Array:
    """Put the keys of ``rows`` into each row of a layer's cache from that row's ``start`` on."""
    return _write(cache_BKHS, rows_BTKH.transpose(0, 2, 3, 1), start_B, axis=2)


def write_values(cache_BKSH: jax.Array, rows_BTKH: jax.Array, start_B: jax.Array) -> jax.Array:
    """Put the values of ``rows`` into each row of a layer's cache from that row's ``start`` on."""
    return _write(cache_BKSH, rows_BTKH.swapaxes(1, 2), start_B, axis=1)


def _write(cache: jax.Array, rows: jax.Array, start_B: jax.Array, axis: int) -> jax.Array:
    def write(own: jax.Array, added: jax.Array, start: jax.Array) -> jax.Array:
        return jax.lax.dynamic_update_slice_in_dim(own, added, start, axis)

    return jax.vmap(write)(cache, rows.astype(cache.dtype), start_B)
