"""A corpus of a few small files, a config that trains on it in seconds, and runs of it."""

from __future__ import annotations

import os
import pathlib
import shutil
import subprocess
import sys
import sysconfig
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
import pytest

from lilith.config import ExperimentConfig, MeshConfig
from lilith.config_parsing import from_json
from lilith.sharding import make_mesh
from lilith.train.checkpoint import Checkpointer, list_checkpoints, read_info
from lilith.train.metrics import read_metrics
from lilith.train.optimizer import make_optimizer
from lilith.train.state import abstract_state

ROOT = pathlib.Path(__file__).resolve().parents[2]
COMPILED = ROOT / ".cache" / "jax-tests"  # the folder of tests/conftest.py
SECONDS = 120  # no run of these tests takes longer
STEPS = 40
EVERY = 5  # steps between checkpoints

CONFIG = '''"""A tiny model of a few files: for tests."""

import dataclasses

from lilith.config import (
    CheckpointConfig, DataConfig, ExperimentConfig, OptimizerConfig, SourceConfig, TokenizerConfig,
    TrainConfig,
)
from lilith.model.presets import get_model_config


def config() -> ExperimentConfig:
    return ExperimentConfig(
        name="tiny",
        model=dataclasses.replace(get_model_config("tiny"), compute_dtype="float32"),
        tokenizer=TokenizerConfig(kind="bytes"),
        data=DataConfig(
            sources=(SourceConfig(name="files", kind="code", path={corpus!r}),),
            length=64, validation_fraction=0.25, validation_kilobytes=12,
        ),
        optimizer=OptimizerConfig(warmup_steps=5),
        train=TrainConfig(
            steps={steps}, batch=8, log_every=1, eval_every=5, eval_rows=16, sample_every=20,
            sample_tokens=8, loss_chunk=512,
        ),
        checkpoint=CheckpointConfig(every={every}, keep=3),
    )
'''


@dataclass(frozen=True)
class Tiny:
    """A folder with a corpus, a config file of it and a cache."""

    folder: pathlib.Path

    @property
    def config(self) -> pathlib.Path:
        return self.folder / "tiny.py"

    @property
    def corpus(self) -> pathlib.Path:
        return self.folder / "corpus"

    def environment(self) -> dict[str, str]:
        return {
            "JAX_PLATFORMS": "cpu",
            "LILITH_CACHE": str(self.folder / "cache"),
            "JAX_COMPILATION_CACHE_DIR": str(COMPILED),
            "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        }

    def start(self, *arguments: object, config: object = None) -> subprocess.Popen[str]:
        """The command line as a process of its own, with one CPU device."""
        command = [sys.executable, "-m", "experiments.run", "--config", config or self.config]
        return subprocess.Popen(
            [str(word) for word in (*command, *arguments)],
            cwd=ROOT,
            env=os.environ | self.environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, *arguments: object, code: int = 0, config: object = None) -> Output:
        """The same to its end, which must be exit code ``code``."""
        return finish(self.start(*arguments, config=config), code)


@dataclass(frozen=True)
class Output:
    """What a run printed."""

    out: str
    err: str


def make_tiny(folder: pathlib.Path, files: int = 40) -> Tiny:
    """Some of the smaller files of the standard library, and the config that trains on them."""
    tiny = Tiny(folder)
    tiny.corpus.mkdir(parents=True)
    library = pathlib.Path(sysconfig.get_path("stdlib"))
    small = [path for path in sorted(library.glob("*.py")) if 1500 < path.stat().st_size < 9000]
    for path in small[:files]:
        shutil.copy(path, tiny.corpus)
    tiny.config.write_text(CONFIG.format(corpus=str(tiny.corpus), steps=STEPS, every=EVERY))
    return tiny


def finish(process: subprocess.Popen[str], code: int = 0, seconds: float = SECONDS) -> Output:
    """Wait for a run to end with exit code ``code``."""
    try:
        out, err = process.communicate(timeout=seconds)
    finally:
        process.kill()
    assert process.returncode == code, f"exit code {process.returncode}\n{out[-1000:]}\n{err}"
    return Output(out, err)


def wait_until(
    process: subprocess.Popen[str], reached: Callable[[], bool], seconds: float = SECONDS
) -> None:
    """Look every millisecond until ``reached``; the process must still run then."""
    end = time.monotonic() + seconds
    while not reached():
        if process.poll() is not None or time.monotonic() > end:
            process.kill()
            out, err = process.communicate()
            pytest.fail(f"it ended ({process.returncode}) too early\n{out[-1000:]}\n{err}")
        time.sleep(0.001)


def last_logged(workdir: pathlib.Path) -> int:
    """The newest step in metrics.jsonl."""
    return max((record["step"] for record in read_metrics(workdir / "metrics.jsonl")), default=0)


def saved_steps(workdir: pathlib.Path) -> list[int]:
    """Steps of the whole checkpoints."""
    return [info.step for info in list_checkpoints(workdir)]


def final_state(workdir: pathlib.Path) -> dict[str, np.ndarray]:
    """Every array of the newest checkpoint by path, on one device."""
    config = from_json(ExperimentConfig, read_info(workdir).config_json)
    mesh = make_mesh(MeshConfig(), jax.devices()[:1])
    target = abstract_state(config.model, make_optimizer(config.optimizer, 1), mesh)
    with Checkpointer(workdir / "checkpoints", keep=9) as checkpointer:
        state = checkpointer.restore(target).state
    leaves = jax.tree_util.tree_flatten_with_path(state)[0]
    return {jax.tree_util.keystr(path): np.asarray(leaf) for path, leaf in leaves}


def curves(workdir: pathlib.Path) -> dict[tuple[int, str], Any]:
    """The figures of metrics.jsonl that do not tell the time, by step and name."""
    timed = (
        "time", "seconds", "tokens_per_second", "mfu",
        "goodput", "useful_seconds", "wall_seconds", "heartbeat_age",
    )  # fmt: skip
    return {
        (record["step"], name): value
        for record in read_metrics(workdir / "metrics.jsonl")
        for name, value in record.items()
        if name not in timed
    }


def assert_same_run(workdir: pathlib.Path, reference: pathlib.Path) -> None:
    """The same final bits of weights and optimizer, and the same figures at every step."""
    states = final_state(workdir), final_state(reference)
    assert states[0].keys() == states[1].keys()
    different = [
        name for name in states[0] if states[0][name].tobytes() != states[1][name].tobytes()
    ]
    assert different == []
    assert curves(workdir) == curves(reference)


def assert_one_sentence(output: Output, *words: str) -> None:
    """Nothing but one line of error on stderr, which holds every one of ``words``."""
    lines = output.err.strip().splitlines()
    assert len(lines) == 1, output.err
    assert lines[0].startswith("error: ")
    for word in words:
        assert word in lines[0]
