"""What options by numbers share: checks of what is static, broadcasting, a map."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

import jax
import jax.numpy as jnp


def check_choice(name: str, given: str, choices: Iterable[str]) -> None:
    """Raise ValueError unless ``given`` is one of ``choices``."""
    if given not in choices:
        raise ValueError(f"{name} is {given!r}; it must be one of {', '.join(choices)}")


def check_counts(**counts: tuple[int, int]) -> None:
    """Raise ValueError for the first count below its least; each is ``name=(count, least)``."""
    for name, (count, least) in counts.items():
        if count < least:
            raise ValueError(f"{name} is {count}; it must be at least {least}")


def broadcast_options(*arguments: Any) -> tuple[Any, ...]:
    """The arguments as floating arrays of one shape and type; the last, is_call, as booleans."""
    *numbers, is_call = jnp.broadcast_arrays(*(jnp.asarray(each) for each in arguments))
    dtype = jnp.result_type(float, *(each.dtype for each in numbers))
    return (*(each.astype(dtype) for each in numbers), is_call.astype(bool))


def map_options(one: Callable[[Any], Any], options: tuple[Any, ...], batch: int) -> Any:
    """``one`` of every option of equally shaped arrays, ``batch`` at a time.

    ``one`` takes a tuple of scalars; the leaves of its result come back with the options' shape in
    front of their own.
    """
    shape = options[0].shape
    count = math.prod(shape)
    flat = tuple(each.reshape(count) for each in options)
    if count == 1:
        found = jax.tree.map(lambda leaf: leaf[None], one(tuple(each[0] for each in flat)))
    elif count <= batch:
        found = jax.vmap(lambda *own: one(own))(*flat)
    else:
        found = jax.lax.map(one, flat, batch_size=batch)
    return jax.tree.map(lambda leaf: leaf.reshape(*shape, *leaf.shape[1:]), found)
