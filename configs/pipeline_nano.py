"""The whole path with a model of 2M parameters on two CPU cores: text, tuning, rewards, an agent.

Data, tokenizer, pretraining, SFT, constitution, reward model, PPO, evaluation, a conversation with
tools. `--set stages=sft,ppo` runs some, `--dry-run` says what each reads and costs.
"""

from experiments.constitutional_config import (
    ConstitutionalConfig,
    PromptsConfig,
    RevisedDataConfig,
)
from experiments.evaluate_config import EvaluateConfig
from experiments.instructions_config import DomainWeights, InstructionsConfig
from experiments.pipeline_config import MadeConfig, PipelineConfig
from experiments.preference_config import PreferenceConfig
from experiments.rl_config import PromptDataConfig, RLConfig, RolloutConfig, SourcesConfig
from experiments.tuning_config import ChatDataConfig, RecordsConfig, TuningConfig
from lilith.config import (
    CheckpointConfig,
    DataConfig,
    ExperimentConfig,
    ModelConfig,
    OptimizerConfig,
    TokenizerConfig,
    TrainConfig,
)
from lilith.reasoning.self_improvement import RevisionSettings
from lilith.rl.update_config import UpdateConfig
from lilith.train.lora_config import LoraConfig

CALLS = ("quant_price_european", "quant_statistics", "agent_calculator")
KINDS = (
    "*=0", "quant_price_european=2", "quant_statistics=1", "agent_calculator=5", "refusal=1",
    "harmless_request=1", "greeting=0.5",
)  # fmt: skip
ALL_WEIGHTS = LoraConfig(rank=0)


def config() -> PipelineConfig:
    """Starting values, not yet chosen by measurement; digits are single tokens."""
    return PipelineConfig(
        name="pipeline_nano",
        instructions=InstructionsConfig(
            count=16_000, held_out_count=200, kinds=KINDS,
            domains=DomainWeights(code=0.0, quant=65.0, planning=0.0, general=35.0),
        ),
        made=MadeConfig(
            agent_share=1.0, turns=2, verbatim=True, text_weight=1.0, lessons=300, pairs=400,
            prompts=400,
        ),
        pretrain=ExperimentConfig(
            model=ModelConfig(
                layers=4, d_model=192, heads=4, kv_heads=2, d_ff=512, vocab=2048, context=1024,
                tied_embeddings=True, compute_dtype="float32",
            ),
            tokenizer=TokenizerConfig(vocab=2048, train_megabytes=4.0),
            data=DataConfig(length=256, validation_fraction=0.02, validation_kilobytes=200),
            optimizer=OptimizerConfig(
                name="muon", learning_rate=6e-3, schedule="wsd", warmup_steps=30,
                decay_fraction=0.5, final_fraction=0.02, weight_decay=0.1,
            ),
            train=TrainConfig(
                steps=200, batch=16, log_every=10, eval_every=100, eval_rows=32, sample_every=200,
                sample_prompts=("def fibonacci(n):\n", "user\nWhat is"), sample_tokens=64,
            ),
            checkpoint=CheckpointConfig(every=100, keep=1, keep_best=0),
        ),
        sft=TuningConfig(
            remat="none", lora=ALL_WEIGHTS,
            data=ChatDataConfig(length=544, validation_fraction=0.03),
            optimizer=OptimizerConfig(
                name="muon", learning_rate=5e-3, schedule="cosine", warmup_steps=30,
                weight_decay=0.01,
            ),
            train=TrainConfig(
                steps=600, batch=16, log_every=10, eval_every=200, eval_rows=32, sample_every=0,
            ),
            checkpoint=CheckpointConfig(every=100, keep=1, keep_best=0),
        ),
        without_revisions="pass",  # a model this small may write none that is worth learning
        constitution=ConstitutionalConfig(
            iterations=1, group=16, remat="none", lora=ALL_WEIGHTS,
            prompts=PromptsConfig(harmful=32, frightening=16, plain=16, held_out=16),
            revision=RevisionSettings(
                rounds=1, answer_tokens=96, critique_tokens=64, revision_tokens=96
            ),
            data=RevisedDataConfig(length=512, validation_fraction=0.1, helpful_limit=300),
            optimizer=OptimizerConfig(
                learning_rate=3e-4, schedule="cosine", warmup_steps=3, weight_decay=0.0
            ),
            train=TrainConfig(
                steps=30, batch=8, log_every=1, eval_every=30, eval_rows=32, sample_every=0
            ),
            checkpoint=CheckpointConfig(every=15, keep=1, keep_best=0),
        ),
        reward=PreferenceConfig(
            remat="none", lora=ALL_WEIGHTS,
            data=RecordsConfig(length=512, validation_fraction=0.1),
            optimizer=OptimizerConfig(
                learning_rate=3e-4, schedule="cosine", warmup_steps=5, weight_decay=0.0
            ),
            train=TrainConfig(
                steps=60, batch=8, log_every=1, eval_every=30, eval_rows=32, sample_every=0
            ),
            checkpoint=CheckpointConfig(every=30, keep=1, keep_best=0),
        ),
        ppo=RLConfig(
            algorithm="ppo", remat="none", lora=ALL_WEIGHTS,
            data=PromptDataConfig(length=512, validation_fraction=0.05),
            rollout=RolloutConfig(prompts=32, copies=1, answer_tokens=128, rows=32),
            reward=SourcesConfig(sources=("tool_call_parts=1",), missing_eos_penalty=0.2),
            update=UpdateConfig(epochs=1, kl_coefficient=0.05),
            optimizer=OptimizerConfig(
                learning_rate=2e-5, schedule="constant", warmup_steps=2, weight_decay=0.0
            ),
            train=TrainConfig(
                steps=8, batch=16, log_every=1, eval_every=8, eval_rows=16, sample_every=8
            ),
            checkpoint=CheckpointConfig(every=2, keep=1, keep_best=0),
        ),
        evaluation=EvaluateConfig(
            benchmark="agent", count=90, seed=3_000, max_tokens=256, kinds=CALLS
        ),
    )  # fmt: skip
