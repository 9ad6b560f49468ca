"""What the pipelines of larger models have in common; each config file gives the numbers.

Pretraining reads the mixture of pretrain_code from ``$LILITH_CORPUS``; the other stages read what
the project generates. The batch is constant: the trainer has no schedule of batch sizes.
"""

from __future__ import annotations

from dataclasses import dataclass

from experiments.constitutional_config import (
    ConstitutionalConfig,
    PromptsConfig,
    RevisedDataConfig,
    SelfPreferenceConfig,
)
from experiments.evaluate_config import EvaluateConfig
from experiments.instructions_config import InstructionsConfig
from experiments.pipeline_config import MadeConfig, PipelineConfig
from experiments.preference_config import PreferenceConfig
from experiments.rl_config import PromptDataConfig, RLConfig, RolloutConfig, SourcesConfig
from experiments.tuning_config import ChatDataConfig, RecordsConfig, TuningConfig
from lilith.config import (
    CheckpointConfig,
    DataConfig,
    ExperimentConfig,
    MeshConfig,
    OptimizerConfig,
    SourceConfig,
    TokenizerConfig,
    TrainConfig,
)
from lilith.data.mixture import code_mixture
from lilith.model.presets import get_model_config
from lilith.reasoning.self_improvement import RevisionSettings
from lilith.rl.update_config import UpdateConfig
from lilith.train.lora_config import LoraConfig


@dataclass(frozen=True)
class Size:
    """The numbers of one size.

    Attributes:
      model: a preset; hardware: a name in the price table.
      mesh: of pretraining and SFT; host: of the stages that run in one process.
      steps, batch, rate: of pretraining, in rows of the model's context; accumulation: in how
        many parts a step's batch is taken, to fit the activations.
      tuning_rate: of all weights in SFT; rank: of the adapters after it, 0 for all weights.
      conversations: that are generated.
    """

    model: str
    hardware: str
    mesh: MeshConfig
    host: MeshConfig
    steps: int
    batch: int
    rate: float
    tuning_rate: float
    rank: int
    conversations: int
    accumulation: int = 1


def sized_pipeline(size: Size) -> PipelineConfig:
    """The pipeline of a larger model."""
    lora = LoraConfig(rank=size.rank, alpha=2.0 * size.rank) if size.rank else LoraConfig(rank=0)
    after_rate = 10 * size.tuning_rate if size.rank else size.tuning_rate
    return PipelineConfig(
        name=f"pipeline_{size.model}",
        hardware=size.hardware,
        instructions=InstructionsConfig(count=size.conversations, held_out_count=500),
        # The generated texts weigh 2% beside the corpus: many passes over few texts teach little.
        made=MadeConfig(text_weight=0.02, lessons=2_000, pairs=8_000, prompts=8_000),
        pretrain=_pretraining(size),
        sft=TuningConfig(
            data=ChatDataConfig(length=2048),
            lora=LoraConfig(rank=0),
            mesh=size.mesh,
            optimizer=_optimizer(size.tuning_rate, 50),
            train=TrainConfig(
                steps=size.conversations // 40, batch=128, eval_every=200, eval_rows=128,
                sample_every=0, loss_chunk=2048,
            ),
            checkpoint=CheckpointConfig(every=200, keep=2),
        ),
        constitution=ConstitutionalConfig(
            iterations=2,
            group=32,
            prompts=PromptsConfig(harmful=160, frightening=120, plain=120, held_out=40),
            revision=RevisionSettings(rounds=2),
            data=RevisedDataConfig(length=1024, validation_fraction=0.1, helpful_limit=800),
            preference=SelfPreferenceConfig(prompts=240),
            lora=lora,
            mesh=size.host,
            optimizer=_optimizer(after_rate, 5),
            train=_short(60, 32),
            checkpoint=CheckpointConfig(every=20, keep=2),
        ),
        reward=PreferenceConfig(
            data=RecordsConfig(length=1024, validation_fraction=0.05),
            lora=lora,
            mesh=size.host,
            optimizer=_optimizer(after_rate, 20),
            train=_short(240, 32),
            checkpoint=CheckpointConfig(every=60, keep=2),
        ),
        ppo=_ppo(size, lora, after_rate / 10),
        evaluation=EvaluateConfig(count=500),
    )  # fmt: skip


def _pretraining(size: Size) -> ExperimentConfig:
    model = get_model_config(size.model)
    parts = ("books", "encyclopaedia", "papers", "web")
    return ExperimentConfig(
        model=model,
        tokenizer=TokenizerConfig(vocab=model.vocab, train_megabytes=256.0),
        data=DataConfig(
            sources=code_mixture(
                code=SourceConfig(name="code", kind="code", path="$LILITH_CORPUS/code"),
                **{
                    part: SourceConfig(
                        name=part, kind="text", path=f"$LILITH_CORPUS/{part}", optional=True
                    )
                    for part in parts
                },
            ),
            length=model.context, validation_fraction=0.001, workers=4,
        ),
        mesh=size.mesh,
        optimizer=OptimizerConfig(
            learning_rate=size.rate, schedule="cosine", warmup_steps=2_000, final_fraction=0.1,
            weight_decay=0.1,
        ),
        train=TrainConfig(
            steps=size.steps, batch=size.batch, accumulation=size.accumulation, z_loss=1e-4,
            loss_chunk=2048, eval_every=1_000, eval_rows=512, sample_every=2_000, max_bad_steps=20,
        ),
        checkpoint=CheckpointConfig(every=1_000, keep=3, keep_best=1),
    )  # fmt: skip


def _ppo(size: Size, lora: LoraConfig, rate: float) -> RLConfig:
    return RLConfig(
        algorithm="ppo",
        data=PromptDataConfig(length=1024, validation_fraction=0.02),
        lora=lora,
        mesh=size.host,
        rollout=RolloutConfig(prompts=128, copies=1, answer_tokens=256, rows=128),
        reward=SourcesConfig(sources=("tool_call_parts=1",), missing_eos_penalty=0.5),
        update=UpdateConfig(
            epochs=2, kl_coefficient=0.05, kl="adaptive", target_kl=6.0, stop_kl=0.1,
        ),
        optimizer=OptimizerConfig(
            learning_rate=rate, schedule="constant", warmup_steps=5, weight_decay=0.0
        ),
        train=TrainConfig(
            steps=200, batch=32, log_every=1, eval_every=40, eval_rows=64, sample_every=40
        ),
        checkpoint=CheckpointConfig(every=10, keep=2),
    )  # fmt: skip


def _optimizer(rate: float, warmup: int) -> OptimizerConfig:
    return OptimizerConfig(
        learning_rate=rate, schedule="cosine", warmup_steps=warmup, weight_decay=0.0
    )


def _short(steps: int, batch: int) -> TrainConfig:
    return TrainConfig(
        steps=steps, batch=batch, log_every=1, eval_every=50, eval_rows=64, sample_every=0,
        sample_prompts=(), loss_chunk=2048,
    )  # fmt: skip
