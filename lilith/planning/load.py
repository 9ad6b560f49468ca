"""Who works how much on which day, who is overloaded before levelling, and what levelling moves."""

from __future__ import annotations

import datetime
import itertools
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from lilith.planning.levelling import Levelled, Team
from lilith.planning.network import CriticalPath
from lilith.planning.project import Project, Resource
from lilith.planning.timeline import Availability, Timeline

_ROUNDING = 1e-6  # of units


class Load(NamedTuple):
    """Units of one resource over the days of a schedule.

    Attributes:
      mean, peak: [days], over the day, and at its busiest moment; capacity: [days], 0 when away.
    """

    mean: np.ndarray
    peak: np.ndarray
    capacity: np.ndarray


class Overload(NamedTuple):
    """A resource that the earliest start of every task would overload.

    Attributes:
      days: how many; worst: the day on which ``peak`` units are asked for and ``capacity`` are
        there; tasks: what is to be done then.
    """

    resource: str
    days: int
    first: datetime.date
    last: datetime.date
    worst: datetime.date
    peak: float
    capacity: float
    tasks: tuple[str, ...]

    def __str__(self) -> str:
        days = "1 day" if self.days == 1 else f"{self.days} days"
        there = f"of {self.capacity:g}" if self.capacity else "on a day off"
        most = f"{self.worst} with {self.peak:g} at once {there}"
        return f"{self.resource} is overloaded on {days}, most on {most} ({', '.join(self.tasks)})"


def loads(
    resources: Sequence[Resource],
    starts: Mapping[str, int],
    finishes: Mapping[str, int],
    teams: Mapping[str, Team],
    timeline: Timeline,
    availability: Availability,
    *,
    rest: bool,
) -> dict[str, Load]:
    """The load of every resource, day by day.

    Args:
      rest: whether a task rests on days on which one of its team is away.
    """
    slots = timeline.slots
    days = -(-max(finishes.values()) // slots)
    used = {own.id: np.zeros(days * slots) for own in resources}
    people = {own.id: own for own in resources}
    for task, team in teams.items():
        at = np.arange(starts[task], finishes[task])
        if rest:
            there = availability.days([people[name] for name, _ in team], days)
            at = at[there[at // slots]]
        for name, units in team:
            used[name][at] += units
    result = {}
    for own in resources:
        by_day = used[own.id].reshape(days, slots)
        capacity = own.capacity * availability.days([own], days)[:days]
        result[own.id] = Load(by_day.mean(1), by_day.max(1, initial=0.0), capacity)
    return result


def overloads(
    project: Project,
    path: CriticalPath,
    levelled: Levelled,
    timeline: Timeline,
    availability: Availability,
) -> list[Overload]:
    """Who would have too much to do if every task started as early as its dependencies allow."""
    starts = {name: own.early_start for name, own in path.times.items()}
    finishes = {name: own.early_finish for name, own in path.times.items()}
    found = []
    before = loads(
        project.resources, starts, finishes, levelled.teams, timeline, availability, rest=False
    )
    for name, load in before.items():
        over = np.flatnonzero(load.peak > load.capacity + _ROUNDING)
        if not len(over):
            continue
        worst = int(over[np.argmax((load.peak - load.capacity)[over])])
        low, high = worst * timeline.slots, (worst + 1) * timeline.slots
        tasks = [
            task
            for task, team in levelled.teams.items()
            if name in dict(team) and starts[task] < high and finishes[task] > low
        ]
        found.append(
            Overload(
                name,
                len(over),
                timeline.date(int(over[0])),
                timeline.date(int(over[-1])),
                timeline.date(worst),
                round(float(load.peak[worst]), 6),
                float(load.capacity[worst]),
                tuple(tasks),
            )
        )
    return found


def moves(path: CriticalPath, levelled: Levelled, timeline: Timeline) -> list[dict[str, Any]]:
    """The tasks that levelling starts later or ends later, by how many working days."""
    return [
        {
            "task": name,
            "from": timeline.start_date(times.early_start).isoformat(),
            "to": timeline.start_date(levelled.starts[name]).isoformat(),
            "later_by_days": (levelled.finishes[name] - times.early_finish) / timeline.slots,
        }
        for name, times in path.times.items()
        if (levelled.starts[name], levelled.finishes[name])
        != (times.early_start, times.early_finish)
    ]


def periods(load: Load, timeline: Timeline) -> list[dict[str, Any]]:
    """Runs of days with the same load, days without any left out."""
    found = []
    days = [(round(float(m), 4), float(c)) for m, c in zip(load.mean, load.capacity)]
    for (mean, capacity), group in itertools.groupby(range(len(days)), key=days.__getitem__):
        run = list(group)
        if mean > 0:
            found.append({
                "from": timeline.date(run[0]).isoformat(), "to": timeline.date(run[-1]).isoformat(),
                "load": mean, "capacity": capacity,
            })  # fmt: skip
    return found
