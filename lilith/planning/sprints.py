"""A levelled schedule cut into sprints: what each holds, and how full it is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from lilith.planning.levelling import Levelled
from lilith.planning.load import Load
from lilith.planning.project import Project
from lilith.planning.timeline import Availability, Timeline


def sprints(
    project: Project,
    levelled: Levelled,
    load: Mapping[str, Load],
    timeline: Timeline,
    availability: Availability,
    *,
    days: int,
) -> list[dict[str, Any]]:
    """Sprints of ``days`` working days, in which tasks are split where a sprint ends.

    Nobody works more in a sprint than the days they have in it, as the schedule is levelled.
    Capacity and load are in person-days; without resources there is no capacity and the load is in
    task-days.
    """
    slots = timeline.slots
    length = days * slots
    count = max(1, -(-levelled.end // length))
    people = {own.id: own for own in project.resources}
    parts: list[list[dict[str, Any]]] = [[] for _ in range(count)]
    work = np.zeros(count)
    for task in project.tasks:
        start, finish = levelled.starts[task.id], levelled.finishes[task.id]
        if start == finish:
            at = max(finish - 1, 0) // length
            parts[at].append({"task": task.id, "days": 0.0, "share": 1.0, "finishes": True})
            continue
        team = [people[name] for name, _ in levelled.teams[task.id]]
        used = np.arange(start, finish)
        used = used[availability.days(team, finish // slots + 1)[used // slots]]
        inside = np.bincount(used // length, minlength=count)
        work += inside / slots
        for at in np.flatnonzero(inside).tolist():
            parts[at].append({
                "task": task.id,
                "days": round(inside[at] / slots, 4),
                "share": round(inside[at] / len(used), 4),
                "finishes": bool(at == (finish - 1) // length),
            })  # fmt: skip
    found = []
    for i, own in enumerate(parts):
        first, last = i * days, (i + 1) * days
        capacity = {
            person.id: person.capacity * int(availability.days([person], last)[first:last].sum())
            for person in project.resources
        }
        loads = {name: round(float(one.mean[first:last].sum()), 4) for name, one in load.items()}
        found.append({
            "sprint": i + 1,
            "from": timeline.date(first).isoformat(),
            "to": timeline.date(last - 1).isoformat(),
            "capacity": sum(capacity.values()) if capacity else None,
            "load": round(sum(loads.values()) if loads else float(work[i]), 4),
            "people": {
                name: {"capacity": capacity[name], "load": loads[name]} for name in capacity
            },
            "tasks": own,
        })  # fmt: skip
    return found
