"""The whole path at 1b, on one node of 8 H100.

Expected: 11.8 hours and 284 USD, of it 11.6 hours of pretraining (prices of 2026-05-31).
Text comes from $LILITH_CORPUS, as in pretrain_code; the rest is generated.
"""

from experiments.pipeline_config import PipelineConfig
from experiments.pipeline_sizes import Size, sized_pipeline
from lilith.config import MeshConfig


def config() -> PipelineConfig:
    """20 tokens a parameter: 40,000 steps of 256 rows of 2,048."""
    return sized_pipeline(
        Size(
            model="1b", hardware="H100 SXM",
            mesh=MeshConfig(fsdp=8), host=MeshConfig(fsdp=8),
            steps=40_000, batch=256, rate=4e-4, tuning_rate=3e-5, rank=0,
            conversations=40_000, accumulation=4,
        )
    )  # fmt: skip
