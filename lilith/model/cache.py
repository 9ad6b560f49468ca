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
      k_LBKSH, v_LBKSH: [layers, batch, kv_heads, capacity, head_dim], or a tuple with an array for
        each layer: as the model's layers are.
      length_B: int32 tokens held by each row; slots from there on are ignored.
    """

    k_LBKSH: Any
    v_LBKSH: Any
    length_B: jax.Array

    @property
    def capacity(self) -> int:
        """How many tokens a row can hold."""
        return self.k_LBKSH[0].shape[2]


def init_cache(config: ModelConfig, batch: int, capacity: int, *, layered: bool = False) -> KVCache:
    """An empty cache with room for at least ``capacity`` tokens a row.

    Args:
      layered: an array for each layer, for parameters whose layers are a tuple.
    """
    if capacity > BLOCK:
        capacity = -(-capacity // BLOCK) * BLOCK
    shape = (batch, config.kv_heads, capacity, config.key_dim)
    dtype = jnp.dtype(config.compute_dtype)

    def zeros() -> Any:
        if layered:
            return tuple(jnp.zeros(shape, dtype) for _ in range(config.layers))
        return jnp.zeros((config.layers, *shape), dtype)

    return KVCache(zeros(), zeros(), jnp.zeros((batch,), jnp.int32))


def write_rows(cache_BKSH: jax.Array, rows_BTKH: jax.Array, start_B: jax.Array) -> jax.Array:
    """Put ``rows`` into each row of a layer's cache from that row's ``start`` on."""

    def write(cache: jax.Array, rows: jax.Array, start: jax.Array) -> jax.Array:
        return jax.lax.dynamic_update_slice(cache, rows, (0, start, 0))

    rows_BKTH = rows_BTKH.swapaxes(1, 2).astype(cache_BKSH.dtype)
    return jax.vmap(write)(cache_BKSH, rows_BKTH, start_B)
