"""Copies of arrays that should be equal, and one device that differs."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from lilith.config import MeshConfig
from lilith.sharding import make_mesh
from lilith.train.replicas import replica_difference

SPECS = {"w": PartitionSpec("fsdp"), "norm": PartitionSpec(), "table": PartitionSpec(None, "fsdp")}
VALUES = {
    "w": np.arange(48, dtype=np.float32).reshape(12, 4),
    "norm": np.arange(5).astype(jnp.bfloat16),
    "table": np.arange(32, dtype=np.int32).reshape(4, 8),
}


def on(mesh: Mesh, wrong: dict[int, Any] | None = None, name: str = "w") -> dict[str, jax.Array]:
    """VALUES on the mesh; device ``i`` of ``wrong`` holds ``wrong[i](piece)`` of array ``name``."""
    tree = {}
    for key, value in VALUES.items():
        array = jax.device_put(value, NamedSharding(mesh, SPECS[key]))
        pieces = []
        for shard in array.addressable_shards:
            change = (wrong or {}).get(shard.device.id) if key == name else None
            piece = np.array(shard.data)
            pieces.append(jax.device_put(change(piece) if change else piece, shard.device))
        tree[key] = jax.make_array_from_single_device_arrays(array.shape, array.sharding, pieces)
    return tree


def add_a_bit(piece: np.ndarray) -> np.ndarray:
    """The lowest bit of the last element flipped."""
    raw = piece.view(np.uint8).copy()
    raw.reshape(-1)[-piece.itemsize] ^= 1
    return raw.view(piece.dtype).reshape(piece.shape)


def difference(tree: Any, mesh: Mesh) -> str | None:
    with jax.set_mesh(mesh):
        return replica_difference(tree, mesh, "host {}".format)


@pytest.mark.parametrize("shape", [(8, 1), (4, 2), (2, 4), (1, 8)])
def test_equal_copies_agree(shape: tuple[int, int]) -> None:
    mesh = make_mesh(MeshConfig(data=shape[0], fsdp=shape[1] if shape[1] < 8 else -1))
    tree = {
        key: jax.device_put(v, NamedSharding(mesh, PartitionSpec())) for key, v in VALUES.items()
    }
    assert difference(tree, mesh) is None


@pytest.mark.parametrize("name", list(VALUES))
def test_one_bit_on_one_device_names_it(name: str) -> None:
    mesh = make_mesh(MeshConfig(data=4, fsdp=2))
    assert difference(on(mesh), mesh) is None
    words = difference(on(mesh, {5: add_a_bit}, name), mesh)
    copies = 8 if name == "norm" else 4
    assert words == f"the {copies} copies of ['{name}'] differ, on host 0 device 5"


def test_two_copies_can_not_outvote_each_other() -> None:
    mesh = make_mesh(MeshConfig(data=2, fsdp=4))
    words = difference(on(mesh, {1: add_a_bit}), mesh)
    assert words == "the 2 copies of ['w'] differ, on host 0 device 1, host 0 device 5"


def test_exchanged_elements_are_seen() -> None:
    """A sum of bits alone would not see them."""
    mesh = make_mesh(MeshConfig(data=8, fsdp=1))
    words = difference(on(mesh, {3: lambda piece: piece[::-1].copy()}), mesh)
    assert words is not None
    assert words.endswith("on host 0 device 3")


def test_pieces_of_one_array_are_not_copies() -> None:
    mesh = make_mesh(MeshConfig(data=1, fsdp=-1), jax.devices()[:4])
    assert difference(on(mesh, {1: add_a_bit}), mesh) is None
