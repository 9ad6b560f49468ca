"""Projects from JSON: every entry checked, every mistake one sentence that names where it is."""

from __future__ import annotations

import datetime
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from lilith.config import nearest
from lilith.planning.project import (
    WEEKDAYS,
    Calendar,
    Constraints,
    Dependency,
    Estimate,
    PlanningError,
    Progress,
    Project,
    Resource,
    Risk,
    Task,
)

UNITS = ("days", "hours")
KINDS = ("FS", "SS")
_SHORT_WEEKDAYS = tuple(name[:3] for name in WEEKDAYS)


class _Entry:
    """An object of the caller's, of which every field is read or refused."""

    def __init__(self, field: str, where: str, value: Any, known: Sequence[str]) -> None:
        self.field, self.where = field, where
        if not isinstance(value, Mapping):
            raise _wrong(field, where, value, "an object", f"with {', '.join(known)}")
        self._value = value
        for name in value:
            if name not in known:
                raise PlanningError(
                    "unknown_field", field, f"{where} has the field {name!r}"
                    f"{nearest(str(name), known)}, which is not known",
                    f"it takes {', '.join(known)}",
                )  # fmt: skip

    def get(self, name: str, read: Callable[[str, str, Any], Any], default: Any = None) -> Any:
        """The field as ``read(field, where, value)`` reads it; ``default`` for none or null."""
        value = self._value.get(name)
        return default if value is None else read(self.field, f"{name} of {self.where}", value)

    def need(self, name: str, read: Callable[[str, str, Any], Any]) -> Any:
        """The field, which has to be there."""
        if self._value.get(name) is None:
            raise PlanningError(
                "missing_field", self.field, f"{self.where} has no {name}", f"give its {name}"
            )
        return self.get(name, read)


def _wrong(field: str, where: str, value: Any, wanted: str, hint: str) -> PlanningError:
    kind = "null" if value is None else type(value).__name__
    return PlanningError(
        "wrong_type", field, f"{where} must be {wanted}, and {str(value)[:60]!r} is a {kind}",
        f"give {wanted} {hint}".rstrip(),
    )  # fmt: skip


def _text(field: str, where: str, value: Any) -> str:
    if not isinstance(value, str):
        raise _wrong(field, where, value, "text", "in quotes")
    return value


def _number(field: str, where: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise _wrong(field, where, value, "a number", "")
    try:
        return float(value)
    except OverflowError:  # a whole number of hundreds of digits
        return math.inf


def _whole(field: str, where: str, value: Any) -> int:
    number = _number(field, where, value)
    if not math.isfinite(number) or number != int(number):
        raise PlanningError(
            "not_an_integer", field, f"{where} is {number:g}, not a whole number", "round it"
        )
    return int(number)


def read_date(field: str, where: str, value: Any) -> datetime.date:
    """A date, or its ISO text.

    Raises:
      PlanningError: it is no date.
    """
    if isinstance(value, datetime.date):
        return value if type(value) is datetime.date else datetime.date(*value.timetuple()[:3])
    try:
        return datetime.date.fromisoformat(_text(field, where, value))
    except ValueError:
        raise PlanningError(
            "not_a_date", field, f"{where} is {value[:40]!r}, which is not a date",
            "write dates as 2026-03-31",
        ) from None  # fmt: skip


def _list(field: str, where: str, value: Any) -> list[Any]:
    if isinstance(value, (str, bytes, Mapping)) or not isinstance(value, Iterable):
        raise _wrong(field, where, value, "a list", "in brackets")
    return list(value)


def _each(read: Callable[[str, str, Any], Any]) -> Callable[[str, str, Any], list[Any]]:
    def entries(field: str, where: str, value: Any) -> list[Any]:
        return [
            read(field, f"{where}, entry {i + 1},", own)
            for i, own in enumerate(_list(field, where, value))
        ]

    return entries


def _amounts(field: str, where: str, value: Any) -> tuple[tuple[str, float], ...]:
    """``{name: number}``, or a list of names, each with 1."""
    if isinstance(value, Mapping):
        return tuple((str(k), _number(field, f"{where}[{k!r}]", v)) for k, v in value.items())
    names = _each(_text)(field, where, value)
    return tuple((name, float(names.count(name))) for name in dict.fromkeys(names))


def _counts(field: str, where: str, value: Any) -> tuple[tuple[str, int], ...]:
    return tuple((k, _whole(field, f"{where}[{k!r}]", v)) for k, v in _amounts(field, where, value))


def _estimate(scale: float) -> Callable[[str, str, Any], Estimate]:
    """Reads three points, one number for all three, or an object; divided by ``scale``."""

    def read(field: str, where: str, value: Any) -> Estimate:
        names = ("optimistic", "likely", "pessimistic")
        if isinstance(value, Mapping):
            entry = _Entry(field, where, value, names)
            points = [entry.need(name, _number) for name in names]
        elif isinstance(value, Sequence) and not isinstance(value, str):
            points = [_number(field, where, own) for own in value]
            if len(points) != 3:
                raise PlanningError(
                    "wrong_count", field, f"{where} has {len(points)} numbers and needs 3",
                    "give optimistic, likely and pessimistic, or one number alone",
                )  # fmt: skip
        else:
            points = [_number(field, where, value)] * 3
        return Estimate(*(own / scale for own in points))

    return read


def _weekdays(field: str, where: str, value: Any) -> tuple[int, ...]:
    days = set()
    for name in _each(_text)(field, where, value):
        if name.lower() not in (*WEEKDAYS, *_SHORT_WEEKDAYS):
            raise PlanningError(
                "unknown_weekday", field, f"{where} names {name!r}, which is not a weekday",
                f"use {', '.join(_SHORT_WEEKDAYS)}",
            )  # fmt: skip
        days.add(_SHORT_WEEKDAYS.index(name.lower()[:3]))
    return tuple(sorted(days))


def _dependency(scale: float) -> Callable[[str, str, Any], Dependency]:
    def read(field: str, where: str, value: Any) -> Dependency:
        if isinstance(value, str):
            return Dependency(value)
        entry = _Entry(field, where, value, ("task", "kind", "lag"))
        return Dependency(
            entry.need("task", _text), entry.get("kind", _text, "FS"),
            entry.get("lag", _number, 0.0) / scale,
        )  # fmt: skip

    return read


TASK_FIELDS = (
    "id", "name", "estimate", "depends_on", "must_follow", "resources", "skills", "not_before",
    "downtime_hours", "cost",
)  # fmt: skip
RESOURCE_FIELDS = ("id", "capacity", "skills", "working_days", "holidays")
CALENDAR_FIELDS = ("working_days", "holidays", "hours_per_day")
CONSTRAINT_FIELDS = ("deadline", "max_downtime_hours", "must_follow")
RISK_FIELDS = (
    "name", "probability", "impact", "tasks", "delay", "cost", "mitigation", "owner", "trigger",
)  # fmt: skip
PROGRESS_FIELDS = ("as_of", "done", "spent")


def _task(value: Any, number: int, scale: float, orders: Sequence[tuple[str, str]]) -> Task:
    entry = _Entry("tasks", f"task {number}", value, TASK_FIELDS)
    own = entry.need("id", _text)
    entry.where = f"task {own!r}"
    return Task(
        id=own,
        name=entry.get("name", _text, own),
        estimate=entry.need("estimate", _estimate(scale)),
        after=tuple(entry.get("depends_on", _each(_dependency(scale)), ())),
        must_follow=(
            *entry.get("must_follow", _each(_text), ()),
            *(first for first, then in orders if then == own),
        ),
        resources=entry.get("resources", _amounts, ()),
        skills=entry.get("skills", _counts, ()),
        not_before=entry.get("not_before", read_date),
        downtime=entry.get("downtime_hours", _estimate(1.0)),
        cost=entry.get("cost", _number),
    )


def _resource(value: Any, number: int) -> Resource:
    entry = _Entry("resources", f"resource {number}", value, RESOURCE_FIELDS)
    own = entry.need("id", _text)
    entry.where = f"resource {own!r}"
    return Resource(
        id=own,
        capacity=entry.get("capacity", _number, 1.0),
        skills=frozenset(entry.get("skills", _each(_text), ())),
        working_days=entry.get("working_days", _weekdays, Resource.working_days),
        holidays=frozenset(entry.get("holidays", _each(read_date), ())),
    )


def _risk(value: Any, number: int, scale: float) -> Risk:
    entry = _Entry("risks", f"risk {number}", value, RISK_FIELDS)
    own = entry.need("name", _text)
    entry.where = f"risk {own!r}"
    return Risk(
        name=own,
        probability=entry.need("probability", _number),
        impact=entry.need("impact", _whole),
        tasks=tuple(entry.get("tasks", _each(_text), ())),
        delay=entry.get("delay", _number, 0.0) / scale,
        cost=entry.get("cost", _number, 0.0),
        **{name: entry.get(name, _text, "") for name in ("mitigation", "owner", "trigger")},
    )


def _progress(value: Any) -> Progress:
    entry = _Entry("progress", "progress", value, PROGRESS_FIELDS)
    return Progress(
        entry.need("as_of", read_date),
        entry.get("done", _amounts, ()),
        entry.get("spent", _amounts, ()),
    )


def _orders(value: Any, ids: Sequence[Any]) -> list[tuple[str, str]]:
    pairs = []
    for pair in _each(_each(_text))("constraints", "must_follow of constraints", value or []):
        if len(pair) != 2:
            raise PlanningError(
                "wrong_count", "constraints", f"must_follow has an entry with {len(pair)} tasks",
                "give pairs: [first, then]",
            )  # fmt: skip
        if pair[1] not in ids:
            raise PlanningError(
                "unknown_task", "constraints", f"must_follow names {pair[1]!r}, which is not a "
                f"task of the project{nearest(pair[1], [own for own in ids if own])}",
                "add it, or name another task",
            )  # fmt: skip
        pairs.append((pair[0], pair[1]))
    return pairs


def read_project(
    tasks: Any,
    start: Any,
    *,
    name: str = "Project",
    unit: str = "days",
    resources: Any = (),
    calendar: Any = None,
    constraints: Any = None,
    risks: Any = (),
    progress: Any = None,
) -> Project:
    """A project from JSON's types; ``docs/planning.md`` lists the fields.

    Args:
      unit: of estimates, lags and delays: working days, or hours of the calendar's days.

    Raises:
      PlanningError: something is missing, unknown, of the wrong type or impossible.
    """
    if unit not in UNITS:
        raise PlanningError(
            "unknown_choice", "unit", f"unit is {unit!r}", f"one of {', '.join(UNITS)}"
        )
    days = _Entry("calendar", "calendar", calendar or {}, CALENDAR_FIELDS)
    worked = Calendar(
        days.get("working_days", _weekdays, Calendar.working_days),
        frozenset(days.get("holidays", _each(read_date), ())),
        days.get("hours_per_day", _number, Calendar.hours_per_day),
    )
    scale = worked.hours_per_day if unit == "hours" else 1.0
    limits = _Entry("constraints", "constraints", constraints or {}, CONSTRAINT_FIELDS)
    entries = _list("tasks", "tasks", tasks)
    ids = [own.get("id") for own in entries if isinstance(own, Mapping)]
    orders = limits.get("must_follow", lambda _, __, value: _orders(value, ids), [])
    return Project(
        tasks=tuple(_task(own, i + 1, scale, orders) for i, own in enumerate(entries)),
        start=read_date("start", "start", start),
        name=name,
        resources=tuple(
            _resource(own, i + 1)
            for i, own in enumerate(_list("resources", "resources", resources))
        ),
        calendar=worked,
        constraints=Constraints(
            limits.get("deadline", read_date), limits.get("max_downtime_hours", _number)
        ),
        risks=tuple(
            _risk(own, i + 1, scale) for i, own in enumerate(_list("risks", "risks", risks))
        ),
        progress=None if progress is None else _progress(progress),
    )
