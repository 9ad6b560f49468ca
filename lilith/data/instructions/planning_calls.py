"""Plans made by the agent's tool: tasks, people, deadlines and downtime, and what came of them.

A model reads here what it reads in the agent (:mod:`lilith.data.instructions.agent_prompt`); the
results are those of ``plan_project`` itself, and answers repeat its figures.
"""

from __future__ import annotations

import datetime
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from lilith.data.instructions import planning_calls_words as words
from lilith.data.instructions.agent_prompt import (
    PLAN_PROJECT,
    agent_called,
    agent_system,
    brief_plan,
    fitting,
)
from lilith.data.instructions.conversations import assistant, conversation, joined, user
from lilith.data.instructions.drawing import Conversation, Draw
from lilith.data.instructions.planning_calls_drawing import (
    Work,
    add_deadline,
    add_outages,
    add_people,
    draw_work,
)
from lilith.data.instructions.planning_material import sizes

ROLES = ("project_manager", "project_manager", "project_manager", "hybrid_quant_pm")
FEW_RUNS = 100  # of the simulation, where only the schedule is looked at
_FINISH = (
    "{Title} is finished on {finish}, after {length}.",
    "The last day of work is {finish}: {length} in all.",
    "It ends on {finish}. That is {length}.",
    "All tasks are done on {finish}, {length} after the start.",
)
_LENGTH = (
    "It takes {length}, until {finish}.",
    "{Length} in all; the last day is {finish}.",
    "{Title} takes {length} and ends on {finish}.",
)
_PATH = (
    "The critical path is {path}, {length} long.",
    "Critical path: {path}. It takes {length}.",
    "{path} is the critical path, with {length}.",
)
_CHANCE = (
    "P50 is {P50}, P80 is {P80} and P95 is {P95}. Promise {P80}.",
    "With a chance of 80% it is done by {P80}; the median date is {P50}, and 95% is {P95}.",
    "Promise {P80}: it holds with 80% certainty. Half of the cases end by {P50}, 95% by {P95}.",
)


def _result(arguments: Mapping[str, Any], **options: Any) -> dict[str, Any]:
    """What the tool answers, as a model is shown it.

    Raises:
      ValueError: the tool refuses the arguments.
    """
    told = brief_plan(PLAN_PROJECT(**arguments, **options, chart=False))
    if not told["ok"]:
        raise ValueError(f"{arguments} ended in {told['error']}")
    return told


def _ordered(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """In the order in which the tool declares them."""
    names = [own.name for own in PLAN_PROJECT.parameters]
    return {name: arguments[name] for name in names if name in arguments}


def _days(number: float, of: str = "working day") -> str:
    return f"{number} {of}{'' if number == 1 else 's'}"


def _slots(work: Work, plan: Mapping[str, Any]) -> dict[str, str]:
    length = _days(plan["length_days"])
    return work.slots | {
        "finish": plan["finish"], "length": length, "Length": length,
        "path": " → ".join(plan["critical_path"]),
        **{level: plan[level] for level in ("P50", "P80", "P95") if level in plan},
    }  # fmt: skip


def _slack(plan: Mapping[str, Any]) -> str:
    slack = plan["slack_days"]
    if not slack:
        return "No task has slack."
    said = [f"{name} {_days(days, 'day')}" for name, days in slack.items()]
    return f"Slack: {joined(said)}."


def _answer(draw: Draw, asked: str, work: Work, plan: Mapping[str, Any]) -> str:
    """What is asked for, and one thing more that a manager would say."""
    if asked == "deadline":
        return _verdict(work, plan)
    forms = {"finish": _FINISH, "length": _LENGTH, "path": _PATH, "chance": _CHANCE}[asked]
    text = draw.choice(forms).format_map(_slots(work, plan))
    if asked == "path":
        return f"{text} {_slack(plan)}"
    if work.three and asked != "chance":
        return f"{text} With 80% certainty it is done by {plan['P80']}."
    return text


def _record(
    kind: str,
    difficulty: str,
    draw: Draw,
    work: Work,
    question: str,
    told: Mapping[str, Any],
    *rest: dict[str, Any],
) -> Conversation:
    """The messages put together, with the call and its result in the check."""
    arguments = _ordered(work.arguments)
    messages = [
        agent_system(draw.choice(ROLES)),
        user(question),
        *agent_called(PLAN_PROJECT.name, arguments, told),
        *rest,
    ]
    call = {"name": PLAN_PROJECT.name, "arguments": arguments}
    check = {"tool_calls": [call], "results": [dict(told)]}
    return conversation(kind, "planning", difficulty, messages, check)


_ASKS = {
    "finish": words.FINISH, "length": words.LENGTH, "path": words.PATH, "chance": words.CHANCE,
    "deadline": words.DUE,
}  # fmt: skip


def _asked_work(draw: Draw, count: int, asked: str, *, three: bool) -> tuple[Work, str]:
    work, limit = draw_work(draw, count, three=three), ""
    if asked == "deadline":
        limit = _added_deadline(draw, work)
    work.listed(draw)
    return work, work.asked(draw.phrase(_ASKS[asked]), limit=limit)


def _added_deadline(draw: Draw, work: Work) -> str:
    """Give the project a deadline near the finish that it would have; its sentence."""
    finish = _result(work.arguments, runs=FEW_RUNS)["result"]["finish"]
    return add_deadline(draw, work, datetime.date.fromisoformat(finish))


def plan_tasks(draw: Draw) -> Conversation:
    """Tasks with durations or three-point estimates; the finish, length, path or safe dates."""
    difficulty = draw.difficulty()
    three = difficulty == "hard" or draw.count(0, 2) == 0
    asked = draw.choice(tuple(_ASKS) if three else ("finish", "length", "path", "deadline"))
    work, question = _asked_work(draw, sizes(difficulty, 3, 4, 5), asked, three=three)
    told = _result(work.arguments)
    answer = assistant(_answer(draw, asked, work, told["result"]))
    return _record("plan_tasks", difficulty, draw, work, question, told, answer)


def plan_team(draw: Draw) -> Conversation:
    """Tasks with the people who do them, and mostly a deadline."""
    difficulty = draw.difficulty()
    work = draw_work(draw, sizes(difficulty, 3, 3, 4))
    limit = add_people(draw, work)
    if difficulty != "easy":
        limit += _added_deadline(draw, work)
    work.listed(draw)
    question = work.asked(draw.phrase(words.STAFFED), limit=limit)
    told = _result(work.arguments)
    text = f"{_verdict(work, told['result'])} {_overload(told['result'])}"
    return _record("plan_team", difficulty, draw, work, question, told, assistant(text))


def _verdict(work: Work, plan: Mapping[str, Any]) -> str:
    """Whether the deadline holds; without one, the finish."""
    if "deadline" not in plan:
        return f"The plan ends on {plan['finish']}, after {_days(plan['length_days'])}."
    own, day = plan["deadline"], work.arguments["constraints"]["deadline"]
    chance = f"; the chance to hold it is {100 * own['probability']:.0f}%" if work.three else ""
    if own["verdict"] == "held":
        return f"Yes: the plan ends on {plan['finish']}, and the deadline {day} holds{chance}."
    late = _days(own["late_by_days"])
    text = f"No: the plan ends on {plan['finish']}, {late} after the deadline {day}"
    if own["verdict"] == "impossible":
        return f"{text}, which even the optimistic estimates miss. Cut the scope or move the date."
    if own["cause"] == "people":
        return f"{text}{chance}. With more people it could hold."
    return f"{text}{chance}. Shorten the critical path: {joined(plan['critical_path'])}."


def _overload(plan: Mapping[str, Any]) -> str:
    if "overloaded" not in plan:
        return "Nobody is overloaded."
    said = [f"{name} ({joined(tasks)})" for name, tasks in plan["overloaded"].items()]
    return f"Too much at once for {joined(said)}: these tasks now follow each other."


def plan_downtime(draw: Draw) -> Conversation:
    """Tasks that interrupt a service, with a limit in hours and at times a deadline."""
    difficulty = draw.difficulty()
    work = draw_work(draw, sizes(difficulty, 3, 4, 4))
    hours, limit = add_outages(draw, work), ""
    if difficulty == "hard":
        limit = _added_deadline(draw, work)
    work.listed(draw)
    question = work.asked(draw.phrase(words.OUTAGES), limit=limit, hours=hours)
    told = _result(work.arguments)
    plan = told["result"]
    expected = f"{_days(plan['downtime']['expected_hours'], 'hour')} of downtime"
    most = _days(work.arguments["constraints"]["max_downtime_hours"], "hour")
    if plan["downtime"]["verdict"] == "held":
        text = f"The downtime limit holds: {expected} against at most {most}."
    else:
        text = f"The downtime limit of {most} does not hold: the tasks add up to {expected}."
    text = f"{text} {_verdict(work, plan).replace('Yes: the', 'The').replace('No: the', 'But the')}"
    return _record("plan_downtime", difficulty, draw, work, question, told, assistant(text))


def plan_follow_up(draw: Draw) -> Conversation:
    """A plan, and one or two further questions that its result answers without another call."""
    difficulty = draw.difficulty()
    three = draw.count(0, 2) > 0
    asked = draw.choice(("finish", "length", "path"))
    work, question = _asked_work(draw, sizes(difficulty, 3, 3, 4), asked, three=three)
    told = _result(work.arguments)
    plan = told["result"]
    told_already = {asked, "slack"} if asked == "path" else {asked}
    topics = [own for own in words.FURTHER if own not in told_already and (three or own[0] != "P")]
    rest = [assistant(_answer(draw, asked, work, plan))]
    for topic in draw.random.sample(topics, 1 if difficulty == "easy" else 2):
        rest += [user(draw.phrase(words.FURTHER[topic])), assistant(_further(topic, work, plan))]
    return _record("plan_follow_up", difficulty, draw, work, question, told, *rest)


def _further(topic: str, work: Work, plan: Mapping[str, Any]) -> str:
    forms = {
        "path": "The critical path is {path}: a day lost there is a day lost at the end.",
        "P80": "{P80}: with a chance of 80% it is done by then.",
        "P95": "{P95}: with a chance of 95% it is done by then.",
        "length": "{Length}.",
        "finish": "It is finished on {finish}.",
    }
    return _slack(plan) if topic == "slack" else forms[topic].format_map(_slots(work, plan))


def plan_circle(draw: Draw) -> Conversation:
    """Tasks that wait for each other: the tool refuses, and the answer says why."""
    difficulty = draw.difficulty()
    work = draw_work(draw, sizes(difficulty, 3, 4, 5))
    first, last = _circle(work.tasks)
    first["depends_on"] = [*first.get("depends_on", ()), last["id"]]
    for task in work.tasks:  # in the order in which the others declare them
        task["depends_on"] = task.pop("depends_on", [])
        if not task["depends_on"]:
            del task["depends_on"]
    work.listed(draw)
    question = work.asked(draw.phrase(words.CIRCLES))
    told = brief_plan(PLAN_PROJECT(**work.arguments, chart=False))
    if told["ok"]:
        raise ValueError(f"{work.arguments} has no circle")
    circle = told["error"]["message"].partition(": ")[2]
    text = (
        f"There is no such plan: {circle} is a circle, in which every task waits for another. "
        "Which of these dependencies can go?"
    )
    return _record("plan_circle", difficulty, draw, work, question, told, assistant(text))


def _circle(tasks: Sequence[dict[str, Any]]) -> tuple[dict[str, Any], dict[str, Any]]:
    """A task, and one that waits for it, directly or not."""
    last = next(task for task in reversed(tasks) if "depends_on" in task)
    first = next(task for task in tasks if task["id"] == last["depends_on"][0])
    return first, last


GENERATORS: dict[str, Callable[[Draw], Conversation]] = {
    function.__name__: fitting(function)
    for function in (plan_tasks, plan_team, plan_downtime, plan_follow_up, plan_circle)
}
