"""The whole path at 7b, on 128 TPU v5p chips.

Expected: 56.9 hours and 29,367 USD, of it 54.4 hours of pretraining (prices of 2026-05-31).
Text comes from $LILITH_CORPUS, as in pretrain_code. Pretraining and SFT are started on all hosts,
the other stages on one (docs/pipeline.md): adapters keep them within its four chips.
"""

from experiments.pipeline_config import PipelineConfig
from experiments.pipeline_sizes import Size, sized_pipeline
from lilith.config import MeshConfig


def config() -> PipelineConfig:
    """20 tokens a parameter, 4.2M tokens a step: 32,000 steps of 1,024 rows of 4,096."""
    return sized_pipeline(
        Size(
            model="7b", hardware="TPU v5p",
            mesh=MeshConfig(fsdp=128), host=MeshConfig(fsdp=4),
            steps=32_000, batch=1_024, rate=3e-4, tuning_rate=2e-5, rank=16, conversations=60_000,
        )
    )  # fmt: skip
