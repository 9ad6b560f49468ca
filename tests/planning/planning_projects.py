"""Projects for the tests: drawn ones, and one with people, holidays, limits and risks."""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from typing import Any

from hypothesis import strategies as st

from lilith.planning.levelling import Levelled, level
from lilith.planning.network import CriticalPath, Network, build_network, critical_path
from lilith.planning.network import project_links as links_of
from lilith.planning.project import (
    Calendar,
    Dependency,
    Estimate,
    Project,
    Resource,
    Task,
)
from lilith.planning.timeline import Availability, Timeline

START = datetime.date(2026, 3, 2)  # a Monday


@st.composite
def drawn_projects(draw: st.DrawFn) -> Project:
    """Up to nine tasks with lags, both kinds of links, people, skills, days off and first days."""
    near = st.integers(0, 25).map(lambda days: START + datetime.timedelta(days=days))
    people = tuple(
        Resource(
            f"p{i}",
            float(draw(st.sampled_from((1, 1, 2, 1.5)))),
            frozenset(draw(st.sets(st.sampled_from(("sql", "ops"))))) | {"any"},
            draw(st.sampled_from((tuple(range(7)), (0, 1, 2), (1, 4)))),
            frozenset(draw(st.sets(near, max_size=4))),
        )
        for i in range(3)
    )
    able = {skill for own in people for skill in own.skills}
    tasks = []
    for i in range(draw(st.integers(1, 9))):
        points = sorted(draw(st.lists(st.integers(0, 40), min_size=3, max_size=3)))
        before = draw(st.sets(st.integers(0, i - 1), max_size=3)) if i else set()
        # Only one pattern of working days a team, so that every team has a day in common.
        chosen = draw(st.sampled_from(people)) if draw(st.booleans()) else None
        tasks.append(
            Task(
                f"t{i}",
                f"Task {i}",
                Estimate(*(point / 8 for point in points)),
                tuple(
                    Dependency(
                        f"t{j}",
                        draw(st.sampled_from(("FS", "FS", "SS"))),
                        draw(st.sampled_from((0.0, 0.0, 0.5, 2.0))),
                    )
                    for j in sorted(before)
                ),
                resources=((chosen.id, min(1.0, chosen.capacity)),) if chosen else (),
                skills=()
                if chosen or draw(st.booleans())
                else ((draw(st.sampled_from(sorted(able))), 1),),
                not_before=draw(st.one_of(st.none(), near)),
            )
        )
    holidays = draw(st.sets(near, max_size=4))
    return Project(
        tuple(tasks), START, resources=people, calendar=Calendar(holidays=frozenset(holidays))
    )


def schedule(
    project: Project,
) -> tuple[Timeline, Availability, Network, CriticalPath, Levelled, Mapping[str, int]]:
    """All that comes before the simulation, which takes most of the time of a plan."""
    timeline = Timeline(project.calendar, project.start)
    availability = Availability(timeline)
    network = build_network(project, timeline, links_of(project, timeline))
    durations = {task.id: timeline.to_slots(task.estimate.mean) for task in project.tasks}
    path = critical_path(network, durations)
    levelled = level(project, network, path, durations, timeline, availability)
    return timeline, availability, network, path, levelled, durations


# Three engineers move an infrastructure into the cloud: a week off, holidays, and both limits.
MIGRATION: dict[str, Any] = {
    "name": "Cloud migration",
    "start": "2026-01-05",
    "tasks": [
        {"id": "inventory", "name": "Inventory of systems", "estimate": [5, 8, 14],
         "skills": ["cloud"]},
        {"id": "design", "name": "Target architecture", "estimate": [8, 10, 18],
         "depends_on": ["inventory"], "resources": {"Ann": 1}},
        {"id": "network", "name": "Network and identity", "estimate": [6, 10, 15],
         "depends_on": ["design"], "skills": ["cloud"]},
        {"id": "pipeline", "name": "Deployment pipeline", "estimate": [5, 8, 12],
         "depends_on": ["design"], "skills": ["devops"]},
        {"id": "database", "name": "Database replication", "estimate": [8, 12, 25],
         "depends_on": ["network"], "resources": ["Ann"]},
        {"id": "services", "name": "Move stateless services", "estimate": [10, 15, 25],
         "depends_on": ["network", "pipeline"], "resources": ["Ann", "Cem"]},
        {"id": "rehearsal", "name": "Cut-over rehearsal", "estimate": [3, 4, 8],
         "depends_on": ["database", "services"], "skills": ["devops"]},
        {"id": "cutover", "name": "Cut-over", "estimate": [1, 1, 2],
         "depends_on": [{"task": "rehearsal", "lag": 2}], "resources": ["Ann", "Bea", "Cem"],
         "downtime_hours": [0.3, 0.5, 1.5]},
        {"id": "decommission", "name": "Decommission the old site", "estimate": [4, 5, 10],
         "depends_on": ["cutover"], "skills": ["devops"]},
        {"id": "done", "name": "Migration done", "estimate": 0, "depends_on": ["decommission"]},
    ],
    "resources": [
        {"id": "Ann", "skills": ["cloud", "database"],
         "holidays": [f"2026-02-{day}" for day in range(16, 21)]},
        {"id": "Bea", "skills": ["cloud", "devops"]},
        {"id": "Cem", "skills": ["devops"]},
    ],
    "calendar": {"holidays": ["2026-04-03", "2026-04-06", "2026-05-01"]},
    "constraints": {"deadline": "2026-07-03", "max_downtime_hours": 1},
    "risks": [
        {"name": "Replication lag", "probability": 0.4, "impact": 4, "tasks": ["database"],
         "delay": 8, "mitigation": "rehearse with a copy", "owner": "Ann",
         "trigger": "lag over five minutes"},
        {"name": "Key person leaves", "probability": 0.25, "impact": 5, "tasks": ["services"],
         "delay": 15},
    ],
}  # fmt: skip
