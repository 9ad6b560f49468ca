"""The simulated finish of a levelled project: percentiles, chances, and what drives the end."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import jax
import numpy as np

from lilith.planning.levelling import Levelled
from lilith.planning.network import Network
from lilith.planning.project import Estimate, Project
from lilith.planning.simulation import Simulation, Work, ends_at, simulate, totals
from lilith.planning.timeline import MOST_DAYS, Availability, Timeline

PERCENTILES = (50, 80, 95)
_ROUNDING = 1e-6  # of a day
_LEAST = 16  # sizes are powers of two from here on, so that few programs are compiled


@dataclass(frozen=True)
class Forecast:
    """What the runs say, in working days since the start.

    Attributes:
      percentiles: of the finish, by their number; deadline, downtime: the probability that each
        limit holds, or None without a limit.
      criticality, correlation, low, high: of every task, as in :class:`Simulation`.
    """

    runs: int
    seed: int
    distribution: str
    mean: float
    deviation: float
    percentiles: Mapping[int, float]
    deadline: float | None
    downtime: float | None
    tasks: tuple[str, ...]
    simulation: Simulation

    def tornado(self, timeline: Timeline, most: int | None = None) -> list[dict[str, Any]]:
        """The tasks that move the finish, the strongest first, by how far they move it."""
        own = self.simulation
        swing = own.high - own.low
        strength = np.nan_to_num(np.abs(own.correlation))
        order = sorted(range(len(swing)), key=lambda i: (-round(swing[i], 6), -strength[i], i))
        return [
            {
                "task": self.tasks[i],
                "finish_at_p10": finish_day(timeline, own.low[i]),
                "finish_at_p90": finish_day(timeline, own.high[i]),
                "swing_days": round(float(swing[i]), 4),
                "rank_correlation": None
                if math.isnan(own.correlation[i])
                else round(float(own.correlation[i]), 4),
                "criticality": round(float(own.criticality[i]), 4),
            }
            for i in order[:most]
            if swing[i] > _ROUNDING or strength[i] > 0
        ]

    def to_json(self, timeline: Timeline, most_drivers: int) -> dict[str, Any]:
        """The figures, with dates."""
        return {
            "runs": self.runs,
            "seed": self.seed,
            "distribution": self.distribution,
            "mean_days": round(self.mean, 4),
            "deviation_days": round(self.deviation, 4),
            "percentiles": {
                f"P{level}": {"days": round(days, 4), "date": finish_day(timeline, days)}
                for level, days in self.percentiles.items()
            },
            "deadline_probability": self.deadline,
            "downtime_probability": self.downtime,
            "tornado": self.tornado(timeline, most_drivers),
        }


def finish_day(timeline: Timeline, days: float) -> str:
    """The ISO date on which work ends that takes until ``days`` after the start."""
    return timeline.date(max(math.ceil(days - _ROUNDING) - 1, 0)).isoformat()


def forecast(
    project: Project,
    network: Network,
    levelled: Levelled,
    timeline: Timeline,
    availability: Availability,
    *,
    runs: int,
    seed: int,
    distribution: str,
) -> Forecast:
    """Simulate ``network``, which must hold the links of levelling too."""
    place = {name: i for i, name in enumerate(network.order)}
    tasks = {task.id: task for task in project.tasks}
    size = _padded(len(place) + 1)
    nothing = Estimate(0, 0, 0)
    estimates = [tasks[name].estimate for name in network.order]
    estimates += [nothing] * (size - len(estimates))
    risks = [
        (risk.probability, {place[name]: risk.delay for name in risk.tasks})
        for risk in project.risks
        if risk.delay > 0
    ]
    work = _work(project, network, levelled, timeline, availability, estimates, risks)
    found = simulate(work, estimates, runs=runs, seed=seed, distribution=distribution, risks=risks)
    count = len(place)
    found = replace(
        found,
        **{
            name: getattr(found, name)[:count]
            for name in ("criticality", "correlation", "low", "high")
        },
    )
    limits = project.constraints
    deadline = downtime = None
    if limits.deadline is not None:
        last = timeline.days_through(limits.deadline)
        deadline = float(np.mean(found.finish <= last + _ROUNDING))
    if limits.most_downtime is not None:
        causes = [task.downtime for task in project.tasks if task.downtime is not None]
        drawn = totals(causes or [nothing], runs=runs, seed=seed, distribution=distribution)
        downtime = float(np.mean(drawn <= limits.most_downtime + _ROUNDING))
    levels = np.percentile(found.finish, PERCENTILES)
    return Forecast(
        runs, seed, distribution, float(found.finish.mean()), float(found.finish.std()),
        dict(zip(PERCENTILES, levels.tolist())), deadline, downtime, network.order, found,
    )  # fmt: skip


def _padded(count: int) -> int:
    return max(_LEAST, 1 << (count - 1).bit_length())


def _work(
    project: Project,
    network: Network,
    levelled: Levelled,
    timeline: Timeline,
    availability: Availability,
    estimates: Sequence[Estimate],
    risks: Sequence[tuple[float, Mapping[int, float]]],
) -> Work:
    """The arrays of a network, with as many days as the longest run can take.

    Sizes are padded: with tasks that take no time, and links of the last such task to itself.
    """
    place = {name: i for i, name in enumerate(network.order)}
    people = {own.id: own for own in project.resources}
    links = network.links
    spare = _padded(len(links)) - len(links)
    idle = [len(estimates) - 1] * spare
    groups = {
        name: frozenset(own for own, _ in levelled.teams[name]) for name in network.order
    }  # fmt: skip
    teams = list(dict.fromkeys(groups.values()))
    row = {team: i for i, team in enumerate(teams)}
    not_before = np.zeros(len(estimates))
    for name, slot in network.not_before.items():
        not_before[place[name]] = slot / timeline.slots
    longest = np.array([own.pessimistic for own in estimates])
    for _, added in risks:
        for task, delay in added.items():
            longest[task] += delay
    days = 8 * _LEAST
    while True:
        done, day = _working_days(
            [availability.days([people[own] for own in team], days)[:days] for team in teams]
        )
        work = Work(
            source=np.array([place[own.before] for own in links] + idle, np.int32),
            target=np.array([place[own.after] for own in links] + idle, np.int32),
            lag=np.array([own.lag / timeline.slots for own in links] + [0.0] * spare),
            by_start=np.array([own.kind == "SS" for own in links] + [False] * spare),
            not_before=not_before,
            team=np.array(
                [row[groups[name]] for name in network.order]
                + [0] * (len(estimates) - len(place)),
                np.int32,
            ),
            done=done,
            day=day,
        )  # fmt: skip
        with jax.enable_x64(True):
            end = float(ends_at(work, longest, longest[:1])[0])
        if end < days - 1:
            return work
        timeline.date(min(int(end), MOST_DAYS))  # says that the plan is too long
        days = min(_padded(max(2 * days, int(end) + 2)), MOST_DAYS)


def _working_days(there: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """``Work.done`` and ``Work.day``; behind the last day everybody is there."""
    days = len(there[0])
    rows = -(-len(there) // 4) * 4
    done, day = np.zeros((rows, days + 1)), np.zeros((rows, days + 1))
    for i, own in enumerate(there):
        done[i, 1:] = np.cumsum(own)
        at = np.flatnonzero(own)
        day[i] = np.concatenate([at, days + np.arange(days + 1 - len(at))])
    return done, day
