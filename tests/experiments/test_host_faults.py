"""Runs of two and four real processes in which one is killed, stopped, wrong or stuck."""

from __future__ import annotations

import json
import pathlib
import re
import signal
import time
from collections.abc import Iterator

import pytest
from host_runs import SECONDS, Runs, ended, last_words
from machine_parts import free_port, small_disk
from tiny_run import (
    EVERY,
    STEPS,
    Tiny,
    curves,
    last_logged,
    saved_steps,
    wait_until,
)

from experiments.hosts import RESTART
from lilith.train.checkpoint import list_checkpoints
from lilith.train.metrics import read_metrics

A_MINUTE = 60.0  # in which the rest of a run stop when one is lost
LONG = "train.steps=100000"  # steps that no test waits for
# What is not looked at here is not computed.
QUICK = ("train.sample_every=0", "train.eval_every=100000")

pytestmark = pytest.mark.slow


@pytest.fixture
def runs(tiny: Tiny) -> Iterator[Runs]:
    """What starts processes; none outlives its test."""
    with Runs(tiny, *QUICK) as started:
        yield started


def close_to(workdir: pathlib.Path, reference: pathlib.Path) -> None:
    """The losses at every step are those of the undisturbed run, so the data came in its order."""
    ours, theirs = curves(workdir), curves(reference)
    steps = {step for step, name in ours if name == "loss"}
    assert steps == set(range(1, STEPS + 1))
    for step in steps:
        expected = pytest.approx(theirs[step, "loss"], rel=1e-4, abs=1e-4)
        assert ours[step, "loss"] == expected, step


def test_four_go_on_as_two_and_one_after_a_stop_a_corruption_and_a_signal(
    runs: Runs, reference: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    workdir = tmp_path / "run"
    four = runs.start(4, workdir, "checkpoint.keep=9")
    wait_until(four[0], lambda: last_logged(workdir) >= 2 * EVERY + 2, SECONDS)
    four[2].send_signal(signal.SIGSTOP)
    stopped = time.monotonic()
    outputs = ended([four[0], four[1], four[3]], RESTART)
    assert time.monotonic() - stopped < A_MINUTE
    for output in outputs:
        words = last_words(output)
        assert "process 2 (" in words
        assert "is lost: it gave no sign of life for 30 s" in words
    four[2].kill()
    reached, saved = last_logged(workdir), saved_steps(workdir)
    assert saved
    assert reached - EVERY <= max(saved) <= reached

    array = next((workdir / "checkpoints" / str(max(saved))).glob("state/state/d/*"))
    array.write_bytes(bytes(array.stat().st_size))
    two = runs.start(2, workdir, "checkpoint.keep=9")
    before = max(step for step in saved if step < max(saved))
    wait_until(two[0], lambda: max(saved_steps(workdir)) > max(saved) + EVERY, SECONDS)
    two[1].send_signal(signal.SIGTERM)
    first, _ = ended(two, 0)
    assert f"warning: the checkpoint of step {max(saved)} (the contents of " in first.out
    assert f"resumed from the checkpoint of step {before}\n" in first.out
    step = max(saved_steps(workdir))
    assert f"stopped by SIGTERM: saved step {step} in {workdir}" in first.out
    assert last_logged(workdir) == step

    (one,) = runs.start(1, workdir, "checkpoint.keep=9")
    (output,) = ended([one], 0)
    assert f"resumed from the checkpoint of step {step}\n" in output.out
    close_to(workdir, reference)
    positions = [info.data_state for info in list_checkpoints(workdir)]
    assert positions[-1] == list_checkpoints(reference)[-1].data_state
    assert_health(workdir)


def assert_health(workdir: pathlib.Path) -> None:
    """Goodput in every record, over all starts; heartbeats where there were several processes."""
    records = read_metrics(workdir / "metrics.jsonl")
    assert all(0.0 <= record["goodput"] < 1.0 for record in records)
    walls = [record["wall_seconds"] for record in records]
    assert walls == sorted(walls)
    assert any(record.get("heartbeat_age", -1.0) >= 0.0 for record in records)
    assert "goodput (time in steps kept)" in (workdir / "report.html").read_text()


@pytest.mark.parametrize("lost", [0, 1])
def test_a_killed_process_stops_the_other_at_once(
    runs: Runs, tmp_path: pathlib.Path, lost: int
) -> None:
    """Process 0 holds jax's coordination service, whose end would abort the others."""
    workdir = tmp_path / "run"
    two = runs.start(2, workdir, LONG)
    wait_until(two[0], lambda: last_logged(workdir) > EVERY, SECONDS)
    two[lost].kill()
    killed = time.monotonic()
    (output,) = ended([two[1 - lost]], RESTART)
    assert time.monotonic() - killed < A_MINUTE
    words = last_words(output)
    assert re.search(rf"process {lost} \(.+\) is lost: its connection closed", words)
    assert re.search(r"\(last known to be at: .*step \d+\)", words)
    assert max(saved_steps(workdir)) >= last_logged(workdir) - EVERY


def test_sigterm_to_any_of_four_saves_once_on_all(runs: Runs, tmp_path: pathlib.Path) -> None:
    workdir = tmp_path / "run"
    four = runs.start(4, workdir, LONG, "checkpoint.every=50000")
    wait_until(four[0], lambda: last_logged(workdir) > EVERY, SECONDS)
    four[3].send_signal(signal.SIGTERM)
    outputs = ended(four, 0)
    (step,) = saved_steps(workdir)
    assert last_logged(workdir) == step
    assert f"stopped by SIGTERM: saved step {step} in {workdir}" in outputs[0].out


def test_a_hung_step_shows_the_stacks_of_all_and_ends(runs: Runs, tmp_path: pathlib.Path) -> None:
    workdir = tmp_path / "run"
    two = runs.start(2, workdir, LONG, "train.hang_seconds=30", fault=f"hang:{EVERY + 2}")
    outputs = ended(two, RESTART)
    assert max(saved_steps(workdir)) == EVERY
    for output in outputs:
        assert "the threads of process " in output.err
        assert re.search(r"train.hang_seconds\) in process \d", last_words(output))
        assert "experiments/loop.py" in output.err  # where the main thread stands
    assert "in noted" in outputs[1].err  # the fault itself


def test_a_crash_of_one_is_told_by_the_other(runs: Runs, tmp_path: pathlib.Path) -> None:
    two = runs.start(2, tmp_path / "run", LONG, fault=f"crash:{EVERY + 2}")
    (output,) = ended(two[:1], RESTART)
    assert re.search(r"process 1 \(.+\) stopped: ZeroDivisionError: made", last_words(output))
    ended(two[1:], 1)


def test_a_flipped_bit_stops_before_it_is_saved(runs: Runs, tmp_path: pathlib.Path) -> None:
    workdir = tmp_path / "run"
    copies = ("mesh.data=2", "mesh.fsdp=1", f"train.check_replicas_every={EVERY - 2}")
    two = runs.start(2, workdir, LONG, *copies, fault=f"flip:{EVERY + 1}")
    for output in ended(two, RESTART):
        words = last_words(output)
        assert f"silent data corruption at step {2 * EVERY - 4}: the 2 copies of " in words
        assert "process 0 (" in words
        assert "process 1 (" in words
    assert saved_steps(workdir) == [EVERY]


def test_other_figures_on_one_host_are_said(runs: Runs, tmp_path: pathlib.Path) -> None:
    two = runs.start(2, tmp_path / "run", "train.steps=8", fault="figures:6")
    first, _ = ended(two, 0)
    assert re.search(
        r"warning: process 1 \(.+\) has other figures of step 6 \(loss .* than process 0", first.out
    )


def test_a_full_disk_ends_all_and_keeps_the_last_checkpoint(
    runs: Runs, reference: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    folder = reference / "checkpoints" / str(STEPS)
    each = sum(path.stat().st_size for path in folder.rglob("*")) / 1024
    with small_disk(tmp_path / "disk", f"size={int(2.6 * each)}k") as resize:
        workdir = tmp_path / "disk" / "run"
        for output in ended(runs.start(2, workdir, LONG, "checkpoint.keep=9"), 2):
            assert "was not saved" in last_words(output)
        saved = saved_steps(workdir)
        assert saved
        assert max(saved) >= last_logged(workdir) - EVERY
        resize(f"size={int(9 * each)}k")
        two = runs.start(2, workdir, LONG, "checkpoint.keep=1")
        wait_until(two[0], lambda: max(saved_steps(workdir)) > max(saved), SECONDS)


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ("code", "do not have the same code: lilith/train/step.py is '"),
        ("batch", "were not given the same config: train.batch is 8 on process 0 ("),
        ("blind", "do not see the same files: data.sources.0.path ("),
    ],
)
def test_hosts_that_differ_stop_before_anything_is_written(
    runs: Runs, tmp_path: pathlib.Path, fault: str, words: str
) -> None:
    workdir = tmp_path / "run"
    for output in ended(runs.start(2, workdir, fault=fault), 2):
        assert output.err.count("\n") == 1
        assert output.err.startswith("error: ")
        assert words in output.err
        assert "process 0 (" in output.err
        assert "process 1 (" in output.err
    assert not workdir.exists()


def test_files_of_other_contents_on_one_host_stop_before_the_first_step(
    runs: Runs, tmp_path: pathlib.Path
) -> None:
    workdir = tmp_path / "run"
    for output in ended(runs.start(2, workdir, fault="text"), 2):
        words = last_words(output)
        assert re.search(r"process 1 \(.+\) prepared other data than process 0 \(", words)
        assert "put the same files on every host" in words
    assert last_logged(workdir) == 0
    assert saved_steps(workdir) == []


def test_a_host_that_does_not_come_is_named(runs: Runs, tmp_path: pathlib.Path) -> None:
    command = ["--processes", "2", "--process", "0", "--start-timeout", "2"]
    process = runs.tiny.start(
        "--workdir", tmp_path / "run", "--coordinator", f"127.0.0.1:{free_port()}", *command
    )
    (output,) = ended([process], RESTART)
    assert last_words(output).startswith("error: process 1 did not come within 2 s; ")
    assert not (tmp_path / "run").exists()


def test_a_config_of_before_has_the_limits(reference: pathlib.Path) -> None:
    """Runs written without these fields go on with their defaults."""
    from experiments.run import load_config

    config = json.loads((reference / "config.json").read_text())
    del config["train"]["hang_seconds"], config["train"]["check_replicas_every"]
    path = reference.parent / "old.json"
    path.write_text(json.dumps(config))
    assert load_config(str(path)).train.hang_seconds == 3600.0
