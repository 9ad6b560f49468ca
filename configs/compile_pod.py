"""Compile a step for a TPU pod without one: --set model=7b topology=v5p:4x4x4 batch=4.

Prints parameters, memory of a device by kind, every collective and whether it overlaps with
compute, the roofline and the MFU that it allows. `step=prefill` and `step=decode` compile those of
generation; `slices=2` is two slices. Needs libtpu (`pip install 'lilith[tpu-compile]'`) and no TPU.
See docs/scaling.md.
"""

from experiments.compile_pod_config import CompilePodConfig
from lilith.config import OptimizerConfig
from lilith.model.presets import get_model_config


def config() -> CompilePodConfig:
    """The model and optimizer of configs/pretrain_code.py on sixteen v5e chips."""
    return CompilePodConfig(
        name="compile_pod",
        model=get_model_config("1b"),
        topology="v5e:4x4",
        optimizer=OptimizerConfig(learning_rate=3e-4, schedule="cosine", warmup_steps=2000),
    )
