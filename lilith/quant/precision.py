"""Double precision by scope: float64 inside a call, never by the global flag."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

import jax
import numpy as np

Function = TypeVar("Function", bound=Callable[..., Any])
# XLA's older CPU emitters compile a program of many small steps in half the time, and it runs about
# as fast. Not for formulas on large arrays, which the newer ones run faster.
QUICK_COMPILATION = {"xla_cpu_use_fusion_emitters": False}


def double_precision(
    function: Function | None = None,
    *,
    static: Iterable[str] = (),
    compiler_options: Mapping[str, Any] | None = None,
) -> Any:  # a decorator with or without arguments
    """Compile a pure core, and run it in float64 unless the caller chose a precision.

    - With a tracer among the arguments (inside jit, vmap or grad) the function keeps the caller's
      precision: float64 where the caller traces under ``jax.enable_x64(True)``, else float32.
    - With values, Python numbers, lists, integers and float64 arrays run in float64 under a scoped
      ``jax.enable_x64``. If there are float32 arrays and no float64 ones, float32 it stays.
    - Outside an x64 scope float64 results are NumPy's (scalars where they have no axes): JAX would
      cut the next operation on its own arrays to float32 there. Inside, they are JAX arrays.

    Args:
      static: names of arguments that are part of the program (step counts, flags, strings), given
        as Python values and passed as they are. They must be hashable.
      compiler_options: XLA's, for calls with values (JAX takes none inside another jit).
    """
    if function is None:
        return functools.partial(double_precision, static=static, compiler_options=compiler_options)
    static = tuple(static)
    compiled = jax.jit(function, static_argnames=static)
    alone = compiled
    if compiler_options:
        alone = jax.jit(function, static_argnames=static, compiler_options=dict(compiler_options))

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        values = (args, {name: value for name, value in kwargs.items() if name not in static})
        leaves = jax.tree.leaves(values)
        if any(isinstance(leaf, jax.core.Tracer) for leaf in leaves):
            return compiled(*args, **kwargs)
        dtype = precision(leaves)
        inside = jax.dtypes.canonicalize_dtype(np.float64) == np.float64
        # Values inside another function's trace are computed now and become its constants.
        with jax.ensure_compile_time_eval(), jax.enable_x64(True):
            args, own = jax.tree.map(lambda leaf: _to_array(leaf, dtype), values, is_leaf=_is_list)
            result = alone(*args, **{**kwargs, **own})
        return result if inside or dtype == np.float32 else jax.tree.map(_to_numpy, result)

    return call


def _is_list(value: Any) -> bool:
    """Lists of numbers are arrays; tuples stay pytrees, as named tuples must."""
    return isinstance(value, list)


def precision(leaves: Iterable[Any]) -> Any:
    """The precision in which a call with these values runs."""
    kinds = {leaf.dtype for leaf in leaves if hasattr(leaf, "dtype")}
    single = np.dtype(np.float32) in kinds and np.dtype(np.float64) not in kinds
    return np.float32 if single else np.float64


def _to_array(leaf: Any, dtype: Any) -> Any:
    if isinstance(leaf, str):
        return leaf
    array = leaf if isinstance(leaf, jax.Array) else np.asarray(leaf)
    keys = isinstance(leaf, jax.Array) and jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key)
    if keys or array.dtype == np.bool_ or array.dtype.kind == "c":
        return array
    return array.astype(dtype, copy=False)


def _to_numpy(leaf: Any) -> Any:
    """A NumPy value; the scalar itself where there are no axes."""
    return np.asarray(leaf)[()]
