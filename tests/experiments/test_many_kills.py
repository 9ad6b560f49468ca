"""The nano run by two processes, killed and stopped ten times, ends in an undisturbed one's bits.

Its config is that of configs/pretrain_nano.py, on a corpus of bytes that takes no time to prepare,
for so many steps that each of the ten starts takes a few.
"""

from __future__ import annotations

import pathlib
import random
import shutil
import signal
import subprocess
import time

import pytest
from host_runs import SECONDS, Runs, ended
from tiny_run import Tiny, assert_same_run, last_logged, saved_steps

from experiments.hosts import RESTART
from lilith.train.metrics import read_metrics

TIMES = 10
STEPS = 90
EVERY_STEPS = 2  # between checkpoints
SETTINGS = (
    f"train.steps={STEPS}", f"checkpoint.every={EVERY_STEPS}", "train.log_every=1",
    "train.sample_every=0", "train.eval_every=100000", "train.eval_rows=8",
)  # fmt: skip
CONFIG = '''"""The nano run on a corpus of a few files."""

import dataclasses

from configs import pretrain_nano
from lilith.config import ExperimentConfig, SourceConfig, TokenizerConfig


def config() -> ExperimentConfig:
    nano = pretrain_nano.config()
    source = SourceConfig(name="files", kind="code", path={corpus!r})
    data = dataclasses.replace(
        nano.data, sources=(source,), validation_fraction=0.25, validation_kilobytes=12
    )
    return dataclasses.replace(nano, data=data, tokenizer=TokenizerConfig(kind="bytes"))
'''

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]  # 13 starts of two processes


@pytest.fixture
def nano(tiny: Tiny) -> Tiny:
    """The tiny corpus, with the config of the nano run."""
    folder = tiny.folder / "nano"
    folder.mkdir()
    shutil.copytree(tiny.corpus, folder / "corpus")
    own = Tiny(folder)
    own.config.write_text(CONFIG.format(corpus=str(own.corpus)))
    return own


def wait_for_steps(two: list[subprocess.Popen[str]], workdir: pathlib.Path, more: int) -> None:
    """Until ``more`` steps were logged after the checkpoint that these go on from, or one ended."""
    began, start = time.time(), max(saved_steps(workdir), default=0)
    end = time.monotonic() + SECONDS
    while time.monotonic() < end and all(process.poll() is None for process in two):
        records = read_metrics(workdir / "metrics.jsonl")[-1:]
        if records and records[0]["time"] > began and records[0]["step"] >= start + more:
            return
        time.sleep(0.02)


def test_ten_random_kills_and_stops_change_no_bit(nano: Tiny, tmp_path: pathlib.Path) -> None:
    draw = random.Random(12)
    workdir, undisturbed = tmp_path / "run", tmp_path / "undisturbed"
    with Runs(nano, *SETTINGS) as runs:
        ended(runs.start(2, undisturbed), 0)
        for number in [signal.SIGKILL, signal.SIGTERM] * (TIMES // 2):
            two = runs.start(2, workdir)
            if draw.random() < 0.2:  # while it starts, restores or compiles
                time.sleep(draw.uniform(0.5, 10.0))
            else:
                wait_for_steps(two, workdir, draw.randint(1, 2 * EVERY_STEPS))
            reached, victim = last_logged(workdir), draw.randrange(2)
            assert reached < STEPS  # there is something to kill
            two[victim].send_signal(number)
            for process in two:
                process.communicate(timeout=SECONDS)
            assert two[1 - victim].returncode in (0, RESTART)
            assert max(saved_steps(workdir), default=0) >= min(reached, STEPS) - EVERY_STEPS
        ended(runs.start(2, workdir), 0)
    assert_same_run(workdir, undisturbed)
