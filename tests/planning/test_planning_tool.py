"""The tool ``plan_project``: its declaration, its answers, its errors."""

from __future__ import annotations

import json

from planning_projects import MIGRATION

from lilith.agent.planning_tool import plan_project
from lilith.planning import reading


def test_its_schema_is_that_of_what_is_read():
    schema = plan_project.schema()["function"]["parameters"]["properties"]
    task = schema["tasks"]["items"]["properties"]
    assert tuple(task) == reading.TASK_FIELDS
    for name, fields in (("resources", reading.RESOURCE_FIELDS), ("risks", reading.RISK_FIELDS)):
        assert set(schema[name]["items"]["properties"]) == set(fields)
    for name, fields in (
        ("calendar", reading.CALENDAR_FIELDS),
        ("constraints", reading.CONSTRAINT_FIELDS),
        ("progress", reading.PROGRESS_FIELDS),
    ):
        assert set(schema[name]["properties"]) == set(fields)
    json.dumps(schema)
    assert "tasks (list)" in plan_project.help()


def test_an_answer_and_the_same_answer_again():
    answer = plan_project(**MIGRATION, runs=1000)
    assert answer["ok"]
    assert answer["result"]["finish"] == "2026-04-24"
    assert answer["warnings"]
    assert answer["result"]["gantt_svg"].startswith("<svg")
    assert json.loads(json.dumps(answer, allow_nan=False)) == answer
    assert plan_project(**MIGRATION, runs=1000) == answer


def test_mistakes_are_answers():
    circle = [{"id": "a", "estimate": 1, "depends_on": ["b"]},
              {"id": "b", "estimate": 1, "depends_on": ["a"]}]  # fmt: skip
    error = plan_project(tasks=circle, start="2026-01-05")["error"]
    assert set(error) == {"code", "field", "message", "hint"}
    assert (error["code"], error["field"]) == ("dependency_cycle", "tasks")
    assert "a → b → a" in error["message"]
    for given, code in (
        ({"tasks": []}, "too_few_entries"),
        ({"tasks": circle, "resources": "Ann"}, "not_a_list"),
        ({"tasks": [{"id": "a", "estimate": "x"}]}, "wrong_type"),
        ({"tasks": circle, "runs": 5}, "out_of_range"),
        ({"tasks": circle, "people": []}, "unknown_argument"),
    ):
        answer = plan_project(**{"start": "2026-01-05", **given})
        assert not answer["ok"]
        assert answer["error"]["code"] == code


def test_a_thousand_tasks():
    tasks = [
        {"id": f"t{i}", "estimate": [1, 2, 4], "resources": [f"p{i % 20}"],
         "depends_on": [f"t{j}" for j in {i // 2, i - 7} if 0 <= j < i]}
        for i in range(1000)
    ]  # fmt: skip
    answer = plan_project(
        tasks=tasks, start="2026-01-05", resources=[{"id": f"p{k}"} for k in range(20)], runs=1024
    )
    assert answer["ok"]
    assert len(answer["result"]["schedule"]) == 1000
