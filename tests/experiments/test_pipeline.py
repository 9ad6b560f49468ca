"""The whole path: run, killed, resumed to the same bits, in parts, reported, planned, refused."""

from __future__ import annotations

import dataclasses
import json
import os
import pathlib
import re
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import pytest
from tiny_run import ROOT, Output, Tiny, assert_one_sentence, finish, make_tiny, wait_until

from experiments.constitutional_course import NoRevisionKept
from experiments.pipeline_config import STAGES, PipelineConfig, TalkConfig
from experiments.pipeline_cost import PriceError, estimate, load_prices
from experiments.pipeline_data import Asks, prompts, wrong_call
from experiments.pipeline_stages import Chain
from experiments.pipeline_talks import agent_talks
from experiments.run import CONFIGS, load_config, main
from lilith.config import ConfigError, UserError
from lilith.data.instructions.tool_prompts import same_call, tool_call_prompts
from lilith.interop.load import load_checkpoint
from lilith.model.estimates import flops_per_token
from lilith.train.checkpoint import load_params
from lilith.train.metrics import read_metrics

CHILD = pathlib.Path(__file__).with_name("pipeline_child.py")
WAIT = 900.0  # seconds, on a machine that has much else to do
SIZES = ("150m", "1b", "7b", "13b")
MEASURED = ("pretrain", "sft", "constitution", "ppo")
SECTIONS = ("corpus", "stages", "curves", "answers", "calls", "rewards", "safety", "agent", "costs")

CONFIG = '''"""A tiny pipeline: for tests."""

from experiments.constitutional_config import (
    ConstitutionalConfig, PromptsConfig, RevisedDataConfig,
)
from experiments.evaluate_config import EvaluateConfig
from experiments.instructions_config import DomainWeights, InstructionsConfig
from experiments.pipeline_config import MadeConfig, MeasureConfig, PipelineConfig, TalkConfig
from experiments.preference_config import PreferenceConfig
from experiments.rl_config import PromptDataConfig, RLConfig, RolloutConfig, SourcesConfig
from experiments.tuning_config import ChatDataConfig, RecordsConfig, TuningConfig
from lilith.config import (
    CheckpointConfig, DataConfig, ExperimentConfig, ModelConfig, OptimizerConfig, SourceConfig,
    TokenizerConfig, TrainConfig,
)
from lilith.data.instructions.registry import kinds
from lilith.reasoning.self_improvement import RevisionSettings
from lilith.rl.update_config import UpdateConfig
from lilith.train.lora_config import LoraConfig

OPTIMIZER = OptimizerConfig(learning_rate=1e-3, warmup_steps=1)
SAVED = CheckpointConfig(every=1, keep=1, keep_best=0)
KEPT = {{"calculator": 4, "refusal": 1, "harmless_request": 1}}
LORA = LoraConfig(rank=0)


def train(steps):
    return TrainConfig(
        steps=steps, batch=2, log_every=1, eval_every=9, eval_rows=2, sample_every=0,
        loss_chunk=2048,
    )


def config() -> PipelineConfig:
    return PipelineConfig(
        name="tiny_pipeline",
        instructions=InstructionsConfig(
            count=24, held_out_count=2, verify=False,
            domains=DomainWeights(code=0, quant=0, planning=0, general=1),
            kinds=tuple(f"{{name}}={{KEPT.get(name, 0)}}" for name, kind in kinds().items()
                        if kind.domain == "general"),
        ),
        made=MadeConfig(text_weight=1.0, lessons=4, pairs=12, prompts=8),
        pretrain=ExperimentConfig(
            model=ModelConfig(
                layers=1, d_model=32, heads=2, kv_heads=1, d_ff=64, vocab=272, context=1024,
                compute_dtype="float32",
            ),
            tokenizer=TokenizerConfig(kind="bytes"),
            data=DataConfig(
                sources=(SourceConfig(name="files", kind="code", path={corpus!r}),),
                length=768, validation_fraction=0.25, validation_kilobytes=4,
            ),
            optimizer=OPTIMIZER, train=train(4), checkpoint=SAVED,
        ),
        sft=TuningConfig(
            remat="none", lora=LORA, data=ChatDataConfig(length=768, validation_fraction=0.2),
            optimizer=OPTIMIZER, train=train(4), checkpoint=SAVED,
        ),
        constitution=ConstitutionalConfig(
            remat="none", lora=LORA, group=2, optimizer=OPTIMIZER, train=train(2),
            prompts=PromptsConfig(harmful=3, frightening=1, plain=1, held_out=1),
            revision=RevisionSettings(
                rounds=1, answer_tokens=4, critique_tokens=40, revision_tokens=40
            ),
            data=RevisedDataConfig(length=768, validation_fraction=0.2, helpful_limit=12),
            checkpoint=SAVED,
        ),
        reward=PreferenceConfig(
            remat="none", lora=LORA, data=RecordsConfig(length=768, validation_fraction=0.2),
            optimizer=OPTIMIZER, train=train(2), checkpoint=SAVED,
        ),
        ppo=RLConfig(
            algorithm="ppo", remat="none", lora=LORA,
            data=PromptDataConfig(length=768, validation_fraction=0.2),
            rollout=RolloutConfig(prompts=2, copies=1, answer_tokens=4, rows=2),
            reward=SourcesConfig(sources=("tool_call_parts=1", "ended=0.1")),
            update=UpdateConfig(kl_coefficient=0.05),
            optimizer=OPTIMIZER, train=train(3), checkpoint=SAVED,
        ),
        evaluation=EvaluateConfig(
            benchmark="agent", count=2, max_tokens=4, kinds=("agent_calculator",)
        ),
        measure=MeasureConfig(
            prompts=("What is 2 + 2?",), answer_tokens=4, kinds=("calculator",), questions=2,
            call_tokens=4,
        ),
        talk=TalkConfig(messages=("What is 2 + 2?",), tools=("calculator",), steps=1, tokens=4),
    )
'''


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Tiny:
    """A folder with a corpus and the config of a tiny pipeline."""
    made = make_tiny(tmp_path_factory.mktemp("pipeline"), files=10)
    made.config.write_text(CONFIG.format(corpus=str(made.corpus)))
    return made


def start(tiny: Tiny, workdir: pathlib.Path, *words: object) -> subprocess.Popen[str]:
    """The tiny pipeline as a process of its own, with one CPU device."""
    command = [sys.executable, CHILD, "--config", tiny.config, "--workdir", workdir, *words]
    environment = os.environ | tiny.environment() | {"PYTHONPATH": str(ROOT)}
    return subprocess.Popen(
        [str(word) for word in command], cwd=ROOT, env=environment, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


@pytest.fixture(scope="module")
def whole(tiny: Tiny) -> tuple[pathlib.Path, Output]:
    """The folder of a run that nothing disturbed, and what it printed; do not change it."""
    workdir = tiny.folder / "whole"
    return workdir, finish(start(tiny, workdir), seconds=WAIT)


def read(path: pathlib.Path) -> Any:
    return json.loads(path.read_text())


def final_bits(workdir: pathlib.Path) -> dict[str, bytes]:
    """The policy and the critic after PPO, every array as its bytes."""
    leaves = jax.tree_util.tree_flatten_with_path(load_params(workdir / "ppo"))[0]
    return {jax.tree_util.keystr(path): np.asarray(leaf).tobytes() for path, leaf in leaves}


def test_it_runs_whole_and_each_stage_starts_from_the_last(
    tiny: Tiny, whole: tuple[pathlib.Path, Output]
) -> None:
    workdir, out = whole
    assert [stage for stage in STAGES if (workdir / f"after_{stage}.json").exists()] == [*STAGES]
    tuning = workdir / "constitution" / "iteration_1" / "tuning"
    bases = {
        "sft": "pretrain", "constitution": "sft",
        "reward": tuning.relative_to(workdir), "ppo": tuning.relative_to(workdir),
    }  # fmt: skip
    for stage, base in bases.items():
        assert read(workdir / stage / "config.json")["base"] == str(workdir / base)
    assert read(tuning / "config.json")["base"] == str(workdir / "sft")
    assert read(workdir / "ppo" / "config.json")["reward"] == {
        "sources": ["tool_call_parts=1", "ended=0.1", "model=0.5"],
        "model": str(workdir / "reward" / "reward_model"), "seconds": 60.0, "failure": 0.0,
        "missing_eos_penalty": 0.0,
    }  # fmt: skip
    assert read(workdir / "evaluation" / "results.json")["checkpoint"] == str(workdir / "ppo")
    for stage in MEASURED:
        after = read(workdir / f"after_{stage}.json")
        assert [one["prompt"] for one in after["answers"]] == ["What is 2 + 2?"]
        assert after["tool_calls"]["questions"] == 2
        assert after["safety"]["prompts"] == 3
        assert after["seconds"] > 0
    assert read(workdir / "after_evaluation.json")["tool_calls"]["questions"] == 2
    assert len(read(workdir / "after_agent.json")["turns"]) == 1
    assert "report:" in out.out


def test_the_model_at_the_end_is_the_policy_and_not_the_critic(
    whole: tuple[pathlib.Path, Output],
) -> None:
    folder = whole[0] / "ppo"
    model, _, info = load_checkpoint(folder)
    assert info.chat_template is not None
    saved = load_params(folder)
    assert saved.keys() == {"policy", "critic"}
    found, policy = (np.asarray(tree["embedding"]) for tree in (model.params, saved["policy"]))
    assert found.tobytes() == policy.tobytes()
    assert policy.tobytes() != np.asarray(saved["critic"]["model"]["embedding"]).tobytes()


def test_the_report_holds_every_section(whole: tuple[pathlib.Path, Output]) -> None:
    page = (whole[0] / "report.html").read_text()
    for name in SECTIONS:
        section = page.partition(f'<section id="{name}">')[2].partition("</section>")[0]
        assert "Not in this run yet" not in section
        assert "<table>" in section or "<svg" in section or "<pre>" in section, name
    curves = page.partition('<section id="curves">')[2].partition("</section>")[0]
    for stage in ("pretrain", "sft", "constitution, iteration 1", "reward", "ppo"):
        assert f"<summary>{stage}</summary>" in curves
    rewards = page.partition('<section id="rewards">')[2].partition("</section>")[0]
    assert "KL to the reference" in rewards
    assert "2026-05-31" in page
    assert "Prices are to be checked" in page
    assert not re.search(r'(?:src|href)="(?!#)', page)  # self-contained
    ids = re.findall(r'\bid="([^"]+)"', page)
    assert len(set(ids)) == len(ids)


def test_a_finished_pipeline_says_so_and_refuses_another_config(
    tiny: Tiny, whole: tuple[pathlib.Path, Output], capsys: pytest.CaptureFixture[str]
) -> None:
    workdir, _ = whole
    before = final_bits(workdir)
    words = ["--config", str(tiny.config), "--workdir", str(workdir)]
    assert main(words) == 0
    assert "is finished" in capsys.readouterr().out
    assert main([*words, "--set", "sft.train.steps=9"]) == 2
    assert_one_sentence(Output(*capsys.readouterr()), "sft.train", "another", "--workdir")
    assert main([*words, "--set", "seed=3"]) == 2
    assert_one_sentence(Output(*capsys.readouterr()), "seed 0", "--workdir")
    assert final_bits(workdir) == before


def test_a_stage_that_stands_alone_is_refused_before_anything_is_made(
    tiny: Tiny, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    workdir = tmp_path / "w"
    words = ["--config", str(tiny.config), "--workdir", str(workdir), "--set"]
    assert main([*words, "stages=sft,ppo"]) == 2
    assert_one_sentence(Output(*capsys.readouterr()), "stage sft needs stage data", "--set stages=")
    assert main([*words, "stages=sft,pppo"]) == 2
    assert_one_sentence(Output(*capsys.readouterr()), "'pppo'", "did you mean 'ppo'")
    assert not list(workdir.glob("*")) if workdir.exists() else True
    (workdir / "config.json").parent.mkdir(exist_ok=True)
    (workdir / "config.json").write_text('{"stage": "sft"}')
    assert main([*words, "stages=data"]) == 2
    assert_one_sentence(Output(*capsys.readouterr()), "a run of stage 'sft'")


def killed_when(
    tiny: Tiny, workdir: pathlib.Path, reached: Callable[[], bool], *words: object
) -> None:
    process = start(tiny, workdir, *words)
    wait_until(process, reached, WAIT)
    process.kill()
    process.communicate()


def logged(folder: pathlib.Path, step: int) -> bool:
    return any(one["step"] >= step for one in read_metrics(folder / "metrics.jsonl"))


@pytest.mark.slow
def test_killed_in_some_stages_and_started_again_it_ends_in_the_same_bits(
    tiny: Tiny, whole: tuple[pathlib.Path, Output]
) -> None:
    workdir = tiny.folder / "killed"
    # Some stages first: the path goes on from them.
    some = ("--set", "stages=data,tokenizer,pretrain")
    killed_when(tiny, workdir, lambda: logged(workdir / "pretrain", 2), *some)
    assert not (workdir / "after_pretrain.json").exists()
    killed_when(tiny, workdir, lambda: logged(workdir / "sft", 3))
    assert (workdir / "after_pretrain.json").exists()
    killed_when(tiny, workdir, lambda: logged(workdir / "ppo", 1))
    out = finish(start(tiny, workdir), seconds=WAIT)
    assert "sft is done" in out.out
    assert final_bits(workdir) == final_bits(whole[0])
    starts = read(workdir / "starts.json")
    assert (starts["pretrain"], starts["sft"], starts["ppo"], starts["agent"]) == (2, 2, 2, 1)
    for stage in MEASURED:
        found = [read(folder / f"after_{stage}.json") for folder in (workdir, whole[0])]
        assert found[0]["answers"] == found[1]["answers"]


@pytest.mark.parametrize("size", SIZES)
def test_the_larger_pipelines_say_what_they_cost(size: str, capsys: Any) -> None:
    assert main(["--config", f"pipeline_{size}", "--dry-run"]) == 0
    said = capsys.readouterr().out
    for stage in STAGES:
        assert f"\n{stage} " in said
    config = load_config(f"pipeline_{size}")
    assert isinstance(config, PipelineConfig)
    prices = load_prices("")
    costs = estimate(config, prices.hardware(config.hardware))
    hours, price = sum(own.seconds for own in costs) / 3600, sum(own.price for own in costs)
    text = (CONFIGS / f"pipeline_{size}.py").read_text()
    assert f"Expected: {hours:.1f} hours and {price:,.0f} {prices.currency}" in text
    assert prices.date in text


def test_the_estimate_is_our_count_of_flops_and_the_stated_share_of_the_peak() -> None:
    config = load_config("pipeline_7b")
    assert isinstance(config, PipelineConfig)
    hardware = load_prices("").hardware("TPU v5p")
    found = {own.stage: own for own in estimate(config, hardware)}
    pretrain = config.pretrain
    tokens = pretrain.train.steps * pretrain.train.batch * pretrain.data.length
    flops = tokens * flops_per_token(pretrain.model, pretrain.data.length).causal
    own = found["pretrain"]
    assert (own.trained, own.flops, own.chips) == (tokens, pytest.approx(flops), 128)
    assert own.seconds == pytest.approx(flops / (128 * 459e12 * hardware.training_mfu))
    assert own.price == pytest.approx(own.seconds / 3600 * 128 * hardware.price)
    assert found["ppo"].chips == 4
    assert found["reward"].trained == 2 * 240 * 32 * 1024


def test_the_nano_pipeline_dry_runs_and_makes_nothing(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["--config", "pipeline_nano", "--dry-run"]) == 0
    assert "generated conversations" in capsys.readouterr().out
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("", ("no text under 'date'",)),
        ("price = -1", ("price is -1", "0 or more")),
        ("price = 1\ntraining_mfu = 1.5", ("training_mfu is 1.5", "at most 1")),
        ("price = 1\ntraining_mfu = 0.5\ngeneration_mfu = 0.1\ndevice = 'abacus'", ("'abacus'",)),
        ("price = 'x", ("can not be read",)),
    ],
)
def test_a_price_table_with_a_mistake_is_named(
    tmp_path: pathlib.Path, change: str, words: tuple[str, ...]
) -> None:
    path = tmp_path / "p.toml"
    head = 'date = "d"\ncurrency = "USD"\nnote = "n"\n' if change else ""
    path.write_text(f"{head}[[hardware]]\nname = 'chip'\n{change}\n")
    with pytest.raises(PriceError) as error:
        load_prices(str(path))
    for word in words:
        assert word in str(error.value)


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("sft.data.epochs=2", ("sft.data.epochs is 2", "train.steps")),
        ("without_revisions=skip", ("'skip'", "stop, pass")),
        ("reward.stage=dpo", ("must be reward",)),
        ("made.refusal_share=2", ("refusal_share is 2",)),
        ("made.agent_share=-1", ("agent_share is -1",)),
        ("made.turns=0", ("turns is 0",)),
        ("measure.questions=0", ("measure.questions is 0",)),
        ("stages=", ("stages is empty",)),
    ],
)
def test_a_config_that_can_not_be_run_is_refused(override: str, words: tuple[str, ...]) -> None:
    with pytest.raises(ConfigError) as error:
        load_config("pipeline_nano", [override])
    for word in words:
        assert word in str(error.value)


def test_a_wrong_call_is_wrong_and_prompts_name_their_call() -> None:
    import random

    draw = random.Random(0)
    with agent_talks(TalkConfig()) as talks:
        stream = prompts(Asks(talks, 0.5, 0), 0, ("calculator",))
        records = [next(stream) for _ in range(20)]
    assert len({record["messages"][0]["content"] for record in records}) > 1
    for record in records:
        (call,) = record["metadata"]["check"]["tool_calls"]
        assert same_call(call, call)
        assert not same_call(call, wrong_call(call, draw))
        assert [message["role"] for message in record["messages"]] == ["system", "user"]


def test_questions_of_chosen_kinds_only() -> None:
    found = tool_call_prompts(1, 3, kinds=("calculator",))
    assert {one.kind for one in found} == {"calculator"}
    assert all(one.expected["name"] == "calculator" for one in found)
    with pytest.raises(ConfigError, match="refusal"):
        tool_call_prompts(1, 1, kinds=("refusal",))


def test_without_a_revision_it_stops_or_hands_the_weights_on(
    tiny: Tiny, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def nothing(*arguments: object) -> int:
        raise NoRevisionKept("iteration 1: no revision was kept")

    monkeypatch.setattr("experiments.constitutional.run", nothing)
    config = load_config(str(tiny.config))
    assert isinstance(config, PipelineConfig)
    with pytest.raises(UserError, match="without_revisions=pass"):
        Chain(config, tmp_path).run("constitution")
    chain = Chain(dataclasses.replace(config, without_revisions="pass"), tmp_path)
    _, facts = chain.run("constitution")
    assert facts == {
        "iterations": 0, "pairs": 0, "note": "iteration 1: no revision was kept",
    }  # fmt: skip
    chain.mark("constitution").write_text(json.dumps(facts))
    assert chain.stage_config("reward").base == chain.stage_config("ppo").base == chain.model("sft")


def test_stages_of_a_run_of_their_own_are_taken_up(
    tiny: Tiny, whole: tuple[pathlib.Path, Output]
) -> None:
    """What each stage's runner was given is kept, and reads back as that stage's config."""
    config = load_config(str(tiny.config))
    assert isinstance(config, PipelineConfig)
    chain = Chain(config, whole[0])
    for stage in ("pretrain", "sft", "constitution", "reward", "ppo", "evaluation"):
        path = whole[0] / "stages" / f"{stage}.json"
        assert load_config(str(path)) == chain.stage_config(stage)
