"""Plans: every path, date, sum and choice recomputed another way."""

from __future__ import annotations

import datetime
import itertools
import random
from fractions import Fraction

import pytest
from drawn_records import both_splits, text_of

from lilith.data.instructions import planning_math as plans
from lilith.data.instructions.planning_math import Story, Task


def all_paths(tasks: list[Task]) -> list[list[str]]:
    """Every chain from a task without predecessors to one without followers."""
    followers = {t.name: [o.name for o in tasks if t.name in o.after] for t in tasks}

    def chains(name: str) -> list[list[str]]:
        tails = [tail for other in followers[name] for tail in chains(other)]
        return [[name, *tail] for tail in tails] or [[name]]

    return [chain for task in tasks if not task.after for chain in chains(task.name)]


def brute(tasks: list[Task]) -> tuple[int, list[list[str]], dict[str, int]]:
    """Length of the project, the longest paths, the slack of each task, over all paths."""
    days = {t.name: t.days for t in tasks}
    lengths = [(sum(days[name] for name in path), path) for path in all_paths(tasks)]
    end = max(length for length, _ in lengths)
    slack = {t.name: end - max(n for n, path in lengths if t.name in path) for t in tasks}
    return end, [path for length, path in lengths if length == end], slack


def tasks_of(check: dict) -> list[Task]:
    return [Task(name, days, tuple(after)) for name, days, after in check["tasks"]]


def random_tasks(seed: int) -> list[Task]:
    rng = random.Random(seed)
    names = "abcdefgh"[: rng.randint(3, 8)]
    return [
        Task(name, rng.randint(1, 4), tuple(n for n in names[:i] if rng.random() < 0.35))
        for i, name in enumerate(names)
    ]


@pytest.mark.parametrize("seed", range(40))
def test_the_two_passes_agree_with_every_path(seed: int) -> None:
    tasks = random_tasks(seed)
    end, paths, slack = brute(tasks)
    times = plans.schedule(tasks)
    assert max(time.finish for time in times.values()) == end
    assert sorted(plans.critical_paths(tasks)) == sorted(paths)
    assert {name: time.slack for name, time in times.items()} == slack
    for task in tasks:  # free slack: as long as the task may grow without moving any other
        longer = [
            Task(t.name, t.days + times[task.name].free * (t is task), t.after) for t in tasks
        ]
        moved = plans.schedule(longer)
        assert all(moved[t.name].start == times[t.name].start for t in tasks)
        assert max(time.finish for time in moved.values()) == end
        too_long = [
            Task(t.name, t.days + (times[task.name].free + 1) * (t is task), t.after) for t in tasks
        ]
        moved = plans.schedule(too_long)
        late = max(time.finish for time in moved.values()) > end
        assert late or any(moved[t.name].start > times[t.name].start for t in tasks)


def test_a_schedule_by_hand() -> None:
    tasks = [
        Task("design", 3), Task("data", 5), Task("build", 4, ("design", "data")),
        Task("train", 1, ("design",)), Task("ship", 2, ("build", "train")),
    ]  # fmt: skip
    times = plans.schedule(tasks)
    assert plans.critical_paths(tasks) == [["data", "build", "ship"]]
    assert times["ship"].finish == 11
    assert (times["design"].slack, times["design"].free) == (2, 0)
    assert (times["train"].slack, times["train"].free) == (5, 5)
    assert (times["train"].latest_start, times["train"].latest_finish) == (8, 9)


@pytest.mark.parametrize(
    ("tasks", "words"),
    [
        ([Task("a", 1, ("b",)), Task("b", 1, ("a",))], "circle"),
        ([Task("a", 1, ("z",))], "a waits for z, which is not a task"),
        ([Task("a", 1), Task("a", 2)], "same name"),
    ],
)
def test_impossible_plans_are_refused(tasks: list[Task], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        plans.schedule(tasks)


def test_working_days_by_hand() -> None:
    friday = datetime.date(2025, 5, 2)
    monday, tuesday = datetime.date(2025, 5, 5), datetime.date(2025, 5, 6)
    assert plans.working_day(friday, 0) == friday
    assert plans.working_day(friday, 1) == monday
    assert plans.working_day(friday + datetime.timedelta(days=1), 0) == monday
    assert plans.working_day(friday, 1, [monday]) == tuesday
    leap = datetime.date(2028, 2, 28)
    assert plans.working_day(leap, 2) == datetime.date(2028, 3, 1)


def counted_days(start: datetime.date, end: datetime.date, holidays: set) -> int:
    """Working days from start to end, both included."""
    span = (start + datetime.timedelta(days=i) for i in range((end - start).days + 1))
    return sum(day.isoweekday() < 6 and day not in holidays for day in span)


@pytest.mark.parametrize("kind", ["task_breakdown", "critical_path", "slip_effect"])
def test_plans_agree_with_every_path(kind: str) -> None:
    for record in both_splits(kind, 60):
        check, answer = record["metadata"]["check"], text_of(record, "assistant")
        tasks = tasks_of(check)
        end, paths, slack = brute(tasks)
        for task in tasks:
            assert task.name in text_of(record, "user")
        if kind == "task_breakdown":
            assert (check["days"], check["effort"]) == (end, sum(t.days for t in tasks))
            for task in tasks:
                before = [check["waves"][name] for name in task.after]
                assert check["waves"][task.name] == 1 + max(before, default=0)
            assert f"takes {end} working days; the effort is {check['effort']} " in answer
        elif kind == "critical_path":
            assert (check["days"], check["slack"]) == (end, slack)
            assert sorted(check["paths"]) == sorted(paths)
            assert all(" → ".join(path) in answer for path in paths)
            assert f"takes {end} working days" in answer
        else:
            moved = [
                Task(t.name, t.days + check["extra"] * (t.name == check["late"]), t.after)
                for t in tasks
            ]
            after, later_paths, _ = brute(moved)
            assert (check["before"], check["after"]) == (end, after)
            assert all(" → ".join(path) in answer for path in later_paths)
            assert ("The end date holds" in answer) == (after == end)
            assert after == end or f"from {end} to {after} working days" in answer


def test_dates_agree_with_the_calendar() -> None:
    for record in both_splits("delivery_date", 60):
        check = record["metadata"]["check"]
        start = datetime.date.fromisoformat(check["start"])
        holidays = {datetime.date.fromisoformat(day) for day in check["holidays"]}
        tasks = tasks_of(check)
        times = plans.schedule(tasks)
        for task in tasks:
            end = datetime.date.fromisoformat(check["ends"][task.name])
            assert end.isoweekday() < 6
            assert end not in holidays
            assert counted_days(start, end, holidays) == times[task.name].finish
        assert check["done"] == max(check["ends"].values())
        assert check["done"][:4] in text_of(record, "assistant")


def test_sprints_hold_their_capacity() -> None:
    for record in both_splits("sprint_plan", 60):
        check = record["metadata"]["check"]
        mean = Fraction(sum(check["velocities"]), len(check["velocities"]))
        capacity = mean * check["present"] / check["full"]
        assert check["capacity"] <= capacity < check["capacity"] + 1
        sprint = check["sprint"]
        load: dict[int, int] = {}
        for name, points, _, after in check["stories"]:  # in the order of priority
            first = sprint[after] if after else 1
            free = [n for n in range(first, 99) if load.get(n, 0) + points <= check["capacity"]]
            assert sprint[name] == free[0]
            load[free[0]] = load.get(free[0], 0) + points
        answer = text_of(record, "assistant")
        for number, points in load.items():
            assert f"Sprint {number}, {points} of {check['capacity']}:" in answer


def test_stories_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="big has 9 points"):
        plans.pack_sprints([Story("big", 9, 1)], 8)
    with pytest.raises(ValueError, match="a waits for b"):
        plans.pack_sprints([Story("a", 1, 1, "b"), Story("b", 1, 2)], 8)
    packed = plans.pack_sprints([Story("a", 5, 2), Story("b", 5, 1), Story("c", 3, 3)], 8)
    assert packed == {"b": 1, "a": 2, "c": 1}
    waiting = [Story("a", 5, 1), Story("b", 8, 2), Story("c", 3, 3, "b")]
    assert plans.pack_sprints(waiting, 8) == {"a": 1, "b": 2, "c": 3}


def test_resource_plans_name_the_fewest_people() -> None:
    for record in both_splits("resource_plan", 60):
        check = record["metadata"]["check"]
        months = []
        for (_, people, effort), needed in zip(check["teams"], check["needed"]):
            share = Fraction(check["focus_percent"], 100)
            enough = [n for n in range(1, 100) if n * check["deadline"] * share >= effort]
            assert needed == enough[0]
            months.append(Fraction(effort) / people / share)
        assert [Fraction(text) for text in check["months"]] == months
        slowest = check["teams"][months.index(max(months))][0]
        answer = text_of(record, "assistant")
        assert f"{slowest} is the bottleneck" in answer
        feasible = all(n <= p for n, (_, p, _) in zip(check["needed"], check["teams"]))
        assert ("The plan holds" in answer) == feasible
        for (team, people, _), needed in zip(check["teams"], check["needed"]):
            if needed > people:
                assert f"{needed - people} more in {team}" in answer


def test_earned_value_by_its_definitions() -> None:
    for record in both_splits("earned_value", 60):
        check, answer = record["metadata"]["check"], text_of(record, "assistant")
        budget, planned, done, spent = (
            Fraction(check[k]) for k in ("budget", "planned", "done", "spent")
        )
        figures = {name: Fraction(text) for name, text in check["figures"].items()}
        assert figures == {
            "schedule_variance": done - planned, "cost_variance": done - spent,
            "spi": done / planned, "cpi": done / spent, "eac": budget * spent / done,
            "vac": budget - budget * spent / done,
        }  # fmt: skip
        assert f"{float(figures['cpi']):.3f}".rstrip("0").rstrip(".") in answer
        assert ("over budget" in answer) == (spent > done) or "not over budget" in answer
        if record["metadata"]["difficulty"] != "easy":
            assert f"{int(figures['eac'] + Fraction(1, 2)):,}" in answer


def test_kpis_and_targets() -> None:
    for record in both_splits("delivery_kpis", 60):
        check, answer = record["metadata"]["check"], text_of(record, "assistant")
        punctual, due, failed, releases, escaped, found = check["counts"]
        lines = answer.splitlines()
        assert f"{punctual}/{due} = " in lines[0]
        assert ("missed" in lines[0]) == (100 * punctual < 85 * due)
        assert ("missed" in lines[1]) == (100 * failed > 15 * releases)
        if len(lines) > 2:
            assert ("missed" in lines[2]) == (10 * escaped > found + escaped)
        if check["outages"]:
            mean = sum(check["outages"]) / len(check["outages"])
            assert ("missed" in lines[3]) == (mean > 60)


def test_risks_are_ranked_by_score() -> None:
    for record in both_splits("risk_matrix", 60):
        check = record["metadata"]["check"]
        marks = {risk: (p * i, i) for risk, p, i in check["risks"]}
        ranked = [marks[risk] for risk in check["order"]]
        assert ranked == sorted(ranked, reverse=True)
        assert len(ranked) == len(marks)
        for (score, _), band in zip(ranked, check["bands"]):
            bands = {"critical": (15, 25), "high": (10, 14), "medium": (5, 9), "low": (1, 4)}
            assert bands[band][0] <= score <= bands[band][1]
    for record in both_splits("risk_reserve", 60):
        check = record["metadata"]["check"]
        reserve = sum(Fraction(c, 100) * k for c, k in zip(check["chances"], check["costs"]))
        assert Fraction(check["reserve"]) == reserve
        if "worth" in check:
            saved = Fraction(check["chances"][0] - check["lower"], 100) * check["costs"][0]
            assert check["worth"] == (saved > check["price"])
            assert ("not worth it" in text_of(record, "assistant")) == (not check["worth"])


def test_the_chosen_scope_is_the_best() -> None:
    for record in both_splits("trade_off_scope", 60):
        check = record["metadata"]["check"]
        options = check["options"]

        def total(names: list[str], key: str, options: dict = options) -> int:
            return sum(options[name][key] for name in names)

        values = []
        for kept in itertools.product((0, 1), repeat=len(options)):
            names = [name for name, keep in zip(options, kept) if keep]
            fits = all(total(names, key) <= most for key, most in check["limits"].items())
            if fits and set(check["must"]) <= set(names):
                values.append(total(names, "value"))
        best = check["best"]
        assert total(best, "value") == max(values)
        assert set(check["must"]) <= set(best)
        assert all(total(best, key) <= most for key, most in check["limits"].items())
        assert f"value {max(values)}" in text_of(record, "assistant")


def test_the_recommended_approach_is_the_cheapest_that_fits() -> None:
    seen = set()
    for record in both_splits("trade_off_approach", 80):
        check = record["metadata"]["check"]
        fitting = {
            way: need["engineers"] * need["months"]
            for way, need in check["ways"].items()
            if all(need[key] <= most for key, most in check["limits"].items())
            and (need["audited"] or not check["compliance"])
        }
        answer = text_of(record, "assistant")
        seen.add(bool(fitting))
        if fitting:
            assert fitting[check["chosen"]] == min(fitting.values())
            assert f"Recommendation: {check['chosen']}" in answer
        else:
            assert check["chosen"] is None
            assert "None fits" in answer
    assert seen == {True, False}
