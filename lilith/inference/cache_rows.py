"""Rows of a cache: made, cut back, enlarged, repeated, and taken out, on one device or a mesh."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from lilith.config import ModelConfig
from lilith.inference import sampler
from lilith.inference.sampler import DecodeState
from lilith.model.cache import KVCache, init_cache
from lilith.sharding import ShardingRules, activation_spec


@partial(jax.jit, static_argnames=("batch", "capacity", "config", "rules"))
def empty_cache(
    params: Any, batch: int, capacity: int, *, config: ModelConfig, rules: ShardingRules
) -> KVCache:
    """Room for ``capacity`` tokens in each of ``batch`` rows, laid out as ``params`` are."""
    layered = not isinstance(params["layers"], dict)
    return sampler.place_cache(init_cache(config, batch, capacity, layered=layered), rules)


def resume(cache: KVCache, held: int, capacity: int) -> KVCache:
    """A kept cache cut to its first ``held`` tokens, in a larger one if it is too small."""
    length_B = jnp.full_like(cache.length_B, held)
    if capacity > cache.capacity:
        cache = grow(cache, capacity)
    return KVCache(cache.k_LBKHS, cache.v_LBKSH, length_B)


@partial(jax.jit, static_argnames=("capacity",))
def grow(cache: KVCache, capacity: int) -> KVCache:
    """The same rows with room for ``capacity`` tokens."""

    def longer(leaf: jax.Array, axis: int) -> jax.Array:
        room = [(0, 0)] * leaf.ndim
        room[axis] = (0, capacity - cache.capacity)
        return jnp.pad(leaf, room)

    return KVCache(
        jax.tree.map(partial(longer, axis=-1), cache.k_LBKHS),
        jax.tree.map(partial(longer, axis=-2), cache.v_LBKSH),
        cache.length_B,
    )


@partial(jax.jit, static_argnames=("copies", "rules"))
def repeat(
    last_BD: jax.Array, cache: KVCache, copies: int, rules: ShardingRules
) -> tuple[jax.Array, KVCache]:
    """Each row ``copies`` times, as neighbours."""

    def each(leaf: jax.Array, *axes: str | None) -> jax.Array:
        spec = activation_spec(rules, *axes)  # None without a mesh
        return jnp.repeat(leaf, copies, axis=axes.index("batch"), out_sharding=spec)

    return each(last_BD, "batch", "model"), _map_cache(each, cache)


@partial(jax.jit, static_argnames=("rules",))
def take(state: DecodeState, rows_B: Any, rules: ShardingRules) -> DecodeState:
    """The rows ``rows_B`` of a state, in that order."""

    def each(leaf: jax.Array, *axes: str | None) -> jax.Array:
        spec = activation_spec(rules, *axes)
        at = (slice(None),) * axes.index("batch")
        return leaf.at[(*at, rows_B)].get(out_sharding=spec)

    return DecodeState(
        cache=_map_cache(each, state.cache),
        history_BS=each(state.history_BS, "batch", None),
        seen_BV=each(state.seen_BV, "batch", None),
        count_B=each(state.count_B, "batch"),
        done_B=each(state.done_B, "batch"),
    )


def _map_cache(function: Callable[..., jax.Array], cache: KVCache) -> KVCache:
    """``function(array, *its logical axes)`` of every array of a cache."""
    stacked = () if isinstance(cache.k_LBKHS, tuple) else ("layers",)
    keys = (*stacked, "batch", "kv_heads", "head_dim", None)
    values = (*stacked, "batch", "kv_heads", None, "head_dim")
    return KVCache(
        jax.tree.map(lambda leaf: function(leaf, *keys), cache.k_LBKHS),
        jax.tree.map(lambda leaf: function(leaf, *values), cache.v_LBKSH),
        function(cache.length_B, "batch"),
    )
