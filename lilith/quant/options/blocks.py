"""Large arrays in blocks: what an elementwise formula needs meanwhile stays in the CPU's cache."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np

from lilith.quant.precision import precision

Function = TypeVar("Function", bound=Callable[..., Any])
BLOCK_BYTES = 512 * 1024  # of an array in a block: smaller ones XLA leaves to one core
LEAST_BLOCKS = 2  # below this, one call


def in_blocks(*, static: Iterable[str] = ()) -> Callable[[Function], Any]:
    """Call an elementwise core (one decorated with ``double_precision``) block by block.

    Only with values on a CPU: a call with tracers, of few numbers or on an accelerator goes through
    as it is. The last block is filled up, so that every large array runs the same program.

    Args:
      static: names of the arguments that are not arrays.
    """
    static = tuple(static)

    def decorate(function: Function) -> Any:
        @functools.wraps(function)
        def call(*args: Any, **kwargs: Any) -> Any:
            kept = {name: kwargs.pop(name) for name in static if name in kwargs}
            values = [*args, *kwargs.values()]
            shape = _large_shape(values)
            if shape is None:
                return function(*args, **kwargs, **kept)
            flat = [_flat(value, shape) for value in values]
            size = BLOCK_BYTES // _width(values)
            whole: Any = None
            for start in range(0, math.prod(shape), size):
                own = [_block(value, start, size) for value in flat]
                named = dict(zip(kwargs, own[len(args) :]))
                part = function(*own[: len(args)], **named, **kept)
                if whole is None:
                    whole = jax.tree.map(lambda leaf: np.empty(math.prod(shape), leaf.dtype), part)
                jax.tree.map(lambda out, leaf: _fill(out, leaf, start, size), whole, part)
            # As the function itself returns them: NumPy's arrays or JAX's.
            return jax.tree.map(
                lambda out, leaf: (
                    out.reshape(shape)
                    if isinstance(leaf, np.ndarray)
                    else jnp.asarray(out.reshape(shape))
                ),
                whole,
                part,
            )

        return call

    return decorate


def _large_shape(values: list[Any]) -> tuple[int, ...] | None:
    """The shape of the result, if it is large and known here and now."""
    if any(isinstance(value, jax.core.Tracer) for value in values):
        return None
    shape = np.broadcast_shapes(*(np.shape(value) for value in values))
    bytes_ = math.prod(shape) * _width(values)
    return (
        shape if bytes_ >= LEAST_BLOCKS * BLOCK_BYTES and jax.default_backend() == "cpu" else None
    )


def _width(values: list[Any]) -> int:
    """Bytes of a number in the precision that ``double_precision`` chooses."""
    return np.dtype(precision(values)).itemsize


def _flat(value: Any, shape: tuple[int, ...]) -> Any:
    """The numbers of all options in a row; a single one for all stays single."""
    if np.size(value) == 1:
        return value if np.ndim(value) == 0 else np.asarray(value).reshape(())
    return np.broadcast_to(np.asarray(value), shape).reshape(-1)


def _block(value: Any, start: int, size: int) -> Any:
    """The numbers of one block; the last one is filled up, so that one program does for all."""
    if np.ndim(value) == 0:
        return value
    own = value[start : start + size]
    return own if own.size == size else np.pad(own, (0, size - own.size), mode="edge")


def _fill(out: np.ndarray, leaf: Any, start: int, size: int) -> None:
    own = out[start : start + size]
    own[:] = np.asarray(leaf)[: own.size]
