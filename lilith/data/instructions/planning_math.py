"""The mathematics of plans: critical paths, working days, packing, earned value. Pure functions."""

from __future__ import annotations

import datetime
import itertools
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import ceil


@dataclass(frozen=True)
class Task:
    """A piece of work: ``days`` working days, begun when all of ``after`` are finished."""

    name: str
    days: int
    after: tuple[str, ...] = ()


@dataclass(frozen=True)
class Times:
    """Working days since the start of the project; a finish is the day after the last one.

    ``slack`` may be lost without moving the end of the project, ``free`` without moving any task.
    """

    start: int
    finish: int
    latest_start: int
    latest_finish: int
    slack: int
    free: int


def in_order(tasks: Sequence[Task]) -> list[Task]:
    """Every task behind what it waits for, otherwise as given.

    Raises:
      ValueError: a name is given twice, a dependency is unknown or goes in a circle.
    """
    known = {task.name for task in tasks}
    if len(known) < len(tasks):
        raise ValueError("two tasks have the same name")
    for task in tasks:
        for name in task.after:
            if name not in known:
                raise ValueError(f"{task.name} waits for {name}, which is not a task")
    left, found, done = list(tasks), [], set[str]()
    while left:
        ready = next((task for task in left if done.issuperset(task.after)), None)
        if ready is None:
            names = ", ".join(task.name for task in left)
            raise ValueError(f"the dependencies of {names} go in a circle")
        left.remove(ready)
        found.append(ready)
        done.add(ready.name)
    return found


def schedule(tasks: Sequence[Task]) -> dict[str, Times]:
    """Earliest and latest times by a forward and a backward pass, in the order of ``tasks``.

    Raises:
      ValueError: as :func:`in_order`.
    """
    ordered = in_order(tasks)
    start: dict[str, int] = {}
    finish: dict[str, int] = {}
    for task in ordered:
        start[task.name] = max((finish[name] for name in task.after), default=0)
        finish[task.name] = start[task.name] + task.days
    end = max(finish.values())
    latest: dict[str, int] = {}
    times: dict[str, Times] = {}
    for task in reversed(ordered):
        followers = [other for other in ordered if task.name in other.after]
        latest[task.name] = min((latest[o.name] - o.days for o in followers), default=end)
        free = min((start[o.name] for o in followers), default=end) - finish[task.name]
        late = latest[task.name]
        early, done = start[task.name], finish[task.name]
        times[task.name] = Times(early, done, late - task.days, late, late - done, free)
    return {task.name: times[task.name] for task in tasks}


def critical_paths(tasks: Sequence[Task]) -> list[list[str]]:
    """Every chain of tasks as long as the project, in the order of ``tasks``."""
    times = schedule(tasks)
    end = max(time.finish for time in times.values())

    def chains(task: Task) -> list[list[str]]:
        if times[task.name].finish == end:
            return [[task.name]]
        nexts = [
            other
            for other in tasks
            if task.name in other.after and times[other.name].start == times[task.name].finish
        ]
        return [[task.name, *rest] for other in nexts for rest in chains(other)]

    first = [t for t in tasks if times[t.name].start == 0 and times[t.name].slack == 0]
    return [chain for task in first for chain in chains(task)]


def working_day(
    start: datetime.date, count: int, holidays: Collection[datetime.date] = ()
) -> datetime.date:
    """The date ``count`` working days after the first one on or after ``start``.

    Mondays to Fridays that are not ``holidays`` are working days.
    """
    day = start
    while True:
        if day.weekday() < 5 and day not in holidays:
            if count == 0:
                return day
            count -= 1
        day += datetime.timedelta(days=1)


@dataclass(frozen=True)
class Story:
    """Work of a sprint: ``priority`` 1 comes first, not in an earlier sprint than ``after``."""

    name: str
    points: int
    priority: int
    after: str = ""


def sprint_capacity(velocities: Sequence[int], present: int, full: int) -> int:
    """Whole points: the mean velocity, cut to ``present`` of ``full`` person-days."""
    return int(Fraction(sum(velocities), len(velocities)) * Fraction(present, full))


def pack_sprints(stories: Sequence[Story], capacity: int) -> dict[str, int]:
    """The sprint of each story, from 1: by priority, the first one with room left.

    Raises:
      ValueError: a story is larger than ``capacity``, or waits for one of lower priority.
    """
    used: list[int] = []
    sprint: dict[str, int] = {}
    for story in sorted(stories, key=lambda story: story.priority):
        if story.points > capacity:
            raise ValueError(f"{story.name} has {story.points} points, the sprint {capacity}")
        if story.after and story.after not in sprint:
            raise ValueError(f"{story.name} waits for {story.after}, which comes later")
        number = sprint.get(story.after, 1)
        while number <= len(used) and used[number - 1] + story.points > capacity:
            number += 1
        used += [0] * (number - len(used))
        used[number - 1] += story.points
        sprint[story.name] = number
    return sprint


def duration_months(effort: Fraction, people: int, focus: Fraction) -> Fraction:
    """Months that ``people`` need for ``effort`` person-months, ``focus`` of their time."""
    return effort / (people * focus)


def people_needed(effort: Fraction, months: int, focus: Fraction) -> int:
    """The fewest people who finish ``effort`` person-months in ``months``."""
    return ceil(effort / (months * focus))


def earned_value(budget: int, planned: int, done: int, spent: int) -> dict[str, Fraction]:
    """Earned value figures from the budget at completion, PV, EV and AC, all in money."""
    cost_index = Fraction(done, spent)
    return {
        "schedule_variance": Fraction(done - planned),
        "cost_variance": Fraction(done - spent),
        "spi": Fraction(done, planned),
        "cpi": cost_index,
        "eac": budget / cost_index,
        "vac": budget - budget / cost_index,
    }


def best_subset(
    options: Mapping[str, Mapping[str, int]], limits: Mapping[str, int], must: Collection[str] = ()
) -> tuple[str, ...]:
    """The names with the greatest total ``value`` within ``limits``, ``must`` among them.

    Every subset is tried. Of equal ones the smaller is taken, then the first in order.

    Raises:
      ValueError: even ``must`` alone does not fit.
    """
    best: tuple[int, tuple[str, ...]] | None = None
    for size in range(len(options) + 1):
        for names in itertools.combinations(options, size):
            if not set(must) <= set(names):
                continue
            if any(sum(options[n][key] for n in names) > most for key, most in limits.items()):
                continue
            value = sum(options[name]["value"] for name in names)
            if best is None or value > best[0]:
                best = value, names
    if best is None:
        raise ValueError("what must be done does not fit the limits")
    return best[1]


def broken_limits(needs: Mapping[str, int], limits: Mapping[str, int]) -> list[str]:
    """The names of the limits that ``needs`` exceed."""
    return [name for name, most in limits.items() if needs[name] > most]
