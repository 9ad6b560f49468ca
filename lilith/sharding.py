"""Device meshes and the rules that lay logical axes out on them.

A weight or activation names its axes in the model's words (``embed``, ``heads``, ``batch``); a
:class:`ShardingRules` maps each word to mesh axes. Weights are stored sharded over ``fsdp`` and
gathered in compute precision where they are used; activations are sharded over the batch and, for
heads and feed-forward units, over ``tensor``. Meshes have explicit axis types, so a contraction
whose layout is ambiguous fails when it is traced.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
from jax.sharding import AbstractMesh, AxisType, Mesh, NamedSharding, PartitionSpec

from lilith.config import MeshConfig, UserError, nearest

MESH_AXES = ("data", "fsdp", "context", "tensor", "expert")
HOST_MEMORY = "pinned_host"  # the memory kind that accelerators copy from by themselves


class ShardingError(UserError):
    """A mesh that the devices can not form, or an array that does not divide over it."""


@dataclass(frozen=True)
class ShardingRules:
    """Mesh axes of each logical axis; ``()`` leaves an axis whole on every device."""

    batch: tuple[str, ...] = ("data", "fsdp")
    length: tuple[str, ...] = ("context",)
    model: tuple[str, ...] = ()  # the residual stream's width
    embed: tuple[str, ...] = ("fsdp",)  # the same width in a stored weight
    heads: tuple[str, ...] = ("tensor",)
    kv_heads: tuple[str, ...] = ("tensor",)
    head_dim: tuple[str, ...] = ()
    ff: tuple[str, ...] = ("tensor",)
    vocab: tuple[str, ...] = ("tensor",)
    loss_vocab: tuple[str, ...] = ("tensor", "context")  # the vocabulary inside the loss
    layers: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name, axes in dataclasses.asdict(self).items():
            for axis in axes:
                if axis not in MESH_AXES:
                    raise ShardingError(
                        f"sharding rule {name!r} names the mesh axis {axis!r}"
                        f"{nearest(axis, MESH_AXES)}; known: {', '.join(MESH_AXES)}"
                    )

    def spec(self, *axes: str | None) -> PartitionSpec:
        """The partition of an array whose dimensions carry these logical axes.

        Raises:
          ShardingError: an unknown logical axis, or one mesh axis asked to split two dimensions.
        """
        known = {rule.name for rule in dataclasses.fields(self)}
        parts: list[tuple[str, ...]] = []
        for axis in axes:
            if axis is not None and axis not in known:
                raise ShardingError(f"unknown logical axis {axis!r}{nearest(axis, known)}")
            parts.append(() if axis is None else getattr(self, axis))
        used = [mesh_axis for part in parts for mesh_axis in part]
        twice = sorted({mesh_axis for mesh_axis in used if used.count(mesh_axis) > 1})
        if twice:
            raise ShardingError(
                f"the mesh axis {twice[0]!r} would split two dimensions of one array with axes "
                f"{axes}; change the rule of one of them"
            )
        return PartitionSpec(*(part or None for part in parts))


DEFAULT_RULES = ShardingRules()


def make_mesh(config: MeshConfig, devices: Sequence[Any] | None = None) -> Mesh:
    """A mesh of all ``devices`` (default: every device of every process) with explicit axes.

    Raises:
      ShardingError: the sizes do not multiply to the number of devices, or the devices are in
        several TPU slices, which only the data axis crosses, and it does not divide over them.
    """
    devices = list(jax.devices() if devices is None else devices)
    sizes = dataclasses.asdict(config)
    fixed = math.prod(size for size in sizes.values() if size != -1)
    for name, size in sizes.items():
        if size == -1:
            if len(devices) % fixed:
                raise ShardingError(
                    f"mesh.{name} is -1 (all devices left over), but the other axes multiply to "
                    f"{fixed}, which does not divide the {len(devices)} devices"
                )
            sizes[name] = len(devices) // fixed
    if math.prod(sizes.values()) != len(devices):
        shape = " x ".join(f"{name} {sizes[name]}" for name in MESH_AXES)
        raise ShardingError(
            f"the mesh {shape} needs {math.prod(sizes.values())} devices and there are "
            f"{len(devices)}; set one axis to -1 to take what is left over"
        )
    slices = _slices(devices)
    if sizes["data"] % len(slices):
        raise ShardingError(
            f"the devices are in {len(slices)} slices and mesh.data is {sizes['data']}; only the "
            f"data axis crosses slices, so make it a multiple of {len(slices)}"
        )
    sizes["data"] //= len(slices)
    parts = [
        jax.make_mesh(
            tuple(sizes[name] for name in MESH_AXES),
            MESH_AXES,
            axis_types=(AxisType.Explicit,) * len(MESH_AXES),
            devices=own,
        )
        for own in slices
    ]
    if len(parts) == 1:
        return parts[0]
    whole = np.concatenate([part.devices for part in parts])
    return Mesh(whole, MESH_AXES, axis_types=(AxisType.Explicit,) * len(MESH_AXES))


def _slices(devices: Sequence[Any]) -> list[list[Any]]:
    """``devices`` by the TPU slice that they are in; others are one slice."""
    found: dict[int, list[Any]] = {}
    for device in devices:
        # Other platforms number their hosts with the same attribute.
        place = getattr(device, "slice_index", 0) if device.platform == "tpu" else 0
        found.setdefault(place or 0, []).append(device)
    return [found[place] for place in sorted(found)]


def target_platform() -> str:
    """The platform that a program traced here is for: the mesh's, or jax's own without a mesh.

    They differ where a program is only compiled, for devices that this machine does not have.
    """
    device = jax.sharding.get_abstract_mesh().abstract_device
    return jax.default_backend() if device is None else device.platform


def named_sharding(mesh: Mesh | AbstractMesh, spec: PartitionSpec) -> NamedSharding:
    """``spec`` on ``mesh``, without the mesh axes of size one (which split nothing)."""
    return NamedSharding(mesh, without_trivial_axes(mesh.shape, spec))


def check_divisible(
    name: str,
    shape: Sequence[int],
    axes: Sequence[str | None],
    mesh: Mesh | AbstractMesh,
    rules: ShardingRules,
) -> None:
    """Raise :class:`ShardingError` naming the dimension if ``shape`` does not split evenly."""
    for size, axis, part in zip(shape, axes, rules.spec(*axes)):
        pieces = _pieces(mesh.shape, part)
        if size % pieces:
            raise ShardingError(
                f"{name} has {axis} = {size}, which does not divide over {pieces} devices (mesh "
                f"axes {part}); change the mesh, or the size to a multiple of {pieces}"
            )


def constrain(x: jax.Array, rules: ShardingRules, *axes: str | None) -> jax.Array:
    """Lay ``x`` out by its logical axes on the mesh in force; without a mesh, ``x`` itself."""
    spec = activation_spec(rules, *axes)
    return x if spec is None else jax.sharding.reshard(x, spec)


def activation_spec(rules: ShardingRules, *axes: str | None) -> PartitionSpec | None:
    """The partition for ``out_sharding=`` on the mesh in force, or None without a mesh."""
    mesh = jax.sharding.get_abstract_mesh()
    if mesh.empty:
        return None
    return without_trivial_axes(mesh.shape, rules.spec(*axes))


def without_trivial_axes(sizes: Mapping[str, int], spec: PartitionSpec) -> PartitionSpec:
    """``spec`` without the mesh axes of size one, which split nothing."""

    def keep(part: Any) -> Any:
        names = (part,) if isinstance(part, str) else (part or ())
        return tuple(name for name in names if sizes[name] > 1) or None

    return PartitionSpec(*(keep(part) for part in spec))


def _pieces(sizes: Any, part: Any) -> int:
    names = (part,) if isinstance(part, str) else (part or ())
    return math.prod(sizes[name] for name in names)
