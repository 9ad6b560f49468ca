"""Conversations of the agent's other tools: its prompt, and results as it shows them."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from fractions import Fraction
from typing import Any

import pytest
from drawn_records import Watched, text_of

from lilith.agent.registry import ToolRegistry, create_quant_tools
from lilith.agent.tool_calls import ToolCall, ToolRunner
from lilith.data.instructions import code_checks
from lilith.data.instructions.agent_calls import FUNCTIONS
from lilith.data.instructions.agent_prompt import agent_system, agent_tools
from lilith.data.instructions.conversations import plain
from lilith.data.instructions.drawing import HELD_OUT_BANDS, HELD_OUT_EVERY
from lilith.data.instructions.registry import kinds, make, user_prompt
from lilith.roles import SYSTEM_PROMPTS

KINDS = ("agent_calculator", "agent_python", "agent_verify_code", "agent_choice")
EACH = {"agent_calculator": 12, "agent_python": 4, "agent_verify_code": 6, "agent_choice": 5}
SEED = 11


@pytest.fixture(scope="module")
def records() -> list[dict[str, Any]]:
    return [
        make(name, SEED, index, held_out=held_out)
        for name, held_out in itertools.product(KINDS, (False, True))
        for index in range(EACH[name])
    ]


@pytest.fixture(scope="module")
def registry() -> Iterator[ToolRegistry]:
    with create_quant_tools() as made:
        yield made


def test_every_tool_of_the_agent_is_listed(registry: ToolRegistry) -> None:
    assert tuple(agent_tools()) == registry.names
    for name, tool in agent_tools().items():
        declared = [(own.name, own.default) for own in registry[name].parameters]
        assert [(own.name, own.default) for own in tool.parameters] == declared


def test_results_are_those_that_the_agent_shows(
    records: list[dict[str, Any]], registry: ToolRegistry
) -> None:
    runner = ToolRunner(registry)
    called = set()
    for record in records:
        (call,) = record["metadata"]["check"]["tool_calls"]
        registry[call["name"]].validate(**call["arguments"])
        (result,) = runner.run([ToolCall(call["name"], call["arguments"])])
        assert text_of(record, "tool") == result.text
        called.add(call["name"])
    assert {"calculator", "execute_python", "verify_code", "black_scholes"} <= called
    assert len(called) >= 5


def test_the_prompt_is_the_agents_and_the_roles_differ(records: list[dict[str, Any]]) -> None:
    systems = {agent_system(role)["content"] for role in SYSTEM_PROMPTS}
    assert {record["messages"][0]["content"] for record in records} == systems
    for record in records:
        roles = [message["role"] for message in record["messages"]]
        assert roles == ["system", "user", "assistant", "tool", "assistant"]


def test_sums_are_quoted_from_the_result(records: list[dict[str, Any]]) -> None:
    for record in records:
        if record["metadata"]["kind"] == "agent_calculator":
            shown = json.loads(text_of(record, "tool"))["result"]
            said = text_of(record, "assistant")
            exact = Fraction(shown["text"])
            assert plain(exact, 2 if abs(exact) >= 1 else 4) in said, record
            assert abs(exact - Fraction(str(shown["value"]))) <= abs(exact) * Fraction(1, 10**5)


def test_code_is_judged_as_the_answer_says(records: list[dict[str, Any]]) -> None:
    passed = set()
    for index in range(20):
        record = make("agent_verify_code", SEED, index)
        (call,) = record["metadata"]["check"]["tool_calls"]
        assert call["arguments"]["code"] in user_prompt(record)
        assert call["arguments"]["tests"] in user_prompt(record)
        result = json.loads(text_of(record, "tool"))["result"]
        passed.add(result["passed"])
        said = text_of(record, "assistant")
        if result["passed"]:
            assert str(call["arguments"]["tests"].count("assert ")) in said
        else:
            first = result["failures"][0].partition(";")[0]
            quoted = said.split("`")[1::2]
            assert first in quoted
            (line,) = set(quoted) - {first}
            assert line in [own.strip() for own in call["arguments"]["code"].split("\n")]
    assert passed == {True, False}


def test_every_fault_shows_in_a_check() -> None:
    shown = set()
    for index, held_out in itertools.product(range(200), (False, True)):
        record = make("agent_verify_code", SEED, index, held_out=held_out)
        if json.loads(text_of(record, "tool"))["result"]["failures"]:
            code = record["metadata"]["check"]["tool_calls"][0]["arguments"]["code"]
            shown |= {own.does for own in FUNCTIONS if own.wrong in code and own.right not in code}
    assert shown == {own.does for own in FUNCTIONS}


def test_programs_are_checked_in_the_sandbox(records: list[dict[str, Any]]) -> None:
    sample = [own for own in records if own["metadata"]["kind"] == "agent_python"]
    assert code_checks.all_verified(sample) == [True] * len(sample)


def test_wordings_and_bands_are_of_the_split(records: list[dict[str, Any]]) -> None:
    for facts in (record["metadata"] for record in records):
        held_out = facts["split"] == "held_out"
        draw = Watched(SEED, facts["kind"], facts["index"], held_out=held_out)
        kinds()[facts["kind"]].function(draw)
        assert draw.phrases
        assert draw.bands
        assert all((at % HELD_OUT_EVERY == HELD_OUT_EVERY - 1) == held_out for at in draw.phrases)
        assert all((at in HELD_OUT_BANDS) == held_out for at in draw.bands)


def test_records_are_the_same_again(records: list[dict[str, Any]]) -> None:
    for record in records[::7]:
        facts = record["metadata"]
        held_out = facts["split"] == "held_out"
        assert make(facts["kind"], SEED, facts["index"], held_out=held_out) == record
