"""Tune SmolLM2-135M-Instruct with LoRA on conversations: --set data.files=chats.jsonl.

Without files of your own, `--config make_instructions` writes some; half of the quant ones need
`--set data.length=1024`. Two cores train some 350 tokens a second, so 400 steps of 4,096 tokens
take about 80 minutes. All weights instead of an adapter: `--set lora.rank=0
optimizer.learning_rate=2e-5`.
"""

from experiments.tuning_config import ChatDataConfig, TuningConfig
from lilith.config import CheckpointConfig, OptimizerConfig, TrainConfig
from lilith.train.lora_config import LoraConfig


def config() -> TuningConfig:
    """Rank 8 on every matrix; the learning rate is ten times that of all weights."""
    return TuningConfig(
        name="sft_smollm2",
        base="smollm2-135m-instruct",
        data=ChatDataConfig(files=("runs/make_instructions/conversations.jsonl",), length=512),
        lora=LoraConfig(rank=8, alpha=16.0),
        optimizer=OptimizerConfig(
            learning_rate=5e-4, schedule="cosine", warmup_steps=20, weight_decay=0.0
        ),
        train=TrainConfig(
            steps=400, batch=8, eval_every=100, eval_rows=32, sample_every=200,
            sample_prompts=(
                "Price a call: S=100, K=105, T=0.5, r=5%, vol=20%.",
                "What does a delta of 0.6 mean?",
                "Plan a data migration with three tasks.",
            ),
            sample_tokens=96, sample_temperature=0.0,
        ),
        checkpoint=CheckpointConfig(every=50, keep=2),
    )  # fmt: skip
