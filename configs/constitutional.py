"""Improve SmolLM2-135M-Instruct by the constitution: answers, critiques, revisions, tuning (LoRA).

Three iterations: `--set iterations=3`. Pairs that the model judges itself, and DPO on them: `--set
preference.prompts=64 preference.train=dpo`. Prompts of your own: `prompts.harmful_files=FILE`.
"""

from experiments.constitutional_config import (
    ConstitutionalConfig,
    PromptsConfig,
    RevisedDataConfig,
)
from lilith.config import CheckpointConfig, OptimizerConfig, TrainConfig
from lilith.reasoning.self_improvement import RevisionSettings
from lilith.train.lora_config import LoraConfig


def config() -> ConstitutionalConfig:
    """64 harmful and 64 harmless prompts, two rounds of revision, three passes over the rows."""
    return ConstitutionalConfig(
        name="constitutional",
        base="smollm2-135m-instruct",
        prompts=PromptsConfig(harmful=64, frightening=32, plain=32, held_out=16),
        revision=RevisionSettings(rounds=2, temperature=0.7),
        data=RevisedDataConfig(length=512, validation_fraction=0.1, epochs=3.0),
        lora=LoraConfig(rank=8, alpha=16.0),
        optimizer=OptimizerConfig(
            learning_rate=2e-4, schedule="cosine", warmup_steps=2, weight_decay=0.0
        ),
        train=TrainConfig(
            batch=8, log_every=1, eval_every=50, eval_rows=32, sample_every=0, sample_prompts=()
        ),
        checkpoint=CheckpointConfig(every=10, keep=2),
    )
