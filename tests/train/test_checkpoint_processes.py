"""Checkpoints against real kills, a real full disk and two real processes."""

from __future__ import annotations

import pathlib
import queue
import random
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from checkpoint_child import (
    abstract,
    assert_same_bits,
    host_state,
    mesh_of,
    on_mesh,
    save,
    shardings,
)
from machine_parts import free_port, small_disk

from lilith.train.checkpoint import Checkpointer, CheckpointError

CHILD = pathlib.Path(__file__).with_name("checkpoint_child.py")
KILLS = 8
LOOP_ROWS = 4096


def start(*arguments: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, str(CHILD), *map(str, arguments)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def saved_lines(child: subprocess.Popen[str]) -> queue.Queue[int]:
    """The steps that a child says it has saved, as they come."""
    steps: queue.Queue[int] = queue.Queue()

    def read() -> None:
        assert child.stdout is not None
        for line in child.stdout:
            if line.startswith("saved") and line.endswith("\n"):
                steps.put(int(line.split()[1]))

    threading.Thread(target=read, daemon=True).start()
    return steps


def test_killed_at_any_moment_the_last_whole_checkpoint_is_found(tmp_path: pathlib.Path) -> None:
    rng = random.Random(0)
    like = abstract(host_state(0, LOOP_ROWS))
    caught_while_saving = 0
    following = start("loop", tmp_path)
    last = 0
    for kill in range(KILLS):
        child = following
        steps = saved_lines(child)
        if kill < KILLS - 1:
            following = start("loop", tmp_path)  # imports while this one runs
        assert child.stdin is not None
        child.stdin.write("go\n")
        child.stdin.flush()
        try:
            last = steps.get(timeout=60)
        except queue.Empty:
            child.kill()
            pytest.fail(f"the child saved nothing: {child.communicate()[1]}")
        time.sleep(rng.uniform(0, 0.3))
        child.kill()
        child.wait(30)
        assert child.stderr is not None
        assert child.stderr.read() == ""  # Orbax says nothing on the console
        time.sleep(0.05)  # its last line, out of the pipe
        while not steps.empty():
            last = steps.get()

        caught_while_saving += any("." in path.name for path in tmp_path.iterdir())
        with Checkpointer(tmp_path) as checkpointer:
            restored = checkpointer.restore(like)
        assert last <= restored.step <= last + 1
        assert restored.warnings == ()
        assert restored.info.data_state == {"index": restored.step}
        assert_same_bits(restored.state, host_state(restored.step, LOOP_ROWS))
        assert all(path.name.isdecimal() for path in tmp_path.iterdir())
    assert caught_while_saving > 0
    assert last >= KILLS


@pytest.fixture
def disk_of_24_mb(tmp_path: pathlib.Path) -> Iterator[pathlib.Path]:
    with small_disk(tmp_path / "disk", "size=24m"):
        yield tmp_path / "disk"


def settle(threads: int) -> None:
    """Wait for the threads of a failed write; one that stayed would keep the process alive."""
    for _ in range(100):
        if threading.active_count() <= threads:
            return
        time.sleep(0.1)
    pytest.fail(f"threads that do not end: {threading.enumerate()}")


def test_a_full_disk_leaves_the_previous_checkpoint_whole(
    disk_of_24_mb: pathlib.Path, caplog: pytest.LogCaptureFixture
) -> None:
    def state(step: int) -> dict[str, jax.Array]:
        return {"w": jnp.asarray(np.random.default_rng(step).standard_normal(2**21))}  # 8 MiB

    like = jax.eval_shape(lambda: state(0))
    threads = threading.active_count()
    with Checkpointer(disk_of_24_mb / "checkpoints", keep=5) as checkpointer:
        for step in (1, 2):
            save(checkpointer, step, state(step))
        save(checkpointer, 3, state(3))
        words = r"step 3 was not saved in .*: No space left on device: free some, .* step 2$"
        with pytest.raises(CheckpointError, match=words):
            checkpointer.wait()
        assert checkpointer.steps() == [1, 2]
        np.testing.assert_array_equal(checkpointer.restore(like).state["w"], state(2)["w"])
    settle(threads)
    with Checkpointer(disk_of_24_mb / "checkpoints", keep=5) as checkpointer:
        assert sorted(path.name for path in checkpointer.directory.iterdir()) == ["1", "2"]
        (disk_of_24_mb / "filler").write_bytes(bytes(7 * 2**20))
        save(checkpointer, 3, state(3))
        with pytest.raises(CheckpointError, match="No space left on device"):
            checkpointer.wait()
        (disk_of_24_mb / "filler").unlink()
        subprocess.run(["rm", "-r", str(disk_of_24_mb / "checkpoints" / "1")], check=True)
        save(checkpointer, 3, state(3))
        np.testing.assert_array_equal(checkpointer.restore(like).state["w"], state(3)["w"])
    assert caplog.records == []  # one sentence, no tracebacks of Orbax


def test_a_disk_that_fills_up_at_any_file_of_a_save(tmp_path: pathlib.Path) -> None:
    """Room for one more file each time, until a save succeeds."""
    disk, failures, threads = tmp_path / "disk", 0, threading.active_count()
    for files in range(4, 60):
        with small_disk(disk, f"nr_inodes={files}"), Checkpointer(disk / "run") as checkpointer:
            try:
                save(checkpointer, 1, {"w": jnp.ones(3)})
                checkpointer.wait()
            except CheckpointError as error:
                assert "No space left on device" in str(error)  # noqa: PT017  (not each time)
                assert checkpointer.steps() == []
                failures += 1
            else:
                assert checkpointer.steps() == [1]
                break
    assert failures > 10
    settle(threads)


def test_a_full_disk_says_one_sentence(disk_of_24_mb: pathlib.Path) -> None:
    child = start("fill", disk_of_24_mb)
    output, console = child.communicate(timeout=60)
    words = r"step 4 was not saved in .*: No space left on device: .* whole checkpoint is step 3\n"
    assert re.fullmatch(words, output), output
    assert console == ""  # no log, no traceback
    assert child.returncode == 0


def run_two_processes(mode: str, directory: pathlib.Path, devices: int) -> list[str]:
    port = free_port()
    children = [start(mode, directory, devices, process, port) for process in (0, 1)]
    outputs = []
    try:
        for child in children:
            out, error = child.communicate(timeout=120)
            assert child.returncode == 0, error[-3000:]
            outputs.append(out.splitlines()[-1])
    finally:
        for child in children:
            child.kill()
    return outputs


def test_two_processes_save_and_one_restores(tmp_path: pathlib.Path) -> None:
    assert run_two_processes("save", tmp_path, devices=2) == ["done 2", "done 2"]
    assert [path.name for path in tmp_path.iterdir()] == ["2"]
    assert (tmp_path / "2" / "state" / "state" / "ocdbt.process_1").is_dir()
    for shape in ((1, 1), (4, 2)):
        target = shardings(mesh_of(*shape), host_state(0))
        with Checkpointer(tmp_path) as checkpointer:
            restored = checkpointer.restore(abstract(host_state(0), target))
        assert_same_bits(restored.state, host_state(2))


def test_one_saves_and_two_processes_restore(tmp_path: pathlib.Path) -> None:
    """The newest is damaged: both pass it over, and both write the next."""
    with Checkpointer(tmp_path) as checkpointer:
        for step in (4, 5):
            save(checkpointer, step, on_mesh(host_state(step), mesh_of(2, 4)))
    (tmp_path / "5" / "config.json").write_text('{"name": "tset"}\n')
    assert run_two_processes("restore", tmp_path, devices=1) == ["done 4", "done 4"]
    with Checkpointer(tmp_path) as checkpointer:
        assert checkpointer.steps() == [9]
        assert_same_bits(checkpointer.restore(abstract(host_state(0))).state, host_state(4))


def test_a_failed_write_of_one_process_is_known_to_both(tmp_path: pathlib.Path) -> None:
    first, second = run_two_processes("fail", tmp_path, devices=1)
    assert "step 1 was not saved" in first
    assert "No space left on device" in first
    assert second == "step 1 was not saved: process 0 failed to write"
    assert list(tmp_path.iterdir()) == []
