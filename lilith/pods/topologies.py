"""Topologies of TPU slices by name, and their devices as the compiler sees them.

Nothing of a TPU is needed: libtpu makes the devices of a topology that programs can be compiled
for.
"""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from lilith.config import UserError, nearest
from lilith.pods.chips import CHIPS, Chip
from lilith.sharding import ShardingError

# The shapes of the Cloud TPU documentation; 1x1x1 is no slice that one can rent, but it shows what
# one chip holds.
_FLAT = ("1x1", "2x2", "2x4", "4x4", "4x8", "8x8", "8x16", "16x16")
_CUBES = (
    "1x1x1", "2x2x1", "2x2x2", "2x2x4", "2x4x4", "4x4x4", "4x4x8", "4x8x8", "8x8x8", "8x8x16",
    "8x16x16", "16x16x16",
)  # fmt: skip
SHAPES: dict[str, tuple[str, ...]] = {
    "v4": _CUBES,
    "v5e": _FLAT,
    "v5p": (*_CUBES, "16x16x24"),
    "v6e": _FLAT,
    "tpu7x": _CUBES,
}
# What libtpu would ask the metadata server of a TPU machine, and warn about when there is none.
ENVIRONMENT = {
    "TPU_SKIP_MDS_QUERY": "1",
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
    "TPU_ACCELERATOR_TYPE": "v5litepod-1",
    "TPU_WORKER_HOSTNAMES": "localhost",
    "TPU_WORKER_ID": "0",
}


@dataclass(frozen=True)
class Topology:
    """One or several slices of one shape.

    Attributes:
      name: chip and shape, such as ``v5p:4x4x4``.
      shape: chips along each dimension of a slice.
    """

    name: str
    chip: Chip
    shape: tuple[int, ...]
    slices: int = 1

    @property
    def chips(self) -> int:
        """How many chips there are in all slices."""
        return math.prod(self.shape) * self.slices

    @property
    def devices(self) -> int:
        """How many jax devices there are in all slices."""
        return self.chips * self.chip.devices

    @property
    def ici_bandwidth(self) -> float:
        """Bytes/s that a chip of this slice can send, one direction, over the links it has."""
        links = sum(min(size - 1, 2) for size in self.shape)
        return self.chip.ici_bandwidth * links / self.chip.ici_links

    def __str__(self) -> str:
        return self.name if self.slices == 1 else f"{self.name} slices={self.slices}"


def get_topology(name: str, slices: int = 1) -> Topology:
    """The topology ``name``: a chip, a colon and a shape.

    Raises:
      ShardingError: no such chip or shape, with those that exist.
    """
    kind, _, shape = name.partition(":")
    if slices < 1:
        raise ShardingError(f"slices is {slices}; it must be at least 1")
    if kind not in SHAPES:
        known = "; ".join(f"{chip}: {', '.join(shapes)}" for chip, shapes in SHAPES.items())
        raise ShardingError(
            f"unknown topology {name!r}{nearest(name, topology_names())}; those that exist: {known}"
        )
    if shape not in SHAPES[kind]:
        raise ShardingError(
            f"unknown topology {name!r}; the shapes of {kind} are {', '.join(SHAPES[kind])}"
        )
    return Topology(name, CHIPS[kind], tuple(int(size) for size in shape.split("x")), slices)


def topology_names() -> list[str]:
    """Every topology of one slice, by chip and size."""
    return [f"{chip}:{shape}" for chip, shapes in SHAPES.items() for shape in shapes]


def larger(topology: Topology) -> Topology | None:
    """The next larger shape of the same chip, or None."""
    shapes = SHAPES[topology.chip.name]
    following = shapes.index(topology.name.partition(":")[2]) + 1
    if following == len(shapes):
        return None
    return get_topology(f"{topology.chip.name}:{shapes[following]}", topology.slices)


def compile_only_devices(topology: Topology) -> Sequence[Any]:
    """jax devices that programs can be compiled for and nothing runs on.

    Raises:
      UserError: libtpu is not installed, or knows no such topology.
    """
    from jax.experimental import topologies

    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    options: dict[str, Any] = {}
    if topology.chip.name == "v4":
        options["chip_config_name"] = "megacore"  # both cores of a chip as one device
    if math.prod(topology.shape) == 1:
        options["chips_per_host_bounds"] = (1, 1, 1)
    if topology.slices > 1:
        options["num_slices"] = topology.slices
    try:
        found = topologies.get_topology_desc(
            platform="tpu", topology_name=topology.name, **options
        ).devices
    except Exception as error:
        if not libtpu_is_installed():
            raise UserError(
                "compiling for TPUs needs libtpu, which is not installed; "
                "pip install 'lilith[tpu-compile]'"
            ) from None
        raise UserError(
            f"libtpu can not make the topology {topology} ({str(error).splitlines()[0]})"
        ) from None
    if len(found) != topology.devices:
        raise UserError(
            f"libtpu gives {topology} {len(found)} devices and {topology.devices} were expected; "
            "another version of libtpu counts the cores of a chip in another way"
        )
    return found


def libtpu_is_installed() -> bool:
    """Whether jax can find the TPU compiler: the package, or the file TPU_LIBRARY_PATH names."""
    import importlib.util

    named = os.environ.get("TPU_LIBRARY_PATH")
    if named is not None and os.path.isfile(named):
        return True
    return importlib.util.find_spec("libtpu") is not None
