"""The whole path at 150m, on one host of 8 TPU v5e chips.

Expected: 1.2 hours and 12 USD, of it 1.1 hours of pretraining (prices of 2026-05-31).
Text comes from $LILITH_CORPUS, as in pretrain_code; the rest is generated.
"""

from experiments.pipeline_config import PipelineConfig
from experiments.pipeline_sizes import Size, sized_pipeline
from lilith.config import MeshConfig


def config() -> PipelineConfig:
    """20 tokens a parameter: 12,000 steps of 128 rows of 2,048."""
    return sized_pipeline(
        Size(
            model="150m", hardware="TPU v5e",
            mesh=MeshConfig(fsdp=8), host=MeshConfig(fsdp=8),
            steps=12_000, batch=128, rate=6e-4, tuning_rate=1e-4, rank=0, conversations=20_000,
        )
    )  # fmt: skip
