"""DPO from the command line: the margin rises, references are kept, resumed, loaded, refused."""

from __future__ import annotations

import dataclasses
import json

import jax
import numpy as np
import pytest
import tokenizers
from preference_parts import MODEL, make_place, one_device, run, run_stopped_at, summary

import experiments.dpo
from experiments.run import main
from lilith.config import ModelConfig
from lilith.interop.gguf import write_gguf
from lilith.interop.load import load_checkpoint, load_model
from lilith.model.params import init_params
from lilith.tokenizer import ByteTokenizer, HuggingFaceTokenizer
from lilith.tokenizer.chat_template import CHATML
from lilith.train.metrics import read_metrics

STEPS = 40
MOST_LOST = 1.0  # nats that a chosen answer may become less likely by, on average


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return make_place(tmp_path_factory.mktemp("dpo"), "dpo", STEPS, 3e-3)


@pytest.fixture(autouse=True)
def _one_device(monkeypatch):
    one_device(monkeypatch)


@pytest.fixture(scope="module")
def done(place):
    with pytest.MonkeyPatch.context() as patch:
        one_device(patch)
        assert run(place, place / "run") == 0
    return place / "run"


def scores(where):
    model, _, _ = load_checkpoint(where)
    ids = model.encode([{"role": "user", "content": "colour 3?"}])
    return np.asarray(model.score(ids, ["gold red", "teal blue"]))


def test_the_margin_rises_and_the_chosen_answers_stay_likely(done) -> None:
    found = summary(done)
    before, after = found["before"], found["after"]
    assert before["validation_margin"] == 0  # the reference is what training starts from
    assert before["validation_accuracy"] == 0.5
    assert before["validation_loss"] == pytest.approx(np.log(2), abs=1e-6)
    assert after["validation_margin"] > 0.5
    assert after["validation_accuracy"] > 0.95
    assert after["validation_accuracy_low"] > 0.85
    change = after["validation_chosen_log_prob"] - before["validation_chosen_log_prob"]
    assert found["chosen_log_prob_change"] == pytest.approx(change)
    assert change > -MOST_LOST
    assert after["validation_rejected_log_prob"] < after["validation_chosen_log_prob"]
    last = [r for r in read_metrics(done / "metrics.jsonl") if "margin" in r][-1]
    assert last["margin"] > 0.5
    assert {"accuracy", "chosen_log_prob", "rejected_log_prob", "sft_loss"} <= last.keys()
    page = (done / "report.html").read_text()
    for words in ("Implicit reward margin", "Preference accuracy, held out", "(95%: "):
        assert words in page


def test_it_is_loaded_from_the_run_and_from_the_adapters_folder(place, done) -> None:
    of_run, of_folder = scores(done), scores(done / "adapter")
    np.testing.assert_allclose(of_run, of_folder, rtol=1e-6)
    of_base = scores(place / "base.gguf")
    assert (of_run[0] - of_run[1]) - (of_base[0] - of_base[1]) > 1
    assert load_model(done / "adapter")[3].kind == "adapter"


def test_references_are_the_bases_and_computed_once(place, done, monkeypatch, capsys) -> None:
    with np.load(done / "references.npz") as file:
        train = file["train"]
        assert sorted(file.files) == ["key", "train", "validation/even", "validation/odd"]
    assert (train < 0).all()
    model, _, _ = load_checkpoint(place / "base.gguf")
    record = json.loads((place / "pairs.jsonl").read_text().splitlines()[0])
    ids = model.encode([{"role": "user", "content": record["prompt"]}])
    wanted = model.score(ids, [record["chosen"]])[0]
    ends = np.abs(train[:, 0] - wanted)  # without the end of the turn, which costs some nats
    assert ends.min() < 12

    def fail(*_):
        raise AssertionError("computed again")

    monkeypatch.setattr(experiments.dpo.DpoTuning, "_compute_references", fail)
    workdir = place / "kept"
    workdir.mkdir()
    (workdir / "references.npz").write_bytes((done / "references.npz").read_bytes())
    assert run(place, workdir, "train.steps=1") == 0
    with pytest.raises(AssertionError, match="computed again"):
        run(place, place / "others", "train.steps=1", "data.limit=100")
    (workdir / "references.npz").write_bytes(b"half a fi")
    with pytest.raises(AssertionError, match="computed again"):
        run(place, workdir, "train.steps=2")


def test_stopped_and_resumed_is_the_same_run(place, done, capsys) -> None:
    workdir = place / "stopped"
    run_stopped_at(place, workdir, 15)
    assert "stopped by SIGTERM: saved step 15" in capsys.readouterr().out
    assert run(place, workdir) == 0
    assert "under the reference, once" not in capsys.readouterr().out
    same = (done / "adapter" / "adapter.safetensors").read_bytes()
    assert (workdir / "adapter" / "adapter.safetensors").read_bytes() == same
    losses = [
        [record["loss"] for record in read_metrics(folder / "metrics.jsonl") if "loss" in record]
        for folder in (workdir, done)
    ]
    assert losses[0] == losses[1]


def test_ipo_conservative_and_another_reference(place, done) -> None:
    """The base itself, named as the reference, is read by another program: the same to rounding."""
    workdir = place / "ipo"
    wanted = (
        "dpo.kind=ipo", "dpo.label_smoothing=0.1", "dpo.sft=0.5", "train.steps=2",
        f"dpo.reference={place / 'base.gguf'}",
    )  # fmt: skip
    assert run(place, workdir, *wanted) == 0
    before = summary(workdir)["before"]
    assert before["validation_loss"] == pytest.approx((1 / (2 * 0.1)) ** 2, rel=1e-4)
    with np.load(workdir / "references.npz") as mine, np.load(done / "references.npz") as other:
        np.testing.assert_allclose(mine["train"], other["train"], rtol=1e-5)
        assert str(mine["key"]) != str(other["key"])


def test_a_reference_of_another_vocabulary(place, tmp_path, capsys) -> None:
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    built = tokenizers.Tokenizer(tokenizers.models.BPE())
    built.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    built.decoder = tokenizers.decoders.ByteLevel()
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=300, special_tokens=special, show_progress=False,
        initial_alphabet=tokenizers.pre_tokenizers.ByteLevel.alphabet(),
    )  # fmt: skip
    built.train_from_iterator(["red and gold, blue and teal"] * 9, trainer)
    other = HuggingFaceTokenizer(built.to_str())
    model = dataclasses.replace(MODEL, vocab=other.vocab_size)
    path = tmp_path / "other.gguf"
    write_gguf(path, jax.device_get(init_params(1, model)), model, other, chat_template=CHATML)
    assert run(place, tmp_path / "run", f"dpo.reference={path}") == 2
    error = capsys.readouterr().err
    assert f"the reference {path} has another vocabulary ({other.vocab_size} tokens)" in error
    assert run(place, tmp_path / "run", "dpo.reference=./nothing.gguf") == 2
    assert "there is nothing at './nothing.gguf'" in capsys.readouterr().err


def test_a_reference_of_a_shorter_context(place, tmp_path, capsys) -> None:
    short = ModelConfig(
        layers=1, d_model=64, heads=4, kv_heads=2, d_ff=64, vocab=272, context=32,
        compute_dtype="float32",
    )  # fmt: skip
    path = tmp_path / "short.gguf"
    params = jax.device_get(init_params(1, short))
    write_gguf(path, params, short, ByteTokenizer(), chat_template=CHATML)
    assert run(place, tmp_path / "run", f"dpo.reference={path}") == 2
    assert "longer than the context of the reference" in capsys.readouterr().err


def test_the_dry_run_says_what_it_would_train(place, capsys) -> None:
    assert main(["--config", str(place / "config.py"), "--dry-run"]) == 0
    out = capsys.readouterr().out
    assert "stage dpo, 40 steps" in out
    assert "parameters trained (LoRA, rank 4)" in out
    assert "1,024 (8 pairs of rows of 64)" in out
