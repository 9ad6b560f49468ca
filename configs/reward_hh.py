"""Train a reward model from SmolLM2-135M-Instruct (LoRA) on hh-rlhf: --set data.files=PATH.

Any file of preferences does: records of prompt, chosen and rejected, or hh-rlhf's two transcripts.
Held-out accuracy with its interval, calibration and the correlation with length, before and after,
are in the report; runs/reward_hh/reward_model is what `load_reward_model` reads.
"""

from experiments.preference_config import PreferenceConfig, RewardConfig
from experiments.tuning_config import RecordsConfig
from lilith.config import CheckpointConfig, OptimizerConfig, TrainConfig
from lilith.train.lora_config import LoraConfig


def config() -> PreferenceConfig:
    """Pairs of up to 385 tokens a side, one pass; some of the records are not well formed."""
    return PreferenceConfig(
        name="reward_hh",
        stage="reward",
        base="smollm2-135m-instruct",
        data=RecordsConfig(length=384, on_error="skip", validation_fraction=0.15, epochs=1.0),
        lora=LoraConfig(rank=8, alpha=16.0),
        reward=RewardConfig(centring=0.01),
        optimizer=OptimizerConfig(
            learning_rate=2e-4, schedule="cosine", warmup_steps=10, weight_decay=0.0
        ),
        train=TrainConfig(batch=8, eval_every=50, eval_rows=64, sample_every=0),
        checkpoint=CheckpointConfig(every=25, keep=2),
    )
