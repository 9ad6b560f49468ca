"""Questions on projects that ``plan_project`` answers: when it is done, how long, by which path."""

from __future__ import annotations

import datetime
from collections.abc import Mapping, Sequence
from typing import Any

from lilith.agent.planning_tool import plan_project
from lilith.data.instructions.conversations import joined
from lilith.data.instructions.drawing import Draw
from lilith.data.instructions.planning_material import date_format, sizes, start_date
from lilith.data.instructions.tool_prompts import same_value
from lilith.evals.agent_keys import Chain, Day, Figure, Key

RUNS = 100  # of the simulation, which no question asks about
# What projects are about, with names of their tasks; none of them is in the training material.
PROJECTS = (
    ("the new trading desk", ("survey", "wiring", "hardware", "software", "rehearsal", "opening")),
    ("the office move", ("lease", "layout", "cabling", "furniture", "packing", "inspection")),
    ("the mobile app", ("sketches", "backend", "screens", "payments", "testing", "release")),
    ("our conference", ("venue", "speakers", "tickets", "catering", "streaming", "dinner")),
    ("the data centre", ("permits", "foundations", "cooling", "racks", "network", "acceptance")),
    ("the annual report", ("figures", "drafting", "charts", "audit", "printing", "mailing")),
    ("the clinical study", ("protocol", "approval", "recruiting", "visits", "analysis", "paper")),
    ("the new warehouse", ("site", "walls", "roof", "shelves", "robots", "handover")),
)  # fmt: skip
# By number of tasks, which tasks each waits for; one that the critical path leaves out is in each.
SHAPES: dict[int, tuple[tuple[tuple[int, ...], ...], ...]] = {
    3: (((), (), (0, 1)), ((), (0,), (0,))),
    4: (((), (0,), (0,), (1, 2)), ((), (), (0,), (1, 2)), ((), (0,), (), (1, 2))),
    5: (
        ((), (0,), (0,), (1,), (2, 3)), ((), (), (0, 1), (1,), (2, 3)),
        ((), (0,), (1,), (0,), (2, 3)),
    ),
}  # fmt: skip
ASKS = {
    "finish": (
        "{Title} starts on {start}. On which date is it finished? {tasks}",
        "We begin {title} on {start}: {tasks} Give me the last day of work.",
        "Plan {title} from {start} and tell me the finish date. {tasks}",
        "When will {title} be done if it starts on {start}? {tasks}",
    ),
    "length": (
        "{Title} starts on {start}. How many working days does it take in all? {tasks}",
        "Plan {title}, starting {start}, and tell me its length in working days. {tasks}",
        "How long is {title} in working days, with a start on {start}? {tasks}",
    ),
    "path": (
        "Plan {title} from {start} and name its critical path. {tasks}",
        "{Title} starts on {start}. Which chain of tasks is critical? {tasks}",
        "What is the critical path of {title}, with a start on {start}? {tasks}",
    ),
}
# Arguments that change neither the schedule nor its path; any value of them is right.
FREE = frozenset({"name", "runs", "seed", "distribution", "sprint_days", "chart"})


def planning_question(draw: Draw) -> tuple[str, dict[str, Any], tuple[Key, ...]]:
    """A question, the call that it needs, and what a right answer says.

    A project of three, four or five tasks, the five with three-point estimates; its critical path
    is the only one and leaves a task out.
    """
    title, known = draw.choice(PROJECTS)
    count = sizes(draw.difficulty(), *SHAPES)
    names = tuple(sorted(draw.random.sample(known, count), key=known.index))
    waits = draw.choice(SHAPES[count])
    while True:
        estimates = [_estimate(draw, three=count == max(SHAPES)) for _ in names]
        start = _workday(start_date(draw))
        tasks = [
            {"id": name, "estimate": own} | ({"depends_on": [names[at] for at in after]} if after
                                             else {})
            for name, own, after in zip(names, estimates, waits)
        ]  # fmt: skip
        arguments = {"tasks": tasks, "start": start.isoformat()}
        answer = plan_project(**arguments, runs=RUNS, chart=False)
        if not answer["ok"]:
            raise ValueError(f"{arguments} ended in {answer['error']}")
        result = answer["result"]
        path = result["critical_path"]
        if sorted(result["critical_tasks"]) == sorted(path) and len(path) < count:
            break
    asked = draw.choice(tuple(ASKS))
    key: Key = Chain(tuple(path), names)
    if asked == "finish":
        key = Day(datetime.date.fromisoformat(result["finish"]))
    elif asked == "length":
        key = Figure("length_days", (float(result["length_days"]),))
    question = draw.choice(ASKS[asked]).format(
        title=title, Title=title[0].upper() + title[1:],
        start=start.strftime(date_format(draw)), tasks=_listed(draw, tasks),
    )  # fmt: skip
    question = question.replace(" \n", "\n").strip()
    return question, {"name": plan_project.name, "arguments": arguments}, (key,)


def _estimate(draw: Draw, *, three: bool) -> Any:
    """Working days, or three of them whose PERT mean is a whole number."""
    likely = draw.count(2, 12)
    if not three:
        return likely
    less = draw.count(1, likely - 1)
    return [likely - less, likely, likely + less]


def _workday(day: datetime.date) -> datetime.date:
    return day + datetime.timedelta(days=max(0, 7 - day.weekday()) if day.weekday() > 4 else 0)


def _listed(draw: Draw, tasks: Sequence[Mapping[str, Any]]) -> str:
    """The tasks as a user would write them: in lines, or in sentences."""
    style = draw.choice(("lines", "table", "prose"))
    rows = [(own["id"], own["estimate"], own.get("depends_on", ())) for own in tasks]
    if style == "prose":
        said = [
            f"{name} takes {_days(estimate)}"
            + (f" and comes after {joined(after)}" if after else "")
            for name, estimate, after in rows
        ]
        return f"Its tasks: {'; '.join(said)}."
    if style == "table":
        own = [f"{name} | {_days(days)} | {', '.join(after) or '-'}" for name, days, after in rows]
        return "\n" + "\n".join(["task | time | after", *own]) + "\n"
    own = [
        f"- {name}: {_days(days)}" + (f", after {joined(after)}" if after else "")
        for name, days, after in rows
    ]
    return "\n" + "\n".join(own) + "\n"


def _days(estimate: Any) -> str:
    if isinstance(estimate, list):
        return f"{estimate[0]} to {estimate[2]} days, likely {estimate[1]}"
    return f"{estimate} days"


def same_plan(expected: Mapping[str, Any], given: Any) -> bool:
    """Whether a call plans the same project: start, tasks, estimates and what each waits for.

    A task may be told by its id or its name, in any case; three equal estimates are one number;
    what must be finished before may stand in ``depends_on`` or ``must_follow``. Arguments of
    :data:`FREE` may have any value, the others must be left out or empty where none is expected.
    """
    if not isinstance(given, Mapping) or given.get("name") != expected["name"]:
        return False
    wanted, arguments = expected["arguments"], given.get("arguments")
    if not isinstance(arguments, Mapping) or set(given) - {"name", "arguments"}:
        return False
    known = {own["id"].lower() for own in wanted["tasks"]}
    sides = [_tasks(side.get("tasks"), known) for side in (wanted, arguments)]
    rest = [
        {name: own for name, own in side.items() if name not in FREE | {"tasks"} and not _none(own)}
        for side in (wanted, {"unit": "days", **arguments})
    ]
    rest[0].setdefault("unit", "days")
    return sides[1] is not None and same_value(sides[0], sides[1]) and same_value(*rest)


def _none(value: Any) -> bool:
    return value is None or value == {} or value == []


def _tasks(tasks: Any, known: set[str]) -> dict[str, Any] | None:
    """By name in lower case the estimate and what a task waits for; None for another project."""
    found: dict[str, Any] = {}
    names: dict[str, str] = {}
    try:
        for own in tasks:
            told = [str(own.get(key, "")).strip().lower() for key in ("id", "name")]
            name = next(word for word in told if word in known)
            if set(own) - {"id", "name", "estimate", "depends_on", "must_follow"} or name in found:
                return None
            names[told[0]] = name
            estimate = own["estimate"]
            points = estimate if isinstance(estimate, list) else [estimate] * 3
            waits = [*(own.get("depends_on") or []), *(own.get("must_follow") or [])]
            found[name] = {"estimate": points, "after": waits}
        for own in found.values():
            own["after"] = sorted({names[_first(one).strip().lower()] for one in own["after"]})
    except (AttributeError, KeyError, StopIteration, TypeError):
        return None
    return found


def _first(one: Any) -> str:
    """The task that a dependency waits for, where it waits for its finish without a lag."""
    if isinstance(one, Mapping):
        if one.get("kind", "FS") != "FS" or one.get("lag", 0) != 0:
            raise KeyError("another kind of dependency")
        one = one["task"]
    return str(one)
