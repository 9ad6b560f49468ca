"""Checkpoints that lost or changed bytes after they were committed."""

from __future__ import annotations

import pathlib
import shutil

import pytest
from checkpoint_child import abstract, assert_same_bits, device_state, host_state, run_of, save

from lilith.train import checkpoint_files
from lilith.train.checkpoint import (
    Checkpointer,
    CheckpointError,
    DamagedCheckpointError,
    read_info,
)

LIKE = abstract(host_state(0))


def largest_file(directory: pathlib.Path) -> pathlib.Path:
    return max(directory.rglob("ocdbt.process_0/d/*"), key=lambda path: path.stat().st_size)


def flip_byte(path: pathlib.Path, at: int) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 4
    path.write_bytes(bytes(data))


def change(path: pathlib.Path, old: str, other: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, other))


DAMAGE = {
    "truncated": lambda d: largest_file(d).write_bytes(largest_file(d).read_bytes()[:-9]),
    "missing": lambda d: largest_file(d).unlink(),
    "flipped": lambda d: flip_byte(largest_file(d), 5000),
    "metadata": lambda d: (d / "state" / "_CHECKPOINT_METADATA").write_text("{}"),
    "manifest": lambda d: change(d / "manifest.json", '"step": 20', '"step": 21'),
    "no manifest": lambda d: (d / "manifest.json").unlink(),
    "no arrays": lambda d: shutil.rmtree(d / "state"),
    "config": lambda d: change(d / "config.json", "test", "tset"),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_a_damaged_newest_falls_back_to_the_previous(tmp_path: pathlib.Path, kind: str) -> None:
    run_of(tmp_path, 10, 20)
    DAMAGE[kind](tmp_path / "20")
    with Checkpointer(tmp_path) as checkpointer:
        restored = checkpointer.restore(LIKE)
        assert restored.step == 10
        assert_same_bits(restored.state, host_state(10))
        (warning,) = restored.warnings
        assert "step 20" in warning
        assert "step 10 is restored" in warning
        with pytest.raises(CheckpointError, match="20"):
            checkpointer.restore(LIKE, step=20)
        save(checkpointer, 20, device_state(20))  # takes the place of the damaged one
        checkpointer.wait()
        assert checkpointer.steps() == [10, 20]
        assert_same_bits(checkpointer.restore(LIKE).state, host_state(20))


@pytest.mark.parametrize("kind", ["truncated", "missing", "no manifest"])
def test_a_short_checkpoint_does_not_count(tmp_path: pathlib.Path, kind: str) -> None:
    run_of(tmp_path, 1, 2)
    DAMAGE[kind](tmp_path / "2")
    assert read_info(tmp_path).step == 1
    with Checkpointer(tmp_path) as checkpointer:
        assert checkpointer.latest_step() == 1


def test_a_load_that_fails_without_checksums_falls_back(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkpoint_files, "CHECKSUM_TOTAL", 0)
    monkeypatch.setattr(checkpoint_files, "CHECKSUM_FILE", 0)
    run_of(tmp_path, 1, 2)
    flip_byte(tmp_path / "2" / "state" / "state" / "manifest.ocdbt", 20)
    with Checkpointer(tmp_path) as checkpointer:
        restored = checkpointer.restore(LIKE)
    assert_same_bits(restored.state, host_state(1))
    assert "step 2 (" in restored.warnings[0]


def test_none_readable_says_so(tmp_path: pathlib.Path) -> None:
    with Checkpointer(tmp_path) as checkpointer:
        assert checkpointer.latest_step() is None
        with pytest.raises(CheckpointError, match="no checkpoint in"):
            checkpointer.restore(LIKE)
    run_of(tmp_path, 1, 2)
    for step in ("1", "2"):
        DAMAGE["missing"](tmp_path / step)
    with Checkpointer(tmp_path) as checkpointer:
        assert checkpointer.steps() == []
        with pytest.raises(CheckpointError, match=r"readable: step 2 \(.*; step 1 \("):
            checkpointer.restore(LIKE)
        assert checkpointer.best_step() is None
    with pytest.raises(DamagedCheckpointError, match=r"2 is not readable .*no other one there"):
        read_info(tmp_path / "2")
