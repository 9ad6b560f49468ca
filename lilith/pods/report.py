"""The report of a compiled step: figures for a file and lines for a person."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lilith.pods.collectives import Collective
from lilith.pods.roofline import Roofline, StepFlops
from lilith.pods.topologies import Topology

GIB = 2**30


def shape_words(mesh: Mapping[str, int]) -> str:
    """The axes of a mesh that split something, and their sizes."""
    return " x ".join(f"{name} {size}" for name, size in mesh.items() if size > 1) or "1 device"


@dataclass(frozen=True)
class Memory:
    """Bytes of one device's memory by kind, and how many it has.

    Attributes:
      kinds: weights, optimizer, activations, temporaries and so on; they add up to ``used``.
      host: bytes of the host's memory besides, for offloaded state and activations.
    """

    kinds: dict[str, float]
    capacity: float
    host: float = 0.0

    @property
    def used(self) -> float:
        """All kinds together."""
        return sum(self.kinds.values())

    @property
    def fits(self) -> bool:
        """Whether a device holds it."""
        return self.used <= self.capacity


def memory_by_kind(
    stats: Any, arguments: Mapping[str, int], activations: int, capacity: float
) -> Memory:
    """The compiler's memory analysis by kind.

    Args:
      stats: what ``compiled.memory_analysis()`` gives.
      arguments: bytes of what goes in, by kind; the rest of the arguments is ``inputs``.
      activations: our estimate of what is kept for the backward pass. It is inside the compiler's
        temporaries, of which the rest (gradients, gathered weights, kernels) is ``temporaries``.
    """
    inside = min(activations, stats.temp_size_in_bytes)
    kinds: dict[str, float] = dict(arguments)
    kinds["inputs"] = max(stats.argument_size_in_bytes - sum(arguments.values()), 0)
    kinds["activations"] = inside
    kinds["temporaries"] = stats.temp_size_in_bytes - inside
    kinds["outputs"] = max(stats.output_size_in_bytes - stats.alias_size_in_bytes, 0)
    kinds["program"] = stats.generated_code_size_in_bytes
    host = stats.host_argument_size_in_bytes + stats.host_temp_size_in_bytes
    host += max(stats.host_output_size_in_bytes - stats.host_alias_size_in_bytes, 0)
    return Memory({name: size for name, size in kinds.items() if size}, capacity, host)


@dataclass(frozen=True)
class PodReport:
    """What is known of one step on one topology.

    Attributes:
      step: train, prefill or decode.
      mesh: sizes of the mesh axes.
      rows, length: of the whole batch.
      parameters: of the model.
      traffic: bytes of memory traffic of a device in a step.
      tokens: of each row; those of a call of the decoding loop.
      least_traffic: bytes that any program must read: weights and cache once for every token of a
        row. Decoding only.
      compile_seconds: of lowering and compiling.
    """

    step: str
    topology: Topology
    mesh: dict[str, int]
    rows: int
    length: int
    remat: str
    parameters: int
    memory: Memory
    found: Sequence[Collective]
    flops: StepFlops
    traffic: float
    roofline: Roofline
    compile_seconds: float
    tokens: int
    least_traffic: float | None = None

    @property
    def overlapped_share(self) -> float:
        """The share of the bytes sent that runs beside compute; 1 if nothing is sent."""
        sent = sum(own.wire_bytes * own.times for own in self.found)
        beside = sum(own.wire_bytes * own.times for own in self.found if own.overlapped)
        return beside / sent if sent else 1.0

    def to_dict(self) -> dict[str, Any]:
        """Everything, ready for JSON; sizes in bytes, times in seconds."""
        roofline = self.roofline
        return {
            "step": self.step,
            "topology": self.topology.name,
            "slices": self.topology.slices,
            "chips": self.topology.chips,
            "devices": self.topology.devices,
            "mesh": self.mesh,
            "rows": self.rows,
            "length": self.length,
            "tokens": self.tokens,
            "remat": self.remat,
            "parameters": self.parameters,
            "memory": {
                **self.memory.kinds,
                "used": self.memory.used,
                "capacity": self.memory.capacity,
                "host": self.memory.host,
            },
            "collectives": [dataclasses.asdict(own) for own in self.found],
            "overlapped_share": self.overlapped_share,
            "flops": dataclasses.asdict(self.flops),
            "hbm_traffic": self.traffic,
            "least_hbm_traffic": self.least_traffic,
            "roofline": {
                **dataclasses.asdict(roofline),
                "bound": roofline.bound,
                "scheduled_bound": roofline.scheduled_bound,
                "limit": roofline.limit,
                "mfu_bound": roofline.mfu_bound,
                "scheduled_mfu_bound": roofline.scheduled_mfu_bound,
            },
            "compile_seconds": self.compile_seconds,
        }

    def lines(self) -> list[str]:
        """The report as a person reads it."""
        topology = self.topology
        what = {
            "train": f"{self.rows} rows of {self.length} tokens, remat {self.remat}",
            "prefill": f"the last piece of {self.rows} prompts of {self.length} tokens",
            "decode": f"{self.tokens} tokens for each of {self.rows} rows that hold {self.length}",
        }[self.step]
        return [
            f"{self.step} on {topology} ({topology.chips} chips, {topology.devices} devices)",
            f"mesh              {shape_words(self.mesh)}",
            f"step              {what}",
            f"parameters        {self.parameters:,}",
            *self._memory_lines(),
            *self._collective_lines(),
            *self._roofline_lines(),
            f"compile time      {self.compile_seconds:.1f} s",
        ]

    def _memory_lines(self) -> list[str]:
        memory = self.memory
        share = memory.used / memory.capacity
        return [
            f"HBM a device      {memory.used / GIB:.2f} of {memory.capacity / GIB:.2f} GiB "
            f"({share:.0%})",
            *(f"  {name:<16}{size / GIB:8.2f} GiB" for name, size in memory.kinds.items()),
            *([f"host a device     {memory.host / GIB:.2f} GiB"] if memory.host else []),
        ]

    def _collective_lines(self) -> list[str]:
        if not self.found:
            return ["collectives       none"]
        groups: dict[tuple[str, str], list[Collective]] = {}
        for own in self.found:
            groups.setdefault((own.kind, own.axes), []).append(own)
        rows = []
        for (kind, axes), members in groups.items():
            sent = sum(own.wire_bytes * own.times for own in members)
            beside = sum(own.wire_bytes * own.times for own in members if own.overlapped)
            rows.append(
                (
                    sent,
                    f"  {kind:<20}{axes:<14}{sum(own.times for own in members):>6}"
                    f"{sum(own.times for own in members if own.overlapped):>8}"
                    f"{sum(own.array_bytes * own.times for own in members) / 1e9:>11.3f}"
                    f"{sent / 1e9:>11.3f}{beside / sent if sent else 1.0:>11.0%}",
                )
            )
        return [
            f"collectives       {self.overlapped_share:.0%} of the bytes sent run beside compute",
            f"  {'kind':<20}{'mesh axes':<14}{'times':>6}{'async':>8}{'arrays GB':>11}"
            f"{'sent GB':>11}{'beside':>11}",
            *(text for _, text in sorted(rows, key=lambda row: -row[0])),
        ]

    def _roofline_lines(self) -> list[str]:
        roofline = self.roofline
        times = [
            ("compute", roofline.compute, f"{self.flops.model:.4g} FLOPs a step"
             + (f" and {self.flops.recomputed:.4g} again" if self.flops.recomputed else "")),
            ("HBM", roofline.hbm, f"{self.traffic / 1e9:.2f} GB a device" + self._least()),
            ("interconnect", roofline.ici,
             f"{1e3 * roofline.exposed:.2f} ms of all networks beside no compute"),
        ]  # fmt: skip
        if self.topology.slices > 1:
            times.append(("between slices", roofline.dcn, "the data axis"))
        found = [f"roofline          {1e3 * roofline.bound:.2f} ms a step, by {roofline.limit}"]
        found += [f"  {name:<16}{1e3 * seconds:10.2f} ms  {why}" for name, seconds, why in times]
        if self.step == "decode":
            found.append(f"a token           {1e3 * roofline.bound / self.tokens:.3f} ms at least")
        if self.step == "train":
            found.append(
                f"MFU bound         {roofline.mfu_bound:.3f} if all overlap, "
                f"{roofline.scheduled_mfu_bound:.3f} as scheduled"
            )
        return found

    def _least(self) -> str:
        if not self.least_traffic:
            return ""
        return f", {self.traffic / self.least_traffic:.2f} times weights and cache for every token"
