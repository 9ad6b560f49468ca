"""Reinforcement learning from the command line: learnt, resumed to the same bits, refused."""

from __future__ import annotations

import json
import os
import signal
from functools import partial

import jax
import numpy as np
import pytest

import experiments.rl
import experiments.rl_answers
from experiments.run import load_config, main
from experiments.watchdog import Watchdog
from lilith.config import ModelConfig
from lilith.interop.gguf import write_gguf
from lilith.interop.load import load_checkpoint
from lilith.interop.reward_model import load_reward_model, save_reward_model
from lilith.model.params import init_params
from lilith.rl.learner import Learner
from lilith.sharding import make_mesh
from lilith.tokenizer import ByteTokenizer
from lilith.tokenizer.chat_template import CHATML
from lilith.train.lora import init_adapter
from lilith.train.lora_config import LoraConfig
from lilith.train.metrics import read_metrics
from lilith.train.reward import init_head

MODEL = ModelConfig(
    layers=2, d_model=64, heads=4, kv_heads=2, d_ff=176, vocab=272, context=256,
    compute_dtype="float32",
)  # fmt: skip
# Of 260 ids that can be drawn 126 end an answer well: chance is about a half.
REWARD = """
def ends_well(conversation):
    return float(130 <= conversation.ids[-1] < 256)
"""
LEARNING = {
    "grpo": ("rollout.prompts=16", "rollout.copies=8", "optimizer.learning_rate=1e-2"),
    "rloo": ("rollout.prompts=16", "rollout.copies=8", "update.kl_coefficient=0.003"),
    "ppo": ("rollout.prompts=128", "rollout.copies=1", "update.kl_coefficient=0.02",
            "update.epochs=3"),
}  # fmt: skip
MOST_KL = 12.0  # nats an answer of two tokens


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with a base model, prompts and a reward."""
    folder = tmp_path_factory.mktemp("rl")
    params = jax.device_get(init_params(0, MODEL))
    write_gguf(folder / "base.gguf", params, MODEL, ByteTokenizer(), chat_template=CHATML)
    with (folder / "prompts.jsonl").open("w") as file:
        for i in range(80):
            file.write(json.dumps({"prompt": f"q{i}"}) + "\n")
    (folder / "reward.py").write_text(REWARD)
    (folder / "config.py").write_text(f'''"""Tiny."""
from experiments.rl_config import PromptDataConfig, RLConfig, RolloutConfig, SourcesConfig
from lilith.config import CheckpointConfig, OptimizerConfig, TrainConfig
from lilith.rl.update_config import UpdateConfig
from lilith.train.lora_config import LoraConfig


def config() -> RLConfig:
    return RLConfig(
        name="tiny", base={str(folder / "base.gguf")!r}, remat="none",
        data=PromptDataConfig(
            files=({str(folder / "prompts.jsonl")!r},), length=128, validation_fraction=0.2,
        ),
        lora=LoraConfig(rank=8),
        rollout=RolloutConfig(prompts=8, copies=8, answer_tokens=2),
        reward=SourcesConfig(sources=({str(folder / "reward.py") + ":ends_well=1"!r},)),
        update=UpdateConfig(drop_equal=False),
        optimizer=OptimizerConfig(
            learning_rate=2e-2, warmup_steps=0, schedule="cosine", weight_decay=0.0
        ),
        train=TrainConfig(
            steps=24, batch=64, log_every=1, eval_every=12, eval_rows=8, sample_every=12
        ),
        checkpoint=CheckpointConfig(every=12),
    )
''')
    return folder


@pytest.fixture(autouse=True)
def _one_device(monkeypatch):
    monkeypatch.setattr(experiments.rl, "make_mesh", partial(make_mesh, devices=jax.devices()[:1]))


def learn(place, workdir, *overrides):
    words = ["--config", str(place / "config.py"), "--workdir", str(workdir)]
    return main([*words, *(["--set", *overrides] if overrides else [])])


def weights(run):
    from safetensors.numpy import load_file

    return load_file(run / "adapter" / "adapter.safetensors")


@pytest.mark.parametrize("algorithm", sorted(LEARNING))
def test_a_verifiable_reward_is_learnt(place, algorithm, capsys) -> None:
    run = place / algorithm
    assert learn(place, run, f"algorithm={algorithm}", *LEARNING[algorithm]) == 0
    summary = json.loads((run / "summary.json").read_text())
    records = [own for own in read_metrics(run / "metrics.jsonl") if "reward" in own]
    assert records[0]["reward"] < 0.6
    assert np.mean([own["reward"] for own in records[-3:]]) > 0.9
    assert summary["after"]["validation_reward"] > 0.9
    if algorithm != "grpo":  # without a KL coefficient nothing is compared with the reference
        assert 0 < records[-1]["kl"] < MOST_KL
    for own in records:
        assert own["sampler_difference"] < 1e-3
        assert 0 <= own["clip_fraction"] <= 1
    if algorithm == "ppo":
        assert records[-1]["value_loss"] < records[0]["value_loss"] / 2
    samples = json.loads((run / "samples.json").read_text())
    assert {own["step"] for own in samples} == {12, 24}
    assert "[reward 1: ends_well 1]" in samples[-1]["text"] + samples[-2]["text"]
    assert "ends well" in (run / "report.html").read_text()
    assert "held-out prompts:" in capsys.readouterr().out
    load_checkpoint(run / "adapter")


SHORT = ("algorithm=ppo", "train.steps=4", "train.batch=16", "rollout.prompts=32",
         "rollout.copies=1", "update.kl_coefficient=0.1", "update.kl=adaptive",
         "update.epochs=2", "train.eval_every=4", "checkpoint.every=2",
         # Adam's first steps follow the sign of a gradient, rounding and all, unless eps is larger.
         "optimizer.learning_rate=2e-3", "optimizer.eps=1e-3")  # fmt: skip
WATCHED = ("reward", "kl", "kl_coefficient", "policy_loss", "value_loss", "entropy",
           "explained_variance", "gradient_norm")  # fmt: skip


@pytest.fixture(scope="module")
def short_run(place):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(experiments.rl, "make_mesh", partial(make_mesh, devices=jax.devices()[:1]))
        assert learn(place, place / "short", *SHORT) == 0
    return place / "short"


def test_each_answer_and_each_update_has_a_limit_of_time(place, tmp_path, monkeypatch) -> None:
    seen: list[str] = []

    class Recording(Watchdog):
        def working(self, what: str) -> None:
            seen.append(what)

    monkeypatch.setattr(experiments.rl, "Watchdog", Recording)
    assert learn(place, tmp_path / "run", *SHORT, "train.steps=2") == 0
    assert seen[0] == "restoring or making the first state"
    assert seen.count("an answer of iteration 1") > 32  # the iteration's start, and every answer
    assert "learning in iteration 2" in seen
    assert "an answer of the evaluation after iteration 2" in seen
    assert seen[-1] == "saving iteration 2"


def curve(run):
    records = [own for own in read_metrics(run / "metrics.jsonl") if "reward" in own]
    return np.array([[own[name] for name in WATCHED] for own in records])


class Killed(BaseException):
    """What no code of ours catches."""


@pytest.mark.parametrize(
    ("where", "when"), [("collect", 40), ("collect", 3 * 32 + 5), ("update", 3), ("update", 4)]
)
def test_killed_at_any_point_it_goes_on_to_the_same_bits(
    place, short_run, monkeypatch, where, when
) -> None:
    run = place / f"killed-{where}-{when}"
    count = 0

    def dying(function):
        def wrapped(*args, **kwargs):
            nonlocal count
            count += 1
            if count == when:
                raise Killed
            return function(*args, **kwargs)

        return wrapped

    with monkeypatch.context() as patch:
        if where == "collect":
            collector = experiments.rl_answers
            patch.setattr(collector, "finished", dying(collector.finished))
        else:
            patch.setattr(Learner, "update", dying(Learner.update))
        with pytest.raises(Killed):
            learn(place, run, *SHORT)
    assert learn(place, run, *SHORT) == 0
    ours, whole = weights(run), weights(short_run)
    assert all(np.array_equal(ours[name], whole[name]) for name in whole)
    np.testing.assert_array_equal(curve(run), curve(short_run))


@pytest.mark.parametrize(
    ("when", "words"),
    # In the evaluation before, in the first answers, in those of the third iteration.
    [(5, "before the first step"), (11 + 20, "before the first step"), (11 + 70, "saved step 2")],
)
def test_a_signal_stops_it_and_the_same_command_goes_on(
    place, short_run, monkeypatch, capsys, when, words
) -> None:
    run = place / f"stopped-{when}"
    seen = 0
    finish = experiments.rl_answers.finished

    def watched(*args):
        nonlocal seen
        seen += 1
        if seen == when:
            os.kill(os.getpid(), signal.SIGTERM)
        return finish(*args)

    monkeypatch.setattr(experiments.rl_answers, "finished", watched)
    assert learn(place, run, *SHORT) == 0
    assert f"stopped by SIGTERM: {words}" in capsys.readouterr().out
    assert not (run / "adapter").exists()
    assert learn(place, run, *SHORT) == 0
    resumed = "resumed from the checkpoint of iteration 2" in capsys.readouterr().out
    assert resumed == (words == "saved step 2")
    ours, whole = weights(run), weights(short_run)
    assert all(np.array_equal(ours[name], whole[name]) for name in whole)
    assert json.loads((run / "before.json").read_text()) == json.loads(
        (short_run / "before.json").read_text()
    )


def test_eight_devices_learn_the_same(place, short_run, monkeypatch) -> None:
    monkeypatch.setattr(experiments.rl, "make_mesh", make_mesh)
    run = place / "mesh"
    mesh = ("mesh.data=2", "mesh.fsdp=2", "mesh.tensor=2")
    assert learn(place, run, *SHORT, *mesh) == 0
    np.testing.assert_allclose(curve(run), curve(short_run), rtol=1e-4, atol=1e-4)


def test_a_finished_run_says_so(place, short_run, capsys) -> None:
    assert learn(place, short_run, *SHORT) == 0
    assert "is finished: 4 of 4 steps" in capsys.readouterr().out


def test_a_dry_run_shows_what_would_be_learnt(place, capsys) -> None:
    words = ["--config", str(place / "config.py"), "--dry-run"]
    assert main(words) == 0
    out = capsys.readouterr().out
    assert "8 prompts, 8 answers to each of at most 2 tokens" in out
    assert "<|im_start|>user" in out


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["algorithm=pp"], "algorithm is 'pp' (did you mean 'ppo'?)"),
        (["rollout.copies=1"], "it needs at least 2"),
        (["data.length=2"], "prompts would have no room"),
        (["rollout.answer_tokens=127"], "prompt longer than the context less an answer"),
        (["data.length=9999"], "longer than the context"),
        (["reward.sources=nothing=1"], "there is no reward source 'nothing'"),
        (["reward.sources=tool_call=x"], "write NAME=WEIGHT"),
        (["reward.sources=model=1"], "reward.model is empty"),
        (["reward.sources=model=1", "reward.model=nowhere"], "can not be read"),
        (["reward.sources=nowhere.py:f=1"], "the reward file nowhere.py can not be run"),
        (["reward.sources=tool_call=1"], "names no tool call"),
        (["update.clip_low=0"], "update.clip_low is 0"),
        (["update.resample=2"], "update.resample answers more prompts"),
        (["data.files="], "data.files"),
        (["rollout.tolerance=1e-12"], "sampler and trainer differ by"),
    ],
)
def test_bad_input_is_refused_in_words(place, capsys, overrides, words, tmp_path) -> None:
    assert learn(place, tmp_path / "run", "train.steps=1", *overrides) == 2
    assert words in capsys.readouterr().err


TWO = ("train.steps=2", "train.batch=16", "rollout.prompts=8", "rollout.copies=4",
       "train.eval_every=2", "checkpoint.every=2")  # fmt: skip


@pytest.fixture(scope="module")
def reward_folder(place):
    """A reward model over the same base, of random weights."""
    folder, lora = place / "reward_model", LoraConfig(rank=4)
    params = init_params(0, MODEL)
    trained = {"model": init_adapter(5, params, MODEL, lora), "head": init_head(5, MODEL)}
    save_reward_model(
        folder, trained, base=str(place / "base.gguf"), lora=lora, config=MODEL, mean=0.5,
        deviation=2.0, chat_template=CHATML,
    )  # fmt: skip
    return folder


def test_a_reward_model_judges_and_starts_the_critic(place, reward_folder, tmp_path) -> None:
    run = tmp_path / "run"
    chosen = (f"reward.model={reward_folder}", f"update.critic={reward_folder}")
    sources = "reward.sources=model=1,ended=0.5"
    assert learn(place, run, *SHORT, *TWO[:1], sources, *chosen) == 0
    records = [own for own in read_metrics(run / "metrics.jsonl") if "reward_model" in own]
    assert len(records) == 2
    for own in records:
        assert own["reward"] == pytest.approx(own["reward_model"] + 0.5 * own["reward_ended"])
    # What the run says is what the model says of the same conversations, by its own scale.
    model = load_reward_model(reward_folder)
    ids = [[1, 2, 3], list(range(40))]
    raw = model.raw_scores(ids)
    np.testing.assert_allclose(model.score(ids), (raw - 0.5) / 2.0, rtol=1e-6)
    assert "Reward: model" in (run / "report.html").read_text()


def test_all_weights_are_trained_against_a_reference_of_their_own(place, tmp_path) -> None:
    run = tmp_path / "run"
    assert learn(place, run, *TWO, "lora.rank=0", "update.kl_coefficient=0.1") == 0
    records = [own for own in read_metrics(run / "metrics.jsonl") if "kl" in own]
    assert records[0]["kl"] == pytest.approx(0.0, abs=1e-4)  # before the first step
    assert abs(records[1]["kl"]) > 1e-3
    assert not (run / "adapter").exists()
    load_checkpoint(run)


def test_prompts_that_teach_nothing_are_answered_anew_and_counted(place, tmp_path, capsys) -> None:
    (tmp_path / "same.py").write_text("def same(conversation):\n    return 1.0\n")
    run = tmp_path / "run"
    sources = f"reward.sources={tmp_path / 'same.py'}:same=1"
    assert learn(place, run, *TWO, sources, "update.drop_equal=true", "update.resample=2") == 0
    records = [own for own in read_metrics(run / "metrics.jsonl") if "groups_learnt" in own]
    assert [own["groups_learnt"] for own in records] == [0.0, 0.0]
    assert [own["groups_answered"] for own in records] == [24.0, 24.0]
    assert "equal rewards, so nothing was learnt" in capsys.readouterr().out


def test_a_verifier_that_hangs_is_counted_and_the_run_goes_on(place, tmp_path, capsys) -> None:
    (tmp_path / "slow.py").write_text(
        "import time\n\n\ndef slow(conversation):\n"
        "    if conversation.ids[-1] % 8 == 0:\n        time.sleep(60)\n    return 1.0\n"
    )
    run = tmp_path / "run"
    sources = f"reward.sources={tmp_path / 'slow.py'}:slow=1"
    limits = ("reward.seconds=0.2", "reward.failure=-1", "train.steps=1")
    assert learn(place, run, *TWO[1:], *limits, sources) == 0
    assert "slow was given up on" in capsys.readouterr().out
    first = read_metrics(run / "metrics.jsonl")[0]
    assert first["verifiers_given_up"] > 0
    assert first["reward"] == pytest.approx(1 - 2 * first["verifiers_given_up"] / 32)


def test_long_answers_can_be_left_out_or_punished(place, tmp_path) -> None:
    for overlong, reward in (("mask", 0.0), ("penalty", -1.0)):
        run = tmp_path / overlong
        sources = "reward.sources=ended=1"
        settings = (f"update.overlong={overlong}", "update.overlong_tokens=1", "train.steps=1")
        assert learn(place, run, *TWO[1:], *settings, sources) == 0
        first = read_metrics(run / "metrics.jsonl")[0]
        ended = first["share_ended"]
        assert first["reward"] == pytest.approx(ended + reward * (1 - ended))
        assert ("gradient_norm" in first) == (overlong == "penalty" or ended > 0)


def test_passes_set_the_iterations(place) -> None:
    config = load_config(str(place / "config.py"), ["data.epochs=3"])
    config, _, _, prompts = experiments.rl._prepare(config)
    assert config.train.steps == -(-3 * len(prompts.train) // config.rollout.prompts)
