"""PPO against a reward model, on the prompts of preference pairs: --set reward.model=FOLDER.

The reward model is what `--config reward_hh` has written (`runs/reward_hh/reward_model`); the
critic starts from it too: `--set data.files=PAIRS reward.model=FOLDER update.critic=FOLDER`.
"""

from experiments.rl_config import PromptDataConfig, RLConfig, RolloutConfig, SourcesConfig
from lilith.config import CheckpointConfig, OptimizerConfig, TrainConfig
from lilith.rl.update_config import UpdateConfig
from lilith.train.lora_config import LoraConfig


def config() -> RLConfig:
    """Thirty-two prompts an iteration, one answer each, two passes over them."""
    return RLConfig(
        name="ppo_hh",
        algorithm="ppo",
        base="smollm2-135m-instruct",
        data=PromptDataConfig(length=512, answered="last", on_error="skip"),
        lora=LoraConfig(rank=8, alpha=16.0),
        rollout=RolloutConfig(prompts=32, copies=1, answer_tokens=128, rows=32),
        reward=SourcesConfig(
            sources=("model=1",), model="runs/reward_hh/reward_model", missing_eos_penalty=0.5
        ),
        update=UpdateConfig(
            epochs=2, kl_coefficient=0.05, kl="adaptive", target_kl=6.0, stop_kl=0.1,
            critic="runs/reward_hh/reward_model",
        ),
        optimizer=OptimizerConfig(
            learning_rate=5e-5, schedule="constant", warmup_steps=5, weight_decay=0.0
        ),
        train=TrainConfig(
            steps=100, batch=8, log_every=1, eval_every=20, eval_rows=32, sample_every=20
        ),
        checkpoint=CheckpointConfig(every=5, keep=2),
    )  # fmt: skip
