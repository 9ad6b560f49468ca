"""The tool ``plan_project``: a project in JSON in, its plan in JSON out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from lilith.planning.plan import FEWEST_RUNS, LONGEST_SPRINT, MOST_RUNS
from lilith.planning.plan import plan_project as make_plan
from lilith.planning.project import DISTRIBUTIONS, MOST_TASKS, WEEKDAYS, PlanningError
from lilith.planning.reading import KINDS, UNITS, read_project
from lilith.quant.tool import Answer, Parameter, Tool
from lilith.quant.tool_values import ToolError


@dataclass(frozen=True)
class Structured(Parameter):
    """A parameter that holds objects; ``shape`` is their JSON schema, from which calls are made.

    What a shape can not say, and more than it says, is read by :func:`read_project`.
    """

    shape: Mapping[str, Any] = field(default_factory=dict, kw_only=True)

    def schema(self) -> dict[str, Any]:
        """The JSON schema of the parameter with that of its objects."""
        return {**super().schema(), **self.shape}


def _object(properties: Mapping[str, Any], *required: str, about: str = "") -> dict[str, Any]:
    shape = {
        "type": "object",
        "properties": dict(properties),
        "required": list(required),
        "additionalProperties": False,
    }
    return {**shape, "description": about} if about else shape


def _list(items: Mapping[str, Any], about: str = "") -> dict[str, Any]:
    shape = {"type": "array", "items": dict(items)}
    return {**shape, "description": about} if about else shape


_TEXT = {"type": "string"}
_DATE = {"type": "string", "format": "date"}
_AMOUNT = {"type": "number", "minimum": 0}
_POSITIVE = {"type": "number", "exclusiveMinimum": 0}
_SHARE = {"type": "number", "minimum": 0, "maximum": 1}
_NAMES = _list(_TEXT)
_DATES = _list(_DATE)
_WEEKDAYS = _list({"type": "string", "enum": [name[:3] for name in WEEKDAYS]})


def _points(about: str) -> dict[str, Any]:
    three = {"type": "array", "items": _AMOUNT, "minItems": 3, "maxItems": 3}
    return {"anyOf": [three, _AMOUNT], "description": about}


_TASK = _object(
    {
        "id": {**_TEXT, "description": "a short name, which others depend on"},
        "name": _TEXT,
        "estimate": _points("[optimistic, likely, pessimistic], or one number; 0 is a milestone"),
        "depends_on": _list(
            {
                "anyOf": [
                    _TEXT,
                    _object(
                        {"task": _TEXT, "kind": {"type": "string", "enum": list(KINDS)},
                         "lag": _AMOUNT},
                        "task",
                    ),
                ]
            },
            "ids of tasks that must finish before, or {task, kind, lag}: FS waits for the finish, "
            "SS for the start",
        ),
        "must_follow": _list(_TEXT, "ids of tasks that are to be finished before by order"),
        "resources": {
            "anyOf": [{"type": "object", "additionalProperties": _POSITIVE}, _NAMES],
            "description": 'units of named resources, such as {"Ann": 1}, or their names',
        },
        "skills": _list(_TEXT, "skills it needs; a skill named twice needs two people"),
        "not_before": {**_DATE, "description": "the first day on which it may start"},
        "downtime_hours": _points("hours for which it interrupts the service"),
        "cost": {**_AMOUNT, "description": "its budget, in money"},
    },
    "id", "estimate",
)  # fmt: skip
_RESOURCE = _object(
    {
        "id": _TEXT,
        "capacity": {**_POSITIVE, "description": "how many there are; 1 for a person"},
        "skills": _NAMES,
        "working_days": _WEEKDAYS,
        "holidays": {**_DATES, "description": "days off, besides the calendar's"},
    },
    "id",
)
_RISK = _object(
    {
        "name": _TEXT,
        "probability": _SHARE,
        "impact": {"type": "integer", "minimum": 1, "maximum": 5},
        "tasks": {**_NAMES, "description": "the tasks it delays"},
        "delay": {**_AMOUNT, "description": "of each of them, in the unit of the estimates"},
        "cost": _AMOUNT,
        "mitigation": _TEXT,
        "owner": _TEXT,
        "trigger": _TEXT,
    },
    "name", "probability", "impact",
)  # fmt: skip
_CALENDAR = _object({"working_days": _WEEKDAYS, "holidays": _DATES, "hours_per_day": _POSITIVE})
_CONSTRAINTS = _object(
    {
        "deadline": {**_DATE, "description": "the last day of work"},
        "max_downtime_hours": {**_AMOUNT, "description": "of all tasks together"},
        "must_follow": _list(
            {"type": "array", "items": _TEXT, "minItems": 2, "maxItems": 2}, "pairs [first, then]"
        ),
    }
)
_PROGRESS = _object(
    {
        "as_of": _DATE,
        "done": {"type": "object", "additionalProperties": _SHARE,
                 "description": "the fraction done of each task"},
        "spent": {"type": "object", "additionalProperties": _AMOUNT,
                  "description": "money, or person-days where tasks have no cost"},
    },
    "as_of",
)  # fmt: skip

_PARAMETERS = (
    Structured("tasks", "list", "the work", most=MOST_TASKS, shape=_list(_TASK)),
    Structured("start", "string", "the first day, as 2026-03-31", shape={"format": "date"}),
    Parameter("name", "string", "what the project is called", default="Project"),
    Parameter("unit", "string", "of estimates, lags and delays: working days, or hours",
              default="days", choices=UNITS),
    Structured("resources", "list", "the people and things there are", default=None,
               shape=_list(_RESOURCE)),
    Structured("calendar", "object", "working weekdays, holidays and hours; Monday to Friday, 8 "
               "hours, where it is not given", default=None, shape=_CALENDAR),
    Structured("constraints", "object", "deadline, downtime and orders to keep", default=None,
               shape=_CONSTRAINTS),
    Structured("risks", "list", "what may go wrong, with mitigation, owner and trigger",
               default=None, shape=_list(_RISK)),
    Structured("progress", "object", "how far the work is, for earned value", default=None,
               shape=_PROGRESS),
    Parameter("sprint_days", "integer", "working days of a sprint", default=10, minimum=1,
              maximum=LONGEST_SPRINT),
    Parameter("runs", "integer", "of the simulation", default=5_000, minimum=FEWEST_RUNS,
              maximum=MOST_RUNS),
    Parameter("seed", "integer", "of the simulation's random numbers", default=0, minimum=0,
              maximum=2**32 - 1),
    Parameter("distribution", "string", "of the tasks' times", default="pert",
              choices=DISTRIBUTIONS),
    Parameter("chart", "boolean", "whether to draw the Gantt chart", default=True),
)  # fmt: skip


def _plan(
    *, runs: int, seed: int, distribution: str, sprint_days: int, chart: bool, **project: Any
) -> Answer:
    given = {name: value for name, value in project.items() if value is not None}
    try:
        plan = make_plan(
            read_project(**given),
            runs=runs, seed=seed, distribution=distribution, sprint_days=sprint_days,
        )  # fmt: skip
    except PlanningError as error:
        raise ToolError(error.code, error.field, error.message, error.hint) from None
    return Answer(
        plan.to_json(chart=chart),
        units={"days": "working days of the calendar", "capacity": "units at a time",
               "deadline_probability": "0 to 1", "sprints.load": "person-days"},
        conventions={
            "durations": "PERT means (o + 4 m + p) / 6, rounded to ten minutes of working time",
            "schedule": "serial levelling by latest finish; slack is that of the critical path "
            "method, with people without limit",
            "dates": "first and last day of work",
            "forecast": f"{distribution} times and risks, drawn independently; people keep the "
            "order of the schedule",
            "tornado": "the finish with one task at its P10 or P90 and all others at their mean",
        },
        diagnostics={"runs": runs, "seed": seed},
        warnings=list(plan.warnings),
    )  # fmt: skip


plan_project = Tool(
    "plan_project",
    "Plan a project: schedule, critical path and slack, who is overloaded and levelling, chance of "
    "the deadline by simulation (P50, P80, P95, tornado), risk matrix, sprints, KPIs and a Gantt "
    "chart, from tasks with three-point estimates, dependencies, people, holidays and limits.",
    _PARAMETERS,
    _plan,
)
