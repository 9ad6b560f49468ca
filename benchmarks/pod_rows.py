"""The training and decoding steps that pods are judged by, each one command of ``compile_pod``.

:data:`ROWS` are the six that are compared with MaxText; :data:`TARGETS` are those and the others
that must compile, fit and reach what their fields say. ``make verify-pods`` compiles all of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from experiments.compile_pod_config import CompilePodConfig
from experiments.run import load_config


@dataclass(frozen=True)
class Row:
    """One step of one model on one topology, and what its report must show.

    Attributes:
      model: a preset.
      topology: a chip and a shape.
      batch: rows a device; of tpu7x, where a chip is two devices, half of a chip's.
      length: tokens a row.
      remat: what of a layer is kept for the backward pass.
      maxtext_remat: the policy of the same class there; empty in rows that are not compared.
      maxtext_gib: memory of a chip there: weights with optimizer, and temporaries.
      maxtext_seconds: its compile time, whole process.
      settings: further overrides, as ``--set`` takes them.
      least_overlap: share of the bytes sent by collectives that must run beside compute.
      least_mfu: that the roofline must allow.
      traffic_within: the share by which bytes moved may differ from weights and cache; decoding.
    """

    model: str
    topology: str
    batch: float
    length: int
    remat: str = "full"
    maxtext_remat: str = ""
    maxtext_gib: tuple[float, float] = (0.0, 0.0)
    maxtext_seconds: float = 0.0
    settings: tuple[str, ...] = ()
    least_overlap: float = 0.0
    least_mfu: float = 0.0
    traffic_within: float = 0.0

    @property
    def name(self) -> str:
        """Short, unique, fit for a file name."""
        step = "".join(f"-{word[5:]}" for word in self.settings if word.startswith("step="))
        shape = self.topology.replace(":", "-")
        return f"{self.model}-{shape}-{self.batch:g}x{self.length}-{self.remat}{step}"

    @property
    def words(self) -> tuple[str, ...]:
        """The overrides of ``--config compile_pod --set`` that compile this row."""
        return (
            f"model={self.model}", f"topology={self.topology}", f"batch={self.batch:g}",
            f"length={self.length}", f"model.remat={self.remat}", *self.settings,
        )  # fmt: skip

    def config(self) -> CompilePodConfig:
        """The config that the command line makes of :attr:`words`."""
        config = load_config("compile_pod", self.words)
        assert isinstance(config, CompilePodConfig)
        return config


OVERLAP = 0.9  # of the bytes that an FSDP layout sends

# Batches and lengths of MaxText's published recipes. Its figures: 0.2.5, jax 0.12.0.1, two cores.
ROWS: tuple[Row, ...] = (
    Row("7b", "v5e:16x16", 4, 2048, "attention", "save_qkv_proj", (0.29, 9.82), 71,
        least_overlap=OVERLAP),
    Row("7b", "v6e:16x16", 12, 4096, "full", "full", (0.30, 23.78), 115, least_overlap=OVERLAP),
    Row("7b", "v5p:4x4x4", 4, 4096, "dots", "minimal", (1.18, 45.62), 68,
        least_overlap=OVERLAP, least_mfu=0.6),
    Row("7b", "v4:4x4x4", 4, 2048, "full", "full", (1.18, 4.37), 84, least_overlap=OVERLAP),
    Row("13b", "v5e:16x16", 6, 2048, "offload", "qkv_proj_offloaded", (0.57, 8.25), 139,
        least_overlap=OVERLAP),
    Row("13b", "v5p:4x4x4", 2, 4096, "dots", "minimal", (2.27, 35.40), 77, least_overlap=OVERLAP),
)  # fmt: skip

TARGETS: tuple[Row, ...] = (
    *ROWS,
    Row("13b", "v6e:16x16", 4, 4096, least_overlap=OVERLAP),
    Row("13b", "v4:4x4x4", 2, 2048, least_overlap=OVERLAP),
    Row("70b", "tpu7x:4x4x4", 1, 4096),
    Row("100b", "v5p:8x8x8", 1, 4096),
    # One row over eight chips, its heads and weights split: bytes for each token.
    Row("7b", "v5e:2x4", 0.125, 2048, traffic_within=0.1,
        settings=("step=decode", "mesh.fsdp=1", "mesh.tensor=8")),
)  # fmt: skip


def shortcomings(row: Row, report: Mapping[str, Any]) -> list[str]:
    """What of a row its report does not show, in words; empty if all is well.

    That nothing large is whole on every device is a check of ``compile_pod`` itself.

    Args:
      report: of ``report.json``.
    """
    memory, roofline = report["memory"], report["roofline"]
    found = []
    if memory["used"] > memory["capacity"]:
        found.append(
            f"needs {memory['used'] / 2**30:.2f} of {memory['capacity'] / 2**30:.2f} GiB a device"
        )
    if report["overlapped_share"] < row.least_overlap:
        found.append(
            f"{report['overlapped_share']:.1%} of the bytes sent run beside compute, and "
            f"{row.least_overlap:.0%} are asked for"
        )
    if roofline["scheduled_mfu_bound"] < row.least_mfu:
        found.append(
            f"the MFU bound is {roofline['scheduled_mfu_bound']:.3f} as scheduled, and "
            f"{row.least_mfu:.2f} is asked for"
        )
    if row.traffic_within:
        share = report["hbm_traffic"] / report["least_hbm_traffic"]
        if abs(share - 1) > row.traffic_within:
            found.append(f"moves {share:.2f} times the bytes of weights and cache")
    return found
