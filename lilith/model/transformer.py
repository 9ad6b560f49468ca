"""The one forward: training, scoring, prefill and decoding all run it."""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name

from lilith.config import ModelConfig
from lilith.model.attention import AttentionContext, attention, choose_implementation
from lilith.model.cache import KVCache, write_keys, write_values
from lilith.model.layers import (
    apply_rope,
    embed,
    merge_heads,
    project_qkv,
    rms_norm,
    rope_table,
    softcap,
    swiglu_mlp,
    use_weight,
)
from lilith.model.params import Params
from lilith.sharding import (
    DEFAULT_RULES,
    HOST_MEMORY,
    ShardingRules,
    activation_spec,
    constrain,
    target_platform,
)

LayerCache = tuple[jax.Array, jax.Array]
Caches = tuple[Any, Any]  # of all layers, stacked or one by one


def forward(
    params: Params,
    tokens_BT: jax.Array,
    config: ModelConfig,
    *,
    positions_BT: jax.Array | None = None,
    segments_BT: jax.Array | None = None,
    cache: KVCache | None = None,
    noise_BTD: jax.Array | None = None,
    rules: ShardingRules = DEFAULT_RULES,
) -> tuple[jax.Array, KVCache | None]:
    """Run the model and return its last hidden states, normalised, and the grown cache.

    Args:
      tokens_BT: int32 ids.
      positions_BT: rotary position of each token; default: its place in the row.
      segments_BT: tokens of different segments do not see each other; default: one segment.
      cache: tokens seen before these; they are seen by all of them, and these are added to it.
        Rows shorter than T give their true ``segments_BT`` as 1 and padding as 0: padding is
        never counted in the cache's length.
      noise_BTD: added to the embeddings, for training that asks for it.

    Returns:
      hidden_BTD in the compute dtype (see :func:`unembed` for logits), and the cache or None.
    """
    batch, length = tokens_BT.shape
    dtype = jnp.dtype(config.compute_dtype)
    tokens_BT = constrain(tokens_BT, rules, "batch", "length")
    if segments_BT is None:
        segments_BT = jnp.ones_like(tokens_BT)
    if positions_BT is None:
        start_B = jnp.zeros((batch,), jnp.int32) if cache is None else cache.length_B
        positions_BT = start_B[:, None] + jnp.arange(length, dtype=jnp.int32)
    positions_BT = constrain(positions_BT, rules, "batch", "length")
    segments_BT = constrain(segments_BT, rules, "batch", "length")
    context = _attention_context(positions_BT, segments_BT, cache)
    implementation = choose_implementation(
        config, length, in_order=cache is None, platform=target_platform()
    )
    with jax.named_scope("embed"):
        x_BTD = embed(params["embedding"], tokens_BT, dtype, rules)
        if noise_BTD is not None:
            x_BTD = x_BTD + noise_BTD.astype(dtype)
    layer = partial(
        _layer,
        config=config,
        context=context,
        rope=rope_table(positions_BT, config),
        start_B=None if cache is None else cache.length_B,
        implementation=implementation,
        rules=rules,
    )
    x_BTD, layer_caches = _run_layers(layer, x_BTD, params["layers"], cache, config)
    with jax.named_scope("final_norm"):
        x_BTD = rms_norm(x_BTD, params["final_norm"], config.norm_eps)
    if cache is None:
        return x_BTD, None
    grown = cache.length_B + jnp.sum(segments_BT > 0, axis=1, dtype=jnp.int32)
    return x_BTD, KVCache(*layer_caches, grown)


def _attention_context(
    positions_BT: jax.Array, segments_BT: jax.Array, cache: KVCache | None
) -> AttentionContext:
    if cache is None:
        return AttentionContext(segments_BT, segments_BT)
    batch, length = positions_BT.shape
    index_BT = cache.length_B[:, None] + jnp.arange(length)
    # Causality hides the slots that hold nothing yet, so one segment serves them all.
    slots_BS = jnp.ones((batch, cache.capacity), index_BT.dtype)
    return AttentionContext(jnp.ones_like(index_BT), slots_BS, index_BT)


def _layer(
    x_BTD: jax.Array,
    weights: Params,
    cache: LayerCache | None,
    *,
    kind: str,
    config: ModelConfig,
    context: AttentionContext,
    rope: tuple[jax.Array, jax.Array],
    start_B: jax.Array | None,
    implementation: str,
    rules: ShardingRules,
) -> tuple[jax.Array, LayerCache | None]:
    """One block: x + attention(norm(x)), then x + mlp(norm(x))."""
    if config.remat == "offload":
        x_BTD = checkpoint_name(x_BTD, "layer_input")
    with jax.named_scope("attention"):
        own = weights["attention"]
        q_BTNH, k_BTKH, v_BTKH = project_qkv(
            x_BTD, weights["attention_norm"], own, config.norm_eps, rules
        )
        if config.qk_norm:
            q_BTNH = rms_norm(q_BTNH, own["q_norm"], config.norm_eps)
            k_BTKH = rms_norm(k_BTKH, own["k_norm"], config.norm_eps)
        q_BTNH, k_BTKH = apply_rope(q_BTNH, rope), apply_rope(k_BTKH, rope)
        keys, values = k_BTKH, v_BTKH
        if cache is not None and start_B is not None:
            keys = write_keys(cache[0], k_BTKH, start_B)
            values = write_values(cache[1], v_BTKH, start_B)
            cache = (keys, values)
        out_BTNH = attention(
            q_BTNH,
            keys,
            values,
            context,
            window=config.window if kind == "window" else None,
            implementation=implementation,
            rules=rules,
            block=config.attention_block,
        )
        # Only then: a named value is kept beside the unnamed one.
        if config.remat in ("attention", "offload"):
            out_BTNH = checkpoint_name(out_BTNH, "attention_out")
        x_BTD = x_BTD + merge_heads(out_BTNH, own["o"], rules)
    with jax.named_scope("mlp"):
        x_BTD = x_BTD + swiglu_mlp(
            x_BTD, weights["mlp_norm"], weights["mlp"], config.norm_eps, rules
        )
    return x_BTD, cache


def _run_layers(
    layer: Any, x_BTD: jax.Array, weights: Params, cache: KVCache | None, config: ModelConfig
) -> tuple[jax.Array, Caches]:
    """Scan (or unroll) the stacked layers; with a repeating pattern, one scan step a period."""
    if not isinstance(weights, dict):
        return _run_layered(layer, x_BTD, weights, cache, config)
    period = len(config.attention_pattern)
    caches = None if cache is None else (cache.k_LBKHS, cache.v_LBKSH)

    def one(x: jax.Array, inputs: Any, kind: str) -> tuple[jax.Array, Any]:
        return _remat(partial(layer, kind=kind), config.remat)(x, *inputs)

    def group(x: jax.Array, inputs: Any, kinds: tuple[str, ...]) -> tuple[jax.Array, Any]:
        """Layers ``kinds`` in a row, their weights and caches stacked on the leading axis."""
        grown = []
        for i, kind in enumerate(kinds):
            x, own_cache = one(x, jax.tree.map(lambda leaf, i=i: leaf[i], inputs), kind)
            grown.append(own_cache)
        return x, jax.tree.map(lambda *leaves: jnp.stack(leaves), *grown)

    if config.scan_layers and period == 1:
        # Weights that are the scan's own inputs, not pieces of them, are not kept a second time
        # for the backward pass.
        kind = config.attention_pattern[0]
        return jax.lax.scan(partial(one, kind=kind), x_BTD, (weights, caches))

    whole = config.layers // period * period if config.scan_layers else 0
    collected = []
    if whole:
        stacked = jax.tree.map(
            lambda leaf: leaf[:whole].reshape(whole // period, period, *leaf.shape[1:]),
            (weights, caches),
        )
        x_BTD, grown = jax.lax.scan(
            lambda x, inputs: group(x, inputs, config.attention_pattern), x_BTD, stacked
        )
        collected.append(jax.tree.map(lambda leaf: leaf.reshape(whole, *leaf.shape[2:]), grown))
    if whole < config.layers:
        kinds = tuple(config.attention_pattern[i % period] for i in range(whole, config.layers))
        rest = jax.tree.map(lambda leaf: leaf[whole:], (weights, caches))
        x_BTD, grown = group(x_BTD, rest, kinds)
        collected.append(grown)
    return x_BTD, jax.tree.map(lambda *leaves: jnp.concatenate(leaves), *collected)


def _run_layered(
    layer: Any, x_BTD: jax.Array, weights: Any, cache: KVCache | None, config: ModelConfig
) -> tuple[jax.Array, Caches]:
    """Run layers that each have arrays of their own, one after the other."""
    keys, values = [], []
    for i, own in enumerate(weights):
        own_cache = None if cache is None else (cache.k_LBKHS[i], cache.v_LBKSH[i])
        kind = config.attention_pattern[i % len(config.attention_pattern)]
        x_BTD, grown = layer(x_BTD, own, own_cache, kind=kind)
        if grown is not None:
            keys.append(grown[0])
            values.append(grown[1])
    return x_BTD, (tuple(keys), tuple(values))


def _remat(function: Any, policy: str) -> Any:
    """Choose what a layer keeps for its backward pass and what it computes again."""
    if policy == "none":
        return function
    policies = jax.checkpoint_policies
    return jax.checkpoint(
        function,
        policy={
            "full": policies.nothing_saveable,
            "dots": policies.dots_with_no_batch_dims_saveable,
            "attention": policies.save_only_these_names("attention_out"),
            "offload": policies.save_and_offload_only_these_names(
                names_which_can_be_saved=[],
                names_which_can_be_offloaded=["layer_input", "attention_out"],
                offload_src="device",
                offload_dst=HOST_MEMORY,
            ),
        }[policy],
    )


def unembed(
    params: Params, hidden_BTD: jax.Array, config: ModelConfig, rules: ShardingRules = DEFAULT_RULES
) -> jax.Array:
    """Float32 logits [B, T, V] of hidden states that :func:`forward` returned."""
    weight_VD = use_weight(output_table(params, config), hidden_BTD.dtype, rules, "vocab", "model")
    logits = jnp.einsum(
        "BTD,VD->BTV",
        hidden_BTD,
        weight_VD,
        preferred_element_type=jnp.float32,
        out_sharding=activation_spec(rules, "batch", "length", "vocab"),
    )
    return softcap(logits, config.logit_softcap)


def output_table(params: Params, config: ModelConfig) -> jax.Array:
    """The [V, D] weight that turns hidden states into logits."""
    return params["embedding"] if config.tied_embeddings else params["unembedding"]
