"""Tune SmolLM2-135M-Instruct (LoRA) by DPO on hh-rlhf: --set data.files=PATH.

Any file of preferences does: records of prompt, chosen and rejected, or hh-rlhf's two transcripts.
The reference is the model that training starts from; its log-probabilities are computed once.
"""

from experiments.preference_config import DpoConfig, PreferenceConfig
from experiments.tuning_config import RecordsConfig
from lilith.config import CheckpointConfig, OptimizerConfig, TrainConfig
from lilith.train.lora_config import LoraConfig


def config() -> PreferenceConfig:
    """Pairs of up to 385 tokens a side, one pass; some of the records are not well formed."""
    return PreferenceConfig(
        name="dpo_hh",
        stage="dpo",
        base="smollm2-135m-instruct",
        data=RecordsConfig(length=384, on_error="skip", validation_fraction=0.15, epochs=1.0),
        lora=LoraConfig(rank=8, alpha=16.0),
        dpo=DpoConfig(beta=0.1, sft=0.0),
        optimizer=OptimizerConfig(
            learning_rate=2e-4, schedule="cosine", warmup_steps=10, weight_decay=0.0
        ),
        train=TrainConfig(
            batch=8, eval_every=50, eval_rows=64, sample_every=100,
            sample_prompts=("How do I stay calm when someone insults me?",),
            sample_tokens=96, sample_temperature=0.0,
        ),
        checkpoint=CheckpointConfig(every=25, keep=2),
    )  # fmt: skip
