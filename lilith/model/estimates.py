"""What a model costs, from its shape alone: floating-point operations and memory."""

from __future__ import annotations

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp

from lilith.config import ModelConfig
from lilith.model.params import flatten, model_specs
from lilith.sharding import HOST_MEMORY


class FlopsPerToken(NamedTuple):
    """Training FLOPs of one token (forward and backward), by two conventions.

    Attributes:
      causal: attention counted over the keys that a query sees, half of the row on average.
      full: attention counted over the whole row, as most published MFU figures do.
    """

    causal: float
    full: float


def flops_per_token(config: ModelConfig, length: int) -> FlopsPerToken:
    """Training FLOPs a token in rows of ``length`` tokens (Chowdhery et al. 2022, appendix B).

    A multiply-add is two FLOPs; the backward pass costs twice the forward. Embedding look-ups,
    norms and activations are left out; recomputation is not counted.
    """
    specs = flatten(model_specs(config))
    products = sum(
        spec.size for path, spec in specs.items() if len(spec.shape) >= 2 and "norm" not in path
        and "bias" not in path and path != "embedding"
    )  # fmt: skip
    if config.tied_embeddings:
        products += config.vocab * config.d_model

    def attention(seen: float) -> float:
        return 2 * 2 * seen * config.heads * config.key_dim

    causal = full = 0.0
    for layer in range(config.layers):
        kind = config.attention_pattern[layer % len(config.attention_pattern)]
        window = min(config.window, length) if kind == "window" else length
        # The mean over the row of the keys that a query sees.
        causal += attention((window * (window + 1) / 2 + (length - window) * window) / length)
        full += attention(window)
    return FlopsPerToken(3 * (2 * products + causal), 3 * (2 * products + full))


def activation_bytes(
    config: ModelConfig, rows: int, length: int, mesh_sizes: dict[str, int]
) -> int:
    """An estimate of what a device keeps between forward and backward for ``rows`` of its own.

    Counts the arrays that each remat policy saves for every layer, plus one layer's full set,
    which exists while that layer is differentiated. The compiler's temporaries are not in it.
    """
    tensor = mesh_sizes.get("tensor", 1)
    tokens = rows * math.ceil(length / mesh_sizes.get("context", 1))
    item = jnp.dtype(config.compute_dtype).itemsize
    attention = (config.heads + 2 * config.kv_heads) * config.key_dim / tensor
    out = config.heads * config.key_dim / tensor
    ff = config.d_ff / tensor
    everything = 4 * config.d_model + 2 * attention + out + 4 * ff
    kept = {
        "none": 2 * config.d_model + attention + out + 2 * ff,
        "dots": 2 * config.d_model + attention + 2 * ff,
        "attention": config.d_model + out,
        "full": config.d_model,
        "offload": 0,
    }[config.remat]
    return int(item * tokens * (kept * config.layers + everything))


def tree_bytes(tree: object) -> int:
    """Bytes of an array tree in one device's memory, by each leaf's sharding if it has one."""
    total = 0
    for leaf in jax.tree.leaves(tree):
        if leaf.sharding is not None and leaf.sharding.memory_kind == HOST_MEMORY:
            continue
        shape = leaf.shape if leaf.sharding is None else leaf.sharding.shard_shape(leaf.shape)
        total += math.prod(shape) * leaf.dtype.itemsize
    return total
