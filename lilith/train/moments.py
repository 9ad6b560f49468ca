"""Optimizer state in few bytes: in bfloat16, or as 8-bit codes with a scale for each block.

The blocks are those of Dettmers et al. 2022, "8-bit Optimizers via Block-wise Quantization": a
block's values are divided by its largest magnitude and each becomes the nearest of 256 values that
lie closer together near zero. The paper looks the values up in a table (its dynamic code). Here
they are powers of equal steps, which needs arithmetic alone, because a look-up for every weight is
what the vector units of accelerators are slow at:

- signed moments: scale * sign(c) * (c / 127)^2 for codes c from -127 to 127;
- second moments, which are never negative: scale * (c / 255)^4 for codes c from 0 to 255.

The weight is divided by the root of its second moment, so one that is not zero never becomes zero.
"""

from __future__ import annotations

import math
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import optax
from jax.tree_util import DictKey, GetAttrKey, KeyPath

BLOCK = 64  # values of one scale: small enough that a block rarely crosses a device's part
SMALLEST = 4096  # values: a smaller array stays in float32 (Dettmers et al. 2022, section 2.3)
# The last axis of these is the model's width, which fsdp splits into parts smaller than a block.
# Their blocks run along the axis before it, so that the scales are split as the weight is.
_ENDING_IN_WIDTH = ("o", "down", "embedding", "unembedding")


@flax.struct.dataclass
class Blocks:
    """An array as 8-bit codes.

    Attributes:
      codes: int8, or uint8 for values that are never negative; of the array's shape.
      scales: float32 largest magnitude of each block; of the array's shape with ceil(n / BLOCK)
        in place of the n of the block's axis.
      axis: which axis blocks run along, counted from the last one, -1.
    """

    codes: jax.Array
    scales: jax.Array
    axis: int = flax.struct.field(pytree_node=False, default=-1)


def quantize(x: jax.Array, axis: int = -1, *, signed: bool = True) -> Blocks:
    """The nearest codes of a floating-point array; what :func:`dequantize` takes back.

    For a block of largest magnitude s, the error of a value v is at most
    s * ((r + h)^p - r^p), r = (|v| / s)^(1/p), with p = 2 and h = 1/254 for signed values and
    p = 4 and h = 1/510 for others (there h = 1/255 below the least code, which is not rounded to
    zero). Zero, and the largest magnitude of each block, come back exactly.

    Args:
      axis: negative; blocks of :data:`BLOCK` values run along it, the last one shorter if need be.
      signed: False for values that are never negative.
    """
    blocks = _split(x.astype(jnp.float32), axis)
    scales = jnp.max(jnp.abs(blocks), axis=axis, keepdims=True)
    ratio = jnp.abs(blocks) / jnp.where(scales > 0, scales, 1.0)
    if signed:
        codes = jnp.sign(blocks) * jnp.round(127.0 * jnp.sqrt(ratio))
    else:
        codes = jnp.maximum(jnp.round(255.0 * jnp.sqrt(jnp.sqrt(ratio))), ratio > 0)
    codes = codes.astype(jnp.int8 if signed else jnp.uint8)
    return Blocks(_join(codes, axis, x.shape), jnp.squeeze(scales, axis), axis)


def dequantize(x: Blocks) -> jax.Array:
    """The float32 values that the codes stand for."""
    codes = _split(x.codes, x.axis).astype(jnp.float32)
    if x.codes.dtype == jnp.int8:
        roots = codes / 127.0
        values = roots * jnp.abs(roots)
    else:
        values = jnp.square(jnp.square(codes / 255.0))
    return _join(values * jnp.expand_dims(x.scales, x.axis), x.axis, x.codes.shape)


def keep_state_in(
    optimizer: optax.GradientTransformation, dtype: str
) -> optax.GradientTransformation:
    """Keep floating-point state in ``dtype`` between steps; every update computes in float32.

    Args:
      dtype: ``float32``, ``bfloat16``, or ``int8`` for :class:`Blocks` in place of each array of
        at least :data:`SMALLEST` values.
    """

    def init(params: Any) -> Any:
        state = optimizer.init(_widened(params))
        if dtype == "int8":
            return jax.tree_util.tree_map_with_path(_no_blocks, state)
        return _cast(state, jnp.bfloat16) if dtype == "bfloat16" else state

    def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
        before = state
        updates, state = optimizer.update(_widened(updates), _decoded(state), _widened(params))
        if dtype == "int8":
            # As it was kept before: of a part of the state, sizes are not the whole's.
            return updates, jax.tree.map(_encoded, before, state, is_leaf=_is_blocks)
        return updates, _cast(state, jnp.bfloat16) if dtype == "bfloat16" else state

    return optax.GradientTransformation(init, update)


def _encoded(before: Any, leaf: jax.Array) -> Any:
    if not isinstance(before, Blocks):
        return leaf
    return quantize(leaf, before.axis, signed=before.codes.dtype == jnp.int8)


def _decoded(state: Any) -> Any:
    def decode(leaf: Any) -> jax.Array:
        return dequantize(leaf) if isinstance(leaf, Blocks) else _widened(leaf)

    return jax.tree.map(decode, state, is_leaf=_is_blocks)


def _is_blocks(node: Any) -> bool:
    return isinstance(node, Blocks)


def _no_blocks(path: KeyPath, leaf: jax.Array) -> Any:
    """The blocks of an array of zeros, split over devices as the array is.

    A scale's axis that its mesh axes do not divide is whole on each of them: there are 64 times
    fewer scales than values.
    """
    if not _in_blocks(leaf):
        return leaf
    axis = _block_axis(path)
    dtype = jnp.uint8 if _is_second_moment(path) else jnp.int8
    shape = list(leaf.shape)
    shape[axis] = math.ceil(shape[axis] / BLOCK)
    sharding = jax.typeof(leaf).sharding
    if sharding.mesh.empty:
        return Blocks(jnp.zeros_like(leaf, dtype), jnp.zeros(shape, jnp.float32), axis)
    pieces = leaf.shape[axis] // sharding.shard_shape(leaf.shape)[axis]
    parts = list(sharding.spec) + [None] * (leaf.ndim - len(sharding.spec))
    if shape[axis] % pieces:
        parts[axis] = None
    scales = jnp.zeros(shape, jnp.float32, out_sharding=jax.P(*parts))
    return Blocks(jnp.zeros_like(leaf, dtype), scales, axis)


def _in_blocks(leaf: jax.Array) -> bool:
    return jnp.issubdtype(leaf.dtype, jnp.floating) and leaf.size >= SMALLEST


def _is_second_moment(path: KeyPath) -> bool:
    """Whether a leaf of optax's states is in a mean of squares, a field of the name ``nu``."""
    return any(isinstance(key, GetAttrKey) and key.name == "nu" for key in path)


def _block_axis(path: KeyPath) -> int:
    last = path[-1]
    return -2 if isinstance(last, DictKey) and last.key in _ENDING_IN_WIDTH else -1


def _cast(tree: Any, dtype: Any) -> Any:
    return jax.tree.map(
        lambda leaf: leaf.astype(dtype) if jnp.issubdtype(leaf.dtype, jnp.floating) else leaf, tree
    )


def _widened(tree: Any) -> Any:
    """Floating-point arrays of less than 32 bits as float32."""

    def widen(leaf: jax.Array) -> jax.Array:
        narrow = jnp.issubdtype(leaf.dtype, jnp.floating) and leaf.dtype.itemsize < 4
        return leaf.astype(jnp.float32) if narrow else leaf

    return jax.tree.map(widen, tree)


def _split(x: jax.Array, axis: int) -> jax.Array:
    """[..., n, ...] as [..., blocks, BLOCK, ...], filled up with zeros."""
    count = math.ceil(x.shape[axis] / BLOCK)
    place = x.ndim + axis
    padding = [(0, 0)] * x.ndim
    padding[place] = (0, count * BLOCK - x.shape[axis])
    shape = (*x.shape[:place], count, BLOCK, *x.shape[place + 1 :])
    return jnp.pad(x, padding).reshape(shape)


def _join(blocks: jax.Array, axis: int, shape: tuple[int, ...]) -> jax.Array:
    """What :func:`_split` had, of ``shape``."""
    place = len(shape) + axis
    whole = blocks.reshape(*shape[:place], -1, *shape[place + 1 :])
    return jax.lax.slice_in_dim(whole, 0, shape[axis], axis=place)
