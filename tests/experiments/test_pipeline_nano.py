"""configs/pipeline_nano.py at a tenth of its length: whole, and killed at random moments."""

from __future__ import annotations

import json
import pathlib
import random
import subprocess
import time
from typing import Any

import jax
import numpy as np
import pytest
from tiny_run import Output, Tiny, finish

from experiments.pipeline_config import STAGES
from experiments.run import load_config
from lilith.train.checkpoint import load_params
from lilith.train.metrics import read_metrics

KILLS = 5
WAIT = 1800.0  # seconds, on a machine that has much else to do
# Everything that is generated, trained on or asked, a tenth of it.
COUNTS = (
    "instructions.count", "instructions.held_out_count", "made.lessons", "made.pairs",
    "made.prompts", "pretrain.train.steps", "sft.train.steps", "constitution.prompts.harmful",
    "constitution.prompts.frightening", "constitution.prompts.plain",
    "constitution.prompts.held_out", "constitution.train.steps", "reward.train.steps",
    "ppo.train.steps", "measure.questions", "evaluation.count",
)  # fmt: skip
# So that a kill does not cost more than it would in the whole run.
OFTEN = ("pretrain.checkpoint.every=5", "sft.checkpoint.every=10", "reward.checkpoint.every=2",
         "ppo.checkpoint.every=1")  # fmt: skip
CURVES = ("pretrain", "sft", "reward", "ppo")  # stages that write metrics.jsonl in their folder

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]


def tenths() -> list[str]:
    """The overrides that shorten the pipeline."""
    found = []
    for name in COUNTS:
        value: Any = load_config("pipeline_nano")
        for part in name.split("."):
            value = getattr(value, part)
        found.append(f"{name}={max(1, round(value / 10))}")
    return [*found, *OFTEN]


@pytest.fixture(scope="module")
def nano(tmp_path_factory: pytest.TempPathFactory) -> Tiny:
    """A folder whose cache is empty; the config is the project's."""
    return Tiny(tmp_path_factory.mktemp("nano"))


def start(nano: Tiny, workdir: pathlib.Path) -> subprocess.Popen[str]:
    return nano.start("--workdir", workdir, "--set", *tenths(), config="pipeline_nano")


@pytest.fixture(scope="module")
def whole(nano: Tiny) -> tuple[pathlib.Path, Output]:
    """The folder of a run that nothing disturbed, and what it printed; do not change it."""
    workdir = nano.folder / "whole"
    return workdir, finish(start(nano, workdir), seconds=WAIT)


def bits(workdir: pathlib.Path) -> dict[str, bytes]:
    """Every array of the last stage that trains, as its bytes."""
    leaves = jax.tree_util.tree_flatten_with_path(load_params(workdir / "ppo"))[0]
    return {jax.tree_util.keystr(path): np.asarray(leaf).tobytes() for path, leaf in leaves}


def read(path: pathlib.Path) -> Any:
    return json.loads(path.read_text())


def test_a_tenth_of_it_goes_through_every_stage(whole: tuple[pathlib.Path, Output]) -> None:
    workdir, out = whole
    assert all((workdir / f"after_{stage}.json").is_file() for stage in STAGES)
    assert "report:" in out.out
    after = read(workdir / "after_evaluation.json")
    assert after["tool_calls"]["questions"] == 2 * round(
        load_config("pipeline_nano").evaluation.count / 10
    )
    losses = [one["loss"] for one in read_metrics(workdir / "sft" / "metrics.jsonl")
              if "loss" in one]  # fmt: skip
    assert losses[-1] < 0.8 * losses[0]


def moments(whole: pathlib.Path, draw: random.Random) -> list[tuple[str, int]]:
    """Five moments, in their order: stages as they begin, and steps that they log."""
    every = [
        (stage, step)
        for stage in STAGES
        for step in [0, *(logged(whole / stage) if stage in CURVES else ())]
    ]
    return sorted(draw.sample(every[:-1], KILLS), key=every.index)


def logged(folder: pathlib.Path) -> list[int]:
    path = folder / "metrics.jsonl"
    return sorted({one["step"] for one in read_metrics(path)}) if path.exists() else []


def reached(workdir: pathlib.Path, stage: str, step: int) -> bool:
    if step:
        return any(own >= step for own in logged(workdir / stage))
    return (workdir / "starts.json").exists() and stage in read(workdir / "starts.json")


def test_killed_at_five_random_moments_it_ends_in_the_same_bits(
    nano: Tiny, whole: tuple[pathlib.Path, Output]
) -> None:
    draw = random.Random(5)
    workdir = nano.folder / "killed"
    for stage, step in moments(whole[0], draw):
        process = start(nano, workdir)
        end = time.monotonic() + WAIT
        while not reached(workdir, stage, step):
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < end
            time.sleep(0.01)
        time.sleep(draw.uniform(0.0, 1.0))  # within a step, a save or what is measured
        assert process.poll() is None, process.communicate()
        process.kill()
        process.communicate()
    finish(start(nano, workdir), seconds=WAIT)
    assert sum(read(workdir / "starts.json").values()) > len(STAGES)
    assert bits(workdir) == bits(whole[0])
    for stage in ("sft", "ppo", "evaluation"):
        found = [read(own / f"after_{stage}.json") for own in (workdir, whole[0])]
        assert found[0]["tool_calls"] == found[1]["tool_calls"]
