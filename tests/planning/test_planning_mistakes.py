"""What can not be planned: one clear sentence each, with a code, the field and a hint."""

from __future__ import annotations

import datetime
import math

import pytest
from planning_projects import START

from lilith.planning.network import build_network, project_links
from lilith.planning.plan import plan_project
from lilith.planning.project import Calendar, PlanningError
from lilith.planning.reading import read_project
from lilith.planning.timeline import Timeline

A = {"id": "a", "estimate": [1, 2, 3]}
ANN = {"id": "Ann", "skills": ["sql"]}
CASES = [
    ({"tasks": []}, "no_tasks", "has no tasks"),
    ({"tasks": "a"}, "wrong_type", "tasks must be a list, and 'a' is a str"),
    ({"tasks": [7]}, "wrong_type", "task 1 must be an object"),
    ({"tasks": [{"estimate": 1}]}, "missing_field", "task 1 has no id"),
    ({"tasks": [{"id": "a"}]}, "missing_field", "task 'a' has no estimate"),
    ({"tasks": [{"id": " ", "estimate": 1}]}, "empty_id", "empty id"),
    ({"tasks": [A, A]}, "duplicate_id", "2 tasks have the id 'a'"),
    ({"tasks": [{**A, "estimate": [-1, 2, 3]}]}, "out_of_range", "optimistic .* 'a' is -1"),
    ({"tasks": [{**A, "estimate": [3, 2, 1]}]}, "unordered_estimate", "'a' are 3, 2, 1"),
    ({"tasks": [{**A, "estimate": [1, math.nan, 3]}]}, "not_finite", "likely .* 'a' is nan"),
    ({"tasks": [{**A, "estimate": [1, 2, math.inf]}]}, "not_finite", "pessimistic .* is inf"),
    ({"tasks": [{**A, "estimate": 1e300}]}, "out_of_range", "is 1e\\+300 and must be at most"),
    ({"tasks": [{**A, "estimate": 10**400}]}, "not_finite", "is inf"),
    ({"tasks": [{**A, "estimate": [1, 2]}]}, "wrong_count", "has 2 numbers and needs 3"),
    ({"tasks": [{**A, "estimate": "two"}]}, "wrong_type", "must be a number, and 'two'"),
    ({"tasks": [{**A, "estimate": True}]}, "wrong_type", "must be a number"),
    ({"tasks": [{**A, "depend_on": []}]}, "unknown_field", "did you mean 'depends_on'"),
    ({"tasks": [{**A, "depends_on": ["b"]}]}, "unknown_task", "'a' depends on 'b', which is not"),
    ({"tasks": [{**A, "depends_on": ["a"]}]}, "dependency_cycle", "a → a"),
    ({"tasks": [A, {**A, "id": "b", "depends_on": [{"task": "a", "lag": -1}]}]}, "out_of_range",
     "the lag of task 'b' after 'a' is -1"),
    ({"tasks": [A, {**A, "id": "b", "depends_on": [{"task": "a", "kind": "FF"}]}]},
     "unknown_kind", "by 'FF'"),
    ({"tasks": [{**A, "resources": ["Anna"]}]}, "unknown_resource", "did you mean 'Ann'"),
    ({"tasks": [{**A, "resources": {"Ann": 2}}]}, "never_possible", "needs 2 of 'Ann' at once"),
    ({"tasks": [{**A, "resources": {"Ann": 0}}]}, "out_of_range", "needs 0 of 'Ann'"),
    ({"tasks": [{**A, "skills": ["rust"]}]}, "missing_skill", "'rust', which nobody has"),
    ({"tasks": [{**A, "skills": {"sql": 2}}]}, "missing_skill", "which only 1 can bring at a time"),
    ({"tasks": [{**A, "skills": ["sql"]}], "resources": [{**ANN, "capacity": 0.5}]},
     "missing_skill", "which only 0 can bring"),
    ({"tasks": [{**A, "skills": {"sql": 0.5}}]}, "not_an_integer", "0.5, not a whole number"),
    ({"tasks": [{**A, "not_before": "soon"}]}, "not_a_date", "not_before of task 'a' is 'soon'"),
    ({"resources": [ANN, ANN]}, "duplicate_id", "2 resources have the id 'Ann'"),
    ({"resources": [{**ANN, "capacity": 0}]}, "out_of_range", "capacity of 'Ann' is 0"),
    ({"resources": [{**ANN, "holidays": ["2026-02-30"]}]}, "not_a_date", "'2026-02-30'"),
    ({"start": "tomorrow"}, "not_a_date", "start is 'tomorrow', which is not a date"),
    ({"start": 20260302}, "wrong_type", "start must be text"),
    ({"unit": "weeks"}, "unknown_choice", "unit is 'weeks'"),
    ({"calendar": {"working_days": []}}, "no_working_days", "has no working days"),
    ({"calendar": {"working_days": ["funday"]}}, "unknown_weekday", "'funday'"),
    ({"calendar": {"hours_per_day": 25}}, "out_of_range", "hours_per_day is 25"),
    ({"calendar": {"hours_per_day": 0}}, "out_of_range", "hours_per_day is 0"),
    ({"constraints": {"deadline": "2026-03-01"}}, "before_start",
     "deadline 2026-03-01 lies before the start 2026-03-02"),
    ({"constraints": {"max_downtime_hours": -1}}, "out_of_range", "downtime limit is -1"),
    ({"constraints": {"must_follow": [["a"]]}}, "wrong_count", "an entry with 1 tasks"),
    ({"constraints": {"must_follow": [["a", "z"]]}}, "unknown_task", "must_follow names 'z'"),
    ({"risks": [{"name": "r", "probability": 30, "impact": 2}]}, "out_of_range", "'r' is 30"),
    ({"risks": [{"name": "r", "probability": 0.3, "impact": 6}]}, "out_of_range", "is 6"),
    ({"risks": [{"name": "r", "probability": 0.3, "impact": 1, "delay": 2}]}, "missing_tasks",
     "names no tasks"),
    ({"progress": {"as_of": "2026-03-03", "done": {"a": 1.5}}}, "out_of_range", "1.5 of task 'a'"),
    ({"progress": {"as_of": "2026-02-03"}}, "before_start", "lies before the start"),
    ({"progress": {"as_of": "2026-03-03", "done": {"q": 1}}}, "unknown_task", "'q'"),
    ({"tasks": [{"id": f"t{i}", "estimate": 1} for i in range(2001)]}, "too_many_tasks", "2001"),
]  # fmt: skip


def ordered(**whole):
    project = read_project(**whole)
    timeline = Timeline(project.calendar, project.start)
    return build_network(project, timeline, project_links(project, timeline))


@pytest.mark.parametrize(("given", "code", "words"), CASES, ids=[str(c[1]) for c in CASES])
def test_mistakes_are_named(given, code, words):
    whole = {"tasks": [A], "start": "2026-03-02", "resources": [ANN], **given}
    with pytest.raises(PlanningError, match=words) as caught:
        ordered(**whole)
    error = caught.value
    assert error.code == code
    assert error.hint
    assert error.field in {*whole, "calendar", None}
    assert str(error) == f"{error.message}; {error.hint}"
    assert "\n" not in str(error)


def test_a_plan_longer_than_anyone_plans_is_refused():
    project = read_project([{"id": "a", "estimate": 1e7}], START)
    with pytest.raises(PlanningError, match="longer than 40,000 working days"):
        plan_project(project)


def test_holidays_without_end_are_refused():
    every = [START + datetime.timedelta(days=i) for i in range(366 * 21)]
    with pytest.raises(PlanningError, match="no working day comes after"):
        Timeline(Calendar(holidays=frozenset(every)), START).date(0)


@pytest.mark.parametrize(
    "given", [{"runs": 1}, {"runs": 10**6}, {"seed": -1}, {"sprint_days": 0},
              {"distribution": "normal"}],
)  # fmt: skip
def test_options_out_of_range(given):
    with pytest.raises(PlanningError, match=f"{next(iter(given))} is ") as caught:
        plan_project(read_project([A], START), **given)
    assert caught.value.field == next(iter(given))
