"""Conversations of ``plan_project``: the agent's own prompt, valid calls, true results."""

from __future__ import annotations

import datetime
import itertools
import json
import re
from types import SimpleNamespace
from typing import Any

import pytest
from drawn_records import Watched, text_of

from lilith.agent.agent import LILITHAgent
from lilith.agent.dialect import Dialect
from lilith.agent.planning_tool import plan_project
from lilith.agent.registry import create_quant_tools
from lilith.agent.roles import SYSTEM_PROMPTS
from lilith.agent.tool_results import safe_json
from lilith.config import ConfigError
from lilith.data.chat_tools import written_out
from lilith.data.decontamination import Decontamination
from lilith.data.instructions import agent_prompt, planning_calls_words
from lilith.data.instructions.agent_prompt import agent_system, brief_plan
from lilith.data.instructions.drawing import HELD_OUT_BANDS, HELD_OUT_EVERY, Draw
from lilith.data.instructions.planning_calls import GENERATORS
from lilith.data.instructions.planning_calls_drawing import in_words
from lilith.data.instructions.registry import checked_weights, make, user_prompt
from lilith.data.instructions.tool_prompts import tool_call_prompts
from lilith.evals.agent_prompts import agent_prompts
from lilith.evals.planning_prompts import PROJECTS
from lilith.evals.tool_calls import judge
from lilith.tokenizer.chat_template import ChatTemplate

KINDS = tuple(GENERATORS)
EACH = 5  # records of a kind and split
SEED = 11
NUMBER = re.compile(r"\d{4}-\d\d-\d\d|\d+(?:\.\d+)?")
SMOLLM2 = (  # its template: no word on tools
    "{% for message in messages %}{{'<|im_start|>' + message['role'] + '\n' + message['content'] "
    "+ '<|im_end|>' + '\n'}}{% endfor %}{% if add_generation_prompt %}"
    "{{ '<|im_start|>assistant\n' }}{% endif %}"
)


@pytest.fixture(scope="module")
def records() -> list[dict[str, Any]]:
    return [
        make(name, SEED, index, held_out=held_out)
        for name, held_out in itertools.product(KINDS, (False, True))
        for index in range(EACH)
    ]


def call_of(record: dict[str, Any]) -> dict[str, Any]:
    (call,) = record["metadata"]["check"]["tool_calls"]
    return call


def told(record: dict[str, Any]) -> dict[str, Any]:
    return json.loads(text_of(record, "tool"))


def test_the_system_message_is_the_agents() -> None:
    with create_quant_tools() as registry:
        for role, prompt in SYSTEM_PROMPTS.items():
            agent = SimpleNamespace(registry=registry, system_prompt=prompt)
            shown = LILITHAgent.system_message.fget(agent)
            assert agent_system(role) == {"role": "system", "content": shown}


def test_a_model_reads_what_the_agent_would_write(records: list[dict[str, Any]]) -> None:
    template = ChatTemplate(SMOLLM2)
    dialect = Dialect(SimpleNamespace(chat_template=template), None)
    for record in records:
        spoken = []
        for message in record["messages"]:
            own = {"role": message["role"], "content": message["content"], "name": "plan_project"}
            calls = message.get("tool_calls", ())
            own["calls"] = [{**call, "text": json.dumps(call, ensure_ascii=False)}
                            for call in calls]  # fmt: skip
            spoken.append(own)
        agents = [(m["role"], m["content"]) for m in dialect.written(spoken)]
        trained = written_out(record["messages"], template).messages
        assert [(m["role"], m["content"]) for m in trained] == agents


def test_calls_are_valid_and_results_are_the_tools(records: list[dict[str, Any]]) -> None:
    declared = [own.name for own in plan_project.parameters]
    fields = plan_project.parameters[0].schema()["items"]["properties"]
    for record in records:
        call = call_of(record)
        assert [m["tool_calls"] for m in record["messages"] if m.get("tool_calls")] == [[call]]
        given = call["arguments"]
        plan_project.validate(**given)
        assert list(given) == [name for name in declared if name in given]
        for task in given["tasks"]:
            assert list(task) == [name for name in fields if name in task]
        answer = plan_project(**given)
        assert answer["ok"] == (record["metadata"]["kind"] != "plan_circle")
        assert text_of(record, "tool") == safe_json(brief_plan(answer))
        assert record["metadata"]["check"]["results"] == [told(record)]


def test_the_question_holds_what_the_call_says(records: list[dict[str, Any]]) -> None:
    for record in records:
        said, given = user_prompt(record), call_of(record)["arguments"]
        for task in given["tasks"]:
            assert task["id"] in said
            points = task["estimate"] if isinstance(task["estimate"], list) else [task["estimate"]]
            for point in points:
                ways = [str(point), in_words(point)]
                ways += [f"{point // 5} week"] if point % 5 == 0 else []
                assert any(re.search(rf"(?<!\d){way}", said) for way in ways), (point, said)
            assert all(name in said for name in task.get("depends_on", ()))
            assert all(name in said or name[:-1] in said for name in task.get("resources", ()))
        assert ("hour" in said or re.search(r"\dh\b", said)) or "unit" not in given
        days = [given["start"], given.get("constraints", {}).get("deadline", given["start"])]
        for day in map(datetime.date.fromisoformat, days):
            assert str(day.day) in said
            assert str(day.year) in said
            assert any(f"{day:{form}}" in said for form in ("%B", "%b", "-%m-"))


def test_answers_repeat_only_what_the_tool_gave(records: list[dict[str, Any]]) -> None:
    for record in records:
        result = told(record)
        known = set(NUMBER.findall(json.dumps(result) + json.dumps(call_of(record))))
        limits = result.get("result", {})
        for name in ("deadline", "downtime"):
            if name in limits:
                known.add(f"{100 * limits[name]['probability']:.0f}")
        text = text_of(record, "assistant")
        text = re.sub(r"\bP(50|80|95)\b|\b(80|95)%", "", text)
        for number in NUMBER.findall(text):
            assert number in known, (number, record)


def test_answers_say_what_the_plan_says() -> None:
    verdicts: set[str] = set()
    overloads: set[bool] = set()
    for index in range(16):
        record = make("plan_team", SEED, index)
        plan, text = told(record)["result"], record["messages"][-1]["content"]
        assert plan["finish"] in text
        overloads.add("overloaded" in plan)
        assert ("Nobody is overloaded" in text) == ("overloaded" not in plan)
        assert all(name in text for name in plan.get("overloaded", ()))
        if "deadline" in plan:
            verdicts.add(plan["deadline"]["verdict"])
            assert text.startswith("Yes" if plan["deadline"]["verdict"] == "held" else "No")
    assert overloads == {True, False}
    assert verdicts >= {"held", "impossible"}


def test_further_questions_need_no_other_call() -> None:
    for index in range(8):
        record = make("plan_follow_up", SEED, index)
        roles = [message["role"] for message in record["messages"]]
        assert roles[:5] == ["system", "user", "assistant", "tool", "assistant"]
        assert roles[5:] in (["user", "assistant"], ["user", "assistant"] * 2)
        plan = told(record)["result"]
        for asked, answer in itertools.pairwise(record["messages"][5:]):
            if "P80" in asked["content"]:
                assert plan["P80"] in answer["content"]
            if "critical" in asked["content"] and asked["role"] == "user":
                assert " → ".join(plan["critical_path"]) in answer["content"]


def test_a_circle_is_named() -> None:
    for index in range(4):
        record = make("plan_circle", SEED, index)
        error = told(record)["error"]
        assert error["code"] == "dependency_cycle"
        assert error["message"].partition(": ")[2] in text_of(record, "assistant")


def test_wordings_and_bands_are_of_the_split(records: list[dict[str, Any]]) -> None:
    for facts in (record["metadata"] for record in records):
        held_out = facts["split"] == "held_out"
        draw = Watched(SEED, facts["kind"], facts["index"], held_out=held_out)
        GENERATORS[facts["kind"]](draw)
        assert len(draw.phrases) >= 4
        assert draw.bands
        assert all((at % HELD_OUT_EVERY == HELD_OUT_EVERY - 1) == held_out for at in draw.phrases)
        assert all((at in HELD_OUT_BANDS) == held_out for at in draw.bands)


def test_records_depend_on_seed_and_index_only(records: list[dict[str, Any]]) -> None:
    for record in reversed(records[:: EACH + 1]):
        facts = record["metadata"]
        again = make(facts["kind"], SEED, facts["index"], held_out=facts["split"] == "held_out")
        assert again == record
    assert make("plan_tasks", SEED + 1, 0) != make("plan_tasks", SEED, 0)


def test_nothing_of_the_benchmark_is_in_training(
    records: list[dict[str, Any]], tmp_path: Any
) -> None:
    titles = {title.removeprefix("the ").removeprefix("our ") for title, _ in PROJECTS}
    tasks = {name for _, names in PROJECTS for name in names}
    for title, names in planning_calls_words.PROJECTS:
        assert not any(own in title for own in titles), title
        assert not tasks & {name.lower() for name in names}, title
    asked = tmp_path / "benchmark.jsonl"
    prompts = agent_prompts(12, ["planning"])
    asked.write_text("\n".join(json.dumps({"text": own.question}) for own in prompts))
    known = Decontamination([asked])
    for record in records:
        assert not known.overlaps([message["content"] for message in record["messages"][1:]])
    assert known.overlaps([prompts[0].question])


def test_conversations_fit_a_row(records: list[dict[str, Any]], smollm2: Any) -> None:
    from lilith.interop.gguf import read_gguf
    from lilith.interop.gguf_tokenizer import read_tokenizer

    tokenizer, _, _ = read_tokenizer(read_gguf(smollm2).metadata)
    template = ChatTemplate(SMOLLM2)
    for record in records:
        messages = written_out(record["messages"], template).messages
        ids = template.encode(messages, tokenizer, add_generation_prompt=False)
        assert 700 < len(ids) <= 1_024


def test_a_conversation_that_never_fits_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(agent_prompt, "MOST_PIECES", 300)
    monkeypatch.setattr(agent_prompt, "MOST_DRAWS", 2)
    with pytest.raises(ValueError, match="no conversation in 2 is short enough"):
        GENERATORS["plan_circle"](Draw(SEED, "plan_circle", 0))


def test_a_plan_in_few_words() -> None:
    tasks = [
        {"id": "a", "estimate": 3, "resources": ["Ann"]},
        {"id": "speed", "estimate": 5, "resources": ["Ann"]},
        {"id": "c", "estimate": 2, "depends_on": ["a", "speed"], "downtime_hours": 2},
    ]
    limits = {"deadline": "2026-05-13", "max_downtime_hours": 1}
    given = {"tasks": tasks, "start": "2026-05-04", "resources": [{"id": "Ann"}]}
    plan = brief_plan(plan_project(**given, constraints=limits))["result"]
    assert plan == {
        "finish": "2026-05-15", "length_days": 10, "critical_path": ["speed", "c"],
        "slack_days": {"a": 2}, "overloaded": {"Ann": ["a", "speed"]},
        "critical_chain": ["a", "speed", "c"],
        "deadline": {"verdict": "late", "late_by_days": 2, "cause": "people", "probability": 0},
        "downtime": {"verdict": "impossible", "expected_hours": 2, "probability": 0},
    }  # fmt: skip
    wide = [{"id": "a", "estimate": [1, 2, 9]}]
    plan = brief_plan(plan_project(tasks=wide, start="2026-05-04"))["result"]
    assert plan["P50"] < plan["P80"] < plan["P95"]
    assert plan["slack_days"] == {}


def test_calls_are_judged_by_every_argument() -> None:
    (prompt,) = tool_call_prompts(SEED, 1, kinds=("plan_tasks",))

    def verdict(**changed: Any) -> tuple[bool, bool]:
        call = {"name": "plan_project", "arguments": {**prompt.expected["arguments"], **changed}}
        found = judge(prompt, f"<tool_call>{json.dumps(call)}</tool_call>")
        return found.right_tool, found.right

    assert verdict() == (True, True)
    assert verdict(runs=5_000) == (True, True)  # its default
    assert verdict(start="2031-01-01") == (True, False)
    assert verdict(tasks=prompt.expected["arguments"]["tasks"][1:]) == (True, False)
    assert verdict(speed=1) == (True, False)


def test_a_pattern_weighs_all_kinds_that_it_matches() -> None:
    found = checked_weights(1, {"planning": 1.0}, {"*": 0.0, "plan_*": 1.0, "plan_circle": 0.0})
    assert set(found) == set(KINDS) - {"plan_circle"}
    with pytest.raises(ConfigError, match=r"no kind matches 'plam_\*'"):
        checked_weights(1, None, {"plam_*": 1.0})
