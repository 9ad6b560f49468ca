"""Copies of one array on several devices compared: silent data corruption, found and named.

Data-parallel devices hold the same bits of every weight. A faulty chip, or a link that flips a bit,
breaks that without an error, and training goes on wrong. A checksum of what each device holds finds
any single changed element for certain, and others with a chance of one in four billion to escape.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec


def replica_difference(tree: Any, mesh: Mesh, name: Callable[[int], str]) -> str | None:
    """Compare the copies of every array in ``tree`` over all devices of all processes.

    Every process calls it at the same step; all get the same answer.

    Args:
      tree: of ``jax.Array`` on ``mesh``.
      name: the words for a process of a given number.

    Returns:
      None if all copies agree, else words for the first array that differs, and on which devices:
      those outvoted by the other copies, or all of them where there is no majority.
    """
    paths = [(jax.tree_util.keystr(path), leaf) for path, leaf in jax.tree.leaves_with_path(tree)]
    sums = _checksums(tree, mesh)  # [devices of the mesh, arrays]
    devices = list(mesh.devices.flat)
    for number, (path, leaf) in enumerate(paths):
        pieces: dict[Any, list[int]] = {}  # the devices that hold each piece of the array
        index_of = leaf.sharding.devices_indices_map(leaf.shape)
        for place, device in enumerate(devices):
            pieces.setdefault(str(index_of[device]), []).append(place)
        for places in pieces.values():
            if odd := _outvoted([int(sums[place, number]) for place in places]):
                where = ", ".join(
                    f"{name(devices[places[i]].process_index)} device {devices[places[i]].id}"
                    for i in odd
                )
                return f"the {len(places)} copies of {path} differ, on {where}"
    return None


def _outvoted(values: list[int]) -> list[int]:
    """Places of the values that most others do not have; all places if none has a majority."""
    most = max(set(values), key=values.count)
    if values.count(most) == len(values):
        return []
    if 2 * values.count(most) <= len(values):
        return list(range(len(values)))
    return [place for place, value in enumerate(values) if value != most]


def _checksums(tree: Any, mesh: Mesh) -> np.ndarray:
    """uint32 [devices of the mesh, arrays of the tree]: of the bits that each device holds."""
    leaves = jax.tree.leaves(tree)
    specs = tuple(
        leaf.sharding.spec if isinstance(leaf.sharding, NamedSharding) else PartitionSpec()
        for leaf in leaves
    )
    sums = _program(mesh, specs)(*leaves)
    if jax.process_count() > 1:
        sums = multihost_utils.process_allgather(sums, tiled=True)
    return np.asarray(sums).reshape(mesh.size, len(leaves))


@functools.cache
def _program(mesh: Mesh, specs: tuple[PartitionSpec, ...]) -> Callable[..., jax.Array]:
    """Each device's own checksums, computed where they lie: [*mesh, arrays]."""

    def own(*pieces: jax.Array) -> jax.Array:
        sums = jnp.stack([_checksum(piece) for piece in pieces])
        return sums.reshape((1,) * len(mesh.axis_names) + sums.shape)

    return jax.jit(
        jax.shard_map(
            own,
            mesh=mesh,
            in_specs=specs,
            out_specs=PartitionSpec(*mesh.axis_names),
            check_vma=False,  # copies that should be equal are just what is in doubt
        )
    )


def _checksum(x: jax.Array) -> jax.Array:
    """uint32 sum of the elements' bits, each times an odd number of its own, modulo 2^32.

    Odd numbers have inverses modulo 2^32, so one changed element always changes the sum.
    """
    if x.dtype == jnp.bool_:
        x = x.astype(jnp.uint8)
    width = min(x.dtype.itemsize, 4)
    bits = jax.lax.bitcast_convert_type(x, jnp.dtype(f"uint{8 * width}")).astype(jnp.uint32)
    places = jnp.arange(bits.size, dtype=jnp.uint32) * 2 + 1
    return jnp.sum(bits.reshape(-1) * places, dtype=jnp.uint32)
