"""Checkpoints in a bucket: written by Orbax and TensorStore, counted by their manifests."""

from __future__ import annotations

import pathlib

import pytest
from checkpoint_child import abstract, assert_same_bits, device_state, host_state, run_of, save
from etils import epath
from fake_bucket import URL, FakeBucket

from lilith.storage import StorageError, local_copy, sizes
from lilith.train.checkpoint import Checkpointer, CheckpointError, load_params, read_info
from lilith.train.checkpoint_files import what_is_safe

LIKE = abstract(host_state(0))


@pytest.fixture
def run(bucket: FakeBucket, request: pytest.FixtureRequest) -> epath.Path:
    """A run's folder of checkpoints of its own in the bucket."""
    return epath.Path(f"{URL}/{request.node.name}/checkpoints")


def saved_and_waited_for(checkpointer: Checkpointer, step: int) -> None:
    save(checkpointer, step, device_state(step))
    checkpointer.wait()


def test_what_is_saved_comes_back_and_the_oldest_go(
    bucket: FakeBucket, run: epath.Path, tmp_path: pathlib.Path
) -> None:
    (tmp_path / "tokenizer").mkdir()
    (tmp_path / "tokenizer" / "merges.txt").write_text("a b")
    commits: list[list[int]] = []
    with Checkpointer(run, keep=2) as checkpointer:
        checkpointer.before_commit = lambda: commits.append(checkpointer.steps())
        for step in (1, 2, 3):
            save(checkpointer, step, device_state(step), tokenizer_directory=tmp_path / "tokenizer")
        checkpointer.wait()
    assert commits == [[], [1], [1, 2]]
    with Checkpointer(run) as checkpointer:
        restored = checkpointer.restore(LIKE)
    assert (restored.step, restored.warnings) == (3, ())
    assert_same_bits(restored.state, host_state(3))
    assert {name.split("/")[2] for name in bucket.names(run.parent.name)} == {"2", "3"}
    info = read_info(run.parent)
    assert (info.step, set(sizes(info.directory / "tokenizer"))) == (3, {"merges.txt"})
    assert load_params(run, step=2)["layers"]["w"].shape == (64, 128)
    with local_copy(info.tokenizer_directory) as tokenizer:
        assert (tokenizer / "merges.txt").read_text() == "a b"


def test_a_save_that_was_killed_does_not_count_and_is_cleaned(
    bucket: FakeBucket, run: epath.Path
) -> None:
    run_of(run, 1, 2, 3, keep=3)
    (run / "3" / "manifest.json").unlink()
    assert read_info(run).step == 2
    with Checkpointer(run) as checkpointer:
        restored = checkpointer.restore(LIKE)
    assert (restored.step, restored.warnings) == (2, ())
    assert {path.name for path in run.iterdir()} == {"1", "2"}


def test_a_lost_or_changed_object_is_passed_over(bucket: FakeBucket, run: epath.Path) -> None:
    run_of(run, 1, 2, 3, keep=3)
    inside = str(run).removeprefix(f"{URL}/")
    biggest = max(bucket.names(f"{inside}/3/state"), key=lambda n: len(bucket.objects[n].data))
    bucket.put(biggest, bucket.objects[biggest].data[:-1])
    (run / "2" / "config.json").unlink()
    with Checkpointer(run, keep=3) as checkpointer:
        restored = checkpointer.restore(LIKE)
    assert restored.step == 1
    assert [warning.split(" in ")[0] for warning in restored.warnings] == [
        f"the checkpoint of step 3 ({biggest.removeprefix(f'{inside}/3/')} has "
        f"{len(bucket.objects[biggest].data)} bytes instead of "
        f"{len(bucket.objects[biggest].data) + 1})",
        "the checkpoint of step 2 (config.json is missing instead of 17)",
    ]


def test_a_bucket_that_refuses_fails_the_save_in_words_and_keeps_the_last(
    bucket: FakeBucket, run: epath.Path
) -> None:
    with Checkpointer(run) as checkpointer:
        save(checkpointer, 1, device_state(1))
        checkpointer.wait()
        bucket.refused.add("write")
        said = r"step 2 was not saved.*whole checkpoint is step 1"
        with pytest.raises(CheckpointError, match=said):
            saved_and_waited_for(checkpointer, 2)
        bucket.refused.add("list")
        words = what_is_safe(run, ())
        assert words.startswith(f"what was saved before is not known: {run} can not be read: ")
        bucket.refused.clear()
        assert checkpointer.restore(LIKE).step == 1


def test_a_bucket_that_can_not_be_read_is_one_sentence(bucket: FakeBucket, run: epath.Path) -> None:
    run_of(run, 1)
    bucket.refused.update(("list", "read"))  # it must not look empty: all would begin anew
    with pytest.raises(StorageError, match=f"{run} can not be read: .*access; check its name"):
        Checkpointer(run)
    with pytest.raises(StorageError, match="can not be read"):
        read_info(run)
