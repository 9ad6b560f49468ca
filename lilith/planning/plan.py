"""From a project to its plan: schedule, critical path, people, risks, forecast, sprints, chart."""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from lilith.planning.forecast import Forecast, finish_day, forecast
from lilith.planning.gantt import Bar, Mark, gantt
from lilith.planning.kpis import earned_value, planned_kpis
from lilith.planning.levelling import Levelled, level
from lilith.planning.limits import HELD, Limit, check_deadline, check_downtime
from lilith.planning.load import Load, Overload, loads, moves, overloads, periods
from lilith.planning.markdown import plan_markdown
from lilith.planning.network import (
    CriticalPath,
    build_network,
    critical_path,
    driving_chain,
    project_links,
)
from lilith.planning.project import DISTRIBUTIONS, PlanningError, Project
from lilith.planning.risks import risk_register
from lilith.planning.sprints import sprints
from lilith.planning.timeline import Availability, Timeline

FEWEST_RUNS, MOST_RUNS = 100, 100_000
LONGEST_SPRINT = 260  # working days
_UNSURE = 0.8  # a deadline less probable than this is warned of
_NAMED = 5  # names in one sentence


@dataclass(frozen=True)
class Plan:
    """Everything that is known of a project's course.

    Attributes:
      path: the critical path method's times, with people without limit.
      levelled: the schedule with the people there are; chain: the tasks that drive its finish, by
        dependencies or because they wait for people.
      load: of every resource; overloads: who would have too much to do without levelling.
      deadline, downtime: the limits, where there are any.
      warnings: sentences the reader must know.
    """

    project: Project
    timeline: Timeline
    path: CriticalPath
    levelled: Levelled
    chain: tuple[str, ...]
    load: Mapping[str, Load]
    overloads: tuple[Overload, ...]
    forecast: Forecast
    deadline: Limit | None
    downtime: Limit | None
    risks: Mapping[str, Any]
    sprints: list[dict[str, Any]]
    kpis: Mapping[str, Any]
    earned_value: Mapping[str, Any] | None
    warnings: tuple[str, ...]

    @property
    def finish(self) -> datetime.date:
        """The last day of work."""
        return self.timeline.finish_date(self.levelled.end)

    def dates(self, task: str, start: int, finish: int) -> tuple[datetime.date, datetime.date]:
        """First and last day of work in slots; a milestone is on the day of what it closes."""
        if start < finish:
            return self.timeline.start_date(start), self.timeline.finish_date(finish)
        own = next(own for own in self.project.tasks if own.id == task)
        day = self.timeline.finish_date(finish)
        if own.not_before is not None and day < own.not_before:
            day = self.timeline.start_date(start)
        return day, day

    def rows(self) -> list[dict[str, Any]]:
        """The schedule, a row a task, in the order of their starts."""
        critical, chain = set(self.path.critical), set(self.chain)
        slots = self.timeline.slots
        share = dict(zip(self.forecast.tasks, self.forecast.simulation.criticality))
        found = []
        for task in self.project.tasks:
            times, estimate = self.path.times[task.id], task.estimate
            start, finish = self.levelled.starts[task.id], self.levelled.finishes[task.id]
            days = {
                name: [day.isoformat() for day in self.dates(task.id, *pair)]
                for name, pair in (
                    ("planned", (start, finish)),
                    ("earliest", (times.early_start, times.early_finish)),
                    ("latest", (times.late_start, times.late_finish)),
                )
            }
            found.append({
                "task": task.id,
                "name": task.name,
                "start": days["planned"][0],
                "finish": days["planned"][1],
                "days": round(estimate.mean, 4),
                "deviation_days": round(estimate.deviation, 4),
                "team": dict(self.levelled.teams[task.id]),
                "critical": task.id in critical,
                "drives_finish": task.id in chain,
                "criticality": round(float(share[task.id]), 4),
                "total_slack_days": times.total_slack / slots,
                "free_slack_days": times.free_slack / slots,
                "earliest": days["earliest"],
                "latest": days["latest"],
                "start_day": start / slots,
                "finish_day": finish / slots,
            })  # fmt: skip
        return sorted(found, key=lambda row: row["start_day"])

    def gantt_svg(self) -> str:
        """The chart of the levelled schedule."""
        names = {task.id: task.name for task in self.project.tasks}
        critical, chain = set(self.path.critical), set(self.chain)
        rows = self.rows()
        first = min(datetime.date.fromisoformat(row["start"]) for row in rows)
        bars = []
        for row in rows:
            start, finish = self.levelled.starts[row["task"]], self.levelled.finishes[row["task"]]
            begin, end = (datetime.date.fromisoformat(row[name]) for name in ("start", "finish"))
            slots = self.timeline.slots
            kind = "critical" if row["task"] in critical else "plain"
            kind = "people" if kind == "plain" and row["task"] in chain else kind
            if start == finish:
                kind = "milestone"
            bars.append(
                Bar(
                    names[row["task"]],
                    (begin - first).days + start % slots / slots,
                    (end - first).days + (((finish - 1) % slots + 1) / slots if finish else 0.0),
                    begin,
                    end,
                    kind,
                    ", ".join(row["team"]),
                )
            )
        p80 = datetime.date.fromisoformat(finish_day(self.timeline, self.forecast.percentiles[80]))
        marks = [Mark("P80", p80)]
        if self.project.constraints.deadline is not None:
            marks.append(Mark("deadline", self.project.constraints.deadline))
        return gantt(self.project.name, bars, marks, self.project.calendar)

    def to_json(self, *, chart: bool = True, most_drivers: int = 15) -> dict[str, Any]:
        """The plan in JSON's types; ``chart`` says whether with the Gantt chart."""
        return {
            "project": self.project.name,
            "start": self.timeline.date(0).isoformat(),
            "finish": self.finish.isoformat(),
            "length_days": self.levelled.end / self.timeline.slots,
            "schedule": self.rows(),
            "critical_path": list(self.path.path),
            "critical_tasks": self.path.critical,
            "critical_path_finish": self.timeline.finish_date(self.path.end).isoformat(),
            "critical_path_days": self.path.end / self.timeline.slots,
            "critical_chain": list(self.chain),
            "resources": [
                {
                    "resource": own.id,
                    "capacity": own.capacity,
                    "utilisation": self.kpis["utilisation"].get(own.id),
                    "load": periods(self.load[own.id], self.timeline),
                }
                for own in self.project.resources
            ],
            "overloaded": [
                {
                    **own._asdict(),
                    **{name: getattr(own, name).isoformat() for name in ("first", "last", "worst")},
                    "tasks": list(own.tasks),
                }
                for own in self.overloads
            ],
            "levelling": {
                "finish_before": self.timeline.finish_date(self.path.end).isoformat(),
                "finish_after": self.finish.isoformat(),
                "moved": moves(self.path, self.levelled, self.timeline),
            },
            "deadline": self.deadline and self.deadline.to_json(),
            "downtime": self.downtime and self.downtime.to_json(),
            "forecast": self.forecast.to_json(self.timeline, most_drivers),
            "risks": self.risks,
            "sprints": self.sprints,
            "kpis": self.kpis,
            "earned_value": self.earned_value,
            "gantt_svg": self.gantt_svg() if chart else None,
        }

    def to_markdown(self) -> str:
        """The plan as a page of Markdown, without the chart."""
        return plan_markdown(self.to_json(chart=False), self.warnings)


def plan_project(
    project: Project,
    *,
    runs: int = 5_000,
    seed: int = 0,
    distribution: str = "pert",
    sprint_days: int = 10,
) -> Plan:
    """Plan ``project``.

    Tasks take PERT's mean of their estimates, rounded to ten minutes.

    Args:
      runs: of the simulation; seed: of its random numbers.
      distribution: of the tasks' times: pert or triangular.
      sprint_days: working days of a sprint.

    Raises:
      PlanningError: tasks wait for each other in a circle, one can never be done, or an argument
        is out of range.
    """
    _check_options(runs, seed, distribution, sprint_days)
    timeline = Timeline(project.calendar, project.start)
    availability = Availability(timeline)
    links = project_links(project, timeline)
    network = build_network(project, timeline, links)
    durations = {task.id: timeline.to_slots(task.estimate.mean) for task in project.tasks}
    path = critical_path(network, durations)
    timeline.finish_date(path.end)  # says that the plan is too long, before it takes long
    levelled = level(project, network, path, durations, timeline, availability)
    handed = build_network(project, timeline, [*links, *levelled.links])
    people = {own.id: own for own in project.resources}

    def begin(name: str, ready: int) -> int:
        team = [people[own] for own, _ in levelled.teams[name]]
        return availability.first_slot(team, ready) if durations[name] else ready

    chain = driving_chain(handed, levelled.starts, levelled.finishes, begin)
    load = loads(
        project.resources, levelled.starts, levelled.finishes, levelled.teams, timeline,
        availability, rest=True,
    )  # fmt: skip
    expected = forecast(
        project, handed, levelled, timeline, availability,
        runs=runs, seed=seed, distribution=distribution,
    )  # fmt: skip
    deadline = check_deadline(
        project, network, timeline, unlimited_end=path.end, planned_end=levelled.end,
        chain=chain, probability=expected.deadline or 0.0,
    )  # fmt: skip
    over = overloads(project, path, levelled, timeline, availability)
    risks = risk_register(project.risks)
    downtime = check_downtime(project, expected)
    return Plan(
        project, timeline, path, levelled, chain, load, tuple(over), expected, deadline, downtime,
        risks, sprints(project, levelled, load, timeline, availability, days=sprint_days),
        planned_kpis(path, levelled, expected, load, timeline),
        earned_value(project, levelled, timeline, availability),
        tuple(_warnings(deadline, downtime, over, path, levelled, timeline, risks["gaps"])),
    )  # fmt: skip


def _check_options(runs: int, seed: int, distribution: str, sprint_days: int) -> None:
    for name, value, least, most in (
        ("runs", runs, FEWEST_RUNS, MOST_RUNS),
        ("seed", seed, 0, 2**32 - 1),
        ("sprint_days", sprint_days, 1, LONGEST_SPRINT),
    ):
        if not least <= value <= most:
            raise PlanningError(
                "out_of_range", name, f"{name} is {value}", f"give {least} to {most:,}"
            )
    if distribution not in DISTRIBUTIONS:
        raise PlanningError(
            "unknown_choice", "distribution", f"distribution is {distribution!r}",
            f"one of {', '.join(DISTRIBUTIONS)}",
        )  # fmt: skip


def _warnings(
    deadline: Limit | None,
    downtime: Limit | None,
    over: list[Overload],
    path: CriticalPath,
    levelled: Levelled,
    timeline: Timeline,
    gaps: list[str],
) -> list[str]:
    found = [
        limit.sentence
        for limit in (deadline, downtime)
        if limit and (limit.verdict != HELD or limit.figures["probability"] < _UNSURE)
    ]
    for own in over:
        found.append(f"Before levelling {own}.")
    if over:
        moved = moves(path, levelled, timeline)
        names = ", ".join(own["task"] for own in moved[:_NAMED])
        found.append(
            f"Levelling moves {len(moved)} {'task' if len(moved) == 1 else 'tasks'} ({names}"
            f"{', …' if len(moved) > _NAMED else ''}) and the finish from "
            f"{timeline.finish_date(path.end)} to {timeline.finish_date(levelled.end)}."
        )
    return [*found, *(f"Risk: {gap}." for gap in gaps)]
