"""Weights kept in bfloat16 alone, rounded up or down at random so that small updates add up.

Rounded to the nearest, an update below half of the distance to the next bfloat16 (up to 1/256 of
the weight) is lost, and so is every later one of its size. Rounded up with the probability
of the part that is cut off, the mean is the exact sum (Gupta et al. 2015, "Deep Learning with
Limited Numerical Precision", section 2.1).
"""

from __future__ import annotations

import zlib
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.random import fold_in
from jax.tree_util import DictKey

from lilith.config import ConfigError
from lilith.train.layerwise import LAYERS


class RoundingState(NamedTuple):
    """State of :func:`round_stochastically`.

    Attributes:
      step: int32 updates made, which the random numbers depend on.
      inner: the optimizer's own.
    """

    step: jax.Array
    inner: Any


def to_bfloat16(x: jax.Array, key: jax.Array) -> jax.Array:
    """``x`` as one of the two nearest bfloat16, the closer the likelier; its mean is ``x``.

    A bfloat16 is the upper half of a float32, so a random number below 2^16 is added to the bits
    and the lower half is cut off. Infinities and NaNs stay what they are.

    Args:
      x: float32; one beyond the largest bfloat16 may become infinite.
      key: of the random numbers, which do not depend on how ``x`` is laid out on devices.
    """
    bits = jax.lax.bitcast_convert_type(x, jnp.uint32)
    drawn = jax.random.bits(key, x.shape, jnp.uint16).astype(jnp.uint32)
    cut = jax.lax.bitcast_convert_type((bits + drawn) & jnp.uint32(0xFFFF0000), jnp.float32)
    return jnp.where(jnp.isfinite(x), cut, x).astype(jnp.bfloat16)


def round_stochastically(
    optimizer: optax.GradientTransformation, seed: int
) -> optax.GradientTransformationExtraArgs:
    """Make updates that take bfloat16 weights to stochastically rounded sums.

    The random numbers are a function of ``seed``, of how many updates were made before, of the
    weight's path and of its layer, so a resumed run draws the same ones, and so does one that takes
    the layers in turn (``first_layer`` is the first that an update is given). Updates are
    differences to the rounded weights in float32, which :func:`optax.apply_updates` adds exactly
    (to a float32's precision where a weight shrinks by more than 2^16 in one step). Weights of
    other types are left alone.

    Raises:
      ConfigError: no weight is bfloat16.
    """

    def init(params: Any) -> RoundingState:
        if not any(leaf.dtype == jnp.bfloat16 for leaf in jax.tree.leaves(params)):
            kinds = ", ".join(sorted({str(leaf.dtype) for leaf in jax.tree.leaves(params)}))
            raise ConfigError(
                "optimizer.rounding is 'stochastic', which is for weights trained in bfloat16, and "
                f"these are {kinds}; set optimizer.rounding=nearest, or model.param_dtype=bfloat16 "
                "in a run that starts from fresh weights"
            )
        return RoundingState(jnp.zeros((), jnp.int32), optimizer.init(params))

    def update(
        updates: Any,
        state: RoundingState,
        params: Any = None,
        *,
        first_layer: jax.Array | int = 0,
        **extra: Any,
    ) -> tuple[Any, RoundingState]:
        updates, inner = optimizer.update(updates, state.inner, params)
        step_key = fold_in(jax.random.key(seed), state.step)

        def rounded(path: Any, update: jax.Array, weight: jax.Array) -> jax.Array:
            if weight.dtype != jnp.bfloat16:
                return update
            name = jax.tree_util.keystr(path, simple=True, separator="/")
            key = fold_in(step_key, zlib.crc32(name.encode()))
            before = weight.astype(jnp.float32)
            exact = before + update.astype(jnp.float32)
            if path[0] == DictKey(LAYERS):
                layers = first_layer + jnp.arange(len(exact))
                after = jax.vmap(to_bfloat16)(exact, jax.vmap(partial(fold_in, key))(layers))
            else:
                after = to_bfloat16(exact, key)
            return after.astype(jnp.float32) - before

        updates = jax.tree_util.tree_map_with_path(rounded, updates, params)
        return updates, RoundingState(optax.safe_increment(state.step), inner)

    return optax.GradientTransformationExtraArgs(init, update)
