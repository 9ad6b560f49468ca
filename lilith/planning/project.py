"""What a project is: tasks, people, calendars, limits and risks, checked where they are made.

Durations are working days of the project's calendar, dates are :class:`datetime.date`. Time is
counted in slots of ten minutes: the PERT mean of whole hours, or of whole or half days of eight
hours, is then a whole number of slots, and schedules are exact.
"""

from __future__ import annotations

import datetime
import math
from collections import Counter
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field

from lilith.config import UserError, nearest

SLOTS_PER_HOUR = 6
MOST_TASKS = 2_000
MOST_UNITS = 10_000
WEEKDAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
DISTRIBUTIONS = ("pert", "triangular")
_LEVELS = 5  # of a risk's impact
_MOST = 1e15  # of any number


class PlanningError(UserError):
    """A project that can not be planned.

    Attributes:
      code: a short name of the kind of mistake, in snake_case.
      field: the argument at fault, or None.
      message: one sentence that names the value.
      hint: what to do.
    """

    def __init__(self, code: str, field: str | None, message: str, hint: str) -> None:
        super().__init__(f"{message}; {hint}")
        self.code, self.field, self.message, self.hint = code, field, message, hint


def _number(field: str, what: str, value: float, least: float, hint: str) -> None:
    if not math.isfinite(value):
        raise PlanningError(
            "not_finite", field, f"{what} is {value}, which is not a finite number", hint
        )
    if not least <= value <= _MOST:
        bound = f"at least {least:g}" if value < least else f"at most {_MOST:g}"
        raise PlanningError("out_of_range", field, f"{what} is {value:g} and must be {bound}", hint)


def _unique(field: str, what: str, ids: Iterable[str]) -> None:
    for name, count in Counter(ids).items():
        if not name.strip():
            raise PlanningError("empty_id", field, f"a {what} has an empty id", "give it a name")
        if count > 1:
            raise PlanningError(
                "duplicate_id", field, f"{count} {what}s have the id {name!r}", "name each once"
            )


@dataclass(frozen=True)
class Estimate:
    """Three points of a duration or a downtime, all in the same unit."""

    optimistic: float
    likely: float
    pessimistic: float

    def check(self, field: str, what: str) -> None:
        """Raise a :class:`PlanningError` unless 0 <= optimistic <= likely <= pessimistic."""
        hint = "give optimistic, likely and pessimistic, in rising order"
        for name in ("optimistic", "likely", "pessimistic"):
            _number(field, f"the {name} estimate of {what}", getattr(self, name), 0.0, hint)
        if not self.optimistic <= self.likely <= self.pessimistic:
            points = f"{self.optimistic:g}, {self.likely:g}, {self.pessimistic:g}"
            raise PlanningError(
                "unordered_estimate", field, f"the estimates of {what} are {points}: not in "
                "rising order", hint,
            )  # fmt: skip

    @property
    def mean(self) -> float:
        """(o + 4 m + p) / 6, PERT's (Malcolm, Roseboom, Clark and Fazar, 1959)."""
        return (self.optimistic + 4 * self.likely + self.pessimistic) / 6

    @property
    def triangular_mean(self) -> float:
        """(o + m + p) / 3."""
        return (self.optimistic + self.likely + self.pessimistic) / 3

    @property
    def deviation(self) -> float:
        """(p - o) / 6, PERT's; the Beta-PERT distribution that is drawn from differs a little."""
        return (self.pessimistic - self.optimistic) / 6


@dataclass(frozen=True)
class Dependency:
    """A task waits for ``task``: its finish (FS) or its start (SS), and ``lag`` working days."""

    task: str
    kind: str = "FS"
    lag: float = 0.0


@dataclass(frozen=True)
class Task:
    """A piece of work.

    Attributes:
      estimate: of the duration, in working days; 0 makes a milestone.
      after: what it waits for; must_follow: tasks that have to be finished before by order.
      resources: units of named resources; skills: how many people with each skill.
      not_before: the first day on which it may start.
      downtime: of the service that it interrupts, in hours.
      cost: its budget, in money.
    """

    id: str
    name: str
    estimate: Estimate
    after: tuple[Dependency, ...] = ()
    must_follow: tuple[str, ...] = ()
    resources: tuple[tuple[str, float], ...] = ()
    skills: tuple[tuple[str, int], ...] = ()
    not_before: datetime.date | None = None
    downtime: Estimate | None = None
    cost: float | None = None

    def __post_init__(self) -> None:
        where = f"task {self.id!r}"
        self.estimate.check("tasks", where)
        if self.downtime is not None:
            self.downtime.check("tasks", f"the downtime of {where}")
        for link in self.after:
            if link.kind not in ("FS", "SS"):
                raise PlanningError(
                    "unknown_kind", "tasks", f"{where} depends on {link.task!r} by {link.kind!r}",
                    "use FS (finish to start) or SS (start to start)",
                )  # fmt: skip
            _number("tasks", f"the lag of {where} after {link.task!r}", link.lag, 0.0,
                    "give working days, 0 or more")  # fmt: skip
        for name, units in (*self.resources, *self.skills):
            _number("tasks", f"the need of {where} for {name!r}", units, 0.0, "ask for more than 0")
            if not 0 < units <= MOST_UNITS:
                raise PlanningError(
                    "out_of_range", "tasks", f"{where} needs {units:g} of {name!r}",
                    f"ask for more than 0 and at most {MOST_UNITS}, or leave it out",
                )  # fmt: skip
        if self.cost is not None:
            _number("tasks", f"the cost of {where}", self.cost, 0.0, "give money, 0 or more")


@dataclass(frozen=True)
class Calendar:
    """Which days are worked, and for how many hours."""

    working_days: tuple[int, ...] = (0, 1, 2, 3, 4)  # Monday is 0
    holidays: frozenset[datetime.date] = frozenset()
    hours_per_day: float = 8.0

    def __post_init__(self) -> None:
        if not self.working_days:
            raise PlanningError(
                "no_working_days", "calendar", "the calendar has no working days",
                "name at least one weekday",
            )  # fmt: skip
        hint = "give the working hours of a day"
        _number("calendar", "hours_per_day", self.hours_per_day, 1 / SLOTS_PER_HOUR, hint)
        if self.hours_per_day > 24:
            raise PlanningError(
                "out_of_range", "calendar", f"hours_per_day is {self.hours_per_day:g}", hint
            )

    @property
    def slots_per_day(self) -> int:
        """Working time of a day in slots."""
        return round(self.hours_per_day * SLOTS_PER_HOUR)

    def works(self, day: datetime.date) -> bool:
        """Whether ``day`` is a working day."""
        return day.weekday() in self.working_days and day not in self.holidays


@dataclass(frozen=True)
class Resource:
    """A person, or ``capacity`` people or things that are alike.

    Its days off come on top of the calendar's: ``working_days`` and ``holidays`` only take away.
    """

    id: str
    capacity: float = 1.0
    skills: frozenset[str] = frozenset()
    working_days: tuple[int, ...] = tuple(range(7))
    holidays: frozenset[datetime.date] = frozenset()

    def __post_init__(self) -> None:
        hint = "give how many of it there are, or leave it out"
        _number("resources", f"the capacity of {self.id!r}", self.capacity, 0.0, hint)
        if not 0 < self.capacity <= MOST_UNITS:
            raise PlanningError(
                "out_of_range", "resources", f"the capacity of {self.id!r} is {self.capacity:g}",
                f"{hint}; at most {MOST_UNITS}",
            )  # fmt: skip

    def works(self, day: datetime.date) -> bool:
        """Whether it is there on ``day``, if that is a working day of the project."""
        return day.weekday() in self.working_days and day not in self.holidays


@dataclass(frozen=True)
class Risk:
    """Something that may happen.

    Attributes:
      probability: 0 to 1; impact: 1 (negligible) to 5 (severe).
      tasks: what it delays, each by ``delay`` working days.
      cost: what it costs, in money, where it happens.
    """

    name: str
    probability: float
    impact: int
    tasks: tuple[str, ...] = ()
    delay: float = 0.0
    cost: float = 0.0
    mitigation: str = ""
    owner: str = ""
    trigger: str = ""

    def __post_init__(self) -> None:
        where = f"risk {self.name!r}"
        hint = "give it as a fraction: 0.3 is 30%"
        _number("risks", f"the probability of {where}", self.probability, 0.0, hint)
        if self.probability > 1:
            raise PlanningError(
                "out_of_range", "risks", f"the probability of {where} is {self.probability:g}", hint
            )
        if self.impact not in range(1, _LEVELS + 1):
            raise PlanningError(
                "out_of_range", "risks", f"the impact of {where} is {self.impact:g}",
                f"give a whole number from 1 (negligible) to {_LEVELS} (severe)",
            )  # fmt: skip
        _number("risks", f"the delay of {where}", self.delay, 0.0, "give working days")
        _number("risks", f"the cost of {where}", self.cost, 0.0, "give money")
        if self.delay and not self.tasks:
            raise PlanningError(
                "missing_tasks", "risks", f"{where} delays by {self.delay:g} days and names no "
                "tasks", "name the tasks that it delays",
            )  # fmt: skip


@dataclass(frozen=True)
class Constraints:
    """``deadline``: the last day of work; ``most_downtime``: of all tasks together, in hours."""

    deadline: datetime.date | None = None
    most_downtime: float | None = None

    def __post_init__(self) -> None:
        if self.most_downtime is not None:
            _number("constraints", "the downtime limit", self.most_downtime, 0.0,
                    "give hours")  # fmt: skip


@dataclass(frozen=True)
class Progress:
    """How far the work is at the end of the day ``as_of``.

    Attributes:
      done: fractions of tasks, 0 to 1; the others are at 0.
      spent: per task in money, or in person-days where tasks have no cost.
    """

    as_of: datetime.date
    done: tuple[tuple[str, float], ...] = ()
    spent: tuple[tuple[str, float], ...] = ()

    def __post_init__(self) -> None:
        for name, share in self.done:
            hint = "give a fraction: 0.5 is half done"
            _number("progress", f"what is done of task {name!r}", share, 0.0, hint)
            if share > 1:
                raise PlanningError(
                    "out_of_range", "progress", f"{share:g} of task {name!r} is done", hint
                )
        for name, spent in self.spent:
            _number("progress", f"what was spent on task {name!r}", spent, 0.0, "give 0 or more")


@dataclass(frozen=True)
class Project:
    """Everything that a plan is made from.

    Raises:
      PlanningError: an id is given twice or not known, a date lies before the start, a skill or a
        capacity is asked for that nobody has.
    """

    tasks: tuple[Task, ...]
    start: datetime.date
    name: str = "Project"
    resources: tuple[Resource, ...] = ()
    calendar: Calendar = field(default_factory=Calendar)
    constraints: Constraints = field(default_factory=Constraints)
    risks: tuple[Risk, ...] = ()
    progress: Progress | None = None

    def __post_init__(self) -> None:
        if not 0 < len(self.tasks) <= MOST_TASKS:
            raise PlanningError(
                "no_tasks" if not self.tasks else "too_many_tasks", "tasks",
                f"the project has {len(self.tasks) or 'no'} tasks",
                f"give at least one and at most {MOST_TASKS}",
            )  # fmt: skip
        _unique("tasks", "task", [task.id for task in self.tasks])
        _unique("resources", "resource", [own.id for own in self.resources])
        _unique("risks", "risk", [risk.name for risk in self.risks])
        ids = [task.id for task in self.tasks]
        for task in self.tasks:
            for name in (*(link.task for link in task.after), *task.must_follow):
                self._known("tasks", f"task {task.id!r} depends on", "task", name, ids)
            self._staffed(task)
        for risk in self.risks:
            for name in risk.tasks:
                self._known("risks", f"risk {risk.name!r} delays", "task", name, ids)
        if self.progress is not None:
            for name, _ in (*self.progress.done, *self.progress.spent):
                self._known("progress", "progress is given for", "task", name, ids)
        for what, day in (
            ("the deadline", self.constraints.deadline),
            ("the day of the progress", None if self.progress is None else self.progress.as_of),
        ):
            if day is not None and day < self.start:
                raise PlanningError(
                    "before_start", "constraints" if "deadline" in what else "progress",
                    f"{what} {day} lies before the start {self.start}", "move one of the two",
                )  # fmt: skip

    def _known(self, field: str, text: str, kind: str, name: str, ids: Collection[str]) -> None:
        if name not in ids:
            raise PlanningError(
                f"unknown_{kind}", field, f"{text} {name!r}, which is not a {kind} of the project"
                f"{nearest(name, ids)}", f"add it, or name another {kind}",
            )  # fmt: skip

    def _staffed(self, task: Task) -> None:
        """A task that nobody can ever do is named."""
        people = {own.id: own for own in self.resources}
        for name, units in task.resources:
            self._known("tasks", f"task {task.id!r} needs", "resource", name, people)
            if units > people[name].capacity:
                raise PlanningError(
                    "never_possible", "resources", f"task {task.id!r} needs {units:g} of {name!r} "
                    f"at once, and there are {people[name].capacity:g}: it can never be done",
                    "raise the capacity, or ask for less over more days",
                )  # fmt: skip
        for skill, count in task.skills:
            having = [int(own.capacity) for own in self.resources if skill in own.skills]
            if sum(having) < count:
                who = f"only {sum(having)} can bring at a time" if having else "nobody has"
                known = {skill for own in self.resources for skill in own.skills}
                raise PlanningError(
                    "missing_skill", "resources", f"task {task.id!r} needs {count} with the skill "
                    f"{skill!r}, which {who}{nearest(skill, known)}",
                    "add a resource with this skill, or change the task",
                )  # fmt: skip
