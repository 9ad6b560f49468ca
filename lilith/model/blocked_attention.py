"""Causal attention in blocks of queries, for CPUs, with its own gradient.

A block's keys end where the block does and start where its window does, so nearly half of a full
score matrix is never computed. The forward pass keeps each query's log-sum-exp; the backward pass
makes the weights again from it, transposed (keys x queries), so that every product it needs is a
plain matrix product and no reduction is repeated (Dao et al. 2022, FlashAttention, section 3).

Query heads that share a key head are stacked as rows of one matrix: R = heads/kv_heads * block.
"""

from __future__ import annotations

import math
from functools import partial

import jax
import jax.numpy as jnp

# Large enough to vanish in a softmax, small enough that adding two of them stays finite.
MASKED = -1e30


@partial(jax.custom_vjp, nondiff_argnums=(4, 5))
def blocked_attention(
    q_BTNH: jax.Array,
    k_BTKH: jax.Array,
    v_BTKH: jax.Array,
    segments_BT: jax.Array,
    window: int | None,
    block: int,
) -> jax.Array:
    """softmax(q k^T / sqrt(H) + mask) v of tokens to themselves, [B, T, N, H].

    Args:
      segments_BT: tokens see only their own segment.
      window: how many tokens back a query sees, itself included; None for all.
      block: queries handled at one time; the last block may be shorter.
    """
    return _forward(q_BTNH, k_BTKH, v_BTKH, segments_BT, window, block)[0]


def _blocks(length: int, window: int | None, block: int) -> list[tuple[int, int, int]]:
    """(first key, first query, end of both) of each block."""
    return [
        (0 if window is None else max(0, start - window + 1), start, min(start + block, length))
        for start in range(0, length, block)
    ]


def _visible(
    segments_BT: jax.Array, first: int, start: int, end: int, window: int | None
) -> jax.Array:
    """True where a query of the block may see a key, [B, queries, keys]."""
    query, key = jnp.arange(start, end)[:, None], jnp.arange(first, end)[None, :]
    visible = key <= query
    if window is not None:
        visible &= query - key < window
    own, others = segments_BT[:, start:end, None], segments_BT[:, None, first:end]
    return visible[None] & (own == others)


def _stack_heads(x_BTNH: jax.Array, kv_heads: int) -> jax.Array:
    """[B, T, N, H] to [B, K, R, H], the heads of one group above each other."""
    batch, length, heads, width = x_BTNH.shape
    grouped = x_BTNH.reshape(batch, length, kv_heads, heads // kv_heads, width)
    return grouped.transpose(0, 2, 3, 1, 4).reshape(batch, kv_heads, -1, width)


def _unstack_heads(x_BKRH: jax.Array, length: int) -> jax.Array:
    """The inverse of :func:`_stack_heads`."""
    batch, kv_heads, rows, width = x_BKRH.shape
    grouped = x_BKRH.reshape(batch, kv_heads, rows // length, length, width)
    return grouped.transpose(0, 3, 1, 2, 4).reshape(batch, length, -1, width)


def _dot(a: jax.Array, b: jax.Array, a_axis: int, b_axis: int) -> jax.Array:
    """The matrix product over the given axes, for each row and key head, in float32."""
    dimensions = (((a_axis,), (b_axis,)), ((0, 1), (0, 1)))
    return jax.lax.dot_general(a, b, dimensions, preferred_element_type=jnp.float32)


def _forward(q_BTNH, k_BTKH, v_BTKH, segments_BT, window, block):
    scale, kv_heads = 1.0 / math.sqrt(q_BTNH.shape[-1]), k_BTKH.shape[2]
    k_BKTH, v_BKTH = k_BTKH.swapaxes(1, 2), v_BTKH.swapaxes(1, 2)
    outputs, log_sums = [], []
    for first, start, end in _blocks(q_BTNH.shape[1], window, block):
        q_BKRH = _stack_heads(q_BTNH[:, start:end] * scale, kv_heads)
        scores_BKRS = _dot(q_BKRH, k_BKTH[:, :, first:end], 3, 3)
        shape = scores_BKRS.shape
        grouped = scores_BKRS.reshape(*shape[:2], -1, end - start, shape[-1])
        visible = _visible(segments_BT, first, start, end, window)[:, None, None]
        scores_BKRS = jnp.where(visible, grouped, MASKED).reshape(shape)
        top_BKR1 = jnp.max(scores_BKRS, axis=-1, keepdims=True)
        weights_BKRS = jnp.exp(scores_BKRS - top_BKR1)
        total_BKR1 = jnp.sum(weights_BKRS, axis=-1, keepdims=True)
        sum_BKRH = _dot(weights_BKRS.astype(v_BKTH.dtype), v_BKTH[:, :, first:end], 3, 2)
        outputs.append(_unstack_heads(sum_BKRH / total_BKR1, end - start).astype(q_BTNH.dtype))
        log_sums.append((top_BKR1 + jnp.log(total_BKR1))[..., 0])
    out_BTNH = jnp.concatenate(outputs, axis=1)
    return out_BTNH, (q_BTNH, k_BTKH, v_BTKH, segments_BT, out_BTNH, log_sums)


def _backward(window, block, residuals, d_out_BTNH):
    q_BTNH, k_BTKH, v_BTKH, segments_BT, out_BTNH, log_sums = residuals
    scale, kv_heads = 1.0 / math.sqrt(q_BTNH.shape[-1]), k_BTKH.shape[2]
    length, dtype = q_BTNH.shape[1], q_BTNH.dtype
    k_BKTH, v_BKTH = k_BTKH.swapaxes(1, 2), v_BTKH.swapaxes(1, 2)
    inner_BTN1 = jnp.sum(
        d_out_BTNH.astype(jnp.float32) * out_BTNH.astype(jnp.float32), axis=-1, keepdims=True
    )
    d_q, d_k, d_v = [], jnp.zeros_like(k_BKTH, jnp.float32), jnp.zeros_like(v_BKTH, jnp.float32)
    for (first, start, end), log_sum_BKR in zip(_blocks(length, window, block), log_sums):
        q_BKRH = _stack_heads(q_BTNH[:, start:end] * scale, kv_heads)
        d_out_BKRH = _stack_heads(d_out_BTNH[:, start:end], kv_heads)
        inner_BKR = _stack_heads(inner_BTN1[:, start:end], kv_heads)[..., 0]
        scores_BKSR = _dot(k_BKTH[:, :, first:end], q_BKRH, 3, 3)
        shape = scores_BKSR.shape
        weights = jnp.exp(scores_BKSR - log_sum_BKR[:, :, None, :])
        visible = _visible(segments_BT, first, start, end, window).swapaxes(1, 2)
        weights_BKSR = jnp.where(
            visible[:, None, :, None, :], weights.reshape(*shape[:3], -1, end - start), 0.0
        ).reshape(shape)
        d_weights_BKSR = _dot(v_BKTH[:, :, first:end], d_out_BKRH, 3, 3)
        d_scores_BKSR = weights_BKSR * (d_weights_BKSR - inner_BKR[:, :, None, :])
        weights_BKSR, d_scores_BKSR = weights_BKSR.astype(dtype), d_scores_BKSR.astype(dtype)
        beside = ((0, 0), (0, 0), (first, length - end), (0, 0))
        d_v = d_v + jnp.pad(_dot(weights_BKSR, d_out_BKRH, 3, 2), beside)
        d_k = d_k + jnp.pad(_dot(d_scores_BKSR, q_BKRH, 3, 2), beside)
        d_q_BKRH = _dot(k_BKTH[:, :, first:end].swapaxes(2, 3), d_scores_BKSR, 3, 2)
        d_q.append(_unstack_heads(d_q_BKRH.swapaxes(2, 3) * scale, end - start))
    return (
        jnp.concatenate(d_q, axis=1).astype(dtype),
        d_k.swapaxes(1, 2).astype(dtype),
        d_v.swapaxes(1, 2).astype(dtype),
        None,
    )


blocked_attention.defvjp(_forward, _backward)
