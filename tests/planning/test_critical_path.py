"""The critical path method: textbooks, an independent implementation, and every path by hand."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from planning_projects import START, drawn_projects, schedule
from planning_textbook import (
    MILWAUKEE,
    MILWAUKEE_TIMES,
    RELIABLE,
    RELIABLE_MEANS,
    RELIABLE_PATH,
    RELIABLE_SLACK,
    entries,
)

from lilith.data.instructions import planning_math
from lilith.planning.network import Network, build_network, critical_path, project_links
from lilith.planning.project import PlanningError, Project
from lilith.planning.reading import read_project
from lilith.planning.timeline import Timeline


def test_hillier_and_lieberman_reliable_construction():
    project = read_project(entries(RELIABLE), START)
    timeline, _, _, path, _, _ = schedule(project)
    means = {task.id: task.estimate.mean for task in project.tasks}
    assert means == pytest.approx(RELIABLE_MEANS)
    assert path.end == 44 * timeline.slots
    assert "".join(path.path) == RELIABLE_PATH
    assert set(path.critical) == set(RELIABLE_PATH)
    slack = {name: own.total_slack / timeline.slots for name, own in path.times.items()}
    assert slack == RELIABLE_SLACK
    variance = sum(task.estimate.deviation**2 for task in project.tasks if task.id in RELIABLE_PATH)
    assert variance == pytest.approx(9)


def test_heizer_and_render_milwaukee_paper():
    timeline, _, _, path, _, _ = schedule(read_project(entries(MILWAUKEE), START))
    found = {
        name: tuple(position / timeline.slots for position in own[:4])
        for name, own in path.times.items()
    }
    assert found == MILWAUKEE_TIMES
    assert path.path == tuple("ACEGH")
    assert path.times["F"].free_slack == 6 * timeline.slots  # alone before H
    assert path.times["B"].free_slack == 0  # D starts as soon as B is done


def chains(network: Network, durations: dict[str, int]) -> Iterator[tuple[int, tuple[str, ...]]]:
    """Every path through the network, with its length from the start of the project."""

    def onwards(name: str, start: int, seen: tuple[str, ...]) -> Iterator[tuple[int, tuple]]:
        yield start + durations[name], (*seen, name)
        for link in network.outgoing[name]:
            leaves = start + link.lag + (durations[name] if link.kind == "FS" else 0)
            yield from onwards(link.after, leaves, (*seen, name))

    for name in network.order:
        yield from onwards(name, network.not_before.get(name, 0), ())


@settings(max_examples=60, deadline=None)
@given(drawn_projects())
def test_the_critical_path_is_the_longest_of_all_paths(project: Project):
    _, _, network, path, _, durations = schedule(project)
    every = list(chains(network, durations))
    longest = max(length for length, _ in every)
    assert path.end == longest
    assert path.path in {names for length, names in every if length == longest}
    on_longest = {name for length, names in every if length == longest for name in names}
    assert set(path.path) <= set(path.critical)
    slackless = {name for name in on_longest if path.times[name].total_slack == 0}
    assert slackless == on_longest  # the slack of critical tasks is zero


@settings(max_examples=60, deadline=None)
@given(drawn_projects())
def test_slack_may_be_used_and_no_more(project: Project):
    _, _, network, path, _, durations = schedule(project)
    for name, own in path.times.items():
        assert 0 <= own.free_slack <= own.total_slack
        if own.total_slack:
            later = Network(
                network.order,
                {**network.not_before, name: own.early_start + own.total_slack},
                network.incoming,
                network.outgoing,
            )
            assert critical_path(later, durations).end == path.end
            later.not_before[name] += 1
            assert critical_path(later, durations).end == path.end + 1
        followers = {link.after for link in network.outgoing[name]}
        moved = {**network.not_before, name: own.early_start + own.free_slack}
        again = critical_path(
            Network(network.order, moved, network.incoming, network.outgoing), durations
        )
        assert all(again.times[f].early_start == path.times[f].early_start for f in followers)


def test_agrees_with_the_schedules_of_the_training_data():
    table = {
        "a": (3, ""),
        "b": (2, "a"),
        "c": (4, "a"),
        "d": (1, "bc"),
        "e": (6, "b"),
        "f": (0, "de"),
    }
    theirs = planning_math.schedule(
        [planning_math.Task(name, days, tuple(after)) for name, (days, after) in table.items()]
    )
    project = read_project(
        [{"id": n, "estimate": d, "depends_on": list(after)} for n, (d, after) in table.items()],
        START,
    )
    timeline, _, _, path, _, _ = schedule(project)
    for name, own in path.times.items():
        assert tuple(value / timeline.slots for value in own) == (
            theirs[name].start, theirs[name].finish, theirs[name].latest_start,
            theirs[name].latest_finish, theirs[name].slack, theirs[name].free,
        )  # fmt: skip


def test_a_circle_is_named_in_its_order():
    project = read_project(
        [
            {"id": "free", "estimate": 1},
            {"id": "a", "estimate": 1, "depends_on": ["c", "free"]},
            {"id": "b", "estimate": 1, "depends_on": ["a"]},
            {"id": "c", "estimate": 1, "must_follow": ["b"]},
        ],
        START,
    )
    timeline = Timeline(project.calendar, project.start)
    with pytest.raises(PlanningError, match="a → b → c → a") as caught:
        build_network(project, timeline, project_links(project, timeline))
    assert caught.value.code == "dependency_cycle"
    assert "free" not in caught.value.message


def test_must_follow_of_the_constraints_is_a_link():
    project = read_project(
        [{"id": "a", "estimate": 2}, {"id": "b", "estimate": 3}],
        START,
        constraints={"must_follow": [["b", "a"]]},
    )
    timeline, _, _, path, _, _ = schedule(project)
    assert path.path == ("b", "a")
    assert path.end == 5 * timeline.slots
