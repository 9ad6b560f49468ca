"""Levelling: tasks in an order of priority, each as early as its people are free.

The serial schedule generation scheme of Kelley (1963) with the priority rule of the earliest latest
finish (Kolisch, 1996, compares the rules). A team is booked from start to finish; on days on which
one of it is away the task rests.
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from lilith.planning.network import CriticalPath, Link, Network, ready_at
from lilith.planning.project import PlanningError, Project, Resource, Task
from lilith.planning.timeline import Availability, Timeline

_ROUNDING = 1e-9  # of units
_MOST_TEAMS = 1024  # that are known for one need of skills
_COMPARED = 32  # of these, the ones with the least work, when a task is placed
_WINDOW = 40  # days beyond the task's own that are looked through at a time
Team = tuple[tuple[str, float], ...]  # units of resources


@dataclass(frozen=True)
class Levelled:
    """A schedule that nobody is overloaded by.

    Attributes:
      starts, finishes: of every task, in slots.
      teams: who does each task; links: which task handed people on to which.
    """

    starts: Mapping[str, int]
    finishes: Mapping[str, int]
    teams: Mapping[str, Team]
    links: tuple[Link, ...]

    @property
    def end(self) -> int:
        """The finish of the project."""
        return max(self.finishes.values())


class _Bookings:
    """Units in use of one resource in every slot, as far as any is used."""

    def __init__(self, capacity: float) -> None:
        self.capacity = capacity
        self._used = np.zeros(1024)
        self._full = 0  # every slot before is full

    def used(self, start: int, stop: int) -> np.ndarray:
        if stop > len(self._used):
            longer = np.zeros(max(stop, 2 * len(self._used)))
            longer[: len(self._used)] = self._used
            self._used = longer
        return self._used[start:stop]

    @property
    def first_free(self) -> int:
        """No slot before it has anything free."""
        while self._full < len(self._used):
            block = self._used[self._full : self._full + 4096] < self.capacity - _ROUNDING
            if block.any():
                self._full += int(np.argmax(block))
                return self._full
            self._full += len(block)
        return self._full

    def book(self, start: int, stop: int, units: float) -> None:
        self.used(start, stop)[:] += units


class _Levelling:
    def __init__(self, project: Project, timeline: Timeline, availability: Availability) -> None:
        self._people = {own.id: own for own in project.resources}
        self._timeline, self._availability = timeline, availability
        self._bookings = {own.id: _Bookings(own.capacity) for own in project.resources}
        self._work = dict.fromkeys(self._people, 0.0)  # slots that are booked
        self._known: dict[object, list[Team]] = {}

    def place(self, task: Task, ready: int, length: int) -> tuple[int, int, Team]:
        """Book the team that ends first, of those that end then the one with the least work."""
        if length == 0:
            return ready, ready, ()
        found = []
        for team in heapq.nsmallest(_COMPARED, self._teams(task), key=self._busy):
            start, finish = self._earliest(team, ready, length)
            found.append((finish, self._busy(team), start, team))
        finish, _, start, team = min(found)
        for name, units in team:
            self._bookings[name].book(start, finish, units)
            self._work[name] += units * length
        return start, finish, team

    def _busy(self, team: Team) -> float:
        return sum(self._work[name] for name, _ in team)

    def _teams(self, task: Task) -> list[Team]:
        key = (task.resources, task.skills)
        if key not in self._known:
            teams = list(itertools.islice(_possible_teams(task, self._people), _MOST_TEAMS))
            self._known[key] = [team for team in teams if self._meets(team)]
            if not self._known[key]:
                names = ", ".join(name for name, _ in teams[0]) if teams else "those it needs"
                raise PlanningError(
                    "never_possible", "resources", f"task {task.id!r} can never be done: no team "
                    f"for it ({names}) is there on one day", "change working days or the team",
                )  # fmt: skip
        return self._known[key]

    def _meets(self, team: Team) -> bool:
        """Whether there is a weekday on which all of the team work."""
        return any(
            all(day in self._people[name].working_days for name, _ in team)
            for day in self._timeline.calendar.working_days
        )

    def _earliest(self, team: Team, ready: int, length: int) -> tuple[int, int]:
        """The first start from ``ready`` on, and the finish of it."""
        slots = self._timeline.slots
        people = [self._people[name] for name, _ in team]
        start = max([ready, *(self._bookings[name].first_free for name, _ in team)])
        window = length // slots + _WINDOW
        while True:
            first = start // slots
            there = self._availability.days(people, first + window)[first : first + window]
            low, high = first * slots, (first + len(there)) * slots
            full = np.zeros(high - low, bool)
            for name, units in team:
                own = self._bookings[name]
                full |= own.used(low, high) + units > own.capacity + _ROUNDING
            work = np.flatnonzero(np.repeat(there, slots))
            work = work[np.searchsorted(work, start - low) :]
            if len(work) < length:
                window *= 2
                continue
            starts, stops = work[: len(work) - length + 1], work[length - 1 :] + 1
            before = np.concatenate([[0], np.cumsum(full)])
            fits = before[stops] == before[starts]
            if fits.any():
                at = int(np.argmax(fits))
                return low + int(starts[at]), low + int(stops[at])
            start = low + int(starts[-1]) + 1


def _possible_teams(task: Task, people: Mapping[str, Resource]) -> Iterator[Team]:
    """The named resources, with one choice of people after another for the skills."""
    choices = []
    for skill, count in task.skills:
        able = [own for own in people.values() if skill in own.skills]
        units = [own.id for own in able for _ in range(min(int(own.capacity), count))]
        turns = (tuple(sorted((units[i:] + units[:i])[:count])) for i in range(len(units)))
        others = itertools.islice(itertools.combinations(units, count), _MOST_TEAMS)
        choices.append(list(dict.fromkeys([*turns, *(tuple(sorted(own)) for own in others)])))
    seen = set()
    for groups in itertools.product(*choices):
        needs = dict(task.resources)
        for group in groups:
            for name in group:  # one person may bring several skills
                needs[name] = max(needs.get(name, 0.0), float(group.count(name)))
        team = tuple(sorted(needs.items()))
        if team not in seen:
            seen.add(team)
            yield team


def level(
    project: Project,
    network: Network,
    path: CriticalPath,
    durations: Mapping[str, int],
    timeline: Timeline,
    availability: Availability,
) -> Levelled:
    """Schedule every task within the capacity of its resources.

    Raises:
      PlanningError: a task can never be done, as its team has no day in common.
    """
    place = {task.id: i for i, task in enumerate(project.tasks)}
    tasks = {task.id: task for task in project.tasks}
    levelling = _Levelling(project, timeline, availability)
    waiting = {name: len({link.before for link in network.incoming[name]}) for name in tasks}

    def entry(name: str) -> tuple[int, int, str]:
        return path.times[name].late_finish, place[name], name

    queue = [entry(name) for name, count in waiting.items() if count == 0]
    heapq.heapify(queue)
    starts: dict[str, int] = {}
    finishes: dict[str, int] = {}
    teams: dict[str, Team] = {}
    while queue:
        *_, name = heapq.heappop(queue)
        ready = [ready_at(link, starts, finishes) for link in network.incoming[name]]
        earliest = max([network.not_before.get(name, 0), *ready])
        placed = levelling.place(tasks[name], earliest, durations[name])
        starts[name], finishes[name], teams[name] = placed
        for follower in {link.after for link in network.outgoing[name]}:
            waiting[follower] -= 1
            if waiting[follower] == 0:
                heapq.heappush(queue, entry(follower))
    links = _handed_on(project.resources, starts, finishes, teams)
    return Levelled(starts, finishes, teams, links)


def _handed_on(
    resources: Sequence[Resource],
    starts: Mapping[str, int],
    finishes: Mapping[str, int],
    teams: Mapping[str, Team],
) -> tuple[Link, ...]:
    """A resource flow (Artigues and Roubellat, 2000): which task takes whose people over."""
    users: dict[str, list[tuple[int, int, str, float]]] = {own.id: [] for own in resources}
    for task, team in teams.items():
        for name, units in team:
            users[name].append((starts[task], finishes[task], task, units))
    links: dict[tuple[str, str], Link] = {}
    for own in resources:
        free: list[tuple[int, str, float]] = [(0, "", own.capacity)]  # from when, by whom, units
        for _, finish, task, units in sorted(users[own.id]):
            free.sort()
            needed = units
            while needed > _ROUNDING:
                _, giver, amount = free[0]
                taken = min(amount, needed)
                needed -= taken
                if giver:
                    links.setdefault((giver, task), Link(giver, task, "FS", 0, own.id))
                if amount - taken > _ROUNDING:
                    free[0] = (free[0][0], giver, amount - taken)
                else:
                    free.pop(0)
            free.append((finish, task, units))
    return tuple(links.values())
