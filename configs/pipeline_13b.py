"""The whole path at 13b, on 256 TPU v5p chips.

Expected: 105.6 hours and 108,825 USD, of it 101.0 hours of pretraining (prices of 2026-05-31).
Text comes from $LILITH_CORPUS, as in pretrain_code. Pretraining and SFT are started on all hosts,
the other stages on one (docs/pipeline.md): adapters keep them within its four chips.
"""

from experiments.pipeline_config import PipelineConfig
from experiments.pipeline_sizes import Size, sized_pipeline
from lilith.config import MeshConfig


def config() -> PipelineConfig:
    """20 tokens a parameter, 4.2M tokens a step: 62,000 steps of 1,024 rows of 4,096."""
    return sized_pipeline(
        Size(
            model="13b", hardware="TPU v5p",
            mesh=MeshConfig(fsdp=128, tensor=2), host=MeshConfig(fsdp=4),
            steps=62_000, batch=1_024, rate=3e-4, tuning_rate=1e-5, rank=16, conversations=60_000,
        )
    )  # fmt: skip
