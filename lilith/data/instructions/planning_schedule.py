"""Task breakdowns, critical paths, delivery dates and the effect of a delay."""

from __future__ import annotations

import datetime
from collections.abc import Callable
from typing import Any

from lilith.data.instructions.conversations import assistant, bullets, conversation, table, user
from lilith.data.instructions.drawing import Conversation, Draw
from lilith.data.instructions.planning_material import (
    PROJECTS,
    date_format,
    drawn_tasks,
    sizes,
    start_date,
    task_lines,
)
from lilith.data.instructions.planning_math import (
    Task,
    critical_paths,
    schedule,
    working_day,
)


def task_inputs(tasks: list[Task]) -> list[list[Any]]:
    """Tasks as JSON: name, days, names before it."""
    return [[task.name, task.days, list(task.after)] for task in tasks]


def _paths_text(paths: list[list[str]]) -> str:
    shown = [" → ".join(path) for path in paths]
    if len(shown) == 1:
        return f"Critical path: {shown[0]}."
    return "Several paths are equally long, all of them critical:\n" + bullets(shown)


BREAKDOWN_ASKS = (
    "Break down {title} into tasks with dependencies. These are my estimates:\n{tasks}",
    "I lead {title}. Turn this into a task plan with phases:\n{tasks}",
    "Make a work breakdown for {title}:\n{tasks}\nWhat can run in parallel?",
    "Which tasks can begin right away, and which have to wait?\n{tasks}",
    "Plan {title} for me. The work:\n{tasks}\nGroup it by what can be done at the same time.",
    "Here is the work for {title}:\n{tasks}\nOrder it in stages, please.",
    "Help me sequence {title}.\n{tasks}",
    "Give me the stages of {title}, with earliest start days:\n{tasks}",
    "My team starts {title} soon. Order these tasks and tell me what blocks what:\n{tasks}",
    "Sort these tasks into waves of parallel work:\n{tasks}",
    "We need a breakdown with dependencies for {title}. Estimates:\n{tasks}",
    "Lay out {title} step by step. Inputs:\n{tasks}",
)


def task_breakdown(draw: Draw) -> Conversation:
    """Tasks in waves: each wave can begin when the ones before it are finished."""
    difficulty = draw.difficulty()
    project = draw.choice(PROJECTS)
    tasks = drawn_tasks(draw, project, sizes(difficulty, 4, 6, 8))
    times = schedule(tasks)
    wave: dict[str, int] = {}
    for task in tasks:  # the tasks of a project are in order
        wave[task.name] = 1 + max((wave[name] for name in task.after), default=0)
    lines = []
    for number in range(1, max(wave.values()) + 1):
        lines.append(f"Wave {number}")
        for task in (task for task in tasks if wave[task.name] == number):
            text = f"- {task.name}, {task.days} d, from day {times[task.name].start + 1}"
            lines.append(text + (f" (after {', '.join(task.after)})" if task.after else ""))
    end = max(time.finish for time in times.values())
    total = sum(task.days for task in tasks)
    answer = "\n".join(lines) + (
        f"\n\nWith enough people it takes {end} working days; the effort is {total} task-days."
    )
    ask = draw.phrase(BREAKDOWN_ASKS).format(title=project.title, tasks=task_lines(draw, tasks))
    check = {"tasks": task_inputs(tasks), "waves": wave, "days": end, "effort": total}
    return conversation(
        "task_breakdown", "planning", difficulty, [user(ask), assistant(answer)], check
    )


PATH_ASKS = (
    "Find the critical path of {title}:\n{tasks}",
    "What is the critical path, and how long does the project take?\n{tasks}",
    "These are the tasks for {title}:\n{tasks}\nWhich of them must not slip?",
    "Run a CPM analysis (earliest, latest, slack) on this plan:\n{tasks}",
    "How many working days does {title} need at least? Show the longest chain.\n{tasks}",
    "I need slack per task and the critical path for {title}.\n{tasks}",
    "Which tasks have float here, and how much?\n{tasks}",
    "Compute the critical path:\n{tasks}",
    "Where can I take people away without delaying {title}?\n{tasks}",
    "Forward and backward pass, please:\n{tasks}",
    "Look at {title}. What drives the end date?\n{tasks}",
    "Tell me the project length and the critical tasks.\n{tasks}",
)


def critical_path(draw: Draw) -> Conversation:
    """The longest chain, by a forward and a backward pass, with the slack of every task."""
    difficulty = draw.difficulty()
    project = draw.choice(PROJECTS)
    tasks = drawn_tasks(draw, project, sizes(difficulty, 4, 6, 8))
    times = schedule(tasks)
    paths = critical_paths(tasks)
    end = max(time.finish for time in times.values())
    rows = [
        (name, f"{t.start}-{t.finish}", f"{t.latest_start}-{t.latest_finish}", t.slack, t.free)
        for name, t in times.items()
    ]
    head = ("task", "earliest", "latest", "slack", "free")
    answer = f"{table(head, rows)}\n\n{_paths_text(paths)}\nThe project takes {end} working days."
    loose = [(t.slack, name) for name, t in times.items() if t.slack > 0]
    if difficulty != "easy" and loose:
        slack, name = max(loose)
        answer += f" {name} has the most slack, {slack} days."
    ask = draw.phrase(PATH_ASKS).format(title=project.title, tasks=task_lines(draw, tasks))
    check = {
        "tasks": task_inputs(tasks),
        "days": end,
        "paths": paths,
        "slack": {name: time.slack for name, time in times.items()},
    }
    return conversation(
        "critical_path", "planning", difficulty, [user(ask), assistant(answer)], check
    )


DATE_ASKS = (
    "{title} starts on {start}.{off} When is it done?\n{tasks}",
    "We begin on {start}.{off} Give me start and end dates for each task:\n{tasks}",
    "If {title} kicks off on {start}, what is the delivery date?{off}\n{tasks}",
    "Put this plan on the calendar from {start}, Monday to Friday.{off}\n{tasks}",
    "Start: {start}.{off} When can we go live with {title}?\n{tasks}",
    "Work out the dates for {title}; first day {start}.{off}\n{tasks}",
    "Our sponsor wants a date for {title}. We can start {start}.{off}\n{tasks}",
    "Schedule these tasks from {start}, weekends off.{off}\n{tasks}",
    "Can you date this plan? Kick-off {start}.{off}\n{tasks}",
    "Delivery date, please. Start {start}.{off}\n{tasks}",
    "From {start} on, five days a week:{off}\n{tasks}\nWhat are the dates?",
)


def delivery_date(draw: Draw) -> Conversation:
    """Tasks on a calendar of working days; holidays at the hard level."""
    difficulty = draw.difficulty()
    project = draw.choice(PROJECTS)
    tasks = drawn_tasks(draw, project, sizes(difficulty, 3, 5, 6))
    start, pattern = start_date(draw), date_format(draw)
    holidays: list[datetime.date] = []
    if difficulty == "hard":
        offsets = sorted(draw.random.sample(range(3, 60), 2))
        holidays = [start + datetime.timedelta(days=offset) for offset in offsets]
    times = schedule(tasks)
    begins = {name: working_day(start, t.start, holidays) for name, t in times.items()}
    ends = {name: working_day(start, t.finish - 1, holidays) for name, t in times.items()}
    rows = [(n, begins[n].strftime(pattern), ends[n].strftime(pattern)) for n in times]
    days = max(time.finish for time in times.values())
    done = max(ends.values())
    notes = []
    if working_day(start, 0, holidays) != start:
        first = working_day(start, 0, holidays).strftime(pattern)
        notes.append(f"{start.strftime(pattern)} is not a working day, so work begins on {first}.")
    notes.append(
        f"{days} working days{' without the two holidays' if holidays else ''}: "
        f"done on {done.strftime(pattern)}{'' if '%a' in pattern else f', a {done:%A}'}."
    )
    answer = f"{table(('task', 'starts', 'ends'), rows)}\n\n{' '.join(notes)}"
    off = ""
    if holidays:
        off = f" Holidays: {' and '.join(day.strftime(pattern) for day in holidays)}."
    ask = draw.phrase(DATE_ASKS).format(
        title=project.title, start=start.strftime(pattern), off=off, tasks=task_lines(draw, tasks)
    )
    check = {
        "tasks": task_inputs(tasks),
        "start": start.isoformat(),
        "holidays": [day.isoformat() for day in holidays],
        "ends": {name: day.isoformat() for name, day in ends.items()},
        "done": done.isoformat(),
    }
    ask = ask[0].upper() + ask[1:]
    return conversation(
        "delivery_date", "planning", difficulty, [user(ask), assistant(answer)], check
    )


SLIP_ASKS = (
    "{late} is {days} late. Does {title} still finish on time?\n{tasks}",
    "What happens to the end date if {late} slips by {days}?\n{tasks}",
    "The plan for {title}:\n{tasks}\n{late} will take {days} longer. What now?",
    "{late} needs {days} more. By how much does the project move?\n{tasks}",
    "Impact of a delay: {late}, plus {days}.\n{tasks}",
    "Our lead says {late} runs {days} over. Do I have to tell the sponsor of {title}?\n{tasks}",
    "Suppose {late} takes {days} extra. Is the critical path still the same?\n{tasks}",
    "{tasks}\n\nNow {late} is delayed by {days}. New project length?",
    "How bad is it if {late} finishes {days} late?\n{tasks}",
    "Check a slip of {days} on {late}:\n{tasks}",
    "Will {days} more on {late} hurt {title}?\n{tasks}",
)


def slip_effect(draw: Draw) -> Conversation:
    """What a longer task does to the end of the project."""
    difficulty = draw.difficulty()
    project = draw.choice(PROJECTS)
    tasks = drawn_tasks(draw, project, sizes(difficulty, 4, 6, 8))
    before = schedule(tasks)
    late, extra = draw.choice(tasks).name, int(draw.number("1", "20"))
    moved = [Task(t.name, t.days + extra * (t.name == late), t.after) for t in tasks]
    old = max(time.finish for time in before.values())
    after = max(time.finish for time in schedule(moved).values())
    slack = before[late].slack
    days = f"{extra} working days" if extra != 1 else "1 working day"
    if after == old:
        answer = (
            f"The end date holds. {late} has {slack} days of slack and uses {extra} of them: the "
            f"project still takes {old} working days. Only {slack - extra} days of slack remain."
        )
    elif slack:
        answer = (
            f"{late} has {slack} days of slack; a slip of {extra} uses them up and moves the end "
            f"by {after - old}, from {old} to {after} working days."
        )
    else:
        answer = (
            f"{late} is on the critical path, without slack: every day counts. The end moves by "
            f"{after - old}, from {old} to {after} working days."
        )
    answer += "\n" + _paths_text(critical_paths(moved))
    if after > old and difficulty == "hard":
        first = next(t for t in moved if t.name in critical_paths(moved)[0])
        answer += (
            "\nTo win the time back, shorten or split a task of that path, "
            f"for example {first.name} ({first.days} days)."
        )
    ask = draw.phrase(SLIP_ASKS).format(
        late=late, days=days, title=project.title, tasks=task_lines(draw, tasks)
    )
    check = {
        "tasks": task_inputs(tasks), "late": late, "extra": extra, "before": old, "after": after
    }  # fmt: skip
    return conversation(
        "slip_effect", "planning", difficulty, [user(ask), assistant(answer)], check
    )


GENERATORS: dict[str, Callable[[Draw], Conversation]] = {
    "task_breakdown": task_breakdown,
    "critical_path": critical_path,
    "delivery_date": delivery_date,
    "slip_effect": slip_effect,
}
