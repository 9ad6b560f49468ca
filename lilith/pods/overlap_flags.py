"""Compiler options that let collectives run beside compute, each with what it does and where.

With ``train.overlap`` (``overlap`` of ``compile_pod``) a training step is compiled with those of
its platform: on TPUs, on GPUs and ahead of time alike. They change when bytes move and not what is
computed. An option that the compiler does not know is an error, so a test asks libtpu and jaxlib
for each name.
"""

from __future__ import annotations

from dataclasses import dataclass

from jax.sharding import Mesh

Options = dict[str, bool]


@dataclass(frozen=True)
class Flag:
    """One compiler option, turned on or off.

    Attributes:
      does: and where it helps.
    """

    name: str
    value: bool
    does: str


TPU: tuple[Flag, ...] = (
    Flag(
        "xla_enable_async_reduce_scatter_fusion", True,
        "Starts the sum of a layer's gradients and awaits it later, so that the backward pass of "
        "the next layer can run beside it. libtpu has it off unless asked for. FSDP.",
    ),
    Flag(
        "xla_enable_async_all_reduce", True,
        "The same for sums that every device keeps whole: gradients of copies (the data axis), and "
        "activations between the parts of a tensor axis.",
    ),
    Flag(
        "xla_tpu_enable_data_parallel_all_reduce_opt", True,
        "Joins and moves the sums over the data axis, so that with several slices they cross the "
        "data centre's network during the backward pass. Nothing changes in one slice.",
    ),
    Flag(
        "xla_tpu_data_parallel_opt_different_sized_ops", True,
        "Lets the option above take gradients of different sizes together, as a layer's are.",
    ),
)  # fmt: skip

GPU: tuple[Flag, ...] = (
    Flag(
        "xla_gpu_enable_latency_hiding_scheduler", True,
        "Orders the program so that collectives start early and are awaited late. Any layout.",
    ),
    Flag(
        "xla_gpu_enable_pipelined_all_gather", True,
        "Gathers the next layer's weights while this one computes. FSDP.",
    ),
    Flag(
        "xla_gpu_enable_pipelined_reduce_scatter", True,
        "Scatters a layer's gradients while the next one computes. FSDP.",
    ),
    Flag(
        "xla_gpu_enable_pipelined_all_reduce", True,
        "Sums a layer's gradients over copies while the next one computes. Data parallel.",
    ),
    Flag(
        "xla_gpu_enable_while_loop_double_buffering", True,
        "Unrolls the loop over layers by two, so that no gathered weight is copied between turns; "
        "the three options above need it.",
    ),
)  # fmt: skip


def overlap_options(mesh: Mesh) -> Options:
    """The options for programs of a mesh, by its devices; none on CPUs or for one device."""
    if mesh.devices.size == 1:
        return {}
    flags = {"tpu": TPU, "gpu": GPU}.get(mesh.devices.flat[0].platform, ())
    return {flag.name: flag.value for flag in flags}
