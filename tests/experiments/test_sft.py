"""Tuning from the command line: an adapter and all weights, resumed, refused, loaded again."""

from __future__ import annotations

import json
import math
import re
import signal
from functools import partial

import jax
import numpy as np
import pytest

import experiments.sft
from experiments.run import main
from experiments.stage import with_epochs
from lilith.config import DataConfig, ExperimentConfig, ModelConfig, TrainConfig
from lilith.interop.gguf import write_gguf
from lilith.interop.load import load_checkpoint, load_model
from lilith.model.params import init_params
from lilith.sharding import make_mesh
from lilith.tokenizer import ByteTokenizer
from lilith.tokenizer.chat_template import CHATML
from lilith.train.metrics import read_metrics

MODEL = ModelConfig(
    layers=2, d_model=64, heads=4, kv_heads=2, d_ff=176, vocab=272, context=256,
    compute_dtype="float32",
)  # fmt: skip
COLOURS = ("red", "green", "blue", "gold")


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with a base model and a file of conversations."""
    folder = tmp_path_factory.mktemp("sft")
    params = jax.device_get(init_params(0, MODEL))
    write_gguf(folder / "base.gguf", params, MODEL, ByteTokenizer(), chat_template=CHATML)
    with (folder / "chats.jsonl").open("w") as file:
        for i in range(60):
            answer = f"{COLOURS[i % 4]} {COLOURS[i // 4 % 4]}"
            record = {
                "messages": [
                    {"role": "user", "content": f"colour {i}?"},
                    {"role": "assistant", "content": answer},
                ],
                "metadata": {"domain": "odd" if i % 2 else "even"},
            }
            file.write(json.dumps(record) + "\n")
    (folder / "other.jsonl").write_text(
        json.dumps({"prompt": "say hello", "response": "hello there"}) + "\n"
    )
    (folder / "config.py").write_text(f'''"""Tiny."""
from experiments.tuning_config import ChatDataConfig, TuningConfig
from lilith.config import CheckpointConfig, OptimizerConfig, TrainConfig
from lilith.train.lora_config import LoraConfig


def config() -> TuningConfig:
    return TuningConfig(
        name="tiny", base={str(folder / "base.gguf")!r}, remat="none",
        data=ChatDataConfig(
            files=({str(folder / "chats.jsonl")!r},), length=192, validation_fraction=0.2,
            watched_files=({str(folder / "other.jsonl")!r},),
        ),
        lora=LoraConfig(rank=4, dropout=0.1), neftune=2.0,
        optimizer=OptimizerConfig(learning_rate=1e-2, warmup_steps=2),
        train=TrainConfig(
            steps=12, batch=4, log_every=1, eval_every=6, sample_every=12, sample_tokens=4,
            sample_prompts=("colour 3?",),
        ),
        checkpoint=CheckpointConfig(every=4),
    )
''')
    return folder


@pytest.fixture(autouse=True)
def _one_device(monkeypatch):
    monkeypatch.setattr(experiments.sft, "make_mesh", partial(make_mesh, devices=jax.devices()[:1]))


def tune(place, workdir, *overrides):
    words = ["--config", str(place / "config.py"), "--workdir", str(workdir)]
    return main([*words, *(["--set", *overrides] if overrides else [])])


@pytest.fixture(scope="module")
def adapter_run(place):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(experiments.sft, "make_mesh", partial(make_mesh, devices=jax.devices()[:1]))
        assert tune(place, place / "adapter_run") == 0
    return place / "adapter_run"


def scores(where):
    model, _, _ = load_checkpoint(where)
    ids = model.encode([{"role": "user", "content": "colour 3?"}])
    return np.asarray(model.score(ids, ["gold red", "red"]))


def test_an_adapter_learns_and_is_saved_alone(place, adapter_run):
    summary = json.loads((adapter_run / "summary.json").read_text())
    before, after = summary["before"], summary["after"]
    assert sorted(before) == [
        "validation_loss", "validation_loss_even", "validation_loss_odd", "watched_loss_other",
    ]  # fmt: skip
    assert after["validation_loss"] < before["validation_loss"] - 0.5
    samples = json.loads((adapter_run / "samples.json").read_text())
    assert [sample["step"] for sample in samples] == [0, 12]
    size = (adapter_run / "adapter" / "adapter.safetensors").stat().st_size
    assert size < 0.3 * (place / "base.gguf").stat().st_size
    assert (
        "odd before" in (adapter_run / "report.html").read_text()
        or "before" in (adapter_run / "report.html").read_text()
    )


def test_it_is_loaded_from_the_run_and_from_the_adapters_folder(place, adapter_run):
    of_run, of_folder = scores(adapter_run), scores(adapter_run / "adapter")
    np.testing.assert_allclose(of_run, of_folder, rtol=1e-6)
    assert np.abs(of_run - scores(place / "base.gguf")).max() > 0.5
    info = load_model(adapter_run / "adapter")[3]
    assert info.kind == "adapter"
    assert info.chat_template == CHATML


def test_a_finished_run_says_so(place, adapter_run, capsys):
    assert tune(place, adapter_run) == 0
    assert "is finished: 12 of 12 steps" in capsys.readouterr().out


def test_stopped_and_resumed_is_the_same_run(place, adapter_run, monkeypatch, capsys):
    """Dropout and noise included."""
    workdir = place / "stopped"
    write = experiments.loop._Loop.note

    def note(loop, step, figures):
        if step == 6:
            signal.raise_signal(signal.SIGTERM)
        write(loop, step, figures)

    with monkeypatch.context() as patch:
        patch.setattr(experiments.loop._Loop, "note", note)
        assert tune(place, workdir) == 0
    assert "stopped by SIGTERM: saved step 6" in capsys.readouterr().out
    assert tune(place, workdir) == 0
    same = (adapter_run / "adapter" / "adapter.safetensors").read_bytes()
    assert (workdir / "adapter" / "adapter.safetensors").read_bytes() == same
    losses = [
        [record["loss"] for record in read_metrics(folder / "metrics.jsonl") if "loss" in record]
        for folder in (workdir, adapter_run)
    ]
    assert losses[0] == losses[1]


def test_dropout_and_noise_are_drawn_in_training_and_the_limit_holds(place, adapter_run, capsys):
    workdir = place / "plain"
    plain = (
        "neftune=0",
        "lora.dropout=0",
        "data.limit=40",
        "train.steps=1",
        "train.sample_every=0",
    )
    assert tune(place, workdir, *plain) == 0
    assert "40 conversations read" in capsys.readouterr().out
    noisy = place / "noisy"
    assert tune(place, noisy, *plain[2:]) == 0
    first = [read_metrics(folder / "metrics.jsonl") for folder in (workdir, noisy)]
    losses = [
        next(r["loss"] for r in records if r["step"] == 1 and "loss" in r) for records in first
    ]
    assert abs(losses[0] - losses[1]) > 1e-4


def test_one_adapter_over_another(place, adapter_run):
    workdir = place / "second"
    below = f"adapters={adapter_run / 'adapter'}"
    assert tune(place, workdir, below, "train.steps=4", "lora.rank=2", "train.sample_every=0") == 0
    np.testing.assert_allclose(scores(workdir), scores(workdir / "adapter"), rtol=1e-6)
    first = json.loads((adapter_run / "summary.json").read_text())["after"]["validation_loss"]
    second = json.loads((workdir / "summary.json").read_text())["before"]["validation_loss"]
    assert second == pytest.approx(first, rel=1e-5)


def test_all_weights(place):
    workdir = place / "whole"
    wanted = ("lora.rank=0", "neftune=0", "train.steps=6", "optimizer.learning_rate=3e-3")
    assert tune(place, workdir, *wanted) == 0
    summary = json.loads((workdir / "summary.json").read_text())
    assert summary["after"]["validation_loss"] < summary["before"]["validation_loss"] - 0.3
    assert not (workdir / "adapter").exists()
    info = load_model(workdir)[3]
    assert (info.step, info.chat_template) == (6, CHATML)
    assert np.abs(scores(workdir) - scores(place / "base.gguf")).max() > 0.5


def test_the_first_batch_is_shown_with_what_is_learnt_set_off(place, capsys):
    assert main(["--config", str(place / "config.py"), "--dry-run"]) == 0
    out = capsys.readouterr().out
    assert "parameters trained (LoRA, rank 4)" in out
    assert "<|im_start|>assistant\n⟦" in out
    assert "<|im_end|>⟧" in out
    assert "⟦<|im_start|>" not in out


def test_epochs_set_the_steps(place, capsys):
    assert main(["--config", str(place / "config.py"), "--dry-run", "--set", "data.epochs=3"]) == 0
    out = capsys.readouterr().out
    rows = int(re.search(r"^(\d+) rows of 192", out, re.MULTILINE)[1])
    assert f"stage sft, {math.ceil(3 * rows / 4)} steps" in out
    run = ("data.epochs=0.2", "train.sample_every=0")
    assert tune(place, place / "epochs", *run) == 0
    written = json.loads((place / "epochs" / "config.json").read_text())
    assert written["train"]["steps"] == math.ceil(0.2 * rows / 4)
    config = ExperimentConfig(data=DataConfig(epochs=1.5), train=TrainConfig(steps=7, batch=4))
    assert with_epochs(config, 33).train.steps == 13
    assert with_epochs(ExperimentConfig(train=TrainConfig(steps=7)), 33).train.steps == 7


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["data.files="], "data.files is empty"),
        (["data.files=/no/such.jsonl"], "/no/such.jsonl"),
        (["data.length=512"], "data.length is 512, longer than the context"),
        (["base=./no.gguf"], "there is nothing at './no.gguf'"),
        (["adapters=/no/adapter"], "/no/adapter/adapter.json can not be read"),
        (["data.template=llama"], "data.template is 'llama'"),
        (["lora.targets=attention/z"], "matches none of"),
        (["remat=some"], "remat is 'some'"),
        (["compute_dtype=int8"], "compute_dtype is 'int8'"),
        (["neftune=-1"], "neftune is -1"),
        (["data.epochs=-1"], "data.epochs is -1"),
        (["train.batch=400"], "fewer than one batch of 400"),
        (["lora.rnk=3"], "unknown key 'lora.rnk' (did you mean 'rank'?)"),
    ],
)
def test_bad_configs_are_one_sentence(place, tmp_path, capsys, overrides, words):
    assert tune(place, tmp_path / "run", *overrides) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("error: ")
    assert words in error


@pytest.mark.parametrize("stage", ["sft", "evaluate"])
def test_a_stage_needs_a_config_of_its_own(stage, tmp_path, capsys):
    asked = ["--config", "pretrain_nano", "--workdir", str(tmp_path), "--set", f"stage={stage}"]
    for more in ([], ["--dry-run"]):
        assert main([*asked, *more]) == 2
        assert f"stage '{stage}' needs one like configs/" in capsys.readouterr().err


def test_a_malformed_line_is_named_or_skipped(place, tmp_path, capsys):
    path = tmp_path / "chats.jsonl"
    good = (place / "chats.jsonl").read_text()
    path.write_text(good + '{"messages": [\n')
    assert tune(place, tmp_path / "run", f"data.files={path}") == 2
    assert f"{path}:61" in capsys.readouterr().err
    wanted = (f"data.files={path}", "data.on_error=skip", "train.steps=1", "train.sample_every=0")
    assert tune(place, tmp_path / "run", *wanted) == 0
    assert "left out 1:" in capsys.readouterr().out


def test_an_adapter_of_another_model_is_refused(adapter_run, tmp_path, capsys):
    other = ModelConfig(
        layers=3, d_model=64, heads=4, kv_heads=2, d_ff=176, vocab=272, context=256,
        compute_dtype="float32",
    )  # fmt: skip
    path = tmp_path / "other.gguf"
    params = jax.device_get(init_params(0, other))
    write_gguf(path, params, other, ByteTokenizer(), chat_template=CHATML)
    place = adapter_run.parent
    assert tune(place, tmp_path / "run", f"base={path}", f"adapters={adapter_run / 'adapter'}") == 2
    assert "with layers = 2, and this model has layers = 3" in capsys.readouterr().err


def test_another_folder_of_a_run_is_not_taken_over(place, adapter_run, capsys):
    assert tune(place, adapter_run, "lora.rank=8") == 2
    assert "lora.rank" in capsys.readouterr().err
