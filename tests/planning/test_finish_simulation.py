"""The simulation: known distributions, PERT's own figures, calendars, risks and the tornado."""

from __future__ import annotations

import datetime
import math

import numpy as np
import pytest
from hypothesis import given, settings
from planning_projects import MIGRATION, START, drawn_projects, schedule
from planning_textbook import RELIABLE, RELIABLE_PATH, entries
from scipy import stats

from lilith.planning.forecast import Forecast, forecast
from lilith.planning.network import build_network, project_links
from lilith.planning.project import Estimate, Project
from lilith.planning.reading import read_project
from lilith.planning.simulation import quantiles, totals


def run(project: Project, runs: int = 2048, seed: int = 0, distribution: str = "pert") -> Forecast:
    timeline, availability, _, _, levelled, _ = schedule(project)
    links = [*project_links(project, timeline), *levelled.links]
    network = build_network(project, timeline, links)
    return forecast(
        project, network, levelled, timeline, availability,
        runs=runs, seed=seed, distribution=distribution,
    )  # fmt: skip


def by_task(found: Forecast, values: np.ndarray) -> dict[str, float]:
    return dict(zip(found.tasks, values.tolist()))


def test_quantiles_are_those_of_the_distributions():
    estimates = [Estimate(2, 5, 20), Estimate(1, 1, 7), Estimate(0, 3, 3), Estimate(4, 4, 4)]
    level = (1 - np.cos(np.pi * np.arange(1025) / 1024)) / 2
    inner = slice(20, -20)  # the quantile function is vertical at the ends
    for kind in ("pert", "triangular"):
        for own, row in zip(estimates, quantiles(estimates, kind)):
            width = own.pessimistic - own.optimistic
            if not width:
                np.testing.assert_array_equal(row, own.likely)
                continue
            peak = (own.likely - own.optimistic) / width
            exact = stats.beta(1 + 4 * peak, 5 - 4 * peak) if kind == "pert" else stats.triang(peak)
            wanted = own.optimistic + width * exact.ppf(level)
            np.testing.assert_allclose(row[inner], wanted[inner], atol=2e-4 * width)


@pytest.mark.parametrize("kind", ["pert", "triangular"])
def test_one_task_has_the_exact_distribution(kind):
    project = read_project([{"id": "a", "estimate": [2, 5, 20]}], START)
    found = run(project, 20_000, distribution=kind)
    peak = 3 / 18
    exact = (stats.beta(1 + 4 * peak, 5 - 4 * peak, 2, 18) if kind == "pert"
             else stats.triang(peak, 2, 18))  # fmt: skip
    assert stats.kstest(found.simulation.finish, exact.cdf).pvalue > 1e-3
    for level in (50, 80, 95):
        assert found.percentiles[level] == pytest.approx(exact.ppf(level / 100), abs=0.25)
    swing = found.simulation.high - found.simulation.low
    assert swing[0] == pytest.approx(exact.ppf(0.9) - exact.ppf(0.1), abs=0.01)
    assert found.simulation.correlation[0] == pytest.approx(1)
    assert found.simulation.criticality[0] == 1


def test_a_chain_has_the_mean_of_pert_and_the_sum_of_the_variances():
    chain = [
        {"id": str(i), "estimate": [2 + i, 4 + i, 12], "depends_on": [str(i - 1)] if i else []}
        for i in range(8)
    ]
    found = run(read_project(chain, START), 20_000)
    estimates = [Estimate(2 + i, 4 + i, 12) for i in range(8)]
    mean = sum(own.mean for own in estimates)
    # The variance of Beta-PERT is (mean - o) (p - mean) / 7; PERT's ((p - o) / 6)^2 is near it.
    spread = math.sqrt(
        sum((e.mean - e.optimistic) * (e.pessimistic - e.mean) / 7 for e in estimates)
    )
    assert found.mean == pytest.approx(mean, abs=5 * spread / math.sqrt(20_000))
    assert found.deviation == pytest.approx(spread, rel=0.03)
    assert stats.kstest((found.simulation.finish - mean) / spread, "norm").statistic < 0.02


def test_reliable_construction_is_later_than_pert_says():
    project = read_project(
        entries(RELIABLE), START, constraints={"deadline": "2026-05-05"}
    )  # 47 working days
    found = run(project, 20_000)
    # PERT looks at one path and says 0.8413; the other paths of the network take some of it.
    assert 0.70 < found.deadline < 0.8413
    assert 44 < found.mean < 46
    critical = by_task(found, found.simulation.criticality)
    assert critical["A"] == critical["B"] == critical["C"] == 1
    assert all(critical[name] > 0.5 for name in RELIABLE_PATH)
    assert critical["K"] + critical["L"] == pytest.approx(critical["J"], abs=0.01)
    assert next(row["task"] for row in found.tornado(schedule(project)[0])) == "C"


def test_the_same_seed_gives_the_same_runs():
    project = read_project(entries(RELIABLE), START)
    first, again, other = run(project), run(project), run(project, seed=1)
    np.testing.assert_array_equal(first.simulation.finish, again.simulation.finish)
    assert (first.simulation.finish != other.simulation.finish).any()
    more = run(project, 3000).simulation.finish  # the first runs are the same ones
    np.testing.assert_array_equal(more[:2048], first.simulation.finish)


@settings(max_examples=12, deadline=None)
@given(drawn_projects())
def test_runs_without_spread_end_when_the_schedule_does(project: Project):
    fixed = Project(
        tuple(
            type(task)(**{
                **vars(task), "estimate": Estimate(*[round(8 * task.estimate.mean) / 8] * 3)
            })
            for task in project.tasks
        ),
        project.start, resources=project.resources, calendar=project.calendar,
    )  # fmt: skip
    timeline, _, _, _, levelled, _ = schedule(fixed)
    found = run(fixed, 100)
    np.testing.assert_allclose(found.simulation.finish, levelled.end / timeline.slots, atol=1e-6)
    ends = {name for name, finish in levelled.finishes.items() if finish == levelled.end}
    critical = by_task(found, found.simulation.criticality)
    assert all(critical[name] == 1 for name in ends)


def test_risks_delay_their_tasks_with_their_probability():
    project = read_project(
        [{"id": "a", "estimate": 5}, {"id": "b", "estimate": 4, "depends_on": ["a"]}],
        START,
        risks=[{"name": "r", "probability": 0.3, "impact": 3, "tasks": ["b"], "delay": 10}],
    )
    finish = run(project, 10_000).simulation.finish
    assert set(np.round(finish, 6)) == {9.0, 19.0}
    assert np.mean(finish > 10) == pytest.approx(0.3, abs=0.02)


def test_days_off_stretch_a_run():
    project = read_project(
        [{"id": "a", "estimate": [1, 2, 6], "resources": ["Ann"]}],
        START,
        resources=[{"id": "Ann", "working_days": ["mon", "thu"]}],
    )
    finish = run(project).simulation.finish
    part = finish % 5
    assert (((part > 0) & (part <= 1)) | ((part > 3) & (part <= 4))).all()
    assert finish.max() > 10


def test_a_link_from_a_start_waits_for_the_people_of_that_task():
    project = read_project(
        [
            {"id": "a", "estimate": 0.5, "resources": ["Ann"]},
            {"id": "b", "estimate": 1, "depends_on": [{"task": "a", "kind": "SS"}]},
        ],
        START,
        resources=[{"id": "Ann", "working_days": ["thu"]}],
    )
    np.testing.assert_allclose(run(project, 100).simulation.finish, 4.0)


def test_downtime_has_the_distribution_of_its_sum():
    one = Estimate(0.3, 0.5, 1.5)
    drawn = totals([one], runs=20_000, seed=3)
    peak = 0.2 / 1.2
    exact = stats.beta(1 + 4 * peak, 5 - 4 * peak, 0.3, 1.2)
    assert stats.kstest(drawn, exact.cdf).pvalue > 1e-3
    two = totals([one, one], runs=20_000, seed=3)
    assert two.mean() == pytest.approx(2 * one.mean, rel=0.01)
    project = dict(MIGRATION)
    found = run(read_project(project.pop("tasks"), project.pop("start"), **project), 2048)
    assert found.downtime == pytest.approx(exact.cdf(1.0), abs=0.03)


def test_the_deadline_counts_its_own_day():
    tasks = [{"id": "a", "estimate": 5}]
    friday = datetime.date(2026, 3, 6)
    for day, chance in ((friday, 1.0), (friday - datetime.timedelta(days=1), 0.0)):
        assert run(read_project(tasks, START, constraints={"deadline": day})).deadline == chance
