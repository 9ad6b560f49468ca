"""What a person can get wrong about a run: one sentence, exit code 2, and nothing lost."""

from __future__ import annotations

import os
import pathlib
import shutil
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from machine_parts import small_disk
from tiny_run import (
    EVERY,
    STEPS,
    Output,
    Tiny,
    assert_one_sentence,
    assert_same_run,
    final_state,
    last_logged,
    make_tiny,
    saved_steps,
)

from lilith.data import Corpus
from lilith.train.metrics import read_metrics

RunHere = Callable[..., tuple[int, Output]]


def files_of(folder: pathlib.Path) -> dict[str, bytes]:
    """Every file below ``folder`` with its content."""
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


# The corpus


def test_no_corpus(run_here: RunHere, tmp_path: pathlib.Path) -> None:
    (tmp_path / "empty").mkdir()
    sources = f'[{{"name": "mine", "kind": "code", "path": "{tmp_path}/empty"}}]'
    code, output = run_here("--workdir", tmp_path / "run", "--set", f"data.sources={sources}")
    assert code == 2
    assert_one_sentence(output, "no corpus found", "'mine'", f"{tmp_path}/empty")


def test_a_corpus_smaller_than_one_batch(run_here: RunHere, tmp_path: pathlib.Path) -> None:
    code, output = run_here("--workdir", tmp_path / "run", "--set", "train.batch=80000")
    assert code == 2
    assert_one_sentence(output, "fewer than one batch of 80,000", "lower train.batch")


def test_an_unreadable_file_is_skipped_counted_and_named(
    run_here: RunHere, tmp_path: pathlib.Path
) -> None:
    other = make_tiny(tmp_path / "other", files=30)
    lost = other.corpus / "lost.py"
    lost.symlink_to("nowhere.py")
    steps = ("train.steps=1", "train.sample_every=0")
    code, output = run_here("--workdir", tmp_path / "run", "--set", *steps, config=other.config)
    assert code == 0, output.err
    assert "skipped 1 unreadable" in output.out
    assert f"files: unreadable: {lost}\n" in output.out
    assert saved_steps(tmp_path / "run") == [1]


# The folder, the mesh, the tokenizer


def test_a_workdir_that_is_a_file(run_here: RunHere, tmp_path: pathlib.Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    code, output = run_here("--workdir", tmp_path / "notes.txt")
    assert code == 2
    assert_one_sentence(output, f"--workdir {tmp_path}/notes.txt is a file")
    code, output = run_here("--workdir", tmp_path / "notes.txt" / "run")
    assert code == 2
    assert_one_sentence(output, f"{tmp_path}/notes.txt/run can not be written (Not a directory)")
    assert (tmp_path / "notes.txt").read_text() == "mine"


def test_a_workdir_that_can_not_be_written(run_here: RunHere) -> None:
    code, output = run_here("--workdir", "/proc/run")
    assert code == 2
    assert_one_sentence(output, "/proc/run can not be written")


def test_a_mesh_that_does_not_fit_the_devices(run_here: RunHere, tmp_path: pathlib.Path) -> None:
    mesh = ("mesh.data=3", "mesh.fsdp=1")
    code, output = run_here("--workdir", tmp_path / "run", "--set", *mesh)
    assert code == 2
    assert_one_sentence(output, "needs 3 devices and there are 1")
    assert not (tmp_path / "run").exists()


def test_a_vocabulary_smaller_than_the_tokenizer(run_here: RunHere, tmp_path: pathlib.Path) -> None:
    code, output = run_here("--workdir", tmp_path / "run", "--set", "model.vocab=256")
    assert code == 2
    assert_one_sentence(output, "the tokenizer has 265 tokens and model.vocab is 256")


def test_a_model_as_long_as_its_rows_does_not_sample_past_its_context(
    run_here: RunHere, tmp_path: pathlib.Path
) -> None:
    code, output = run_here(
        "--workdir", tmp_path / "run", "--set", "train.steps=1", "train.sample_tokens=400"
    )
    assert code == 0, output.err
    assert saved_steps(tmp_path / "run") == [1]


# A run that is there already


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("model.d_ff=192", ("model.d_ff = 176", "192", "another --workdir")),
        ("tokenizer.kind=sentencepiece", ("tokenizer.kind = 'bytes'", "'sentencepiece'")),
        ("data.length=32", ("data.length = 64", "32")),
        ("seed=1", ("seed = 0", "has 1")),
        ("optimizer.name=lion", ("another model or optimizer", "another --workdir")),
    ],
)
def test_a_config_of_another_run_leaves_it_alone(
    run_here: RunHere, reference: pathlib.Path, tmp_path: pathlib.Path, change: str, words: Any
) -> None:
    workdir = tmp_path / "run"
    shutil.copytree(reference, workdir)
    before = files_of(workdir / "checkpoints")
    more = f"train.steps={STEPS + 5}"  # or it is finished, whatever the optimizer
    code, output = run_here("--workdir", workdir, "--set", more, change)
    assert code == 2
    assert_one_sentence(output, *words)
    assert files_of(workdir / "checkpoints") == before
    assert read_metrics(workdir / "metrics.jsonl") == read_metrics(reference / "metrics.jsonl")


def test_another_tokenizer_in_the_same_place(run_here: RunHere, tmp_path: pathlib.Path) -> None:
    """The path of the config is the same; what lies there is not what the run was trained with."""
    from lilith.config import TokenizerConfig
    from lilith.tokenizer import train_sentencepiece

    def put(vocab: int) -> None:
        texts = [pathlib.Path(__file__).read_text()]
        config = TokenizerConfig(kind="sentencepiece", vocab=vocab)
        train_sentencepiece(iter(texts), config, tmp_path / "tokenizer")

    settings = (
        "tokenizer.kind=sentencepiece", f"tokenizer.path={tmp_path / 'tokenizer'}",
        "train.steps=1", "train.sample_every=0", f"data.cache={tmp_path / 'cache'}",
    )  # fmt: skip
    put(380)
    code, output = run_here("--workdir", tmp_path / "run", "--set", *settings)
    assert code == 0, output.err
    shutil.rmtree(tmp_path / "tokenizer")
    shutil.rmtree(tmp_path / "cache")
    put(390)
    before = files_of(tmp_path / "run" / "checkpoints")
    code, output = run_here("--workdir", tmp_path / "run", "--set", *settings, "train.steps=2")
    assert code == 2
    assert_one_sentence(output, "390 tokens", "380 tokens", "another --workdir")
    assert files_of(tmp_path / "run" / "checkpoints") == before


def test_a_config_json_that_is_cut_off(run_here: RunHere, tmp_path: pathlib.Path) -> None:
    (tmp_path / "config.json").write_text('{"name": "ti')
    code, output = run_here("--workdir", tmp_path)
    assert code == 2
    assert_one_sentence(output, f"{tmp_path}/config.json can not be read as the config of a run")
    assert (tmp_path / "config.json").read_text() == '{"name": "ti'


def test_a_full_disk_leaves_the_last_checkpoint_whole(
    tiny: Tiny, reference: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    each = sum(map(len, files_of(reference / "checkpoints" / str(STEPS)).values())) / 2**20
    with small_disk(tmp_path / "disk", f"size={int(2.6 * each * 1024)}k") as resize:
        workdir = tmp_path / "disk" / "run"
        output = tiny.run("--workdir", workdir, "--set", "checkpoint.keep=9", code=2)
        assert_one_sentence(output, "No space left on device")
        saved = saved_steps(workdir)
        assert saved == [EVERY, 2 * EVERY]
        resize("size=64m")
        output = tiny.run("--workdir", workdir)
        assert f"resumed from the checkpoint of step {saved[-1]}\n" in output.out
        assert_same_run(workdir, reference)


# Numbers that are not


def test_a_run_that_diverges_stops_with_the_reason(
    run_here: RunHere, tmp_path: pathlib.Path
) -> None:
    settings = (
        "optimizer.learning_rate=1e30", "optimizer.clip_norm=0", "optimizer.warmup_steps=0",
        "train.max_bad_steps=3",
    )  # fmt: skip
    code, output = run_here("--workdir", tmp_path / "run", "--set", *settings)
    assert code == 2
    assert_one_sentence(
        output, "3 steps in a row had a loss or gradient that is not finite",
        "lower optimizer.learning_rate",
    )  # fmt: skip
    assert output.out.count("skipped: loss") == 3
    records = [r for r in read_metrics(tmp_path / "run" / "metrics.jsonl") if "loss" in r]
    assert len(records) < 10


class Spoilt:
    """Batches of which those of ``steps`` have ``mask`` for a loss mask."""

    def __init__(self, batches: Any, mask: float, steps: tuple[int, ...]) -> None:
        self._batches, self._mask, self._steps = batches, mask, steps
        self._step = 0

    def __next__(self) -> dict[str, np.ndarray]:
        rows = next(self._batches)
        self._step += 1
        if self._step in self._steps:
            rows["loss_mask"] = np.full_like(rows["loss_mask"], self._mask)
        return rows

    def state(self) -> Any:
        return self._batches.state()

    def restore(self, state: Any) -> None:
        self._batches.restore(state)


@pytest.fixture
def spoil(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Make training batches of the next run bad: ``spoil(mask, steps)``."""
    whole = Corpus.train_iterator

    def spoil(mask: float, *steps: int) -> None:
        monkeypatch.setattr(
            Corpus, "train_iterator", lambda *a, **k: Spoilt(whole(*a, **k), mask, steps)
        )

    return spoil


def test_one_bad_step_is_skipped_counted_and_passed(
    run_here: RunHere, tmp_path: pathlib.Path, spoil: Callable[..., None]
) -> None:
    spoil(np.nan, 3)
    settings = ("train.steps=5", "train.sample_every=0")
    code, output = run_here("--workdir", tmp_path / "run", "--set", *settings)
    assert code == 0, output.err
    assert "step 3 skipped: loss nan, gradient norm nan (1 in a row)\n" in output.out
    records = [r for r in read_metrics(tmp_path / "run" / "metrics.jsonl") if "loss" in r]
    assert [r["bad_total"] for r in records] == [0, 0, 1, 1, 1]
    assert [r["bad_in_a_row"] for r in records] == [0, 0, 1, 0, 0]
    assert np.isnan(records[2]["loss"])
    assert np.isfinite(records[4]["loss"])
    assert all(np.isfinite(array).all() for array in final_state(tmp_path / "run").values())


def test_a_batch_that_teaches_nothing_is_an_error(
    run_here: RunHere, tmp_path: pathlib.Path, spoil: Callable[..., None]
) -> None:
    spoil(0.0, EVERY + 2)
    settings = (f"train.steps={3 * EVERY}", "train.sample_every=0")
    code, output = run_here("--workdir", tmp_path / "run", "--set", *settings)
    assert code == 2
    assert_one_sentence(
        output, f"the batch of step {EVERY + 2} has no trained token (its loss mask is all zero)"
    )
    assert saved_steps(tmp_path / "run") == [EVERY]
    assert last_logged(tmp_path / "run") == EVERY + 1


def test_a_closed_pipe_does_not_cost_the_run(tiny: Tiny, tmp_path: pathlib.Path) -> None:
    """``python -m experiments.run ... | head -1``"""
    command = [
        sys.executable, "-m", "experiments.run", "--config", tiny.config,
        "--workdir", tmp_path / "run", "--set", "train.sample_every=0",
    ]  # fmt: skip
    reading, writing = os.pipe()
    process = subprocess.Popen(
        [str(word) for word in command], stdout=writing, stderr=subprocess.PIPE, text=True,
        env=os.environ | tiny.environment(),
    )  # fmt: skip
    os.close(writing)
    os.close(reading)
    _, err = process.communicate(timeout=120)
    assert (process.returncode, err) == (0, "")
    assert saved_steps(tmp_path / "run")[-1] == STEPS
