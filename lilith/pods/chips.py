"""Published figures of TPU chips.

Sources: "TPU v4", "TPU v5e", "TPU v5p", "TPU v6e" and "TPU7x (Ironwood)" of the Cloud TPU
documentation (docs.cloud.google.com/tpu/docs), read in November 2026; the links of v4 are from
Jouppi et al. 2023, "TPU v4: An Optically Reconfigurable Supercomputer", table 4. The pages give the
interconnect in both directions together; here it is one direction, all links of a chip.
"""

from __future__ import annotations

from dataclasses import dataclass

from lilith.config import nearest
from lilith.sharding import ShardingError

GIB = 2**30


@dataclass(frozen=True)
class Chip:
    """One kind of chip; all figures are of a whole chip.

    Attributes:
      name: as topologies begin.
      bf16_flops: peak dense bfloat16 FLOP/s.
      hbm_bytes: memory.
      hbm_bandwidth: bytes/s.
      ici_bandwidth: bytes/s that a chip can send to its neighbours, one direction, all links.
      ici_links: how many neighbours a chip of a full torus has.
      dcn_bandwidth: bytes/s between slices, a chip's share of its host's network.
      devices: jax devices of one chip.
      dimensions: of its topologies.
      most_chips: of one slice.
    """

    name: str
    bf16_flops: float
    hbm_bytes: float
    hbm_bandwidth: float
    ici_bandwidth: float
    ici_links: int
    dcn_bandwidth: float
    devices: int
    dimensions: int
    most_chips: int


CHIPS: dict[str, Chip] = {
    chip.name: chip
    for chip in (
        Chip("v4", 275e12, 32 * GIB, 1200e9, 300e9, 6, 6.25e9, 1, 3, 4096),
        Chip("v5e", 197e12, 16 * GIB, 819e9, 200e9, 4, 3.125e9, 1, 2, 256),
        Chip("v5p", 459e12, 95 * GIB, 2765e9, 600e9, 6, 6.25e9, 1, 3, 6144),
        Chip("v6e", 918e12, 32 * GIB, 1638e9, 400e9, 4, 12.5e9, 1, 2, 256),
        Chip("tpu7x", 2307e12, 192 * GIB, 7380e9, 600e9, 6, 12.5e9, 2, 3, 9216),
    )
}


def get_chip(name: str) -> Chip:
    """The figures of the chip ``name``.

    Raises:
      ShardingError: no such chip, with those that exist.
    """
    if name not in CHIPS:
        raise ShardingError(
            f"unknown chip {name!r}{nearest(name, CHIPS)}; known: {', '.join(CHIPS)}"
        )
    return CHIPS[name]
