"""A reward model from the command line: learnt, resumed, saved with its scale, loaded, refused."""

from __future__ import annotations

import json
import re
import shutil

import jax
import numpy as np
import pytest
from preference_parts import COOL, MODEL, WARM, make_place, one_device, run, run_stopped_at, summary

from experiments.run import load_config, main
from lilith.data.chat import render_conversation
from lilith.data.chat_readers import read_conversations
from lilith.data.preferences import prepare_pairs
from lilith.evals.preferences import correlation, preference_calibration, wilson_interval
from lilith.interop.load import load_model
from lilith.interop.reward_model import RewardModelError, load_reward_model
from lilith.tokenizer.chat_template import ChatTemplate
from lilith.train.metrics import read_metrics

STEPS = 24


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return make_place(tmp_path_factory.mktemp("reward"), "reward", STEPS, 1e-2)


@pytest.fixture(autouse=True)
def _one_device(monkeypatch):
    one_device(monkeypatch)


@pytest.fixture(scope="module")
def done(place):
    with pytest.MonkeyPatch.context() as patch:
        one_device(patch)
        assert run(place, place / "run") == 0
    return place / "run"


@pytest.fixture(scope="module")
def model(done):
    return load_reward_model(done / "reward_model")


def held_out(place, model):
    corpus = prepare_pairs(
        read_conversations(place / "pairs.jsonl"), model.tokenizer,
        ChatTemplate.of(model.about.chat_template, model.tokenizer), length=64,
        validation_fraction=0.3,
    )  # fmt: skip
    return [
        [row["tokens_PST"][side, : row["length_PS"][side]].tolist() for side in range(2)]
        for rows in corpus.validation.values()
        for row in (rows[i] for i in range(len(rows)))
    ]


def test_it_separates_held_out_pairs(done, place) -> None:
    found = summary(done)
    before, after = found["before"], found["after"]
    assert found["held_out_pairs"] > 30
    assert before["validation_accuracy"] < 0.9
    assert after["validation_accuracy"] > 0.95
    assert (
        after["validation_accuracy_low"] < after["validation_accuracy"]
        <= after["validation_accuracy_high"]
    )  # fmt: skip
    assert after["validation_loss"] < 0.3 < before["validation_loss"]
    assert after["validation_calibration_error"] < 0.15
    assert abs(after["validation_length_correlation"]) < 0.6
    assert {"validation_accuracy_of_odd", "validation_accuracy_of_even"} <= after.keys()
    assert "95%" in found["preferences"]["validation accuracy"]
    assert found["conversations"]["rows"] == 2 * found["conversations"]["train"]
    records = read_metrics(done / "metrics.jsonl")
    last = [record for record in records if "reward_margin" in record][-1]
    assert last["reward_margin"] == pytest.approx(last["chosen_reward"] - last["rejected_reward"])
    assert 0.9 < last["accuracy"] <= 1
    page = (done / "report.html").read_text()
    for words in ("Calibration", "came true", "Preference accuracy, held out", "(95%: "):
        assert words in page


def test_scores_are_normalised_on_the_reference_responses(place, model) -> None:
    pairs = held_out(place, model)
    chosen = model.score([pair[0] for pair in pairs])
    assert chosen.dtype == np.float32
    assert abs(chosen.mean()) < 1e-3
    assert chosen.std() == pytest.approx(1, abs=1e-3)
    rejected = model.score([pair[1] for pair in pairs])
    assert (chosen > rejected).mean() > 0.95


def test_a_score_depends_on_its_conversation_alone(place, model) -> None:
    texts = [f"{colour} {colour}" for colour in (*WARM, *COOL)]

    def render(text: str) -> list[int]:
        messages = [{"role": "user", "content": "q"}, {"role": "assistant", "content": text}]
        template = ChatTemplate.of(model.about.chat_template, model.tokenizer)
        return render_conversation(messages, model.tokenizer, template).ids.tolist()

    together = model.score(texts, render)
    long = render("red " * 20)
    mixed = model.score([render(texts[0]), long, render(texts[1])])
    np.testing.assert_allclose(mixed[[0, 2]], together[:2], atol=1e-5)
    np.testing.assert_allclose(model.score([render(texts[5])]), together[5:6], atol=1e-5)
    assert model.score([]).shape == (0,)


def test_its_base_may_be_in_memory_already(place, done, model) -> None:
    params, config, tokenizer, _ = load_model(place / "base.gguf", layered=False, dtype="float32")
    other = load_reward_model(done / "reward_model", loaded=(params, config, tokenizer))
    assert other.frozen is params
    ids = held_out(place, model)[0]
    np.testing.assert_allclose(other.score(ids), model.score(ids), atol=1e-6)


def test_stopped_and_resumed_is_the_same_run(place, done, capsys) -> None:
    workdir = place / "stopped"
    run_stopped_at(place, workdir, 15)
    assert "stopped by SIGTERM: saved step 15" in capsys.readouterr().out
    assert run(place, workdir) == 0
    names = ("reward.safetensors", "reward.json")
    for name in names:
        mine, reference = (folder / "reward_model" / name for folder in (workdir, done))
        assert mine.read_bytes() == reference.read_bytes()
    losses = [
        [record["loss"] for record in read_metrics(folder / "metrics.jsonl") if "loss" in record]
        for folder in (workdir, done)
    ]
    assert losses[0] == losses[1]
    assert run(place, workdir) == 0
    assert f"is finished: {STEPS} of {STEPS} steps" in capsys.readouterr().out


def test_all_weights_on_eight_devices(place, monkeypatch) -> None:
    monkeypatch.undo()
    workdir = place / "whole"
    few = ("lora.rank=0", "train.steps=2", "data.limit=60", "optimizer.learning_rate=1e-3")
    assert run(place, workdir, *few) == 0
    model = load_reward_model(workdir / "reward_model")
    assert model.frozen is None
    assert model.trained["model"]["embedding"].shape == (272, 64)
    assert np.isfinite(model.score(held_out(place, model)[0])).all()


def test_a_runs_config_is_found_by_its_stage(done, place) -> None:
    for stage in ("reward", "dpo"):
        path = place / f"{stage}.json"
        written = json.loads((done / "config.json").read_text()) | {"stage": stage}
        path.write_text(json.dumps(written))
        found = load_config(str(path))
        assert (type(found).__name__, found.stage) == ("PreferenceConfig", stage)


def test_the_first_pairs_are_shown(place, capsys) -> None:
    assert main(["--config", str(place / "config.py"), "--dry-run"]) == 0
    out = capsys.readouterr().out
    assert "stage reward, 24 steps" in out
    assert re.search(r"--- chosen: \d+ of \d+ tokens learnt", out)
    assert "<|im_start|>assistant\n⟦" in out


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["data.files="], "data.files is empty"),
        (["data.length=128"], "a scored side may have one token more"),
        (["data.length=129"], "data.length is 129, longer than the context"),
        (["reward.centring=-1"], "reward.centring is -1"),
        (["dpo.beta=0"], "dpo.beta is 0"),
        (["dpo.kind=sigmoyd"], "dpo.kind is 'sigmoyd' (did you mean 'sigmoid'?)"),
        (["dpo.label_smoothing=0.5"], "dpo.label_smoothing is 0.5"),
        (["dpo.sft=-1"], "dpo.sft is -1"),
        (["train.batch=500"], "fewer than one batch of 500"),
        (["stage=sft"], "stage 'sft' needs one like configs/sft_smollm2.py"),
        (["data.watched_files=x"], "unknown key 'data.watched_files'"),
    ],
)
def test_bad_configs_are_one_sentence(place, tmp_path, capsys, overrides, words) -> None:
    assert run(place, tmp_path / "run", *overrides) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("error: ")
    assert words in error


def test_a_bad_pair_is_named_or_counted(place, tmp_path, capsys) -> None:
    path = tmp_path / "pairs.jsonl"
    path.write_text(
        (place / "pairs.jsonl").read_text() + '{"prompt": "q", "chosen": "a", "rejected": "a"}\n'
    )
    asked = ["--config", str(place / "config.py"), "--dry-run", "--set", f"data.files={path}"]
    assert main(asked) == 2
    assert f"{path}:161: the chosen and the rejected side say the same" in capsys.readouterr().err
    assert main([*asked, "data.on_error=skip"]) == 0
    assert "left out 1: equal sides" in capsys.readouterr().out


def test_a_reward_model_writes_no_texts(done) -> None:
    for where in (done, done / "reward_model"):
        with pytest.raises(Exception, match="is a reward model, which scores texts and writes"):
            load_model(where)


def test_what_is_no_reward_model(done, model, tmp_path) -> None:
    with pytest.raises(RewardModelError, match=r"reward\.json can not be read"):
        load_reward_model(tmp_path)
    copy = tmp_path / "copy"
    shutil.copytree(done / "reward_model", copy)
    about = json.loads((copy / "reward.json").read_text())
    (copy / "reward.json").write_text(json.dumps(about | {"deviation": 0.0}))
    with pytest.raises(RewardModelError, match="deviation 0"):
        load_reward_model(copy)
    (copy / "reward.json").write_text(json.dumps(about | {"model": about["model"] | {"layers": 3}}))
    with pytest.raises(RewardModelError, match="with layers = 3, and this model has layers = 2"):
        load_reward_model(copy)
    (copy / "reward.json").write_text(json.dumps(about | {"lora": about["lora"] | {"rank": 2}}))
    with pytest.raises(RewardModelError, match="is missing, unknown or of another shape"):
        load_reward_model(copy)
    (copy / "reward.safetensors").write_bytes(b"no")
    with pytest.raises(RewardModelError, match="can not be read"):
        load_reward_model(copy)


def test_what_can_not_be_scored(model) -> None:
    for ids, words in (
        ([], "conversation 1 has no tokens"),
        ([5] * (MODEL.context + 1), "has 129 tokens, more than the context"),
        ([272], "holds the token 272"),
        ([-1], "holds the token -1"),
    ):
        with pytest.raises(RewardModelError, match=words):
            model.score([[1, 2], ids])


def test_figures_by_hand() -> None:
    assert wilson_interval(8, 10) == pytest.approx((0.4901625, 0.9433178), abs=1e-6)
    assert wilson_interval(0, 10)[0] == 0
    assert wilson_interval(10, 10)[1] == pytest.approx(1)
    assert wilson_interval(0, 0) == (0, 1)
    sure = preference_calibration(np.array([0.9, 0.9, 0.9, 0.9]), np.array([1.0, 1, 1, 0]))
    assert sure.error == pytest.approx(0.15)
    assert [each.count for each in sure.bins] == [4, 4]
    assert (sure.bins[0].low, sure.bins[0].high) == (0.0, 0.1) or sure.bins[0].low == 0.1
    assert preference_calibration(np.full(6, 0.5), np.ones(6)).error == 0
    x = np.array([[1.0, 2.0], [3.0, 5.0]])
    assert correlation(x, -2 * x + 1) == pytest.approx(-1)
    assert correlation(x, np.ones((2, 2))) == 0
    assert jax.device_count() == 8
