"""The agent's command line: pipes, single prompts, JSON, wrong settings, the dry run."""

from __future__ import annotations

import dataclasses
import io
import json
import os
import pathlib
import subprocess
import sys
import types
from collections.abc import Callable, Iterator
from typing import Any

import agent_fakes
import jax
import numpy as np
import pytest
from tiny_run import ROOT, assert_one_sentence

import experiments.run
from experiments.agent import load_agent
from experiments.agent_config import AgentConfig
from experiments.agent_console import Commands, answer_lines, answer_once
from experiments.agent_view import Look, call_lines, result_lines, sparkline
from lilith.agent.agent import LILITHAgent, create_quant_agent
from lilith.agent.saving import FORMAT
from lilith.agent.turn import AgentTurn, CallRecord
from lilith.agent.turn_run import TurnLimits
from lilith.config import ConfigError, UserError
from lilith.inference.language_model import LanguageModel
from lilith.model.layered import unstack_layers
from lilith.model.params import init_params
from lilith.model.presets import PRESETS
from lilith.reasoning.sampler import Budget
from lilith.tokenizer import ByteTokenizer
from lilith.tokenizer.chat_template import CHATML
from lilith.train.lora import init_adapter, merge, save_adapter
from lilith.train.lora_config import LoraConfig

CHILD = [sys.executable, str(pathlib.Path(__file__).with_name("agent_child.py"))]
ENVIRONMENT = os.environ | {"JAX_PLATFORMS": "cpu", "PYTHONPATH": str(ROOT)}
SECONDS = 120
LOOK = Look(80)


@pytest.fixture
def agent() -> Iterator[LILITHAgent]:
    with create_quant_agent(agent_fakes.ScriptedModel(), grammar=False, tool_seconds=60) as made:
        yield made


def pipe(
    agent: LILITHAgent, lines: str, folder: pathlib.Path, **options: Any
) -> tuple[int, str, str]:
    out, errors = io.StringIO(), io.StringIO()
    raw = lines.encode("utf-8", "surrogateescape").splitlines(keepends=True)
    code = answer_lines(agent, raw, folder, out, errors, **options)
    return code, out.getvalue(), errors.getvalue()


# Pipes and single prompts


def test_lines_are_answered_as_one_conversation(agent: LILITHAgent, tmp_path: pathlib.Path) -> None:
    code, out, errors = pipe(agent, "hello\n\nshare of it\nhello again\n", tmp_path)
    assert code == 0
    assert out == "You said: hello\nIt is 36, and not 17.25.\nYou said: hello again\n"
    assert errors.splitlines()[0] == '→ calculator(expression="15% of 240")'
    assert "  value 36   text 36   exact yes" in errors
    assert errors.splitlines()[-1] == "unverified: 17.25 (from no tool, question or arithmetic)"
    assert [turn.message for turn in agent.turns] == ["hello", "share of it", "hello again"]


def test_a_wrong_line_leaves_the_conversation(agent: LILITHAgent, tmp_path: pathlib.Path) -> None:
    old = tmp_path / "old.json"
    old.write_text(json.dumps({"format": FORMAT[:-1] + "9", "turns": []}))
    lines = (
        f"hello\n/lod x\nbroken\n{'y' * 1_000_000}\n/load {old}\n/load\n\udcff\n/quit now\nbye\n"
    )
    code, out, errors = pipe(agent, lines, tmp_path)
    assert (code, out) == (2, "You said: hello\nYou said: bye\n")
    told = errors.splitlines()
    for place, words in enumerate((
        "line 2: unknown command '/lod' (did you mean '/load'?)",
        "line 3: the model broke",
        "line 4: the message has 1,000,000 characters and may have 200,000",
        f"line 5: {old} was saved by another version",
        "line 6: /load needs a FILE after it",
        "line 7 is not UTF-8 text",
        "line 8: /quit takes nothing after it",
    )):  # fmt: skip
        assert told[place].startswith(f"error: {words}")
    assert len(told) == 7
    assert [turn.message for turn in agent.turns] == ["hello", "bye"]


def test_json_is_a_turn_a_line(agent: LILITHAgent, tmp_path: pathlib.Path) -> None:
    code, out, errors = pipe(agent, "both\nhello\n", tmp_path, as_json=True)
    assert (code, errors) == (0, "")
    lines = out.splitlines()
    assert [AgentTurn.from_json(line) for line in lines] == list(agent.turns)
    turn = json.loads(lines[0])
    assert [call["answer"]["result"]["value"] for call in turn["steps"][0]["calls"]] == [42, 4]
    assert turn["checks"][-1]["verdict"] == "unverified"


def test_errors_of_tools_are_shown(agent: LILITHAgent) -> None:
    out, errors = io.StringIO(), io.StringIO()
    for question in ("mistake", "garbled"):
        answer_once(agent, question, out, errors)
    assert out.getvalue() == "It failed.\nIt failed.\n"
    told = errors.getvalue()
    assert '→ calculator(expression="6 * * 7")\n  calculator failed: ' in told
    assert '→ a call that can not be read: {"name": </tool_call>\n' in told
    assert "  the call failed: the call is no JSON" in told


def test_a_message_that_goes_in_circles_is_cut_off(agent: LILITHAgent) -> None:
    errors = io.StringIO()
    answer_once(agent, "circle", io.StringIO(), errors)
    assert errors.getvalue() == "note: it said the same again and again\n"
    (turn,) = agent.turns
    assert turn.ended == "loop"
    assert 500 < len(turn.answer) < 700
    assert agent.run("hello").ended == "answer"


def test_one_prompt_through_the_command_line(tmp_path: pathlib.Path) -> None:
    ended = subprocess.run(
        [*CHILD, "--workdir", str(tmp_path / "w"), "--set", "prompt=share of it"],
        capture_output=True, timeout=SECONDS, cwd=ROOT, env=ENVIRONMENT,
    )  # fmt: skip
    assert (ended.returncode, ended.stdout) == (0, b"It is 36, and not 17.25.\n"), ended.stderr
    assert "calculator: " in ended.stderr.decode()
    assert not (tmp_path / "w").exists()


def test_a_reader_that_goes_away_ends_it_quietly() -> None:
    ended = subprocess.run(
        f"yes slow words | {' '.join(CHILD)} | head -n 1",
        shell=True, capture_output=True, timeout=SECONDS, cwd=ROOT, env=ENVIRONMENT,
    )  # fmt: skip
    assert ended.stdout == b"You said: slow words\n"
    assert b"Traceback" not in ended.stderr


# Commands


def test_plan_draws_what_was_not_drawn(agent: LILITHAgent, tmp_path: pathlib.Path) -> None:
    commands = Commands(agent, tmp_path, LOOK, clock=lambda: 0)
    with pytest.raises(UserError, match="no call of plan_project was answered"):
        commands.run("/plan")
    agent.run("undrawn")
    assert agent.turns[-1].calls[0].answer["result"]["gantt_svg"] is None
    told = commands.run("/plan")
    assert "critical path: Analyse → Build" in told
    (chart,) = tmp_path.glob("plan-*.svg")
    assert chart.read_text().startswith("<svg")


def test_tools_and_roles(agent: LILITHAgent, tmp_path: pathlib.Path) -> None:
    commands = Commands(agent, tmp_path, LOOK)
    listed = commands.run("/tools").splitlines()
    assert {line.split()[0] for line in listed if not line.startswith(" ")} == set(
        agent.registry.names
    )
    assert max(map(len, listed)) <= 80
    assert "spot (number): Price of the underlying now" in commands.run("/tools black_scholes")
    with pytest.raises(UserError, match="did you mean 'black_scholes'"):
        commands.run("/tools black_shcoles")
    with pytest.raises(UserError, match="did you mean 'quant_dev'"):
        commands.run("/role quant_deb")
    assert agent.role == "quant_dev"
    commands.run("/role 10x_engineer")
    assert "* 10x_engineer: a senior software engineer" in commands.run("/role")
    assert all(form.split()[0] in commands.run("/help") for form in commands.known)


# How results look


def record(name: str, result: Any, **fields: Any) -> CallRecord:
    answer = {"ok": True, "result": result, **fields}
    return CallRecord(name, {}, "", answer, json.dumps(answer), 0.25)


def test_sparklines() -> None:
    assert sparkline([0, 1, 2, 3, 4, 5, 6, 7], LOOK) == "▁▂▃▄▅▆▇█"
    assert sparkline([0, 7], Look(80, blocks=False)) == "_#"
    assert sparkline([3, 3, 3], LOOK) == "▅▅▅"
    assert sparkline([float(i // 100) for i in range(800)], LOOK, 8) == "▁▂▃▄▅▆▇█"
    assert len(sparkline(range(1000), LOOK)) == 24
    assert sparkline([-1.7e308, 1.7e308] * 20, LOOK)  # sums beyond all floats


def test_results_are_grids_tables_and_lines() -> None:
    curve = [100 + at for at in range(30)]
    result = {
        "price": 4.5, "delta": 0.25, "nothing": None, "equity": curve, "pair": [1, 2],
        "frontier": [[0.1 * at, 1 - 0.1 * at] for at in range(10)],
        "names": [{"asset": "A", "weight": 0.5}, {"asset": "B", "weight": 0.25}],
        "text": "one\ntwo", "chart": "<svg></svg>",
    }  # fmt: skip
    told = result_lines(record("look", result, warnings=["few data"]), LOOK)
    assert told[:2] == ["  look: 0.25 s", "  price 4.5   delta 0.25"]
    assert f"  equity  {sparkline(curve, LOOK)}  30: 100 to 129" in told
    assert "  pair  1, 2" in told
    assert "  frontier  1  ▁▂▃▃▄▅▅▆▇█  10: 0 to 0.9" in told or any(
        line.startswith("  frontier  2  █") for line in told
    )
    at = told.index("  names:")
    assert told[at + 1 : at + 4] == ["  asset  weight", "  A      0.5", "  B      0.25"]
    assert told[told.index("  text:") :][:3] == ["  text:", "    one", "    two"]
    assert "  chart  a drawing; /page shows it" in told
    assert told[-1] == "  warning: few data"


def test_no_line_is_wider_than_the_terminal() -> None:
    wide = {f"a_rather_long_name_of_a_figure_{at}": 1 / (at + 1) for at in range(40)}
    wide |= {"rows": [{f"column {at}": "x" * 30 for at in range(9)}] * 20, "表" * 30: "表" * 55}
    wide |= {"text": "word " * 200, "matrix": [[at / 7] * 12 for at in range(5)]}
    for look in (Look(40), Look(80), Look(40, blocks=False)):
        lines = result_lines(record("look", wide, warnings=["much " * 50]), look)
        lines += call_lines("look", {"code": "x = 1\n" * 50, "values": list(range(99))}, look)
        from rich.cells import cell_len

        assert max(map(cell_len, lines)) <= look.width
        assert len(lines) < 40


# Settings and errors on the command line


@pytest.fixture
def run_main(talking: Callable[..., Any]) -> Callable[..., tuple[int, Any]]:
    return talking("agent_smollm2", agent_fakes.load)


@pytest.mark.parametrize(
    ("assignment", "words"),
    [
        ("temperature=3", ("temperature is 3.0", "0")),
        ("temperature=nan", ("temperature is nan",)),
        ("top_p=0", ("top_p is 0.0",)),
        ("max_tokens=0", ("max_tokens is 0",)),
        ("message_tokens=-1", ("message_tokens is -1",)),
        ("steps=0", ("steps is 0",)),
        ("steps=two", ("steps is 'two'",)),
        ("seconds=0", ("seconds is 0.0",)),
        ("tool_seconds=inf", ("tool_seconds is inf",)),
        ("seed=-1", ("seed is -1",)),
        ("prompt= ", ("prompt is ''",)),
        ("model=", ("model is ''",)),
        ("role=quant", ("role is 'quant'", "did you mean 'quant_dev'?", "hybrid_quant_pm")),
        ("tools=calculater", ("no tool 'calculater'", "did you mean 'calculator'?")),
        ("adapters=nowhere", ("nowhere",)),
        ("history=nowhere.json", ("nowhere.json can not be read",)),
        ("stage=chat", ("stage is 'chat'",)),
        ("reasoner=maybe", ("reasoner is 'maybe'",)),
        ("modle=x", ("did you mean 'model'?",)),
    ],
)
def test_a_wrong_setting_is_one_sentence(
    run_main: Callable[..., tuple[int, Any]], assignment: str, words: tuple[str, ...]
) -> None:
    code, output = run_main("--set", "prompt=hi", assignment)
    assert code == 2
    assert_one_sentence(output, *words)


def test_settings_reach_the_agent(
    run_main: Callable[..., tuple[int, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: dict[str, Any] = {}

    def create(model: Any, tokenizer: Any, role: str, **settings: Any) -> LILITHAgent:
        seen.update(settings, role=role, tools=settings["tools"].names)
        return create_quant_agent(model, tokenizer, role, **settings)

    monkeypatch.setattr("experiments.agent.create_quant_agent", create)
    code, output = run_main(
        "--set", "prompt=hi", "role=10x_engineer", "tools=calculator,execute_python", "steps=3",
        "max_tokens=99", "message_tokens=44", "seconds=7", "tool_seconds=5", "temperature=0.25",
        "top_p=0.5", "seed=9", "grammar=false",
    )  # fmt: skip
    assert (code, output.out) == (0, "You said: hi\n"), output.err
    assert seen == {
        "role": "10x_engineer", "tools": ("calculator", "execute_python"), "reasoner": None,
        "limits": TurnLimits(3, 99, 44, 7.0), "tool_seconds": 5.0, "temperature": 0.25,
        "top_p": 0.5, "seed": 9, "grammar": False,
    }  # fmt: skip


def test_adapters_are_merged_and_a_reasoner_is_made(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = dataclasses.replace(PRESETS["tiny"], compute_dtype="float32", layers=1)
    params = init_params(0, config)
    lora = LoraConfig(rank=2, targets=("attention/q$",))
    adapter = jax.tree.map(lambda own: own + 0.1, init_adapter(1, params, config, lora))
    for name in ("first", "second"):
        save_adapter(tmp_path / name, adapter, lora, base="some", base_config=config)
    folders = (str(tmp_path / "first"), str(tmp_path / "second"))
    info = types.SimpleNamespace(chat_template=CHATML, stop_ids=(), add_bos=False)

    def load_model(where: str, **_: Any) -> tuple[Any, ...]:
        return unstack_layers(params), config, ByteTokenizer(), info

    monkeypatch.setattr("lilith.interop.load.load_model", load_model)
    settings = AgentConfig(
        adapters=folders, tools=("calculator",), reasoner=True, max_tokens=77, seconds=9.0
    )
    agent, _ = load_agent(settings)
    twice = merge(merge(params, adapter, lora), adapter, lora)
    expected = LanguageModel(twice, config, ByteTokenizer()).params
    for mine, truth in zip(jax.tree.leaves(agent.model.params), jax.tree.leaves(expected)):
        np.testing.assert_allclose(mine, truth, atol=1e-5)
    assert agent.reasoner is not None
    assert agent.reasoner.sampler.budget == Budget(77, 9.0)


def test_what_is_not_as_expected_is_said(run_main: Callable[..., tuple[int, Any]]) -> None:
    code, output = run_main("--set", "prompt=hi", "model=base")
    assert (code, output.out) == (0, "You said: hi\n")
    assert "note: the model has no chat template" in output.err
    code, output = run_main("--set", "prompt=hi", "model=small")
    assert code == 2
    assert "the model's context is 64, so it can answer nothing; grant fewer tools" in output.err
    assert "error: " in output.err


def test_the_shipped_config() -> None:
    config = experiments.run.load_config("agent_smollm2", ["model=runs/mine", "adapters=a,b"])
    assert isinstance(config, AgentConfig)
    assert (config.model, config.adapters) == ("runs/mine", ("a", "b"))
    with pytest.raises(ConfigError, match="steps is 0"):
        AgentConfig(steps=0)


def test_a_training_config_is_no_agent(capfd: pytest.CaptureFixture[str]) -> None:
    for more in ([], ["--dry-run"]):
        code = experiments.run.main(["--config", "pretrain_nano", "--set", "stage=agent", *more])
        assert code == 2
        assert_one_sentence(capfd.readouterr(), "agent_smollm2")


def test_a_dry_run_loads_nothing(
    run_main: Callable[..., tuple[int, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    import lilith.interop

    monkeypatch.delattr(lilith.interop, "load_checkpoint")
    code, output = run_main("--dry-run", "--set", "role=project_manager", "tools=plan_project")
    assert code == 0, output.err
    for words in ("stage agent", "smollm2-135m-instruct", "role        project_manager",
                  "tools       plan_project\n", "8 steps", "120 s a tool",
                  "temperature by the kind of work", "Apache-2.0"):  # fmt: skip
        assert words in output.out
    code, output = run_main("--dry-run", "--set", "model=smollm")
    assert code == 2
    assert_one_sentence(output, "smollm")
