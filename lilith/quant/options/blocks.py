"""Large arrays in blocks: what an elementwise formula needs meanwhile stays in the CPU's cache."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

import jax
import numpy as np

from lilith.quant.precision import precision

Function = TypeVar("Function", bound=Callable[..., Any])
BLOCK = 65_536  # numbers an array: 512 KiB in double precision
LEAST = 2 * BLOCK  # below this, one call


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
            dtype = precision(jax.tree.leaves(values))
            flat = [_flat(value, shape, dtype) for value in values]
            count = math.prod(shape)

            def part(start: int) -> Any:
                own = [_block(value, start) for value in flat]
                named = dict(zip(kwargs, own[len(args) :]))
                return function(*own[: len(args)], **named, **kept)

            first = part(0)
            whole = jax.tree.map(lambda leaf: np.empty(count, leaf.dtype), first)
            for start in range(0, count, BLOCK):
                leaves = jax.tree.leaves(part(start) if start else first)
                for out, leaf in zip(jax.tree.leaves(whole), leaves):
                    own = out[start : start + BLOCK]
                    own[:] = np.asarray(leaf)[: own.size]
            # As the function itself returns them: NumPy's arrays or JAX's.
            return jax.tree.map(lambda out, leaf: _like(out.reshape(shape), leaf), whole, first)

        return call

    return decorate


def _large_shape(values: list[Any]) -> tuple[int, ...] | None:
    """The shape of the result, if it is large and known here and now."""
    if any(isinstance(value, jax.core.Tracer) for value in values):
        return None
    shape = np.broadcast_shapes(*(np.shape(value) for value in values))
    large = math.prod(shape) >= LEAST and jax.default_backend() == "cpu"
    return shape if large else None


def _flat(value: Any, shape: tuple[int, ...], dtype: Any) -> Any:
    """The numbers of all options in a row; a single one for all stays single."""
    array = np.asarray(value)
    if not hasattr(value, "dtype") and array.dtype != np.bool_:
        array = array.astype(dtype)  # Python's numbers take the precision of the call
    return array.reshape(()) if array.size == 1 else np.broadcast_to(array, shape).reshape(-1)


def _block(value: Any, start: int) -> Any:
    """The numbers of one block; the last one is filled up, so that one program does for all."""
    if np.ndim(value) == 0:
        return value
    own = value[start : start + BLOCK]
    return own if own.size == BLOCK else np.pad(own, (0, BLOCK - own.size), mode="edge")


def _like(out: np.ndarray, leaf: Any) -> Any:
    return out if isinstance(leaf, np.ndarray) else jax.device_put(out)
