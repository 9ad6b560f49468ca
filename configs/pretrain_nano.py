"""A 5M-parameter model of Python code, in under 10 minutes on two CPU cores: the default run."""

from lilith.config import (
    CheckpointConfig,
    DataConfig,
    ExperimentConfig,
    OptimizerConfig,
    TokenizerConfig,
    TrainConfig,
)
from lilith.model.presets import get_model_config


def config() -> ExperimentConfig:
    """The default run."""
    return ExperimentConfig(
        name="pretrain_nano",
        model=get_model_config("nano"),
        tokenizer=TokenizerConfig(vocab=4096),
        data=DataConfig(length=512, validation_fraction=0.02, validation_kilobytes=400),
        optimizer=OptimizerConfig(
            name="muon", learning_rate=6e-3, schedule="wsd", warmup_steps=50,
            decay_fraction=0.5, final_fraction=0.02, weight_decay=0.1,
        ),
        train=TrainConfig(
            steps=900, batch=4, log_every=10, eval_every=150, eval_rows=32, sample_every=300,
            sample_prompts=(
                "def fibonacci(n):\n",
                "class Stack:\n    def __init__(self",
                "import os\nimport sys\n\ndef main(",
            ),
            sample_tokens=96, loss_chunk=1024,
        ),
        checkpoint=CheckpointConfig(every=300, keep=2, keep_best=1),
    )  # fmt: skip
