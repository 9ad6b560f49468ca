"""Whole plans: limits that do not hold, risks, sprints, figures, the chart, and the JSON."""

from __future__ import annotations

import datetime
import json
import re
import xml.etree.ElementTree as ElementTree
from typing import Any

import pytest
from planning_projects import MIGRATION, START

from lilith.data.instructions import planning_math
from lilith.planning import Plan, PlanningError, plan_project, read_project
from lilith.planning.gantt import MOST_ROWS, Bar, Mark, gantt
from lilith.planning.kpis import indices
from lilith.planning.project import Calendar, Risk
from lilith.planning.risks import probability_level, risk_band, risk_register


def make(**changes: Any) -> Plan:
    given = {**MIGRATION, **changes}
    return plan_project(
        read_project(given.pop("tasks"), given.pop("start"), **given), runs=1024, sprint_days=10
    )


@pytest.fixture(scope="module")
def plan() -> Plan:
    return make()


def test_the_plan_is_json(plan):
    told = plan.to_json()
    assert json.loads(json.dumps(told, allow_nan=False)) == told
    assert next(row["task"] for row in told["schedule"]) == "inventory"
    assert told["finish"] == told["schedule"][-1]["finish"] == plan.finish.isoformat()
    assert told["critical_path"][0] == "inventory"
    assert told["critical_path"][-1] == "done"
    assert told["resources"][0]["resource"] == "Ann"
    assert told["gantt_svg"].startswith("<svg")
    levels = [told["forecast"]["percentiles"][f"P{level}"] for level in (50, 80, 95)]
    assert levels == sorted(levels, key=lambda own: own["days"])
    assert [own["date"] for own in levels] == sorted(own["date"] for own in levels)
    assert plan.to_json(chart=False)["gantt_svg"] is None


def test_the_plan_is_a_page(plan):
    page = plan.to_markdown()
    assert page.startswith("# Cloud migration\n\n2026-01-05 to 2026-04-24")
    for text in (
        "| Inventory of systems | 2026-01-05 | 2026-01-15 | 8.5 | 0 | yes | Ann |",
        "Critical path: Inventory of systems → Target architecture",
        "| P80 |",
        "| 3 possible |  |  |  | Replication lag |  |",
        "Before levelling Ann is overloaded",
    ):
        assert text in page
    for table in re.findall(r"(?:^\|.*\n)+", page, re.MULTILINE):
        assert len({len(re.findall(r"(?<!\\)\|", row)) for row in table.splitlines()}) == 1
    evil = make(tasks=[{"id": "a|b", "name": "<b>x</b> | \n# y", "estimate": 1}], risks=[])
    assert "&lt;b>x&lt;/b> \\| # y" in evil.to_markdown()


def test_overloaded_people_and_what_levelling_does_are_said(plan):
    assert "Before levelling Ann is overloaded on" in plan.warnings[0]
    assert "(database, services)" in plan.warnings[0]
    moved = next(own for own in plan.warnings if own.startswith("Levelling moves"))
    assert re.search(r"6 tasks \(database, services, .* from 2026-03-26 to 2026-04-24", moved)
    told = plan.to_json()
    assert told["levelling"]["finish_before"] == "2026-03-26"
    assert {own["resource"] for own in told["overloaded"]} >= {"Ann"}
    # Ann's week off and the holidays stay empty.
    days = [(own["from"], own["to"]) for own in told["resources"][0]["load"]]
    assert not any(first <= "2026-02-18" <= last for first, last in days)


@pytest.mark.parametrize(
    ("deadline", "verdict", "cause"),
    [
        ("2026-07-03", "held", None),
        ("2026-04-10", "late", "people"),
        ("2026-03-20", "late", "critical path"),
        ("2026-02-20", "impossible", "critical path"),
    ],
)
def test_deadlines(deadline, verdict, cause):
    plan = make(constraints={"deadline": deadline})
    found = plan.to_json()["deadline"]
    assert (found["verdict"], found["cause"]) == (verdict, cause)
    assert found["sentence"].startswith(f"The deadline {deadline}")
    assert (found["sentence"] in plan.warnings) == (verdict != "held")
    if verdict == "held":
        assert found["probability"] > 0.99
        assert found["late_by_days"] == 0
        assert not found["can_shrink"]
        return
    last = plan.timeline.days_through(datetime.date.fromisoformat(deadline))
    assert found["late_by_days"] == pytest.approx(plan.levelled.end / 48 - last)
    assert found["must_shrink_days"] == found["late_by_days"]
    assert found["probability"] < 0.5
    saves = [own["saves_days"] for own in found["can_shrink"]]
    assert saves == sorted(saves, reverse=True)
    assert saves
    assert {own["task"] for own in found["can_shrink"]} <= set(plan.chain)
    assert ("with enough people" in found["sentence"]) == (cause == "people")
    if verdict == "impossible":
        assert found["optimistic_finish"] > deadline
        assert found["probability"] == 0


def test_downtime():
    held = make().to_json()["downtime"]
    assert held["verdict"] == "held"
    assert held["expected_hours"] == pytest.approx(0.6333, abs=1e-4)
    over = make(constraints={"max_downtime_hours": 0.5})
    assert over.downtime.verdict == "late"
    assert "comes from cutover" in over.warnings[0]
    assert make(constraints={"max_downtime_hours": 0.2}).downtime.verdict == "impossible"


def test_risk_matrix(plan):
    found = plan.risks
    assert found["matrix"][5 - 3][4 - 1] == ["Replication lag"]  # 40% is level 3
    assert found["matrix"][5 - 2][5 - 1] == ["Key person leaves"]
    assert sum(len(cell) for row in found["matrix"] for cell in row) == 2
    assert [row["band"] for row in found["risks"]] == ["high", "high"]
    assert found["exposure_days"] == pytest.approx(0.4 * 8 + 0.25 * 15)
    assert found["gaps"] == ["Key person leaves is high and has no mitigation and no owner and no "
                             "trigger"]  # fmt: skip
    assert f"Risk: {found['gaps'][0]}." in plan.warnings
    assert [probability_level(p) for p in (0, 0.1, 0.11, 0.3, 0.5, 0.7, 0.71, 1)] == [
        1, 1, 2, 2, 3, 4, 5, 5,
    ]  # fmt: skip
    assert [risk_band(score) for score in (1, 4, 5, 9, 10, 14, 15, 25)] == [
        "low", "low", "medium", "medium", "high", "high", "critical", "critical",
    ]  # fmt: skip
    assert risk_register([Risk("r", 0.05, 1)])["gaps"] == []


def test_sprints_hold_all_work_within_capacity(plan):
    share: dict[str, float] = {}
    for sprint in plan.sprints:
        assert sprint["load"] <= sprint["capacity"]
        for own in sprint["people"].values():
            assert own["load"] <= own["capacity"] + 1e-9
        for part in sprint["tasks"]:
            share[part["task"]] = share.get(part["task"], 0.0) + part["share"]
    assert share == pytest.approx(dict.fromkeys(plan.path.times, 1.0), abs=1e-3)
    assert plan.sprints[0]["from"] == "2026-01-05"
    assert plan.sprints[0]["to"] == "2026-01-16"
    finished = [part["task"] for s in plan.sprints for part in s["tasks"] if part["finishes"]]
    assert sorted(finished) == sorted(plan.path.times)
    assert plan.sprints[3]["people"]["Ann"]["capacity"] == 5  # her week off


def test_kpis(plan):
    found = plan.kpis
    assert found["tasks"] == 10
    assert found["length_days"] == plan.levelled.end / 48
    assert found["critical_share"] == 0.8
    assert found["effort_person_days"] == pytest.approx(8.5 + 11 + 10.1667 + 8.1667 + 13.5
                                                        + 2 * 15.8333 + 4.5 + 3 * 1.1667 + 5.6667,
                                                        abs=1e-3)  # fmt: skip
    assert found["levelling_delay_days"] == pytest.approx(18.5)
    assert all(0 < share <= 1 for share in found["utilisation"].values())
    assert found["buffer_to_p80_days"] == pytest.approx(
        plan.forecast.percentiles[80] - found["length_days"], abs=1e-4
    )


def test_earned_value_of_a_textbook_and_of_a_project():
    theirs = planning_math.earned_value(1000, 500, 400, 450)
    found = indices(1000, 500, 400, 450)
    for name, other in (("SV", "schedule_variance"), ("CV", "cost_variance"), ("SPI", "spi"),
                        ("CPI", "cpi"), ("EAC", "eac"), ("VAC", "vac")):  # fmt: skip
        assert found[name] == pytest.approx(float(theirs[other]))
    assert found["ETC"] == pytest.approx(found["EAC"] - 450)
    assert found["TCPI"] == pytest.approx(600 / 550)
    assert indices(10, 0, 0, 0)["CPI"] is None
    assert indices(10, 0, 0, None)["AC"] is None
    tasks = [
        {"id": "a", "estimate": 4, "cost": 400},
        {"id": "b", "estimate": 4, "cost": 800, "depends_on": ["a"]},
    ]
    progress = {"as_of": "2026-03-06", "done": {"a": 1, "b": 0.125}, "spent": {"a": 500, "b": 100}}
    value = plan_project(read_project(tasks, START, progress=progress), runs=100).earned_value
    assert (value["unit"], value["BAC"], value["PV"], value["EV"], value["AC"]) == (
        "money", 1200, 600, 500, 600,
    )  # fmt: skip
    assert value["behind"] == [{"task": "b", "planned": 0.25, "done": 0.125}]
    tasks[0].pop("cost")
    with pytest.raises(PlanningError, match="'a' has no cost and 'b' has one"):
        plan_project(read_project(tasks, START, progress=progress), runs=100)


def test_the_chart_is_xml_with_a_name_and_all_rows(plan):
    chart = plan.gantt_svg()
    root = ElementTree.fromstring(chart)
    space = "{http://www.w3.org/2000/svg}"
    ids = {own.get("id"): own.text for own in root.iter() if own.get("id")}
    assert next(ids[name] for name in root.get("aria-labelledby").split()) == (
        "Gantt chart of Cloud migration"
    )
    bars = list(root.iter(f"{space}g"))
    assert len(bars) == 10
    assert "Ann" in bars[0].find(f"{space}title").text
    kinds = [own.get("class") for group in bars for own in group.iter(f"{space}rect")]
    assert (kinds.count("lg-critical"), kinds.count("lg-people"), kinds.count("lg-plain")) == (
        7,
        1,
        1,
    )
    texts = " ".join(own.text or "" for own in root.iter(f"{space}text"))
    for text in ("critical path", "milestone", "no work", "deadline 3 Jul 2026", "P80"):
        assert text in texts
    for own in root.iter(f"{space}rect"):
        if own.get("x", "").endswith("%"):
            left, width = float(own.get("x")[:-1]), float(own.get("width")[:-1])
            assert 0 <= left <= left + width <= 100.31


def test_the_chart_shades_weekends_escapes_names_and_stops_somewhere():
    name = '<script>alert("x")</script>\x00'
    bar = Bar(name, 0.0, 5.0, START, START + datetime.timedelta(days=4), "plain", "A & B")
    mark = Mark("deadline", START + datetime.timedelta(days=13))
    chart = gantt(name, [bar] * (MOST_ROWS + 7), [mark], Calendar())
    assert "<script" not in chart
    assert "and 7 more tasks" in chart
    root = ElementTree.fromstring(chart)
    off = [own for own in root.iter() if own.get("class") == "lg-off" and "%" in own.get("x", "")]
    assert [own.get("x") for own in off] == ["35.714%", "85.714%"]  # two weekends in 14 days
    for days in (1, 40, 300, 2000):
        long = bar._replace(finish=float(days), last=START + datetime.timedelta(days=days - 1))
        ElementTree.fromstring(gantt("long", [long], [], Calendar()))


def test_no_resources_and_only_milestones():
    plan = plan_project(read_project([{"id": "go", "estimate": 0}], START), runs=100)
    told = plan.to_json()
    assert told["finish"] == "2026-03-02"
    assert told["length_days"] == 0
    assert told["sprints"][0]["capacity"] is None
    assert told["kpis"]["mean_utilisation"] is None
    json.dumps(told, allow_nan=False)


def test_a_start_on_a_weekend_and_a_first_day():
    plan = plan_project(
        read_project(
            [{"id": "a", "estimate": 1}, {"id": "gate", "estimate": 0, "depends_on": ["a"],
                                          "not_before": "2026-03-11"}],
            "2026-02-28",
        ),
        runs=100,
    )  # fmt: skip
    rows = {row["task"]: row for row in plan.rows()}
    assert rows["a"]["start"] == "2026-03-02"
    assert rows["gate"]["finish"] == "2026-03-11"
