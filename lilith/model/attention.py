"""Causal grouped-query attention: one signature, several implementations.

``reference`` is plain jnp and the truth in the tests; ``xla`` is jax.nn.dot_product_attention;
``blocked`` skips the key blocks that the causal mask hides, for CPUs; ``splash`` is the Pallas TPU
kernel; ``cudnn`` the GPU's; ``cached`` reads the filled part of a cache while decoding.
``choose_implementation`` picks one by platform and shape.

Shapes: q [B, T, N, H]; k, v [B, S, K, H] with N a multiple of K; the result is [B, T, N, H].
"""

from __future__ import annotations

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp

from lilith.config import ConfigError, ModelConfig
from lilith.model.blocked_attention import MASKED, blocked_attention
from lilith.model.cached_attention import cached_attention
from lilith.sharding import ShardingRules, activation_spec, constrain, target_platform


class AttentionContext(NamedTuple):
    """Which keys a query may see: those of its own segment, not after it, inside the window.

    ``q_index_BT`` is the slot of each query in a cache of keys; None means that queries and keys
    are the same tokens in order (training, scoring), which lets kernels skip what is masked.
    """

    q_segments_BT: jax.Array
    kv_segments_BS: jax.Array
    q_index_BT: jax.Array | None = None


def attention_mask(context: AttentionContext, window: int | None) -> jax.Array:
    """True where a query may see a key, [B, T, S]."""
    kv_index = jnp.arange(context.kv_segments_BS.shape[1])[None, None, :]
    if context.q_index_BT is None:
        q_index = jnp.arange(context.q_segments_BT.shape[1])[None, :, None]
    else:
        q_index = context.q_index_BT[:, :, None]
    visible = kv_index <= q_index
    if window is not None:
        visible &= q_index - kv_index < window
    return visible & (context.q_segments_BT[:, :, None] == context.kv_segments_BS[:, None, :])


def attention(
    q_BTNH: jax.Array,
    k_BSKH: jax.Array,
    v_BSKH: jax.Array,
    context: AttentionContext,
    *,
    window: int | None,
    implementation: str,
    rules: ShardingRules,
    block: int = 0,
) -> jax.Array:
    """softmax(q k^T / sqrt(H) + mask) v, by the named implementation.

    Args:
      context: with ``q_index_BT``, keys and values are a cache's: [B, K, H, S] and [B, K, S, H].
      window: how many tokens back a query sees, itself included; None for all.
      implementation: a name that :func:`choose_implementation` gave.
      block: queries and keys that the splash kernel takes at a time; 0 chooses.
    """
    if context.q_index_BT is not None:
        k_BKHS = constrain(k_BSKH, rules, "batch", "kv_heads", "head_dim", None)
        v_BKSH = constrain(v_BSKH, rules, "batch", "kv_heads", None, "head_dim")
        if implementation == "cached":
            return cached_attention(q_BTNH, k_BKHS, v_BKSH, context.q_index_BT, window)
        k_BSKH, v_BSKH = k_BKHS.transpose(0, 3, 1, 2), v_BKSH.swapaxes(1, 2)
    # Each device holds its own queries and the keys of the whole row.
    k_BSKH = constrain(k_BSKH, rules, "batch", None, "kv_heads", "head_dim")
    v_BSKH = constrain(v_BSKH, rules, "batch", None, "kv_heads", "head_dim")
    context = context._replace(
        kv_segments_BS=constrain(context.kv_segments_BS, rules, "batch", None)
    )
    if implementation == "reference":
        return reference_attention(q_BTNH, k_BSKH, v_BSKH, attention_mask(context, window))
    if implementation in ("xla", "cudnn"):
        return jax.nn.dot_product_attention(
            q_BTNH,
            k_BSKH,
            v_BSKH,
            mask=attention_mask(context, window)[:, None],
            implementation="cudnn" if implementation == "cudnn" else "xla",
        )
    if implementation == "blocked":
        # At least 64 queries fill a matrix product; at most 16 blocks keep the program short.
        block = max(64, math.ceil(q_BTNH.shape[1] / 16))
        return blocked_attention(q_BTNH, k_BSKH, v_BSKH, context.q_segments_BT, window, block)
    if implementation == "splash":
        return splash_attention(q_BTNH, k_BSKH, v_BSKH, context, window, rules, block)
    raise ConfigError(f"unknown attention implementation {implementation!r}")


def choose_implementation(
    config: ModelConfig, length: int, *, in_order: bool, platform: str
) -> str:
    """The implementation for ``length`` queries a row on ``platform``.

    Args:
      in_order: queries and keys are the same tokens in order; decoding with a cache is not.

    Raises:
      ConfigError: the config names an implementation that this platform or shape can not run.
    """
    wanted = config.attention
    mesh = jax.sharding.get_abstract_mesh()
    whole_rows = mesh.empty or mesh.shape.get("context", 1) == 1
    if not in_order:
        return "reference" if wanted == "reference" else "cached"
    if wanted == "auto":
        wanted = "xla"
        if platform == "cpu":
            wanted = "blocked" if whole_rows else "reference"
        elif platform == "tpu" and whole_rows and _splash_fits(config, length):
            wanted = "splash"
    if wanted in ("blocked", "splash") and not whole_rows:
        raise ConfigError(
            f"model.attention is {wanted!r}, which needs whole rows on each device, and "
            f"mesh.context is {mesh.shape['context']}; set mesh.context=1 or model.attention=xla"
        )
    if wanted == "splash" and not _splash_fits(config, length):
        raise ConfigError(
            f"model.attention is 'splash', which needs rows of a multiple of 128 tokens and heads "
            f"of a multiple of 64; they have {length} and {config.key_dim}"
        )
    block = config.attention_block
    if wanted == "splash" and block and length % min(block, length):
        raise ConfigError(
            f"model.attention_block is {block}, which does not divide rows of {length} tokens; "
            "the kernel takes whole blocks"
        )
    if wanted == "cudnn" and platform != "gpu":
        raise ConfigError(f"model.attention is 'cudnn', which runs on GPUs; this is {platform}")
    return wanted


def _splash_fits(config: ModelConfig, length: int) -> bool:
    return length % 128 == 0 and config.key_dim % 64 == 0


def reference_attention(
    q_BTNH: jax.Array, k_BSKH: jax.Array, v_BSKH: jax.Array, mask_BTS: jax.Array
) -> jax.Array:
    """The definition, with the softmax in float32."""
    heads, kv_heads = q_BTNH.shape[2], k_BSKH.shape[2]
    batch, length, _, width = q_BTNH.shape
    q_BTKGH = q_BTNH.reshape(batch, length, kv_heads, heads // kv_heads, width)
    scores = jnp.einsum(
        "BTKGH,BSKH->BKGTS", q_BTKGH, k_BSKH, preferred_element_type=jnp.float32
    ) / math.sqrt(width)
    scores = jnp.where(mask_BTS[:, None, None], scores, MASKED)
    weights = jax.nn.softmax(scores, axis=-1).astype(v_BSKH.dtype)
    out_BTKGH = jnp.einsum("BKGTS,BSKH->BTKGH", weights, v_BSKH)
    return out_BTKGH.reshape(batch, length, heads, width)


def splash_attention(
    q_BTNH: jax.Array,
    k_BSKH: jax.Array,
    v_BSKH: jax.Array,
    context: AttentionContext,
    window: int | None,
    rules: ShardingRules,
    block: int = 0,
) -> jax.Array:
    """The Pallas TPU flash kernel, each device on its own rows and heads under shard_map.

    Off a TPU the kernel is interpreted: exact and slow, for tests.
    """
    from jax.experimental.pallas.ops.tpu import splash_attention as splash

    length, heads = q_BTNH.shape[1:3]
    mesh = jax.sharding.get_abstract_mesh()
    pieces = 1 if mesh.empty else math.prod(mesh.shape[axis] for axis in rules.heads)
    own_mask = (
        splash.CausalMask((length, length))
        if window is None
        else splash.LocalMask((length, length), (window - 1, 0), offset=0)
    )
    # A row shorter than the block is one block.
    block = min(block, length) or next(size for size in (512, 256, 128) if length % size == 0)
    kernel = splash.make_splash_mha(
        splash.MultiHeadMask([own_mask] * (heads // pieces)),
        block_sizes=splash.BlockSizes(
            block_q=block,
            block_kv=block,
            block_q_dkv=block,
            block_kv_dkv=block,
            block_q_dq=block,
            block_kv_dq=block,
        ),
        head_shards=1,
        q_seq_shards=1,
        interpret=target_platform() != "tpu",
    )

    def own_rows(
        q: jax.Array, k: jax.Array, v: jax.Array, q_segments: jax.Array, kv_segments: jax.Array
    ) -> jax.Array:
        q = (q / math.sqrt(q.shape[-1])).astype(q.dtype).swapaxes(1, 2)
        segments = splash.SegmentIds(q_segments, kv_segments)
        return jax.vmap(kernel)(q, k.swapaxes(1, 2), v.swapaxes(1, 2), segments).swapaxes(1, 2)

    arguments = (q_BTNH, k_BSKH, v_BSKH, context.q_segments_BT, context.kv_segments_BS)
    if mesh.empty:
        return own_rows(*arguments)
    q_spec = activation_spec(rules, "batch", None, "heads", "head_dim")
    kv_spec = activation_spec(rules, "batch", None, "kv_heads", "head_dim")
    row_spec = activation_spec(rules, "batch", None)
    return jax.shard_map(
        own_rows,
        in_specs=(q_spec, kv_spec, kv_spec, row_spec, row_spec),
        out_specs=q_spec,
        check_vma=False,
    )(*arguments)
