"""A tiny base, a synthetic preference, and runs of the stages on preferences from them."""

from __future__ import annotations

import json
import pathlib
import signal
from functools import partial

import jax
import numpy as np
import pytest

import experiments.loop
import experiments.preferences
from experiments.run import main
from lilith.config import ModelConfig
from lilith.interop.gguf import write_gguf
from lilith.model.params import init_params
from lilith.sharding import make_mesh
from lilith.tokenizer import ByteTokenizer
from lilith.tokenizer.chat_template import CHATML

MODEL = ModelConfig(
    layers=2, d_model=64, heads=4, kv_heads=2, d_ff=128, vocab=272, context=128,
    compute_dtype="float32",
)  # fmt: skip
WARM = ("red", "gold", "pink", "amber")
COOL = ("blue", "teal", "grey", "green")


def write_pairs(path: pathlib.Path, count: int = 160) -> None:
    """Warm colours are preferred to cool ones, whatever the question and the length."""
    draw = np.random.default_rng(0)

    def answer(colours: tuple[str, ...]) -> str:
        return " ".join(draw.choice(colours, size=draw.integers(1, 4)))

    with path.open("w") as file:
        for i in range(count):
            record = {
                "prompt": f"colour {i}?", "chosen": answer(WARM), "rejected": answer(COOL),
                "metadata": {"domain": "odd" if i % 2 else "even"},
            }  # fmt: skip
            file.write(json.dumps(record) + "\n")


def make_place(folder: pathlib.Path, stage: str, steps: int, rate: float) -> pathlib.Path:
    """A folder with a base, pairs and the config of a stage."""
    params = jax.device_get(init_params(0, MODEL))
    write_gguf(folder / "base.gguf", params, MODEL, ByteTokenizer(), chat_template=CHATML)
    write_pairs(folder / "pairs.jsonl")
    (folder / "config.py").write_text(f'''"""Tiny."""
from experiments.preference_config import DpoConfig, PreferenceConfig
from experiments.tuning_config import RecordsConfig
from lilith.config import CheckpointConfig, OptimizerConfig, TrainConfig
from lilith.train.lora_config import LoraConfig


def config() -> PreferenceConfig:
    return PreferenceConfig(
        name="tiny", stage={stage!r}, base={str(folder / "base.gguf")!r}, remat="none",
        data=RecordsConfig(
            files=({str(folder / "pairs.jsonl")!r},), length=64, validation_fraction=0.3,
        ),
        lora=LoraConfig(rank=4, dropout=0.05),
        dpo=DpoConfig(beta=0.1),
        optimizer=OptimizerConfig(learning_rate={rate}, warmup_steps=2),
        train=TrainConfig(
            steps={steps}, batch=8, log_every=1, eval_every=20, sample_every=0, sample_prompts=(),
        ),
        checkpoint=CheckpointConfig(every=10),
    )
''')
    return folder


def one_device(patch: pytest.MonkeyPatch) -> None:
    """Run on the first of the pretended devices."""
    patch.setattr(
        experiments.preferences, "make_mesh", partial(make_mesh, devices=jax.devices()[:1])
    )


def run(place: pathlib.Path, workdir: pathlib.Path, *overrides: str) -> int:
    """The command line's exit code."""
    words = ["--config", str(place / "config.py"), "--workdir", str(workdir)]
    return main([*words, *(["--set", *overrides] if overrides else [])])


def run_stopped_at(place: pathlib.Path, workdir: pathlib.Path, step: int) -> None:
    """A run that SIGTERM stops after ``step``."""
    write = experiments.loop._Loop.note

    def note(loop, at, figures):
        if at == step:
            signal.raise_signal(signal.SIGTERM)
        write(loop, at, figures)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(experiments.loop._Loop, "note", note)
        assert run(place, workdir) == 0


def summary(workdir: pathlib.Path) -> dict:
    """What summary.json holds."""
    return json.loads((workdir / "summary.json").read_text())
