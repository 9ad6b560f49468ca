"""One run by two real processes: the same losses, one set of files, one stop for both."""

from __future__ import annotations

import pathlib
import shutil
import signal
import subprocess
from collections.abc import Callable
from typing import Any

import jax
import pytest
from machine_parts import free_port
from tiny_run import (
    EVERY,
    SECONDS,
    STEPS,
    Output,
    Tiny,
    assert_one_sentence,
    curves,
    finish,
    last_logged,
    saved_steps,
    wait_until,
)

from experiments.loop import Stage, _Loop
from experiments.run import load_config
from lilith.sharding import make_mesh
from lilith.train.metrics import read_metrics

RunHere = Callable[..., tuple[int, Output]]
LONG = 100_000  # steps that no test waits for


def start_two(tiny: Tiny, *arguments: object) -> list[subprocess.Popen[str]]:
    together = ("--coordinator", f"127.0.0.1:{free_port()}", "--processes", 2, "--process")
    return [tiny.start(*together, process, *arguments) for process in (0, 1)]


def finish_both(
    processes: list[subprocess.Popen[str]], codes: tuple[int, int] = (0, 0)
) -> list[Output]:
    try:
        outputs = [finish(process, code) for process, code in zip(processes, codes)]
    finally:
        for process in processes:
            process.kill()
    # The collectives' library says on stdout that it is connected.
    return [
        Output("".join(x for x in o.out.splitlines(True) if not x.startswith("[Gloo]")), o.err)
        for o in outputs
    ]


@pytest.fixture(scope="module")
def two(tiny: Tiny) -> pathlib.Path:
    """A run whose batch and weights are split over both processes."""
    workdir = tiny.folder / "two"
    outputs = finish_both(start_two(tiny, "--workdir", workdir))
    assert "bits per byte on" in outputs[0].out
    assert outputs[1].out == ""  # the first speaks for both
    return workdir


def assert_close_curves(workdir: pathlib.Path, reference: pathlib.Path) -> None:
    ours, theirs = curves(workdir), curves(reference)
    assert ours.keys() == theirs.keys()
    for key, value in theirs.items():
        assert ours[key] == pytest.approx(value, rel=1e-5, abs=1e-5), key


def test_two_processes_have_the_losses_of_one(two: pathlib.Path, reference: pathlib.Path) -> None:
    assert_close_curves(two, reference)
    assert {path.name for path in two.iterdir()} == {path.name for path in reference.iterdir()}
    lines = read_metrics(two / "metrics.jsonl")
    assert sum("loss" in record for record in lines) == STEPS  # each step once


def test_copies_in_two_processes_have_the_losses_of_one(
    tiny: Tiny, reference: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    settings = ("mesh.data=2", "mesh.fsdp=1", "train.sample_every=0")
    finish_both(start_two(tiny, "--workdir", tmp_path / "run", "--set", *settings))
    assert_close_curves(tmp_path / "run", reference)


def test_one_process_goes_on_with_the_checkpoint_of_two(
    tiny: Tiny, two: pathlib.Path, run_here: RunHere
) -> None:
    code, output = run_here("--workdir", two, "--set", f"train.steps={STEPS + 2}")
    assert code == 0, output.err
    assert f"resumed from the checkpoint of step {STEPS}\n" in output.out
    assert last_logged(two) == max(saved_steps(two)) == STEPS + 2


@pytest.mark.parametrize(
    ("told", "number", "codes"),
    [(1, signal.SIGTERM, (0, 0)), (0, signal.SIGINT, (130, 0))],
)
def test_a_signal_to_one_process_stops_both_at_one_step(
    tiny: Tiny, tmp_path: pathlib.Path, told: int, number: int, codes: tuple[int, int]
) -> None:
    workdir = tmp_path / "run"
    processes = start_two(
        tiny, "--workdir", workdir, "--set", f"train.steps={LONG}", "checkpoint.every=50000",
        "train.eval_every=50000", "train.sample_every=0",
    )  # fmt: skip
    wait_until(processes[0], lambda: last_logged(workdir) > EVERY)
    processes[told].send_signal(number)
    outputs = finish_both(processes, codes)
    (step,) = saved_steps(workdir)
    assert last_logged(workdir) == step
    name = "SIGINT" if codes[0] else "SIGTERM"
    assert f"stopped by {name}: saved step {step} in {workdir}" in outputs[0].out
    assert outputs[1].out == ""


def test_what_is_wrong_for_both_is_said_by_both(
    tiny: Tiny, reference: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    shutil.copytree(reference, tmp_path / "run")
    both = start_two(tiny, "--workdir", tmp_path / "run", "--set", "data.length=32")
    for output in finish_both(both, (2, 2)):
        assert_one_sentence(output, "data.length = 64")


def test_the_end_of_one_process_is_the_end_of_the_other(tiny: Tiny) -> None:
    """Only the first tries to write the folder; the other would wait for it for ever."""
    first, second = start_two(tiny, "--workdir", "/proc/run")
    try:
        assert_one_sentence(finish(first, 2), "/proc/run can not be written")
        second.communicate(timeout=SECONDS)
        assert second.returncode != 0
    finally:
        second.kill()


def test_only_the_first_process_opens_the_metrics(
    tiny: Tiny, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Opening drops the records after the checkpoint: done twice, the first's file is lost."""
    config = load_config(str(tiny.config))
    mesh = make_mesh(config.mesh, jax.devices()[:1])
    nothing: Any = None
    stage = Stage(config, tmp_path, mesh, nothing, nothing, nothing, None, tmp_path)
    for process, opened in ((1, False), (0, True)):
        monkeypatch.setattr(jax, "process_index", lambda process=process: process)
        with _Loop(stage, nothing, nothing, nothing, 0):
            assert (tmp_path / "metrics.jsonl").exists() is opened


def test_a_process_without_the_number_of_processes_is_refused(run_here: RunHere) -> None:
    code, output = run_here("--process", 1)
    assert code == 2
    assert_one_sentence(output, "need --processes N")
