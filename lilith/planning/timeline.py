"""Working time of a project: the dates of working days, and the days on which people are there."""

from __future__ import annotations

import datetime
from collections.abc import Iterable

import numpy as np

from lilith.planning.project import Calendar, PlanningError, Resource

MOST_DAYS = 40_000  # working days, some 150 years
_CHUNK = 256
_IDLE_YEARS = 20  # without one working day


class Timeline:
    """The working days of ``calendar`` from ``start`` on, numbered from 0, as far as needed.

    A position is a number of slots since the beginning of day 0: work that ends in position
    ``p > 0`` ends on day ``(p - 1) // slots``, work that begins in ``p`` begins on ``p // slots``.
    """

    def __init__(self, calendar: Calendar, start: datetime.date) -> None:
        self.calendar, self.slots = calendar, calendar.slots_per_day
        self._next = start
        self._dates: list[datetime.date] = []

    def date(self, day: int) -> datetime.date:
        """The date of working day ``day``.

        Raises:
          PlanningError: the plan would be longer than anyone can plan.
        """
        if day >= MOST_DAYS:
            raise PlanningError(
                "plan_too_long", "tasks", f"the plan is longer than {MOST_DAYS:,} working days",
                "check the unit of the estimates, and the years of dates",
            )  # fmt: skip
        idle = 0
        while len(self._dates) <= day:
            if self.calendar.works(self._next):
                self._dates.append(self._next)
                idle = 0
            idle += 1
            if idle > 366 * _IDLE_YEARS or self._next >= datetime.date.max:
                raise PlanningError(
                    "no_working_days", "calendar", f"no working day comes after {self._next}",
                    "take holidays out of the calendar, or start earlier",
                )  # fmt: skip
            self._next += datetime.timedelta(days=1)
        return self._dates[day]

    def first_day(self, date: datetime.date) -> int:
        """The number of the first working day on or after ``date``."""
        low, high = 0, 1
        while self.date(high) < date:
            low, high = high, min(2 * high, MOST_DAYS)
        while low < high:
            middle = (low + high) // 2
            if self.date(middle) < date:
                low = middle + 1
            else:
                high = middle
        return low

    def days_through(self, date: datetime.date) -> int:
        """How many working days there are up to and with ``date``."""
        day = self.first_day(date)
        return day + (self.date(day) == date)

    def start_date(self, position: int) -> datetime.date:
        """The date on which work that begins in ``position`` begins."""
        return self.date(position // self.slots)

    def finish_date(self, position: int) -> datetime.date:
        """The date on which work that ends in ``position`` ends."""
        return self.date(max(position - 1, 0) // self.slots)

    def to_slots(self, days: float) -> int:
        """Working days in slots, rounded; what is not 0 takes at least one."""
        return max(round(days * self.slots), int(days > 0))


class Availability:
    """For each team of resources, the working days on which all of it is there."""

    def __init__(self, timeline: Timeline) -> None:
        self._timeline = timeline
        self._teams: dict[frozenset[str], np.ndarray] = {}

    def days(self, team: Iterable[Resource], count: int) -> np.ndarray:
        """bool [count], or longer: whether all of ``team`` work on the days from 0."""
        people = sorted(team, key=lambda own: own.id)
        key = frozenset(own.id for own in people)
        known = self._teams.get(key, np.zeros(0, bool))
        if len(known) < count:
            grown = -(-max(count, 2 * len(known)) // _CHUNK) * _CHUNK
            dates = [self._timeline.date(i) for i in range(len(known), min(grown, MOST_DAYS))]
            there = [all(own.works(day) for own in people) for day in dates]
            known = self._teams[key] = np.concatenate([known, np.array(there, bool)])
        if len(known) < count:
            self._timeline.date(count)  # says that the plan is too long
        return known

    def first_slot(self, team: Iterable[Resource], ready: int) -> int:
        """The first slot from ``ready`` on in which all of ``team`` work."""
        slots, people = self._timeline.slots, tuple(team)
        first = day = ready // slots
        while not self.days(people, day + 1)[day]:
            day += 1
        return ready if day == first else day * slots
