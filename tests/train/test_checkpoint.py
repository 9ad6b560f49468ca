"""Saving, restoring, keeping and describing checkpoints in one process."""

from __future__ import annotations

import concurrent.futures
import json
import logging
import pathlib
import shutil
import sys
import threading
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from checkpoint_child import (
    abstract,
    assert_same_bits,
    device_state,
    host_state,
    mesh_of,
    on_mesh,
    run_of,
    save,
    shardings,
)

from lilith.train import checkpoint, checkpoint_files
from lilith.train.checkpoint import (
    Checkpointer,
    CheckpointError,
    list_checkpoints,
    load_params,
    read_info,
)
from lilith.train.checkpoint_console import quiet_orbax

LIKE = abstract(host_state(0))


def test_every_dtype_returns_bit_for_bit(tmp_path: pathlib.Path) -> None:
    with Checkpointer(tmp_path / "checkpoints") as checkpointer:
        save(checkpointer, 7, device_state(7), data_state={"index": 3, "epochs": [1, 2]})
        restored = checkpointer.restore(LIKE)
    assert restored.step == 7
    assert restored.info.data_state == {"index": 3, "epochs": [1, 2]}
    assert restored.warnings == ()
    assert_same_bits(restored.state, host_state(7))


@pytest.mark.parametrize("shape", [(1, 1), (8, 1), (2, 4)])
def test_restores_on_another_mesh(tmp_path: pathlib.Path, shape: tuple[int, int]) -> None:
    target = shardings(mesh_of(*shape), host_state(0))
    with Checkpointer(tmp_path) as checkpointer:
        save(checkpointer, 1, on_mesh(host_state(1), mesh_of(4, 2)))
        restored = checkpointer.restore(abstract(host_state(0), target))
    assert_same_bits(restored.state, host_state(1))
    w = restored.state.params["layers"]["w"]
    assert w.sharding == target.params["layers"]["w"]
    assert w.addressable_shards[0].data.shape == (64 // shape[0], 128 // shape[1])


def test_a_step_directory_is_self_contained(tmp_path: pathlib.Path) -> None:
    tokenizer = tmp_path / "tokenizer"
    (tokenizer / "extra").mkdir(parents=True)
    (tokenizer / "tokenizer.model").write_bytes(b"\x00model")
    (tokenizer / "extra" / "merges.txt").write_text("a b")
    with Checkpointer(tmp_path / "run" / "checkpoints") as checkpointer:
        state = device_state(3)
        save(checkpointer, 3, state, tokenizer_directory=tokenizer, validation_loss=2.5)
    copy = tmp_path / "elsewhere" / "best"
    shutil.copytree(tmp_path / "run" / "checkpoints" / "3", copy)
    shutil.rmtree(tmp_path / "run")
    shutil.rmtree(tokenizer)

    info = read_info(copy)
    assert (info.step, info.config_json, info.validation_loss) == (3, '{"name": "test"}\n', 2.5)
    assert info.data_state == {"index": 3}
    assert info.parameters == 2 * 64 * 128 + 128
    assert str(info.arrays["params/layers/half"]) == "bfloat16[64,128]"
    assert info.packages["jax"] == jax.__version__
    assert info.tokenizer_directory is not None
    assert (info.tokenizer_directory / "tokenizer.model").read_bytes() == b"\x00model"
    assert (info.tokenizer_directory / "extra" / "merges.txt").read_text() == "a b"
    assert_same_bits(load_params(copy), host_state(3).params)


def test_readers_accept_run_folder_and_step(tmp_path: pathlib.Path) -> None:
    root = tmp_path / "run" / "checkpoints"
    run_of(root, 1, 2)
    (root / "3.incomplete").mkdir()  # a save in progress is not theirs to delete
    for path in (tmp_path / "run", str(root), root / "2"):
        assert read_info(path).step == 2
    assert read_info(tmp_path / "run", step=1).step == 1
    assert [info.step for info in list_checkpoints(tmp_path / "run")] == [1, 2]
    assert_same_bits(load_params(tmp_path / "run", step=1), host_state(1).params)
    assert (root / "3.incomplete").exists()
    for path, step, words in (
        (root / "2", 1, "is the checkpoint of step 2, not 1"),
        (root, 5, "no checkpoint of step 5 in .*; whole ones there: step 1, 2"),
        (tmp_path / "nothing", None, "no whole checkpoint in .*nothing"),
    ):
        with pytest.raises(CheckpointError, match=words):
            read_info(path, step)


def test_load_params_on_asked_shardings_and_dtypes(tmp_path: pathlib.Path) -> None:
    run_of(tmp_path, 1)
    params = host_state(1).params
    target = shardings(mesh_of(8, 1), host_state(0)).params
    like = jax.tree.map(
        lambda x, s: jax.ShapeDtypeStruct(x.shape, jnp.bfloat16, sharding=s), params, target
    )
    loaded = load_params(tmp_path, like)
    for have, want in zip(jax.tree.leaves(loaded), jax.tree.leaves(params)):
        assert have.dtype == jnp.bfloat16
        rounded = want.astype(jnp.bfloat16)
        np.testing.assert_array_equal(np.float32(have), np.float32(rounded))
    assert loaded["layers"]["w"].sharding == target["layers"]["w"]
    del like["layers"]["half"]
    with pytest.raises(
        CheckpointError, match=r"params/layers/half is bfloat16\[64,128\] there, abse"
    ):
        load_params(tmp_path, like)


def test_save_returns_before_the_write_and_survives_donation(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    go_on = threading.Event()

    class Held(concurrent.futures.ThreadPoolExecutor):
        def submit(self, work, /):
            return super().submit(lambda: work() if go_on.wait(60) else pytest.fail("not let go"))

    monkeypatch.setattr(checkpoint, "ThreadPoolExecutor", Held)
    overwrite = jax.jit(lambda s: jax.tree.map(lambda x: x + x.dtype.type(1), s), donate_argnums=0)
    with Checkpointer(tmp_path) as checkpointer:
        state = device_state(1)
        save(checkpointer, 1, state)
        for _ in range(3):
            state = jax.block_until_ready(overwrite(state))
        assert checkpointer.steps() == []
        assert checkpointer.saving()
        go_on.set()
        checkpointer.wait()
        assert_same_bits(checkpointer.restore(LIKE).state, host_state(1))


@pytest.mark.parametrize(
    ("keep", "keep_best", "left"),
    [(2, 1, [2, 5, 6]), (1, 0, [6]), (1, 2, [2, 4, 6]), (3, 1, [2, 4, 5, 6])],
)
def test_keeps_the_newest_and_the_best(
    tmp_path: pathlib.Path, keep: int, keep_best: int, left: list[int]
) -> None:
    losses = {1: 3.0, 2: 1.0, 3: None, 4: 2.0, 5: float("nan"), 6: 4.0}
    with Checkpointer(tmp_path, keep=keep, keep_best=keep_best) as checkpointer:
        for step, loss in losses.items():
            save(checkpointer, step, {"x": jnp.ones(3)}, validation_loss=loss)
        checkpointer.wait()
        assert checkpointer.steps() == left
        assert checkpointer.latest_step() == 6
        assert checkpointer.best_step() == (2 if 2 in left else 6)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(map(str, left))


def test_the_only_whole_one_is_kept_until_the_next_is_committed(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_of(tmp_path, 1)
    monkeypatch.setattr(checkpoint_files, "write_file", fail_with(OSError(28, "No space left")))
    with Checkpointer(tmp_path, keep=1) as checkpointer:
        save(checkpointer, 2, device_state(2))
        with pytest.raises(
            CheckpointError, match=r"step 2 was not saved .* No space left on device"
        ):
            checkpointer.wait()
        assert checkpointer.steps() == [1]
    assert [path.name for path in tmp_path.iterdir()] == ["1"]


def test_an_old_one_that_resists_deletion_does_not_fail_the_save(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_of(tmp_path, 1)
    with Checkpointer(tmp_path, keep=1) as checkpointer:
        with monkeypatch.context() as patch:
            patch.setattr(type(checkpointer.directory), "rmtree", fail_with(OSError(16, "busy")))
            save(checkpointer, 2, device_state(2))
            checkpointer.wait()
        assert checkpointer.steps() == [2]
        assert (tmp_path / "1.deleting").exists()
    Checkpointer(tmp_path).close()
    assert [path.name for path in tmp_path.iterdir()] == ["2"]


def test_an_error_of_the_background_write_reaches_the_next_save(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Checkpointer(tmp_path) as checkpointer:
        with monkeypatch.context() as patch:
            patch.setattr(checkpoint_files, "write_file", fail_with(RuntimeError("gone\nlater")))
            save(checkpointer, 1, device_state(1))
            with pytest.raises(
                CheckpointError, match=r"step 1 was not .*: gone; there is no check"
            ):
                save(checkpointer, 2, device_state(2))
        save(checkpointer, 2, device_state(2))
        assert checkpointer.restore(LIKE).step == 2


def fail_with(error: Exception):
    def fail(*args: object, **options: object) -> None:
        raise error

    return fail


def test_another_model_is_refused_by_name(tmp_path: pathlib.Path) -> None:
    run_of(tmp_path, 1)
    f32 = jnp.float32
    for path, leaf, words in (
        (
            "w",
            jax.ShapeDtypeStruct((64, 64), f32),
            r"w is float32\[64,128\] there, float32\[64,64\]",
        ),
        (
            "w",
            jax.ShapeDtypeStruct((64, 128), jnp.int32),
            r"float32\[64,128\] there, int32\[64,128",
        ),
        (
            "bias",
            jax.ShapeDtypeStruct((3,), f32),
            r"params/layers/bias is absent there, float32\[3",
        ),
    ):
        layers = {**LIKE.params["layers"], path: leaf}
        other = LIKE.replace(params={**LIKE.params, "layers": layers})
        with Checkpointer(tmp_path) as checkpointer:
            with pytest.raises(CheckpointError, match=words):
                checkpointer.restore(other)
            assert checkpointer.steps() == [1]
    with (
        Checkpointer(tmp_path) as checkpointer,
        pytest.raises(CheckpointError, match=r"key is uint32\[2\] there, absent .* and 4 more"),
    ):
        checkpointer.restore({"params": LIKE.params})


def test_what_can_not_be_saved_is_named(tmp_path: pathlib.Path) -> None:
    deleted = jnp.ones(3)
    deleted.delete()
    threads = threading.active_count()
    with Checkpointer(tmp_path) as checkpointer:
        for leaf, words in (
            (np.ones(3), "a/b of the state is a ndarray"),
            (jnp.zeros((0, 3)), r"a/b of the state has shape \(0, 3\)"),
            (jax.random.key(0), "a/b of the state is a typed random key"),
            (deleted, "step 1 was not saved in .* deleted"),
        ):
            with pytest.raises(CheckpointError, match=words):
                save(checkpointer, 1, {"a": {"b": leaf}})
        with pytest.raises(CheckpointError, match=r"the tokenizer's folder .*none can not be read"):
            save(checkpointer, 1, device_state(1), tokenizer_directory=tmp_path / "none")
        assert threading.active_count() == threads  # else the process would not exit
        assert list(tmp_path.iterdir()) == []
    (tmp_path / "file").touch()
    with pytest.raises(CheckpointError, match=r"checkpoints can not be kept in .*file"):
        Checkpointer(tmp_path / "file" / "checkpoints")


def test_going_back_is_refused_and_the_same_step_is_written_once(tmp_path: pathlib.Path) -> None:
    with Checkpointer(tmp_path, keep=5) as checkpointer:
        for step in (5, 10):
            save(checkpointer, step, device_state(step), validation_loss=2.0)
        checkpointer.wait()
        written = (tmp_path / "10" / "state").stat().st_mtime_ns
        save(checkpointer, 10, device_state(10), validation_loss=1.0)
        checkpointer.wait()
        assert (tmp_path / "10" / "state").stat().st_mtime_ns == written
        assert read_info(tmp_path).validation_loss == 1.0
        assert_same_bits(checkpointer.restore(LIKE, step=5).state, host_state(5))
        for step in (7, 10):
            with pytest.raises(CheckpointError, match=f"step {step} can not .* holds step 10"):
                save(checkpointer, step, device_state(step))
        save(checkpointer, 11, device_state(11), validation_loss=float("nan"))
        checkpointer.wait()
        assert read_info(tmp_path).validation_loss is None


def test_leftovers_are_ignored_and_cleaned_at_the_next_start(tmp_path: pathlib.Path) -> None:
    run_of(tmp_path, 1)
    for leftover in ("2.incomplete", "0.deleting", "2.incomplete.deleting"):
        shutil.copytree(tmp_path / "1", tmp_path / leftover)
    (tmp_path / "notes").mkdir()
    (tmp_path / "007").mkdir()
    assert read_info(tmp_path).step == 1
    with Checkpointer(tmp_path) as checkpointer:
        assert checkpointer.steps() == [1]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["007", "1", "notes"]


def test_a_later_format_is_refused(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(checkpoint_files, "FORMAT", 2)
        run_of(tmp_path, 1)
    with pytest.raises(CheckpointError, match="format 2, this LILITH reads up to 1: update LILITH"):
        read_info(tmp_path)
    assert json.loads((tmp_path / "1" / "manifest.json").read_text())["manifest"]["format"] == 2


def test_orbax_is_quiet_but_not_mute(
    tmp_path: pathlib.Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "absl")
    run_of(tmp_path, 1)
    load_params(tmp_path)
    assert [record for record in caplog.records if "orbax" in record.pathname] == []
    logger = logging.getLogger("absl")
    for exc_info, shown in (((ValueError, ValueError("raised"), None), False), (None, True)):
        record = logger.makeRecord("absl", logging.ERROR, "/x/orbax/y.py", 1, "bad", (), exc_info)
        assert bool(logger.filter(record)) == shown


def test_late_results_of_a_write_that_was_given_up_stay_unsaid(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    said: list[object] = []
    monkeypatch.setattr(sys, "unraisablehook", said.append)
    quiet_orbax()
    late = RuntimeError("Event loop is closed")
    cases = [(late, None), (late, said), (RuntimeError("other"), None), (None, None)]
    for error, source in cases:
        sys.unraisablehook(types.SimpleNamespace(exc_value=error, object=source))
    assert [(entry.exc_value, entry.object) for entry in said] == cases[1:]
