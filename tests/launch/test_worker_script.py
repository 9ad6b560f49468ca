"""launch/gcp/worker.sh with real processes: what it says of runs ended, stopped, killed."""

from __future__ import annotations

import os
import pathlib
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator

import pytest
from launch_machine import LAUNCH

# Stands in for Python: does what the argument after --config says.
RUN = """#!/usr/bin/env bash
echo "started: $*"
case $4 in
ends) exit 0 ;;
refuses) exit 2 ;;
works) trap 'echo saved; exit 0' TERM; while :; do sleep 0.05; done ;;
hangs) trap '' TERM; while :; do sleep 0.05; done ;;
esac
"""


class Worker:
    """A source tree on a worker, with the script in it."""

    def __init__(self, folder: pathlib.Path) -> None:
        self.folder = folder
        (folder / "launch" / "gcp").mkdir(parents=True)
        shutil.copy(LAUNCH / "gcp" / "worker.sh", folder / "launch" / "gcp")
        (folder / "run").write_text(RUN)
        (folder / "run").chmod(0o755)

    def __call__(self, *words: str, seconds: str = "60") -> str:
        environment = os.environ | {
            "LILITH_PYTHON": str(self.folder / "run"),
            "LILITH_STOP_SECONDS": seconds,
        }
        ended = subprocess.run(
            ["bash", str(self.folder / "launch" / "gcp" / "worker.sh"), *words],
            env=environment, capture_output=True, text=True, timeout=120,
        )  # fmt: skip
        return ended.stdout.strip() or f"{ended.returncode}: {ended.stderr.strip()}"

    def supervisor(self) -> int:
        return int((self.folder / "run.pid").read_text())

    def until(self, status: str) -> None:
        for _ in range(600):
            if self("status") == f"lilith: {status}":
                return
            time.sleep(0.05)
        raise AssertionError(f"{self('status')} and never {status}")

    def started(self) -> None:
        for _ in range(600):
            if "started" in self("log"):
                return
            time.sleep(0.05)
        raise AssertionError("never started")


@pytest.fixture
def worker(tmp_path: pathlib.Path) -> Iterator[Worker]:
    made = Worker(tmp_path)
    yield made
    if (tmp_path / "run.pid").exists() and made("status") == "lilith: running":
        os.killpg(made.supervisor(), signal.SIGKILL)


def test_a_run_that_ends(worker: Worker) -> None:
    assert worker("status") == "lilith: none"
    assert worker("start", "--config", "ends") == "lilith: running"
    worker.until("exit 0")
    assert worker("log") == "started: -m experiments.run --config ends"


def test_a_run_that_refuses_its_command(worker: Worker) -> None:
    worker("start", "--config", "refuses")
    worker.until("exit 2")


def test_a_run_is_started_once(worker: Worker) -> None:
    worker("start", "--config", "works")
    worker.started()
    first = worker.supervisor()
    assert worker("start", "--config", "works") == "lilith: running"
    assert worker.supervisor() == first


def test_stop_lets_the_run_save(worker: Worker) -> None:
    worker("start", "--config", "works")
    worker.started()
    assert worker("stop") == "lilith: requested 0"
    assert worker("log").endswith("saved")


def test_a_preemption_s_signal_is_told_from_an_end(worker: Worker) -> None:
    worker("start", "--config", "works")
    worker.started()
    os.kill(worker.supervisor(), signal.SIGTERM)
    worker.until("stopped 0")
    assert worker("log").endswith("saved")


def test_a_killed_run_is_not_called_running(worker: Worker) -> None:
    worker("start", "--config", "works")
    worker.started()
    os.killpg(worker.supervisor(), signal.SIGKILL)
    worker.until("exit 137")


def test_a_number_that_is_now_another_process_s_is_not_the_run(worker: Worker) -> None:
    (worker.folder / "run.pid").write_text(str(os.getpid()))
    assert worker("status") == "lilith: exit 137"


def test_what_hangs_is_said_by_stop_and_killed_by_end(worker: Worker) -> None:
    worker("start", "--config", "hangs")
    worker.started()
    assert "the run did not end within 0 s" in worker("stop", seconds="0")
    worker("end", seconds="0")
    worker.until("exit 137")
