"""The least time that a step can take on a slice, and the utilization that this time allows."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from lilith.config import ModelConfig
from lilith.model.estimates import flops_per_token
from lilith.pods.collectives import UNKNOWN_AXES, Collective
from lilith.pods.topologies import Topology

SLICE_AXIS = "data"  # the mesh axis that crosses slices


@dataclass(frozen=True)
class StepFlops:
    """Floating-point operations of one step on all devices.

    Attributes:
      model: by our formula, without recomputation; what utilization counts.
      recomputed: what the remat policy adds.
    """

    model: float
    recomputed: float = 0.0


@dataclass(frozen=True)
class Roofline:
    """Seconds that a device needs for its part of a step if nothing else held it up.

    Attributes:
      compute: its floating-point operations, the recomputed ones too, at the chip's peak.
      model_compute: those of the model alone.
      hbm: its memory traffic at the chip's bandwidth.
      ici: what it sends inside its slice, at the bandwidth of all links it has.
      dcn: what it sends to other slices.
      exposed: the part of ``ici`` and ``dcn`` that runs beside no compute in the schedule.
    """

    compute: float
    model_compute: float
    hbm: float
    ici: float
    dcn: float
    exposed: float

    @property
    def bound(self) -> float:
        """The least time of a step if everything ran beside everything else."""
        return max(self.compute, self.hbm, self.ici, self.dcn)

    @property
    def scheduled_bound(self) -> float:
        """The same with the exposed collectives before or after the rest."""
        return max(self.compute, self.hbm, self.ici + self.dcn - self.exposed) + self.exposed

    @property
    def limit(self) -> str:
        """What :attr:`bound` is the time of."""
        times = {"compute": self.compute, "HBM": self.hbm, "interconnect": self.ici,
                 "network between slices": self.dcn}  # fmt: skip
        return max(times, key=times.__getitem__)

    @property
    def mfu_bound(self) -> float:
        """Model FLOPs over what the peak could do in :attr:`bound`."""
        return self.model_compute / self.bound

    @property
    def scheduled_mfu_bound(self) -> float:
        """Model FLOPs over what the peak could do in :attr:`scheduled_bound`."""
        return self.model_compute / self.scheduled_bound


def roofline(
    topology: Topology, flops: StepFlops, hbm_bytes: float, found: Iterable[Collective]
) -> Roofline:
    """The roofline of a step from the published figures of the chip.

    Args:
      hbm_bytes: memory traffic of one device.
    """
    chip = topology.chip
    peak = chip.bf16_flops / chip.devices
    sent = {"ici": 0.0, "dcn": 0.0}
    exposed = 0.0
    for own in found:
        dcn = crosses_slices(own, topology)
        bandwidth = chip.dcn_bandwidth if dcn else topology.ici_bandwidth
        if not bandwidth:  # one chip of two devices: they share its memory
            bandwidth = chip.hbm_bandwidth
        seconds = own.wire_bytes * own.times * chip.devices / bandwidth
        sent["dcn" if dcn else "ici"] += seconds
        exposed += 0.0 if own.overlapped else seconds
    each = topology.devices
    return Roofline(
        compute=(flops.model + flops.recomputed) / each / peak,
        model_compute=flops.model / each / peak,
        hbm=hbm_bytes / (chip.hbm_bandwidth / chip.devices),
        exposed=exposed,
        **sent,
    )


def crosses_slices(own: Collective, topology: Topology) -> bool:
    """Whether a collective uses the network between slices."""
    axes = own.axes.split("+")
    return topology.slices > 1 and (SLICE_AXIS in axes or UNKNOWN_AXES in axes)


def training_flops(config: ModelConfig, tokens: int, length: int) -> StepFlops:
    """FLOPs of a training step over ``tokens`` tokens in rows of ``length``.

    The policy ``full`` runs every layer forward a second time, ``attention`` and ``offload`` all
    but attention itself, ``dots`` attention alone. The loss makes its gradients while it has its
    logits. What an attention kernel computes again inside its own backward pass is not counted.
    """
    model = flops_per_token(config, length).causal
    attention = _causal_attention(config, length)
    layers = model / 3 - 2 * config.vocab * config.d_model - attention
    again = {
        "none": 0.0, "dots": attention, "attention": layers, "full": layers + attention,
        "offload": layers,
    }[config.remat]  # fmt: skip
    return StepFlops(tokens * model, tokens * again)


def prefill_flops(config: ModelConfig, tokens: int, seen: int) -> StepFlops:
    """FLOPs of reading ``tokens`` tokens that see ``seen`` keys on average, without logits."""
    each = flops_per_token(config, seen).full / 3 - 2 * config.vocab * config.d_model
    return StepFlops(tokens * each)


def decode_flops(config: ModelConfig, tokens: int, held: int) -> StepFlops:
    """FLOPs of ``tokens`` tokens, each generated after ``held`` others of its row."""
    return StepFlops(tokens * flops_per_token(config, held).full / 3)


def _causal_attention(config: ModelConfig, length: int) -> float:
    """Forward FLOPs a token of the products with keys and values, averaged over the row."""
    seen = 0.0
    for layer in range(config.layers):
        kind = config.attention_pattern[layer % len(config.attention_pattern)]
        seen += min(config.window, length) if kind == "window" else length
    whole = 4 * config.heads * config.key_dim * seen
    both = flops_per_token(config, length)
    return whole - (both.full - both.causal) / 3
