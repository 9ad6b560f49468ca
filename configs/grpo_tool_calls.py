"""GRPO on verified quant tool calls, from an instruction-tuned SmolLM2: --set adapters=FOLDER.

Prompts are the generated conversations' (`--config make_instructions`, quant only); an answer is
worth what `lilith.quant` and the record's check say, no judge. RLOO: `--set algorithm=rloo
update.kl_coefficient=0.01`. PPO: `--set algorithm=ppo update.kl_coefficient=0.05 rollout.copies=1
rollout.prompts=64 update.epochs=2`. Dr. GRPO: `update.scale=false update.normalisation=constant`.
"""

from experiments.rl_config import PromptDataConfig, RLConfig, RolloutConfig, SourcesConfig
from lilith.config import CheckpointConfig, OptimizerConfig, TrainConfig
from lilith.rl.update_config import UpdateConfig
from lilith.train.lora_config import LoraConfig


def config() -> RLConfig:
    """Sixteen prompts with eight answers each; parts of a right call count a little."""
    return RLConfig(
        name="grpo_tool_calls",
        base="smollm2-135m-instruct",
        data=PromptDataConfig(
            files=("runs/make_instructions/conversations.jsonl",), length=768,
            validation_fraction=0.05,
        ),
        lora=LoraConfig(rank=8, alpha=16.0),
        rollout=RolloutConfig(prompts=16, copies=8, answer_tokens=256, rows=64),
        reward=SourcesConfig(sources=("tool_call_parts=1",)),
        update=UpdateConfig(clip_low=0.2, clip_high=0.28, resample=1, overlong="mask"),
        optimizer=OptimizerConfig(
            learning_rate=1e-4, schedule="constant", warmup_steps=5, weight_decay=0.0
        ),
        train=TrainConfig(
            steps=60, batch=16, log_every=1, eval_every=15, eval_rows=64, sample_every=15
        ),
        checkpoint=CheckpointConfig(every=5, keep=2),
    )  # fmt: skip
