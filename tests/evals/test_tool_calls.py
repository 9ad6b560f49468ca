"""Tool-call accuracy: what counts as a call, as the right one, and the runner around it."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest

import experiments.evaluate
from experiments.run import main
from lilith.data.instructions.tool_prompts import read_call, tool_call_prompts
from lilith.evals.tool_calls import judge, summarise, tool_call_results

PROMPTS = tool_call_prompts(1_000, 13)


def written(call):
    return f"<tool_call>\n{json.dumps(call)}\n</tool_call>"


class Oracle:
    """Answers as ``speak`` says, from the expected call of the question it recognises."""

    def __init__(self, speak=lambda call: written(call)):
        self.speak = speak
        self.asked = []

    def generate_batch(self, prompts, *, batch_size, max_tokens, stop):
        assert stop == ("</tool_call>",)
        self.asked.append(len(prompts))
        known = {p.messages[-1]["content"]: p.expected for p in PROMPTS}
        texts = [self.speak(known[messages[-1]["content"]]) for messages in prompts]
        return [
            SimpleNamespace(
                text=text.removesuffix("</tool_call>"),
                finish_reason="stop" if text.endswith("</tool_call>") else "length",
            )
            for text in texts
        ]


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ('<tool_call>\n{"name": "a", "arguments": {}}\n</tool_call>', "a"),
        ('Let me see. <tool_call>{"name": "a", "arguments": {"x": [1]}}</tool_call> done', "a"),
        ('<tool_call>{"name": "a", "arguments": {}}</tool_call>'
         '<tool_call>{"name": "b", "arguments": {}}</tool_call>', "a"),
        ('<tool_call>{"name": "a", "arguments": {}}', None),  # never closed
        ('<tool_call>{"name": "a", "arguments": 3}</tool_call>', None),
        ('<tool_call>{"name": 1, "arguments": {}}</tool_call>', None),
        ('<tool_call>["a"]</tool_call>', None),
        ("<tool_call>{'name': 'a', 'arguments': {}}</tool_call>", None),
        ('{"name": "a", "arguments": {}}', None),
        ("", None),
    ],
)  # fmt: skip
def test_reading_a_call(text, name):
    call = read_call(text)
    assert (call and call["name"]) == name


def test_judgements():
    prompt = PROMPTS[0]
    right = judge(prompt, written(prompt.expected))
    assert (right.well_formed, right.right_tool, right.right) == (True, True, True)
    arguments = {**prompt.expected["arguments"], "strike": 1.25}
    wrong = judge(prompt, written({**prompt.expected, "arguments": arguments}))
    assert (wrong.well_formed, wrong.right_tool, wrong.right) == (True, True, False)
    other = judge(prompt, written({"name": "calculator", "arguments": {}}))
    assert (other.well_formed, other.right_tool, other.right) == (True, False, False)
    silent = judge(prompt, "about 5")
    assert (silent.well_formed, silent.right_tool, silent.right) == (False, False, False)


def test_shares_of_all_and_by_kind():
    oracle = Oracle()
    results = tool_call_results(oracle, PROMPTS)
    assert [own.prompt for own in results] == PROMPTS  # though asked by length
    assert sum(oracle.asked) == len(PROMPTS)
    found = summarise(results)
    assert (found["questions"], found["right"], len(found["by_kind"])) == (13, 1.0, 13)

    def lazy(call):
        return written(call) if call["name"] == "black_scholes" else "no idea"

    few = summarise(tool_call_results(Oracle(lazy), PROMPTS))
    by_name = [p.expected["name"] == "black_scholes" for p in PROMPTS]
    assert few["right"] == few["well_formed"] == sum(by_name) / 13
    assert set(few["by_kind"].values()) == {0.0, 1.0}
    assert summarise([])["right"] == 0.0


def test_the_command_writes_every_answer(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(
        experiments.evaluate, "load_checkpoint", lambda where: (Oracle(), None, f"model of {where}")
    )
    arguments = ["--config", "eval_tool_calls", "--workdir", str(tmp_path)]
    assert main([*arguments, "--set", "count=13", "checkpoint=some"]) == 0
    out = capsys.readouterr().out
    assert "model of some" in out
    assert "right                        100.0%" in out
    answers = [json.loads(line) for line in (tmp_path / "answers.jsonl").read_text().splitlines()]
    assert [own["expected"] for own in answers] == [p.expected for p in PROMPTS]
    results = json.loads((tmp_path / "results.json").read_text())
    assert (results["right"], results["checkpoint"], results["seed"]) == (1.0, "some", 1000)
    assert main([*arguments, "--dry-run"]) == 0
    assert capsys.readouterr().out.count("[expected]") == 3


@pytest.mark.parametrize(
    ("override", "words"),
    [("benchmark=tool_cals", "did you mean"), ("count=0", "count is 0"),
     ("checkpoint= ", "checkpoint is empty"), ("max_tokens=0", "max_tokens is 0")],
)  # fmt: skip
def test_bad_configs(override, words, capsys):
    assert main(["--config", "eval_tool_calls", "--set", override]) == 2
    assert words in capsys.readouterr().err
