"""Two processes, killed and stopped ten times, end in the bits of a run that was not."""

from __future__ import annotations

import pathlib
import random
import signal
import subprocess
import time

import pytest
from host_runs import SECONDS, Runs, ended
from tiny_run import Tiny, assert_same_run, last_logged, saved_steps

from experiments.hosts import RESTART
from lilith.train.metrics import read_metrics

TIMES = 10
EVERY_STEPS = 4  # between checkpoints
SETTINGS = (
    "train.steps=80", f"checkpoint.every={EVERY_STEPS}", "train.sample_every=0",
    "train.eval_every=100000", "train.eval_rows=8",
)  # fmt: skip

pytestmark = pytest.mark.slow


def wait_for_steps(two: list[subprocess.Popen[str]], workdir: pathlib.Path, more: int) -> None:
    """Until ``more`` steps were logged after the checkpoint that these go on from, or one ended."""
    began, start = time.time(), max(saved_steps(workdir), default=0)
    end = time.monotonic() + SECONDS
    while time.monotonic() < end and all(process.poll() is None for process in two):
        records = read_metrics(workdir / "metrics.jsonl")[-1:]
        if records and records[0]["time"] > began and records[0]["step"] >= start + more:
            return
        time.sleep(0.02)


def test_ten_random_kills_and_stops_change_no_bit(tiny: Tiny, tmp_path: pathlib.Path) -> None:
    draw = random.Random(12)
    workdir, undisturbed = tmp_path / "run", tmp_path / "undisturbed"
    with Runs(tiny, *SETTINGS) as runs:
        ended(runs.start(2, undisturbed), 0)
        for number in [signal.SIGKILL, signal.SIGTERM] * (TIMES // 2):
            two = runs.start(2, workdir)
            if draw.random() < 0.2:  # while it starts, restores or compiles
                time.sleep(draw.uniform(0.5, 10.0))
            else:
                wait_for_steps(two, workdir, draw.randint(1, 2 * EVERY_STEPS))
            reached, victim = last_logged(workdir), draw.randrange(2)
            two[victim].send_signal(number)
            for process in two:
                process.communicate(timeout=SECONDS)
            assert two[1 - victim].returncode in (0, RESTART)
            assert max(saved_steps(workdir), default=0) >= min(reached, 80) - EVERY_STEPS
        ended(runs.start(2, workdir), 0)
    assert_same_run(workdir, undisturbed)
