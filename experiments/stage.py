"""What the runners of all stages share: sentences, samples, versions, how a run ends."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import math
import pathlib
import signal
import sys
from collections.abc import Sequence
from typing import Any, TypeVar

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh

from experiments.loop import Outcome
from experiments.progress import Progress
from experiments.report import write_samples
from experiments.tuning_config import FromModelConfig
from lilith.config import ExperimentConfig, ModelConfig, TrainConfig
from lilith.inference.sampler import pad_prompts, sample
from lilith.inference.sampling import make_controls
from lilith.tokenizer import Tokenizer
from lilith.train.metrics import read_metrics

C = TypeVar("C", bound=ExperimentConfig | FromModelConfig)
SHOWN_LINES = 12  # of a sample, in the terminal


def say(text: str, shows: bool) -> None:
    """Print a line, in the process that shows."""
    if shows:
        print(text, flush=True)


def is_reported(workdir: pathlib.Path) -> bool:
    """Whether a finished run's summary and report are there."""
    return (workdir / "summary.json").exists() and (workdir / "report.html").exists()


def last_evaluation(workdir: pathlib.Path) -> dict[str, Any]:
    """The figures of the last evaluation on everything that is held out."""
    records = read_metrics(workdir / "metrics.jsonl")
    return next(r for r in reversed(records) if r.get("whole_validation"))


def say_finished(workdir: pathlib.Path, step: int, steps: int, shows: bool) -> None:
    """What a second run of a finished command says."""
    say(
        f"{workdir} is finished: {step} of {steps} steps; see {workdir / 'report.html'}, or set "
        "train.steps higher to go on",
        shows,
    )


def with_epochs(config: C, rows: int) -> C:
    """The config with the steps that ``data.epochs`` passes over ``rows`` rows take."""
    if not config.data.epochs:
        return config
    steps = math.ceil(rows * config.data.epochs / config.train.batch)
    return dataclasses.replace(config, train=dataclasses.replace(config.train, steps=steps))


def progress_of(config: ExperimentConfig | FromModelConfig, start: int, shows: bool) -> Progress:
    """The progress bar of a run's steps, from ``start`` on."""
    return Progress(
        config.train.steps,
        config.name,
        log_every=config.train.log_every,
        start=start,
        enabled=shows,
    )


def stopped(outcome: Outcome, workdir: pathlib.Path, shows: bool) -> int:
    """Say that a run was stopped and how it goes on; the exit code."""
    name = signal.Signals(outcome.signal or signal.SIGTERM).name
    saved = f"saved step {outcome.step} in {workdir}" if outcome.step else "before the first step"
    say(f"stopped by {name}: {saved}; the same command resumes", shows)
    return 130 if outcome.signal == signal.SIGINT else 0


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that decide a run's figures."""
    import importlib.metadata

    names = ("lilith", "jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "grain", "numpy")
    return {"python": sys.version.split()[0]} | {n: importlib.metadata.version(n) for n in names}


class Samples:
    """What the model wrote for the config's prompts, by step, kept in the run's folder.

    Args:
      prompts: as shown, and their token ids.
      stop_ids: any of these ends a text.
    """

    def __init__(
        self,
        workdir: pathlib.Path,
        prompts: Sequence[str],
        ids: Sequence[Sequence[int]],
        stop_ids: Sequence[int],
        tokenizer: Tokenizer,
        mesh: Mesh,
    ) -> None:
        self._workdir, self._prompts, self._ids = workdir, list(prompts), [list(i) for i in ids]
        self._stop_ids, self._tokenizer, self._mesh = tuple(stop_ids), tokenizer, mesh
        self.kept: list[dict[str, Any]] = []
        with contextlib.suppress(FileNotFoundError, ValueError):
            self.kept = json.loads((workdir / "samples.json").read_text())

    def write(
        self, params: Any, step: int, config: ModelConfig, train: TrainConfig, seed: int
    ) -> str:
        """Continue the prompts, keep the texts, and return what to show of the first."""
        tokenizer, mesh = self._tokenizer, self._mesh
        shards = mesh.shape["data"] * mesh.shape["fsdp"]
        tokens, lengths = pad_prompts(self._ids, rows=-(-len(self._ids) // shards) * shards)
        samples = sample(
            params,
            tokens,
            lengths,
            make_controls(
                len(tokens),
                seeds=seed + np.arange(len(tokens)),
                temperature=train.sample_temperature,
                stop_ids=self._stop_ids,
            ),
            config=config,
            new_tokens=train.sample_tokens,
            vocab=tokenizer.vocab_size,
        )
        ids, counts = (
            multihost_utils.process_allgather(x, tiled=True) if jax.process_count() > 1 else x
            for x in (samples.tokens_BN, samples.length_B)
        )
        texts = [
            tokenizer.decode(np.asarray(row)[: int(count)].tolist(), skip_special=True)
            for row, count in zip(ids, counts)
        ][: len(self._prompts)]
        self.kept = [old for old in self.kept if old["step"] < step] + [
            {"step": step, "prompt": prompt, "text": text}
            for prompt, text in zip(self._prompts, texts)
        ]
        if jax.process_index() == 0:
            write_samples(self._workdir, self.kept)
        shown = (self._prompts[0] + texts[0]).splitlines()[:SHOWN_LINES]
        return "\n".join([f"step {step} writes:", *(f"    {line}" for line in shown)])
