"""Optimizer state that waits in the host's memory between steps."""

from __future__ import annotations

from typing import Any

import jax
import optax
from jax.sharding import Mesh

from lilith.config import ConfigError
from lilith.sharding import HOST_MEMORY

Space = jax.memory.Space
SMALLEST = 4096  # values: smaller arrays, such as counters, stay on the device


def keep_on_host(
    optimizer: optax.GradientTransformationExtraArgs,
) -> optax.GradientTransformationExtraArgs:
    """Keep the state's arrays in host memory; an update copies them to the device and back."""

    def init(params: Any) -> Any:
        def moved(leaf: jax.Array) -> jax.Array:
            return jax.device_put(leaf, Space.Host) if leaf.size >= SMALLEST else leaf

        return jax.tree.map(moved, optimizer.init(params))

    def update(updates: Any, state: Any, params: Any = None, **extra: Any) -> tuple[Any, Any]:
        # A part of the state, such as one layer's, returns to where the whole is.
        spaces = jax.tree.map(lambda leaf: jax.typeof(leaf).memory_space, state)
        near = jax.tree.map(lambda leaf: jax.device_put(leaf, Space.Device), state)
        updates, near = optimizer.update(updates, near, params, **extra)
        return updates, jax.tree.map(jax.device_put, near, spaces)

    return optax.GradientTransformationExtraArgs(init, update)


def require_host_memory(mesh: Mesh, *, remat: str, offload: bool) -> None:
    """Refuse to keep anything in host memory that the devices can not reach.

    Args:
      remat: the field of the model's config.
      offload: the field of the optimizer's.

    Raises:
      ConfigError: naming the field, the platform, the kinds of memory it has and what to do.
    """
    fields = {
        "optimizer.offload is true": ("optimizer.offload=false", offload),
        "remat is 'offload'": ("another remat policy, such as full", remat == "offload"),
    }
    kinds = [memory.kind for memory in mesh.local_devices[0].addressable_memories()]
    for asked, (remedy, wanted) in fields.items():
        if wanted and HOST_MEMORY not in kinds:
            raise ConfigError(
                f"{asked}, which keeps arrays in the memory {HOST_MEMORY!r}, and a device of the "
                f"platform {mesh.local_devices[0].platform!r} has only {', '.join(kinds)}; use "
                f"{remedy}"
            )
