"""Figures of a plan, and earned value where progress is given."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from lilith.planning.forecast import Forecast
from lilith.planning.levelling import Levelled
from lilith.planning.load import Load
from lilith.planning.network import CriticalPath
from lilith.planning.project import PlanningError, Project
from lilith.planning.timeline import Availability, Timeline


def planned_kpis(
    path: CriticalPath,
    levelled: Levelled,
    forecast: Forecast,
    load: Mapping[str, Load],
    timeline: Timeline,
) -> dict[str, Any]:
    """What the plan itself says; days are working days, shares are fractions."""
    slots = timeline.slots
    work = sum(own.early_finish - own.early_start for own in path.times.values()) / slots
    length = levelled.end / slots
    used = {name: float(own.mean.sum()) for name, own in load.items()}
    there = {name: float(own.capacity.sum()) for name, own in load.items()}
    shares = {name: used[name] / there[name] for name in used if there[name]}
    last = timeline.finish_date(levelled.end)
    return {
        "tasks": len(path.times),
        "length_days": length,
        "length_calendar_days": (last - timeline.date(0)).days + 1,
        "work_task_days": round(work, 4),
        "effort_person_days": round(sum(used.values()), 4),
        "parallelism": round(work / length, 4) if length else None,
        "critical_share": round(len(path.critical) / len(path.times), 4),
        "mean_slack_days": round(
            float(np.mean([own.total_slack for own in path.times.values()])) / slots, 4
        ),
        "levelling_delay_days": (levelled.end - path.end) / slots,
        "buffer_to_p80_days": round(forecast.percentiles[80] - length, 4),
        "utilisation": {name: round(share, 4) for name, share in shares.items()},
        "mean_utilisation": round(sum(used.values()) / sum(there.values()), 4)
        if sum(there.values())
        else None,
    }


def earned_value(
    project: Project, levelled: Levelled, timeline: Timeline, availability: Availability
) -> dict[str, Any] | None:
    """PV, EV, AC and what follows from them (PMI, Practice Standard for EVM), or None.

    Budgets are the tasks' costs where all tasks that take time have one, else their person-days
    (task-days, for tasks without people). Work is planned evenly over the days of a task.

    Raises:
      PlanningError: some tasks have a cost and others have none.
    """
    progress = project.progress
    if progress is None:
        return None
    slots = timeline.slots
    today = timeline.days_through(progress.as_of) * slots
    people = {own.id: own for own in project.resources}
    working = [
        task for task in project.tasks if levelled.finishes[task.id] > levelled.starts[task.id]
    ]
    priced = [task for task in working if task.cost is not None]
    if priced and len(priced) < len(working):
        first = next(task for task in working if task.cost is None)
        raise PlanningError(
            "missing_cost", "tasks", f"task {first.id!r} has no cost and {priced[0].id!r} has one, "
            "so earned value has no unit", "give every task a cost, or none",
        )  # fmt: skip
    budget, planned = {}, {}
    for task in project.tasks:
        team = levelled.teams[task.id]
        used = np.arange(levelled.starts[task.id], levelled.finishes[task.id])
        there = availability.days([people[name] for name, _ in team], levelled.end // slots + 1)
        used = used[there[used // slots]]
        effort = len(used) / slots * (sum(units for _, units in team) or 1.0)
        budget[task.id] = (task.cost or 0.0) if priced else effort
        planned[task.id] = (
            float((used < today).mean())
            if len(used)
            else float(levelled.finishes[task.id] <= today)
        )
    done, spent = dict(progress.done), dict(progress.spent)
    pv = sum(budget[name] * planned[name] for name in budget)
    ev = sum(budget[name] * done.get(name, 0.0) for name in budget)
    return {
        "as_of": progress.as_of.isoformat(),
        "unit": "money" if priced else "person-days",
        **indices(sum(budget.values()), pv, ev, sum(spent.values()) if spent else None),
        "behind": [
            {"task": name, "planned": round(planned[name], 4), "done": done.get(name, 0.0)}
            for name in budget
            if done.get(name, 0.0) < planned[name] - 1e-9
        ],
    }


def indices(total: float, pv: float, ev: float, ac: float | None) -> dict[str, float | None]:
    """Variances and indices of earned value; None where a divisor is 0 or nothing is known.

    CPI = EV / AC, SPI = EV / PV, EAC = BAC / CPI, VAC = BAC - EAC,
    TCPI = (BAC - EV) / (BAC - AC).
    """
    cpi = ev / ac if ac else None
    eac = total / cpi if cpi else None
    return {
        "BAC": total,
        "PV": pv,
        "EV": ev,
        "AC": ac,
        "SV": ev - pv,
        "CV": None if ac is None else ev - ac,
        "SPI": ev / pv if pv else None,
        "CPI": cpi,
        "EAC": eac,
        "ETC": None if eac is None or ac is None else eac - ac,
        "VAC": None if eac is None else total - eac,
        "TCPI": (total - ev) / (total - ac) if ac is not None and total > ac else None,
    }
