"""The generation layout: every layer has arrays of its own, with products of one input fused.

A scan over stacked layers copies each layer's slice of the weights before it is used, which costs
as much as the token itself; and one product of [q k v] reads memory faster than three small ones.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from flax import traverse_util

from lilith.model.params import Params, flatten

_FUSED: dict[str, dict[str, tuple[str, ...]]] = {
    "attention": {"qkv": ("q", "k", "v"), "qkv_bias": ("q_bias", "k_bias", "v_bias")},
    "mlp": {"gate_up": ("gate", "up")},
}


def unstack_layers(params: Params, *, release: bool = False) -> Params:
    """``params`` with ``layers`` as a tuple of one dict per layer; as they are if they are so.

    Args:
      release: delete each stacked array once it is cut up, so that no second copy is held.
    """
    if not isinstance(params["layers"], dict):
        return params
    stacked = flatten(params["layers"])
    each: list[dict[str, jax.Array]] = [{} for _ in range(len(stacked["attention_norm"]))]
    for path, leaf in stacked.items():
        for i, layer in enumerate(each):
            layer[path] = jax.lax.index_in_dim(leaf, i, keepdims=False)
        if release:
            jax.block_until_ready([layer[path] for layer in each])
            leaf.delete()
    layers = tuple(traverse_util.unflatten_dict(layer, sep="/") for layer in each)
    return {**params, "layers": layers}


def fuse_layers(params: Params) -> Params:
    """Join q, k, v and gate, up of every layer along their output axis.

    Takes ``params`` over: its layers are released one by one, so that no second copy of the model
    is held. Weights on a mesh are left apart, since their heads are split over devices.
    """
    layers: list[Any] = list(params["layers"])
    others = {name: leaf for name, leaf in params.items() if name != "layers"}
    params.clear()
    for i, layer in enumerate(layers):
        layers[i] = {name: _fuse(_FUSED.get(name, {}), own) for name, own in layer.items()}
    return {**others, "layers": tuple(layers)}


def split_layers(params: Params, kv_heads: int) -> Params:
    """The inverse of :func:`fuse_layers`: q, k, v, gate and up of every layer on their own."""

    def split(layer: dict[str, Any]) -> dict[str, Any]:
        attention, mlp = dict(layer["attention"]), dict(layer["mlp"])
        for name in ("qkv", "qkv_bias"):
            if name in attention:
                joined = attention.pop(name)
                axis = joined.ndim - 2
                heads = joined.shape[axis] - 2 * kv_heads
                parts = jnp.split(joined, (heads, heads + kv_heads), axis)
                attention.update(zip(_FUSED["attention"][name], parts))
        if "gate_up" in mlp:
            mlp["gate"], mlp["up"] = jnp.split(mlp.pop("gate_up"), 2, axis=-1)
        return {**layer, "attention": attention, "mlp": mlp}

    return {**params, "layers": tuple(split(layer) for layer in params["layers"])}


def _fuse(groups: dict[str, tuple[str, ...]], weights: Any) -> Any:
    if not isinstance(weights, dict):
        return weights
    weights = dict(weights)
    for name, parts in groups.items():
        if all(part in weights for part in parts):
            axis = -1 if name == "gate_up" else -2  # ff, or heads
            weights[name] = jnp.concatenate([weights.pop(part) for part in parts], axis)
    return weights
