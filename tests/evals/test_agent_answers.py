"""Held-out questions for an agent: their expected calls and keys, judging, resuming, figures."""

from __future__ import annotations

import datetime
import json
from typing import Any

import pytest
from agent.streaming_model import StreamingModel, call

from lilith.agent.agent import create_quant_agent
from lilith.agent.registry import create_quant_tools
from lilith.agent.turn_run import TurnLimits
from lilith.config import ConfigError, UserError
from lilith.data.instructions.planning_math import Task, critical_paths, schedule, working_day
from lilith.evals.agent_answers import BegunCalls, answer_all, figures_by_kind, markdown_row
from lilith.evals.agent_keys import Chain, Day, Figure
from lilith.evals.agent_prompts import KINDS, SOURCES, AgentPrompt, agent_prompts
from lilith.evals.planning_prompts import same_plan
from lilith.evals.reasoning import wilson
from lilith.tokenizer import ByteTokenizer
from lilith.tokenizer.chat_template import CHATML, ChatTemplate

COUNTS = {"pricing": 5, "statistics": 2, "backtest": 2, "portfolio": 2, "planning": 6}


@pytest.fixture(scope="module")
def prompts():
    return [own for kind, count in COUNTS.items() for own in agent_prompts(count, [kind], seed=7)]


def said(prompt: AgentPrompt) -> str:
    """A right answer."""
    words = []
    for key in prompt.keys:
        if isinstance(key, Figure):
            words.append(f"{key.name} {key.values[-1]:.6g}")
        elif isinstance(key, Day):
            words.append(f"{key.day:%B} {key.day.day}, {key.day.year}")
        else:
            words.append(" -> ".join(key.path))
    return "; ".join(words) + "."


def agent_of(prompts, write=lambda prompt: call(prompt.expected["name"],
             **prompt.expected["arguments"]), answer=said, **settings):  # fmt: skip
    """An agent whose model writes one message for a question and one for a result."""
    known = {prompt.question: prompt for prompt in prompts}

    def line(messages: Any) -> str:
        prompt = known[next(one["content"] for one in messages if one["role"] == "user")]
        return write(prompt) if messages[-1]["role"] == "user" else answer(prompt)

    context = settings.pop("context", 100_000)
    return create_quant_agent(StreamingModel(line, context=context, piece=1000), **settings)


def only(prompts, *kinds):
    """The first question of each kind."""
    return [next(own for own in prompts if own.kind == kind) for kind in kinds]


def judged(prompts, tmp_path, **how):
    with agent_of(prompts, **how) as agent:
        return [own.verdict for own in answer_all(agent, prompts, tmp_path / "answers.jsonl")]


def test_questions_are_different_and_need_granted_tools(prompts):
    assert [own.kind for own in prompts] == [kind for kind in KINDS for _ in range(COUNTS[kind])]
    assert len({own.question for own in prompts}) == len(prompts)
    with create_quant_tools() as tools:
        for own in prompts:
            tools[own.expected["name"]].validate(**own.expected["arguments"])
            assert own.keys
            assert own.same(own.expected)
    assert {own.source for own in prompts} == {name for kind in KINDS for name in SOURCES[kind]}
    assert agent_prompts(2, ["pricing", "planning"], seed=7) == [*prompts[:2], *prompts[-6:-4]]
    assert agent_prompts(2, ["pricing"], seed=8)[0] != prompts[0]
    assert {own.role for own in prompts} == {"quant_dev", "project_manager"}


def test_what_is_no_kind_is_named():
    with pytest.raises(ConfigError, match="pricing"):
        agent_prompts(1, ["pricng"])
    with pytest.raises(ConfigError, match="-1"):
        agent_prompts(-1)


def test_plans_are_those_of_the_textbook(prompts):
    for own in prompts[-COUNTS["planning"] :]:
        arguments = own.expected["arguments"]
        tasks = [
            Task(
                task["id"],
                task["estimate"][1] if isinstance(task["estimate"], list) else task["estimate"],
                tuple(task.get("depends_on", ())),
            )
            for task in arguments["tasks"]
        ]
        end = max(times.finish for times in schedule(tasks).values())
        (path,) = critical_paths(tasks)
        start = datetime.date.fromisoformat(arguments["start"])
        (key,) = own.keys
        assert key in (
            Figure("length_days", (float(end),)), Day(working_day(start, end - 1)),
            Chain(tuple(path), tuple(task.name for task in tasks)),
        )  # fmt: skip
        assert len(path) < len(tasks)


def test_a_perfect_model_is_right_in_everything(prompts, tmp_path):
    with agent_of(prompts) as agent:
        answers = answer_all(agent, prompts, tmp_path / "answers.jsonl")
    assert [own.ended for own in answers] == ["answer"] * len(prompts)
    rows = figures_by_kind(answers)
    assert [own.kind for own in rows] == [*KINDS, "all"]
    for row in rows:
        counts = {row.calls, row.parsed, row.valid, row.ran, row.right_tool, row.right_call}
        assert counts | {row.right_answer} == {row.prompts}
        assert (row.low, row.high) == wilson(row.prompts, row.prompts)
        assert row.unfinished == 0
    assert rows[-1].prompts == len(prompts)
    assert markdown_row(rows[0]).startswith("| pricing (5) | 5 | 100.0% | 100% | 100% | 100% (")


def test_a_wrong_argument_is_right_in_the_tool_only(prompts, tmp_path):
    chosen = only(prompts, "pricing", "backtest", "portfolio", "planning")

    def write(prompt):
        own = dict(prompt.expected["arguments"])
        if prompt.kind == "planning":
            own["tasks"] = [{**own["tasks"][0], "estimate": 99}, *own["tasks"][1:]]
        elif prompt.kind == "pricing":
            own["spot"] += 1
        else:
            own["periods_per_year"] += 1
        return call(prompt.expected["name"], **own)

    for verdict in judged(chosen, tmp_path, write=write):
        assert (verdict.calls, verdict.valid, verdict.ran) == (1, 1, 1)
        assert (verdict.right_tool, verdict.right_call, verdict.right_answer) == (True, False, True)


def test_another_tool_is_wrong(prompts, tmp_path):
    chosen = only(prompts, *KINDS)
    verdicts = judged(chosen, tmp_path, write=lambda prompt: call("calculator", expression="1+1"))
    for verdict in verdicts:
        assert (verdict.calls, verdict.valid, verdict.right_tool) == (1, 1, False)


def test_no_call_and_a_wrong_answer(prompts, tmp_path):
    for verdict in judged(only(prompts, *KINDS), tmp_path, write=lambda prompt: "It is 123.45."):
        assert (verdict.calls, verdict.right_tool, verdict.right_answer) == (0, False, False)
        assert verdict.unverified == 1


@pytest.mark.parametrize(
    ("written", "parsed", "valid", "ran"),
    [
        ('<tool_call>\n{"name": "black_scholes", "arguments": {\n</tool_call>', 0, 0, 0),
        ('<tool_call>\n{"name": "black_scholes", "arguments": {}}', 0, 0, 0),
        ('<tool_call>\n{"name": "black_scholes", "arguments": [1]}\n</tool_call>', 0, 0, 0),
        (call("black_scholes", spot=100), 1, 0, 0),
        (call("launch"), 1, 0, 0),
        (call("calculator", expression="1/0"), 1, 1, 0),
        (call("calculator", expression="1+1") + call("black_scholes", spot=1), 2, 1, 1),
    ],
)
def test_calls_that_do_not_parse_or_validate_are_counted(
    prompts, tmp_path, written, parsed, valid, ran
):
    (verdict,) = judged(prompts[:1], tmp_path, write=lambda prompt: written)
    assert (verdict.calls, verdict.parsed) == (written.count("<tool_call>"), parsed)
    assert (verdict.valid, verdict.ran) == (valid, ran)
    assert verdict.right_tool is (parsed > 0 and "black_scholes" in written)
    assert not verdict.right_call


def test_words_for_a_turn_without_an_answer_are_no_answer(prompts, tmp_path):
    # They hold the tool's result, and with it the price.
    again = dict.fromkeys(("write", "answer"), lambda prompt: call(
        prompt.expected["name"], **prompt.expected["arguments"]
    ))  # fmt: skip
    with agent_of(prompts[:1], **again) as agent:
        (own,) = answer_all(agent, prompts[:1], tmp_path / "answers.jsonl")
    assert own.ended == "repetition"
    assert prompts[0].keys[0].said_in(own.turn["answer"])
    assert not own.verdict.right_answer
    assert own.verdict.right_call


def test_answers_that_are_there_are_not_asked_for_again(prompts, tmp_path):
    path = tmp_path / "answers.jsonl"
    with agent_of(prompts) as agent:
        first = answer_all(agent, prompts[:3], path)
        asked = len(agent.model.prompts)
        path.write_bytes(path.read_bytes()[:-20])  # a kill cut the last one off
        again = answer_all(agent, prompts[:4], path)
        assert len(agent.model.prompts) == asked + 4  # the last of three, and the fourth
    assert [own.verdict for own in again[:3]] == [own.verdict for own in first]
    assert again[0] == first[0]
    assert len(path.read_text().splitlines()) == 4
    record = json.loads(path.read_text().splitlines()[0])
    path.write_text(json.dumps({**record, "verdict": {"points": 3}}) + "\n")
    with agent_of(prompts) as agent, pytest.raises(UserError, match="remove the file"):
        answer_all(agent, prompts[:1], path)


def test_each_question_has_a_conversation_of_its_own(prompts, tmp_path):
    chosen = only(prompts, "pricing", "planning")
    with agent_of(chosen) as agent:
        answer_all(agent, chosen, tmp_path / "answers.jsonl")
        for messages in agent.model.prompts:
            assert [one["role"] for one in messages].count("user") == 1
        openings = [messages[0]["content"][:60] for messages in agent.model.prompts]
    assert "quantitative developer" in openings[0]
    assert "project manager" in openings[-1]


def test_what_does_not_fit_the_context_is_wrong_and_said(prompts, tmp_path):
    with agent_of(prompts, context=60) as agent:
        (own,) = answer_all(agent, prompts[:1], tmp_path / "answers.jsonl")
    assert (own.ended, own.turn) == ("not_asked", None)
    assert "tokens" in own.error
    (row,) = figures_by_kind([own])
    assert (row.right_answer, row.unfinished, row.calls) == (0, 1, 0)
    assert "| none |" in markdown_row(row)


def test_an_answer_that_a_limit_cut_off_is_not_right(prompts, tmp_path):
    limits = TurnLimits(message_tokens=120)
    long = {"answer": lambda prompt: said(prompt) + " and so on" * 200, "limits": limits}
    (verdict,) = judged(prompts[:1], tmp_path, **long)
    assert verdict.right_call
    assert not verdict.right_answer


def test_a_call_is_begun_for_a_model_that_would_make_none():
    asked = []

    def goes_on(prompt):
        asked.append(prompt)
        if isinstance(prompt[0], int):
            body = call("calculator", expression="6*7").removeprefix("<tool_call>\n")
            return body.partition("</tool_call>")[0] + "</tool_call>"
        return "It is 42."

    tokenizer = ByteTokenizer()
    template = ChatTemplate.of(CHATML, tokenizer)
    model = StreamingModel(
        goes_on, context=100_000, piece=1000, template=template, tokenizer=tokenizer
    )  # fmt: skip
    with create_quant_agent(BegunCalls(model)) as agent:
        turn = agent.run("How are you?")
    assert turn.answer == "It is 42."
    assert [(own.name, own.ok) for own in turn.calls] == [("calculator", True)]
    ids, messages = asked
    assert tokenizer.decode(ids).endswith("<|im_start|>assistant\n<tool_call>\n")
    assert ids.count(tokenizer.special_tokens["<tool_call>"]) == 1
    assert messages[-1]["role"] == "tool"
    model = StreamingModel(goes_on, template=None, tokenizer=tokenizer, context=100_000)
    with create_quant_agent(BegunCalls(model)) as agent, pytest.raises(UserError, match="template"):
        agent.run("How are you?")


@pytest.mark.parametrize(
    ("value", "answer", "right"),
    [
        (9.6229, "It is worth 9.62.", True),
        (9.6229, "It is worth $9.6229 today.", True),
        (9.6229, "About 9.6.", True),
        (9.6229, "About 10.", False),
        (9.6229, "It is 9.63.", False),
        (0.4700757, "The implied volatility is 47.01%.", True),
        (0.4700757, "47%", True),
        (0.4700757, "0.47", True),
        (0.4700757, "0.5", False),
        (-0.0119531, "a drawdown of 1.20%", True),
        (-0.0119531, "-0.012", True),
        (-0.0119531, "0.00", False),
        (1032.0, "Sell 1,032 shares.", True),
        (43.0, "Sell 43 shares.", True),
        (43.0, "Sell 44 shares.", False),
        (0.0186, "0.019", True),
        (0.0186, "nothing", False),
    ],
)
def test_figures(value, answer, right):
    assert Figure("x", (1e9, value)).said_in(answer) is right


@pytest.mark.parametrize(
    ("answer", "right"),
    [
        ("It ends on 2026-05-06.", True),
        ("on 6 May 2026", True),
        ("Wednesday, May 6", True),
        ("the 6th of May, 2026", True),
        ("May 06, 2026", True),
        ("May 6, 2027", False),
        ("16 May 2026", False),
        ("May 60", False),
        ("2026-05-07", False),
        ("6 March 2026", False),
    ],
)
def test_days(answer, right):
    assert Day(datetime.date(2026, 5, 6)).said_in(answer) is right


@pytest.mark.parametrize(
    ("answer", "right"),
    [
        ("site -> roof -> handover", True),
        ("The path is Site, then roof, and handover.", True),
        ("site, walls, roof, handover", False),
        ("site -> roof", False),
        ("handover, roof, site", False),
        ("site, roof, handover, walls", False),
        ("The walls can wait. Critical: site → roof → handover; walls have slack.", True),
    ],
)
def test_chains(answer, right):
    assert Chain(("site", "roof", "handover"), ("site", "walls", "roof", "handover")).said_in(
        answer
    ) is right  # fmt: skip


PLAN = {
    "name": "plan_project",
    "arguments": {
        "tasks": [{"id": "site", "estimate": 3},
                  {"id": "roof", "estimate": [1, 2, 3], "depends_on": ["site"]}],
        "start": "2026-03-02",
    },
}  # fmt: skip
SITE, ROOF = PLAN["arguments"]["tasks"]


@pytest.mark.parametrize(
    ("changed", "same"),
    [
        ({"name": "The roof", "chart": False, "runs": 200, "unit": "days"}, True),
        ({"resources": [], "constraints": None}, True),
        ({"tasks": [ROOF, SITE]}, True),
        ({"tasks": [{"id": "A", "name": "Site", "estimate": [3, 3, 3]},
                    {"id": "B", "name": "roof", "estimate": [1, 2, 3], "must_follow": ["A"]}]},
         True),
        ({"tasks": [SITE, {**ROOF, "depends_on": [{"task": "site", "kind": "FS"}]}]}, True),
        ({"tasks": [SITE, {**ROOF, "depends_on": [{"task": "site", "kind": "SS"}]}]}, False),
        ({"tasks": [SITE, {**ROOF, "depends_on": []}]}, False),
        ({"tasks": [SITE, {**ROOF, "estimate": 2}]}, False),
        ({"tasks": [SITE, {**ROOF, "not_before": "2026-04-01"}]}, False),
        ({"tasks": [SITE]}, False),
        ({"tasks": [SITE, ROOF, {"id": "walls", "estimate": 1}]}, False),
        ({"tasks": "site"}, False),
        ({"start": "2026-03-03"}, False),
        ({"unit": "hours"}, False),
        ({"constraints": {"deadline": "2026-04-01"}}, False),
    ],
)  # fmt: skip
def test_the_same_plan_in_other_words(changed, same):
    given = {"name": "plan_project", "arguments": {**PLAN["arguments"], **changed}}
    assert same_plan(PLAN, given) is same
    assert not same_plan(PLAN, {**given, "name": "calculator"})
