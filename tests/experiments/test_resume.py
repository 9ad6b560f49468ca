"""A run that is killed or asked to stop ends, started again, in the same bits."""

from __future__ import annotations

import pathlib
import shutil
import signal
from collections.abc import Callable

import pytest
from tiny_run import (
    EVERY,
    STEPS,
    Output,
    Tiny,
    assert_same_run,
    finish,
    last_logged,
    saved_steps,
    wait_until,
)

RunHere = Callable[..., tuple[int, Output]]


def is_saving(workdir: pathlib.Path) -> bool:
    """Whether a checkpoint has begun and is not yet whole."""
    return any((workdir / "checkpoints").glob("*.incomplete"))


def kill_when(tiny: Tiny, workdir: pathlib.Path, reached: Callable[[], bool]) -> int:
    """Start (or go on with) a run, SIGKILL it once ``reached``, and give the last whole save."""
    process = tiny.start("--workdir", workdir)
    wait_until(process, reached)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    return max(saved_steps(workdir), default=0)


def test_killed_again_and_again_a_run_ends_in_the_same_bits(
    tiny: Tiny, reference: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    workdir = tmp_path / "run"
    first = kill_when(tiny, workdir, lambda: last_logged(workdir) >= 2 * EVERY + 2)
    assert first >= last_logged(workdir) - EVERY

    def in_a_later_save() -> bool:
        return max(saved_steps(workdir)) > first and is_saving(workdir)

    second = kill_when(tiny, workdir, in_a_later_save)
    assert second > first
    assert is_saving(workdir)  # what the kill left
    output = tiny.run("--workdir", workdir)
    assert f"resumed from the checkpoint of step {second}\n" in output.out
    assert not is_saving(workdir)
    assert_same_run(workdir, reference)


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGTERM, 0), (signal.SIGINT, 130)], ids=["SIGTERM", "SIGINT"]
)
def test_a_signal_saves_the_step_and_the_same_command_goes_on(
    tiny: Tiny, reference: pathlib.Path, tmp_path: pathlib.Path, number: int, code: int
) -> None:
    workdir = tmp_path / "run"
    process = tiny.start("--workdir", workdir)
    wait_until(process, lambda: last_logged(workdir) >= EVERY + 2)
    process.send_signal(number)
    stopped = finish(process, code)
    step = max(saved_steps(workdir))
    assert EVERY + 2 <= step < STEPS
    assert last_logged(workdir) == step  # nothing that was done is lost
    name = signal.Signals(number).name
    assert f"stopped by {name}: saved step {step} in {workdir}; the same command resumes" in (
        stopped.out
    )
    assert stopped.err == ""
    output = tiny.run("--workdir", workdir)
    assert f"resumed from the checkpoint of step {step}\n" in output.out
    assert_same_run(workdir, reference)


def test_a_finished_run_goes_on_to_more_steps(
    run_here: RunHere, reference: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    workdir = tmp_path / "run"
    shutil.copytree(reference, workdir)
    code, output = run_here("--workdir", workdir, "--set", f"train.steps={STEPS + 2}")
    assert code == 0
    assert f"changed since the last checkpoint: train.steps {STEPS} -> {STEPS + 2}" in output.out
    assert f"resumed from the checkpoint of step {STEPS}\n" in output.out
    assert max(saved_steps(workdir)) == STEPS + 2


def test_a_run_made_shorter_than_it_is_still_gets_its_report(
    run_here: RunHere, reference: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    workdir = tmp_path / "run"
    shutil.copytree(reference / "checkpoints", workdir / "checkpoints")
    code, output = run_here("--workdir", workdir, "--set", f"train.steps={STEPS - 3}")
    assert code == 0, output.err
    assert f"step {STEPS}: validation loss" in output.out
    assert (workdir / "report.html").exists()


def test_a_damaged_checkpoint_is_passed_over_with_a_warning(
    tiny: Tiny, reference: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    workdir = tmp_path / "run"
    shutil.copytree(reference, workdir)
    for name in ("report.html", "summary.json"):
        (workdir / name).unlink()
    array = next((workdir / "checkpoints" / str(STEPS)).glob("state/state/d/*"))
    array.write_bytes(bytes(array.stat().st_size))
    output = tiny.run("--workdir", workdir)
    assert f"warning: the checkpoint of step {STEPS} (the contents of " in output.out
    assert f"resumed from the checkpoint of step {STEPS - EVERY}\n" in output.out
    assert_same_run(workdir, reference)
