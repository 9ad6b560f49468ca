"""Conversations in the form of the pipeline's agent, and whole turns of it that are judged."""

from __future__ import annotations

import json
import pathlib
import re
from collections.abc import Iterator
from typing import Any

import pytest
from agent.streaming_model import StreamingModel, call

from experiments import evaluate, evaluate_agent
from experiments.evaluate_config import EvaluateConfig
from experiments.pipeline_config import TalkConfig
from experiments.pipeline_data import Asks
from experiments.pipeline_talks import AgentTalks, Counts, agent_talks, in_agent_form
from lilith.agent.agent import LILITHAgent
from lilith.agent.registry import create_quant_tools
from lilith.agent.tool_calls import ToolCall, ToolRunner
from lilith.config import ConfigError
from lilith.data.instructions.drawing import HELD_OUT_BANDS, Draw
from lilith.data.instructions.registry import make
from lilith.evals.agent_prompts import AgentPrompt, agent_prompts

KINDS = ("quant_price_european", "quant_statistics", "agent_calculator")
TALK = TalkConfig()
NUMBER = re.compile(r"-?\d+(?:\.\d+)?")
UNKNOWN_TOOL = "python_tool"  # a kind that calls execute_python, which TALK does not grant


@pytest.fixture(scope="module")
def talks() -> Iterator[AgentTalks]:
    with agent_talks(TALK) as made:
        yield made


def records(count: int = 6, kinds: tuple[str, ...] = KINDS) -> list[Any]:
    return [make(kind, 4, index) for index in range(count) for kind in kinds]


def formed(
    talks: AgentTalks, given: list[Any], counts: Counts | None = None, *, share: float = 1.0,
    turns: int = 1,
) -> list[Any]:  # fmt: skip
    counts = counts or Counts()
    return list(in_agent_form(given, talks, share=share, turns=turns, verbatim=False, seed=0,
                              counts=counts))  # fmt: skip


def test_a_conversation_is_what_the_agent_itself_would_show(talks: AgentTalks) -> None:
    with create_quant_tools(others=True) as tools:
        granted = tools.only(TALK.tools)
        agent = LILITHAgent(
            StreamingModel(lambda messages: ""), tools=granted, system_prompt=TALK.system_prompt
        )
        assert talks.system == {"role": "system", "content": agent.system_message}
        for record in records():
            made = talks.rewritten(record)
            if made is None:
                continue
            assert made["messages"][0] == talks.system
            assert made["messages"][1:3] == record["messages"][1:3]
            (asked,) = made["messages"][2]["tool_calls"]
            (shown,) = ToolRunner(granted).run([ToolCall(asked["name"], asked["arguments"])])
            assert made["messages"][3] == {"role": "tool", "content": shown.text}
            assert made["messages"][4:] == record["messages"][4:]


def test_an_answer_with_a_number_from_nowhere_is_left_out(talks: AgentTalks) -> None:
    record = next(own for own in map(talks.rewritten, records()) if own is not None)
    told = {**record, "messages": [*record["messages"][:-1],
                                   {"role": "assistant", "content": "It is 98765.4."}]}  # fmt: skip
    assert talks.rewritten(told) is None
    counts = Counts()
    assert formed(talks, [told, record], counts) == [talks.rewritten(record)]
    assert (counts.agent, counts.left_out) == (1, 1)


def test_a_verbatim_answer_quotes_what_the_result_shows(talks: AgentTalks) -> None:
    changed = 0
    for record in records():
        plain, exact = talks.rewritten(record), talks.rewritten(record, verbatim=True)
        if plain is None or exact is None:
            continue
        assert exact["messages"][:-1] == plain["messages"][:-1]
        shown = re.findall(r"-?\d+\.\d+", plain["messages"][-2]["content"])
        before, after = (
            re.sub(r"(?<=\d),(?=\d)", "", one["messages"][-1]["content"]) for one in (plain, exact)
        )
        changed += before != after
        for said, own in zip(NUMBER.findall(before), NUMBER.findall(after), strict=True):
            decimals = len(said.partition(".")[2])
            assert said == own or (own in shown and f"{float(own):.{decimals}f}" == said)
    assert changed > 6


def test_other_tools_and_the_rest_of_a_share_stay_as_they_are(talks: AgentTalks) -> None:
    other = make(UNKNOWN_TOOL, 0, 0)
    assert not talks.fits(other)
    assert formed(talks, [other]) == [other]
    given = records()
    assert formed(talks, given, share=0.0) == given
    half = formed(talks, given, share=0.5)
    kept = [own for own in half if own in given]
    assert 0 < len(kept) < len(half)
    assert half == formed(talks, given, share=0.5)


def test_several_turns_follow_each_other_in_one_conversation(talks: AgentTalks) -> None:
    given = records(12)
    counts = Counts()
    made = formed(talks, given, counts, turns=3)
    asked = [[m["content"] for m in own["messages"] if m["role"] == "user"] for own in made]
    assert {len(own) for own in asked} == {1, 2, 3}
    assert [text for own in asked for text in own] == [
        own["messages"][1]["content"] for own in given if talks.rewritten(own) is not None
    ]
    assert counts.agent == sum(map(len, asked))
    for own in made:
        assert [m["role"] for m in own["messages"]].count("system") == 1
        assert [m["role"] for m in own["messages"][1:]] == [
            "user", "assistant", "tool", "assistant"
        ] * (len(own["messages"]) // 4)  # fmt: skip


def test_questions_are_asked_as_the_agent_asks_them(talks: AgentTalks) -> None:
    record, other = records(1)[0], make(UNKNOWN_TOOL, 0, 0)
    asks = Asks(talks, 1.0, 0)
    assert asks(record) == [talks.system, record["messages"][1]]
    assert asks(other) == other["messages"][:2]
    assert Asks(talks, 0.0, 0)(record) == record["messages"][:2]


def test_known_words_are_words_of_training_about_numbers_that_are_not() -> None:
    templates = [str(number) for number in range(10)]
    for index in range(50):
        draw = Draw(1, "a kind", index, held_out=True, known_words=True)
        assert draw.phrase(templates) not in ("4", "9")
        assert int(draw.number("0", "99")) // 10 in HELD_OUT_BANDS
        assert Draw(1, "a kind", index, held_out=True).phrase(templates) in ("4", "9")


def config(**changes: Any) -> EvaluateConfig:
    settings: dict[str, Any] = {
        "benchmark": "agent", "count": 6, "kinds": KINDS, "seed": 5, "checkpoint": "scripted",
        "system_prompt": TALK.system_prompt, "tools": TALK.tools,
    }  # fmt: skip
    return EvaluateConfig(**(settings | changes))


def scripted(prompts: list[AgentPrompt], wrong: set[str]) -> StreamingModel:
    """A model that is right, but for the words of its answers to the questions in ``wrong``."""
    known = {own.question: own for own in prompts}

    def line(messages: Any) -> str:
        assert messages[0]["content"].startswith(TALK.system_prompt)
        own = known[next(one["content"] for one in messages if one["role"] == "user")]
        if messages[-1]["role"] == "user":
            return call(own.expected["name"], **own.expected["arguments"])
        keys: tuple[Any, ...] = own.keys
        figures = " and ".join(f"{key.values[-1]:.6g}" for key in keys)
        return "I do not know." if own.question in wrong else f"It is {figures}."

    return StreamingModel(line, context=100_000, piece=1000)


def test_turns_are_judged_to_the_number_in_the_answer(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    known = agent_prompts(2, KINDS, seed=5, known_words=True)
    other = agent_prompts(2, KINDS, seed=5)
    assert {own.question for own in known}.isdisjoint(own.question for own in other)
    model = scripted([*known, *other], {known[0].question, other[0].question, other[1].question})
    monkeypatch.setattr(evaluate_agent, "load_checkpoint", lambda name: (model, None, "scripted"))
    assert evaluate.run(config(), tmp_path) == 0
    found = json.loads((tmp_path / "results.json").read_text())
    for words, answered in (("known", 5), ("held_out", 4)):
        own = found[words]
        assert (own["questions"], own["right"], own["well_formed"]) == (6, 1.0, 1.0)
        assert own["answered"] == pytest.approx(answered / 6)
        assert own["by_kind"] == dict.fromkeys(KINDS, 1.0)
        assert [row["kind"] for row in own["rows"]] == [*KINDS, "all"]
        assert len((tmp_path / f"answers_{words}.jsonl").read_text().splitlines()) == 6
    out = capsys.readouterr().out
    assert "held-out numbers in known words" in out
    assert "held-out numbers in held out words" in out


def test_what_it_would_ask_is_shown_and_mistakes_are_named(capsys: Any) -> None:
    assert evaluate.dry_run(config()) == 0
    assert capsys.readouterr().out.count("[expected]") == len(KINDS)
    with pytest.raises(ConfigError, match="'knwon'"):
        config(words=("knwon",))
    with pytest.raises(ConfigError, match="words has ''"):
        config(words=())
    with pytest.raises(ConfigError, match="quant_price_european"):
        agent_prompts(1, ("quant_price",))
