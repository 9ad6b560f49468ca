"""Deadlines and downtime: whether they hold, and what would have to shrink where they do not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lilith.planning.forecast import Forecast
from lilith.planning.network import Network, critical_path
from lilith.planning.project import Project, Task
from lilith.planning.timeline import Timeline

HELD, LATE, IMPOSSIBLE = "held", "late", "impossible"


@dataclass(frozen=True)
class Limit:
    """A limit, whether it holds, and the sentence that says so.

    Attributes:
      verdict: held; late (or over) as planned; impossible: not even by the optimistic estimates.
      figures: what it rests on.
    """

    verdict: str
    sentence: str
    figures: Mapping[str, Any]

    def to_json(self) -> dict[str, Any]:
        """The figures with verdict and sentence."""
        return {"verdict": self.verdict, "sentence": self.sentence, **self.figures}


def check_deadline(
    project: Project,
    network: Network,
    timeline: Timeline,
    *,
    unlimited_end: int,
    planned_end: int,
    chain: Sequence[str],
    probability: float,
) -> Limit | None:
    """The deadline against the plan.

    Args:
      network: without the links of levelling.
      unlimited_end: the finish with people without limit; planned_end: with those there are.
      chain: the tasks that drive the planned finish.
    """
    deadline = project.constraints.deadline
    if deadline is None:
        return None
    tasks = {task.id: task for task in project.tasks}
    slots = timeline.slots
    last = timeline.days_through(deadline) * slots
    shortest = {name: timeline.to_slots(own.estimate.optimistic) for name, own in tasks.items()}
    optimistic_end = critical_path(network, shortest).end
    late = max(planned_end - last, 0) / slots
    finish, earliest, optimistic = (
        timeline.finish_date(end) for end in (planned_end, unlimited_end, optimistic_end)
    )
    verdict = IMPOSSIBLE if optimistic_end > last else LATE if late else HELD
    cause = None if not late else "people" if unlimited_end <= last else "critical path"
    shrink = _shrinkable(chain, tasks) if late else []
    saving = round(sum(own["saves_days"] for own in shrink), 4)
    start = f"The deadline {deadline}"
    if verdict == HELD:
        text = f"{start} holds: planned finish {finish}"
    elif verdict == IMPOSSIBLE:
        text = (
            f"{start} is impossible: with every task at its optimistic estimate and people without "
            f"limit the project ends on {optimistic}; planned finish {finish}"
        )
    else:
        text = f"{start} is missed by {late:g} working days: planned finish {finish}"
        if cause == "people":
            text += f", and {earliest} with enough people"
    text += f"; probability {probability:.0%}."
    if late:
        text += _what_must_shrink(late, saving, [own["task"] for own in shrink])
    return Limit(verdict, text, {
        "deadline": deadline.isoformat(),
        "planned_finish": finish.isoformat(),
        "earliest_finish": earliest.isoformat(),
        "optimistic_finish": optimistic.isoformat(),
        "late_by_days": late,
        "cause": cause,
        "probability": probability,
        "must_shrink_days": late,
        "can_shrink": shrink,
    })  # fmt: skip


def _what_must_shrink(late: float, saving: float, names: Sequence[str]) -> str:
    reach = "enough" if saving >= late else "not enough"
    return (
        f" To hold it, {late:g} working days must go from the chain that drives the finish: those "
        "of its tasks that could shrink to their optimistic estimates "
        f"({', '.join(names[:5]) or 'none'}) save {saving:g}, {reach} on this chain."
    )


def _shrinkable(chain: Sequence[str], tasks: Mapping[str, Task]) -> list[dict[str, Any]]:
    """Tasks of a chain that could be shorter, those that save most first."""
    found: list[dict[str, Any]] = [
        {
            "task": name,
            "days": round(tasks[name].estimate.mean, 4),
            "optimistic_days": tasks[name].estimate.optimistic,
            "saves_days": round(tasks[name].estimate.mean - tasks[name].estimate.optimistic, 4),
        }
        for name in chain
    ]
    return sorted(
        (own for own in found if own["saves_days"] > 0), key=lambda own: -own["saves_days"]
    )


def check_downtime(project: Project, forecast: Forecast) -> Limit | None:
    """The downtime of all tasks against its limit."""
    most = project.constraints.most_downtime
    if most is None or forecast.downtime is None:
        return None
    causes = [(task.id, task.downtime) for task in project.tasks if task.downtime is not None]
    expected = sum(own.mean for _, own in causes)
    least = sum(own.optimistic for _, own in causes)
    verdict = IMPOSSIBLE if least > most else LATE if expected > most else HELD
    text = f"The downtime limit of {most:g} hours "
    if verdict == IMPOSSIBLE:
        text += f"is impossible: the optimistic estimates already add up to {least:g} hours"
    elif verdict == LATE:
        text += f"is exceeded: {expected:.4g} hours are expected"
    else:
        text += f"holds: {expected:.4g} hours are expected"
    text += f"; probability {forecast.downtime:.0%}."
    ranked = sorted(causes, key=lambda own: -own[1].mean)
    if verdict != HELD:
        text += f" Most of it comes from {', '.join(name for name, _ in ranked[:3])}."
    return Limit(verdict, text, {
        "most_hours": most,
        "expected_hours": round(expected, 4),
        "optimistic_hours": least,
        "probability": forecast.downtime,
        "tasks": [{"task": name, "expected_hours": round(own.mean, 4)} for name, own in ranked],
    })  # fmt: skip
