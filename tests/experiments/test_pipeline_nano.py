"""configs/pipeline_nano.py at a tenth of its length."""

from __future__ import annotations

import json
import pathlib
from typing import Any

import pytest
from tiny_run import Tiny, finish

from experiments.pipeline_config import STAGES
from experiments.run import load_config
from lilith.train.metrics import read_metrics

WAIT = 1800.0  # seconds, on a machine that has much else to do
# Everything that is generated, trained on or asked, a tenth of it.
COUNTS = (
    "instructions.count", "instructions.held_out_count", "made.lessons", "made.pairs",
    "made.prompts", "pretrain.train.steps", "sft.train.steps", "constitution.prompts.harmful",
    "constitution.prompts.frightening", "constitution.prompts.plain",
    "constitution.prompts.held_out", "constitution.train.steps", "reward.train.steps",
    "ppo.train.steps", "measure.questions", "evaluation.count",
)  # fmt: skip

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]


def field_of(name: str) -> Any:
    """The value of a field of the nano pipeline, by its dotted name."""
    value: Any = load_config("pipeline_nano")
    for part in name.split("."):
        value = getattr(value, part)
    return value


def test_a_tenth_of_it_goes_through_every_stage(tmp_path: pathlib.Path) -> None:
    tenths = [f"{name}={max(1, round(field_of(name) / 10))}" for name in COUNTS]
    workdir = tmp_path / "whole"
    process = Tiny(tmp_path).start("--workdir", workdir, "--set", *tenths, config="pipeline_nano")
    out = finish(process, seconds=WAIT).out
    assert "report:" in out
    assert all((workdir / f"after_{stage}.json").is_file() for stage in STAGES)
    after = json.loads((workdir / "after_evaluation.json").read_text())
    assert after["tool_calls"]["questions"] == round(field_of("evaluation.count") / 10)
    losses = [one["loss"] for one in read_metrics(workdir / "sft" / "metrics.jsonl")
              if "loss" in one]  # fmt: skip
    assert losses[-1] < 0.8 * losses[0]
