"""The pieces of a transformer block: normalisation, rotary positions, projections, the MLP."""

from __future__ import annotations

import dataclasses
import math
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from lilith.config import ModelConfig, RopeScaling
from lilith.model.adapters import Adapted, rescaling
from lilith.sharding import ShardingRules, activation_spec, constrain


def use_weight(weight: jax.Array, dtype: Any, rules: ShardingRules, *axes: str | None) -> jax.Array:
    """A stored weight as its matrix product wants it: cast first, then gathered over ``fsdp``.

    The cast comes first so that the gather moves half the bytes in bfloat16. ``axes`` are the
    weight's logical axes, with ``model`` in place of ``embed``.
    """
    return constrain(weight.astype(dtype), rules, *axes)


def rms_norm(x: jax.Array, scale: jax.Array, eps: float) -> jax.Array:
    """x / sqrt(mean(x^2) + eps) * scale over the last axis, in float32 (Zhang, Sennrich 2019).

    Args:
      x: [..., D].
      scale: [D] float32.
    """
    x32 = x.astype(jnp.float32)
    variance = jnp.mean(jnp.square(x32), axis=-1, keepdims=True)
    return (x32 * jax.lax.rsqrt(variance + eps) * scale.astype(jnp.float32)).astype(x.dtype)


def rope_frequencies(
    head_dim: int, base: float, scaling: RopeScaling, context: int
) -> tuple[np.ndarray, float]:
    """Inverse frequencies [H/2] (radians a token) and the factor on cos and sin.

    Su et al. 2021, with linear position interpolation (Chen et al. 2023), the smooth split of
    Llama 3.1 (Dubey et al. 2024) or YaRN (Peng et al. 2023, section 3.4).
    """
    exponents = np.arange(0, head_dim, 2, dtype=np.float64) / head_dim
    inverse = base**-exponents
    original = scaling.original_context or context
    if scaling.kind == "linear":
        return inverse / scaling.factor, 1.0
    if scaling.kind == "llama3":
        turns = original * inverse / (2 * math.pi)
        low, high = scaling.low_frequency_factor, scaling.high_frequency_factor
        smooth = np.clip((turns - low) / (high - low), 0.0, 1.0)
        return inverse * (smooth + (1 - smooth) / scaling.factor), 1.0
    if scaling.kind == "yarn":

        def dimension(turns: float) -> float:
            return head_dim * math.log(original / (turns * 2 * math.pi)) / (2 * math.log(base))

        low = max(math.floor(dimension(scaling.beta_fast)), 0)
        high = min(math.ceil(dimension(scaling.beta_slow)), head_dim - 1)
        ramp = np.clip((np.arange(head_dim // 2) - low) / max(high - low, 1e-3), 0.0, 1.0)
        factor = scaling.attention_factor
        if factor is None:
            factor = 0.1 * math.log(scaling.factor) + 1.0 if scaling.factor > 1 else 1.0
        return inverse * (1 - ramp) + inverse / scaling.factor * ramp, factor
    return inverse, 1.0


def rope_table(positions_BT: jax.Array, config: ModelConfig) -> tuple[jax.Array, jax.Array]:
    """cos and sin of every position, each [B, T, 1, H/2] float32, to share over all layers."""
    inverse, factor = rope_frequencies(
        config.key_dim, config.rope_base, config.rope_scaling, config.context
    )
    angles = positions_BT[:, :, None, None].astype(jnp.float32) * inverse.astype(np.float32)
    return jnp.cos(angles) * factor, jnp.sin(angles) * factor


def apply_rope(x_BTNH: jax.Array, table: tuple[jax.Array, jax.Array]) -> jax.Array:
    """Rotate the pairs (i, i + H/2) of every head by its position's angles."""
    cos, sin = table
    first, second = jnp.split(x_BTNH.astype(jnp.float32), 2, axis=-1)
    rotated = jnp.concatenate((first * cos - second * sin, second * cos + first * sin), axis=-1)
    return rotated.astype(x_BTNH.dtype)


def embed(table_VD: jax.Array, tokens_BT: jax.Array, dtype: Any, rules: ShardingRules) -> jax.Array:
    """Rows of the embedding table, [B, T, D]."""
    # Gathering from a table split over the vocabulary would move every row to every device, so
    # the table is split over its width for the lookup, and the result is made whole.
    table = constrain(table_VD.astype(dtype), rules, None, "ff")
    rows = table.at[tokens_BT].get(out_sharding=activation_spec(rules, "batch", "length", "ff"))
    return constrain(rows, rules, "batch", "length", "model")


# What follows is cheap to make again from its inputs, so only those are kept for the backward pass:
# the norm is recomputed, weights are gathered again, and no matrix product is repeated, because no
# gradient needs its result.
_keep_inputs = partial(jax.checkpoint, prevent_cse=False)
_QKV = ("q", "k", "v", "q_bias", "k_bias", "v_bias", "qkv", "qkv_bias")


def project_qkv(
    x_BTD: jax.Array, norm_D: jax.Array, weights: dict[str, Any], eps: float, rules: ShardingRules
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Queries [B, T, N, H], keys and values [B, T, K, H] of the normalised input."""

    def project(x_BTD: jax.Array, norm_D: jax.Array, weights: dict[str, Any]) -> Any:
        h_BTD = rms_norm(x_BTD, norm_D, eps)

        def product(name: str, heads: str) -> jax.Array:
            flat = linear(h_BTD, weights[name], rules, ("model",), (heads, "head_dim"))
            flat = flat.reshape(*flat.shape[:2], *weights[name].shape[1:])
            bias = weights.get(f"{name}_bias")
            return flat if bias is None else flat + bias.astype(flat.dtype)

        if "qkv" in weights:  # the generation layout
            joined = product("qkv", "heads")
            kv_heads = (joined.shape[2] - heads) // 2
            return tuple(jnp.split(joined, (heads, heads + kv_heads), axis=2))
        return product("q", "heads"), product("k", "kv_heads"), product("v", "kv_heads")

    heads = weights["o"].shape[0]
    used = {name: weights[name] for name in _QKV if name in weights}
    return _keep_inputs(project)(x_BTD, norm_D, used)


def merge_heads(x_BTNH: jax.Array, weight_NHD: jax.Array, rules: ShardingRules) -> jax.Array:
    """The output projection of attention, [B, T, D]."""

    @_keep_inputs
    def merge(x_BTNH: jax.Array, weight_NHD: jax.Array) -> jax.Array:
        flat_BTC = x_BTNH.reshape(*x_BTNH.shape[:2], -1)
        return linear(flat_BTC, weight_NHD, rules, ("heads", "head_dim"), ("model",))

    return merge(x_BTNH, weight_NHD)


def swiglu_mlp(
    x_BTD: jax.Array, norm_D: jax.Array, weights: dict[str, Any], eps: float, rules: ShardingRules
) -> jax.Array:
    """down(silu(gate(h)) * up(h)) of the normalised input h, [B, T, D] (Shazeer 2020)."""

    @_keep_inputs
    def expand(x_BTD: jax.Array, norm_D: jax.Array, weights: tuple[jax.Array, ...]) -> Any:
        h_BTD = rms_norm(x_BTD, norm_D, eps)
        return tuple(linear(h_BTD, weight, rules, ("model",), ("ff",)) for weight in weights)

    @_keep_inputs
    def contract(gate_BTF: jax.Array, up_BTF: jax.Array, down_FD: jax.Array) -> jax.Array:
        return linear(jax.nn.silu(gate_BTF) * up_BTF, down_FD, rules, ("ff",), ("model",))

    if "gate_up" in weights:  # the generation layout
        (joined,) = expand(x_BTD, norm_D, (weights["gate_up"],))
        return contract(*jnp.split(joined, 2, axis=-1), weights["down"])
    return contract(*expand(x_BTD, norm_D, (weights["gate"], weights["up"])), weights["down"])


def linear(
    x_BTC: jax.Array,
    weight: Any,
    rules: ShardingRules,
    inputs: tuple[str, ...],
    outputs: tuple[str, ...],
) -> jax.Array:
    """x times a stored weight [*inputs, *outputs], or an adapted one; the outputs as one axis."""
    if not isinstance(weight, Adapted):
        return dense(x_BTC, _matrix(weight, x_BTC.dtype, rules, inputs, outputs), rules, outputs[0])
    own = _gathered(weight, x_BTC.dtype, rules, inputs, outputs)
    low_BTR = dense(own.dropped(x_BTC), own.a, rules, None)
    change_BTE = dense(low_BTR, own.b, rules, outputs[0], repeatable=True)
    y_BTE = linear(x_BTC, weight.weight, rules, inputs, outputs) + change_BTE * own.scale
    if own.magnitude is None:
        return y_BTE
    matrix = own.matrix(_matrix(weight.weight, x_BTC.dtype, rules, inputs, outputs))
    return y_BTE * rescaling(own.magnitude, matrix).astype(y_BTE.dtype)


def _matrix(
    weight: Any, dtype: Any, rules: ShardingRules, inputs: tuple[str, ...], outputs: tuple[str, ...]
) -> jax.Array:
    """A weight as its product wants it, [inputs, outputs]; an adapted one with its change."""
    if not isinstance(weight, Adapted):
        used = use_weight(weight, dtype, rules, *inputs, *outputs)
        return used.reshape(math.prod(used.shape[: len(inputs)]), -1)
    own = _gathered(weight, dtype, rules, inputs, outputs)
    matrix = own.matrix(_matrix(weight.weight, dtype, rules, inputs, outputs))
    if own.magnitude is None:
        return matrix
    return matrix * rescaling(own.magnitude, matrix).astype(dtype)


def _gathered(
    weight: Adapted,
    dtype: Any,
    rules: ShardingRules,
    inputs: tuple[str, ...],
    outputs: tuple[str, ...],
) -> Adapted:
    """The change of an adapted weight, cast and laid out as :func:`use_weight` does."""
    magnitude = weight.magnitude
    return dataclasses.replace(
        weight,
        a=use_weight(weight.a, dtype, rules, inputs[0], None),
        b=use_weight(weight.b, dtype, rules, None, outputs[0]),
        magnitude=None if magnitude is None else constrain(magnitude, rules, outputs[0]),
    )


def dense(
    x_BTC: jax.Array,
    weight_CE: jax.Array,
    rules: ShardingRules,
    out: str | None,
    *,
    repeatable: bool = False,
) -> jax.Array:
    """x @ weight, [B, T, E], with the last axis of the result laid out as ``out``.

    Rows and tokens are one axis during the product: with two, the gradient of the weight sums over
    both, and XLA's CPU backend first writes a transposed copy of each operand (a fifth of a step).

    Args:
      repeatable: so cheap that the backward pass should compute it again: a batch axis of one keeps
        it from being saved under the remat policy ``dots``.
    """
    batch, length, _ = x_BTC.shape
    spec = activation_spec(rules, "batch", "length", out)
    if spec is not None and spec[1] is not None:  # a split length can not merge with the rows
        return jnp.einsum("BTC,CE->BTE", x_BTC, weight_CE, out_sharding=spec)
    if batch * length == 1 and spec is None and jax.default_backend() == "cpu":
        return _one_row(x_BTC, weight_CE)
    rows_RC = x_BTC.reshape(batch * length, -1)
    if repeatable:
        flat = None if spec is None else activation_spec(rules, None, "batch", out)
        product = jnp.einsum("ZRC,ZCE->ZRE", rows_RC[None], weight_CE[None], out_sharding=flat)[0]
    else:
        flat = None if spec is None else activation_spec(rules, "batch", out)
        product = jnp.einsum("RC,CE->RE", rows_RC, weight_CE, out_sharding=flat)
    return product.reshape(batch, length, -1)


def _one_row(x_11C: jax.Array, weight_CE: jax.Array) -> jax.Array:
    """The product of a single token, as the sum of a few products over pieces of C.

    Decoding is bound by reading the weights, and XLA's CPU backend reads them 3% (large weights)
    to 30% (small ones) faster in batched products, which it runs beside each other.
    """
    pieces = math.gcd(x_11C.shape[2], 4)
    x_PC = x_11C.reshape(pieces, -1)
    weight_PCE = weight_CE.reshape(pieces, -1, weight_CE.shape[1])
    return jnp.sum(jnp.einsum("PC,PCE->PE", x_PC, weight_PCE), axis=0)[None, None]


def softcap(x: jax.Array, cap: float) -> jax.Array:
    """cap * tanh(x / cap), which keeps logits inside (-cap, cap); 0 leaves ``x`` alone."""
    return x if cap == 0 else cap * jnp.tanh(x / cap)
