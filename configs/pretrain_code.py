"""Pretraining on code and text, 1b by default: --set model=7b, and the mesh of your pod.

The mixture is 60% code, 20% books, 10% encyclopaedia, 5% papers and 5% web. Without data of your
own the code is the interpreter's standard library, and a part that is absent is left out and said
so; name yours with `--set data.sources.1.path=/data/books` (a folder, a file or a pattern of text
files; `.gz` is read too), or write a config file with sources of any kind of docs/data.md.
"""

from lilith.config import (
    CheckpointConfig,
    DataConfig,
    ExperimentConfig,
    OptimizerConfig,
    SourceConfig,
    TokenizerConfig,
    TrainConfig,
)
from lilith.data.mixture import code_mixture
from lilith.model.presets import get_model_config


def config() -> ExperimentConfig:
    """20 tokens a parameter for 1b: 40,000 steps of 256 rows of 2,048."""
    return ExperimentConfig(
        name="pretrain_code",
        model=get_model_config("1b"),
        tokenizer=TokenizerConfig(vocab=32_000, train_megabytes=64.0),
        data=DataConfig(
            sources=code_mixture(
                code=SourceConfig(name="code", kind="stdlib"),
                **{
                    part: SourceConfig(
                        name=part, kind="text", path=f"$LILITH_CORPUS/{part}", optional=True
                    )
                    for part in ("books", "encyclopaedia", "papers", "web")
                },
            ),
            length=2048,
            validation_fraction=0.01,
        ),
        optimizer=OptimizerConfig(learning_rate=3e-4, schedule="cosine", warmup_steps=2000),
        train=TrainConfig(
            steps=40_000, batch=256, z_loss=1e-4, loss_chunk=2048, eval_every=1000,
            eval_rows=256, sample_every=2000, max_bad_steps=20,
        ),
        checkpoint=CheckpointConfig(every=1000, keep=3, keep_best=1),
    )  # fmt: skip
