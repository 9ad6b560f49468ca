"""Runs of several real processes, some of them with a fault of fault_child.py."""

from __future__ import annotations

import os
import pathlib
import subprocess
import sys
from collections.abc import Sequence

from machine_parts import free_port
from tiny_run import ROOT, Output, Tiny

SECONDS = 600  # these processes share few cores with each other
CHILD = pathlib.Path(__file__).with_name("fault_child.py")


class Runs:
    """Starts the processes of runs, and ends those that are left."""

    def __init__(self, tiny: Tiny, *settings: str) -> None:
        """``settings`` are those of all runs."""
        self.tiny, self.settings = tiny, settings
        self.started: list[subprocess.Popen[str]] = []

    def __enter__(self) -> Runs:
        return self

    def __exit__(self, *error: object) -> None:
        for process in self.started:
            process.kill()

    def start(
        self, count: int, workdir: pathlib.Path, *settings: str, fault: str = "", where: int = 1
    ) -> list[subprocess.Popen[str]]:
        """``count`` processes of one run; number ``where`` has the ``fault``."""
        together = ["--coordinator", f"127.0.0.1:{free_port()}", "--processes", str(count)]
        fixed = ["--workdir", str(workdir), "--start-timeout", str(SECONDS)]
        processes = []
        for number in range(count):
            faulty = fault and number == where
            program = [str(CHILD), fault] if faulty else ["-m", "experiments.run"]
            command = [
                sys.executable, *program, "--config", str(self.tiny.config), *together,
                "--process", str(number), *fixed, "--set", *self.settings, *settings,
            ]  # fmt: skip
            processes.append(
                subprocess.Popen(
                    command,
                    cwd=ROOT,
                    env=os.environ | self.tiny.environment() | {"PYTHONPATH": str(ROOT)},
                    stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE,
                    text=True,
                )
            )
        self.started += processes
        return processes


def ended(processes: Sequence[subprocess.Popen[str]], code: int) -> list[Output]:
    """What processes that end with ``code`` printed."""
    outputs = [Output(*process.communicate(timeout=SECONDS)) for process in processes]
    for process, output in zip(processes, outputs):
        assert process.returncode == code, f"{process.returncode}\n{output.out[-800:]}{output.err}"
    return outputs


def last_words(output: Output) -> str:
    """The only sentence on stderr; what jax's C++ says of a lost process may stand around it."""
    (line,) = (line for line in output.err.splitlines() if line.startswith("error: "))
    return line
