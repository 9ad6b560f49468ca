"""Levelled schedules: order, capacity, days off, and who is named."""

from __future__ import annotations

import datetime

import numpy as np
import pytest
from hypothesis import given, settings
from planning_projects import START, drawn_projects, schedule

from lilith.planning.levelling import level
from lilith.planning.load import loads, moves, overloads
from lilith.planning.network import build_network, driving_chain, project_links, ready_at
from lilith.planning.project import PlanningError, Project
from lilith.planning.reading import read_project


@settings(max_examples=80, deadline=None)
@given(drawn_projects())
def test_no_task_before_its_predecessors_and_no_resource_over_capacity(project: Project):
    timeline, availability, network, path, levelled, durations = schedule(project)
    assert levelled.end >= path.end
    people = {own.id: own for own in project.resources}
    for task in project.tasks:
        start, finish = levelled.starts[task.id], levelled.finishes[task.id]
        assert start >= network.not_before.get(task.id, 0)
        for link in network.incoming[task.id]:
            assert start >= ready_at(link, levelled.starts, levelled.finishes)
        worked = range(start, finish)
        team = [people[name] for name, _ in levelled.teams[task.id]]
        there = [
            p for p in worked if all(o.works(timeline.date(p // timeline.slots)) for o in team)
        ]
        assert len(there) == durations[task.id]  # all of it is done, on days the team is there
        if there:
            assert (there[0], there[-1] + 1) == (start, finish)
            needed = {name for name, _ in task.resources}
            assert needed <= {own.id for own in team}
            for skill, _ in task.skills:
                assert any(skill in own.skills for own in team)
    load = loads(
        project.resources, levelled.starts, levelled.finishes, levelled.teams, timeline,
        availability, rest=True,
    )  # fmt: skip
    for own in load.values():
        assert (own.peak <= own.capacity + 1e-9).all()
        assert (own.mean <= own.peak + 1e-9).all()


@settings(max_examples=60, deadline=None)
@given(drawn_projects())
def test_dates_skip_weekends_and_holidays(project: Project):
    timeline, _, _, _, levelled, _ = schedule(project)
    for name, start in levelled.starts.items():
        finish = levelled.finishes[name]
        if finish > start:
            for day in (timeline.start_date(start), timeline.finish_date(finish)):
                assert day.weekday() < 5
                assert day not in project.calendar.holidays
        assert timeline.start_date(start) >= project.start


@settings(max_examples=60, deadline=None)
@given(drawn_projects())
def test_people_handed_on_keep_the_schedule(project: Project):
    timeline, availability, _network, path, levelled, durations = schedule(project)
    links = [*project_links(project, timeline), *levelled.links]
    handed = build_network(project, timeline, links)  # no circle
    for link in levelled.links:
        assert levelled.finishes[link.before] <= levelled.starts[link.after]
    # With these links and people without limit, nobody has too much to do.
    again = level(project, handed, path, durations, timeline, availability)
    assert all(again.starts[name] >= 0 for name in again.starts)
    for own in project.resources:
        users = [t for t, team in levelled.teams.items() if dict(team).get(own.id)]
        for first in users:
            for other in users:
                units = dict(levelled.teams[first])[own.id] + dict(levelled.teams[other])[own.id]
                if first < other and units > own.capacity:
                    assert _reaches(handed, first, other) or _reaches(handed, other, first)


@settings(max_examples=60, deadline=None)
@given(drawn_projects())
def test_the_chain_that_drives_the_finish_has_no_gap(project: Project):
    timeline, availability, network, _, levelled, durations = schedule(project)
    links = [*project_links(project, timeline), *levelled.links]
    handed = build_network(project, timeline, links)
    people = {own.id: own for own in project.resources}

    def begin(name, ready):
        team = [people[own] for own, _ in levelled.teams[name]]
        return availability.first_slot(team, ready) if durations[name] else ready

    chain = driving_chain(handed, levelled.starts, levelled.finishes, begin)
    assert levelled.finishes[chain[-1]] == levelled.end
    first = chain[0]
    assert levelled.starts[first] == begin(first, network.not_before.get(first, 0))


def _reaches(network, first, last):
    return first == last or any(
        link.kind == "FS" and _reaches(network, link.after, last)
        for link in network.outgoing[first]
    )


def two(**more):
    return read_project(
        [
            {"id": "a", "estimate": 3, "resources": ["Ann"]},
            {"id": "b", "estimate": 2, "resources": ["Ann"]},
            {"id": "c", "estimate": 1, "depends_on": ["a"]},
        ],
        START,
        resources=[{"id": "Ann", **more}],
    )


def test_who_is_overloaded_is_named_with_the_day_and_the_tasks():
    timeline, availability, _, path, levelled, _ = schedule(two())
    (found,) = overloads(two(), path, levelled, timeline, availability)
    assert (found.resource, found.days, found.peak, found.capacity) == ("Ann", 2, 2.0, 1.0)
    assert (found.first, found.last) == (START, START + datetime.timedelta(days=1))
    assert found.tasks == ("a", "b")
    assert (
        str(found) == "Ann is overloaded on 2 days, most on 2026-03-02 with 2 at once of 1 (a, b)"
    )
    assert moves(path, levelled, timeline) == [
        {"task": "b", "from": "2026-03-02", "to": "2026-03-05", "later_by_days": 3.0}
    ]


def test_a_day_off_is_an_overload_too_and_the_task_rests():
    project = two(capacity=2, holidays=["2026-03-03"])
    timeline, availability, _, path, levelled, _ = schedule(project)
    (found,) = overloads(project, path, levelled, timeline, availability)
    assert found.capacity == 0
    assert found.worst == datetime.date(2026, 3, 3)
    assert timeline.finish_date(levelled.finishes["a"]) == datetime.date(2026, 3, 5)
    load = loads(
        project.resources, levelled.starts, levelled.finishes, levelled.teams, timeline,
        availability, rest=True,
    )["Ann"]  # fmt: skip
    np.testing.assert_allclose(load.mean, [2, 0, 2, 1, 0])


def test_enough_people_move_nothing():
    project = two(capacity=2)
    timeline, availability, _, path, levelled, _ = schedule(project)
    assert overloads(project, path, levelled, timeline, availability) == []
    assert moves(path, levelled, timeline) == []


def test_skills_find_the_free_person_and_several_people():
    project = read_project(
        [
            {"id": "a", "estimate": 3, "resources": ["Ann"]},
            {"id": "b", "estimate": 3, "skills": ["sql"]},
            {"id": "c", "estimate": 2, "skills": ["sql", "sql"]},
            {"id": "d", "estimate": 1, "skills": ["sql", "ops"], "depends_on": ["c"]},
        ],
        START,
        resources=[{"id": "Ann", "skills": ["sql"]}, {"id": "Bob", "skills": ["sql", "ops"]}],
    )
    _, _, _, _, levelled, _ = schedule(project)
    assert levelled.teams["b"] == (("Bob", 1.0),)
    assert levelled.teams["c"] == (("Ann", 1.0), ("Bob", 1.0))
    assert levelled.teams["d"] == (("Bob", 1.0),)  # who brings both


def test_many_able_people_all_find_work():
    project = read_project(
        [{"id": f"t{i}", "estimate": 1, "skills": {"dig": 10}} for i in range(3)],
        START,
        resources=[{"id": f"p{i:02}", "skills": ["dig"]} for i in range(30)],
    )
    timeline, _, _, _, levelled, _ = schedule(project)
    assert levelled.end == timeline.slots
    assert len({name for team in levelled.teams.values() for name, _ in team}) == 30


def test_a_team_without_a_day_in_common_is_named():
    project = read_project(
        [{"id": "hand-over", "estimate": 1, "resources": ["Ann", "Bob"]}],
        START,
        resources=[
            {"id": "Ann", "working_days": ["mon"]},
            {"id": "Bob", "working_days": ["tue", "wed"]},
        ],
    )
    with pytest.raises(PlanningError, match=r"'hand-over' can never be done.*Ann, Bob") as caught:
        schedule(project)
    assert caught.value.code == "never_possible"
