"""Projects for ``plan_project`` drawn at random: the arguments, and the words of a person for them.

Durations, hours and dates come from bands, of which some are held out; projects, people and all
wordings are of the split. How weekdays and months are written is the same in both.
"""

from __future__ import annotations

import datetime
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from lilith.data.instructions import planning_calls_words as words
from lilith.data.instructions.conversations import joined, plain
from lilith.data.instructions.drawing import Draw
from lilith.data.instructions.planning_material import start_date
from lilith.data.instructions.tool_text import exact

_DATES = (
    "%Y-%m-%d", "%d %B %Y", "%B %d, %Y", "%a %d %b %Y", "%d %b %Y", "%A, %d %B %Y", "%b %d, %Y",
)  # fmt: skip
_MOST_BEFORE = 2  # tasks that one waits for
_DAYS_A_WEEK = 5
_TRIES, _NEAR = 8, 2  # of a downtime limit, in hours
_ONES = (
    "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten",
    "eleven", "twelve", "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen",
    "nineteen",
)  # fmt: skip
_TENS = ("", "", "twenty", "thirty", "forty")


@dataclass
class Work:
    """A project as the tool takes it and as a person says it.

    Attributes:
      title: such as "the new bakery".
      arguments: of ``plan_project``.
      slots: the words: ``title``, ``Title``, ``start`` and, when :meth:`listed` was called,
        ``tasks``.
      date: writes a day as this person does.
      extras: what is said of tasks besides time and order, by task.
      three: whether the estimates have three points.
    """

    title: str
    arguments: dict[str, Any]
    slots: dict[str, str]
    date: Callable[[datetime.date], str]
    times: list[str]
    three: bool
    extras: dict[str, str] = field(default_factory=dict)

    @property
    def tasks(self) -> list[dict[str, Any]]:
        """The tasks of :attr:`arguments`."""
        found: list[dict[str, Any]] = self.arguments["tasks"]
        return found

    @property
    def start(self) -> datetime.date:
        """The first day."""
        return datetime.date.fromisoformat(self.arguments["start"])

    def listed(self, draw: Draw) -> None:
        """Write the tasks into :attr:`slots`, all in one form."""
        heading, plain_form, waiting, mark, between, end = draw.phrase(words.LISTINGS)
        rows = []
        for task, time in zip(self.tasks, self.times):
            row = plain_form.format(name=task["id"], time=time)
            if "depends_on" in task:
                row += waiting.format(after=joined(task["depends_on"]))
            rows.append(row + (mark + self.extras[task["id"]] if task["id"] in self.extras else ""))
        self.slots["tasks"] = heading + between.join(rows) + end

    def asked(self, template: str, **more: str) -> str:
        """A question with its slots filled."""
        text = template.format_map(self.slots | more)
        for space in (" \n", "\n "):
            text = text.replace(space, "\n")
        return text.strip()


def draw_work(draw: Draw, count: int, *, three: bool = False) -> Work:
    """A project of ``count`` tasks, at least one of which waits for another."""
    title, known = draw.phrase(words.PROJECTS)
    names = sorted(draw.random.sample(known, count), key=known.index)
    unit = "hours" if not three and draw.count(1, 8) == 1 else "days"
    points = [_points(draw, unit, three=three) for _ in names]
    tasks: list[dict[str, Any]] = [
        {"id": name, "estimate": own if three else own[1]} for name, own in zip(names, points)
    ]
    for task, waits in zip(tasks, _waits(draw, count)):
        if waits:
            task["depends_on"] = [names[at] for at in waits]
    start = _workday(start_date(draw))
    arguments = {"tasks": tasks, "start": start.isoformat()}
    if unit == "hours":
        arguments["unit"] = unit
    date = _date_writer(draw)
    slots = {"title": title, "Title": title[0].upper() + title[1:], "start": date(start)}
    return Work(title, arguments, slots, date, _times(draw, points, unit, three=three), three)


def _points(draw: Draw, unit: str, *, three: bool) -> list[int]:
    """Optimistic, likely, pessimistic; their PERT mean is a whole number."""
    while True:
        likely = int(draw.number("4", "80", "4") if unit == "hours" else draw.number("1", "40"))
        if not three:
            return [likely] * 3
        if likely > 1:
            break
    less = draw.count(1, min(likely - 1, 9))
    return [likely - less, likely, likely + less + draw.choice((0, 0, 6))]


def _waits(draw: Draw, count: int) -> list[list[int]]:
    """For each task the earlier ones that it waits for."""
    while True:
        found: list[list[int]] = [[]]
        for at in range(1, count):
            most = min(at, _MOST_BEFORE)
            size = draw.choice((0, 1, 1, most))
            found.append(sorted(draw.random.sample(range(at), size)))
        if any(found):
            return found


def _workday(day: datetime.date) -> datetime.date:
    return day + datetime.timedelta(days=max(0, 7 - day.weekday()) if day.weekday() > 4 else 0)


def _date_writer(draw: Draw) -> Callable[[datetime.date], str]:
    pattern, short = draw.choice(_DATES), draw.count(0, 1)

    def write(day: datetime.date) -> str:
        text = day.strftime(pattern)
        if short and pattern != _DATES[0]:  # "4 May", not "04 May"
            text = text.replace(f"{day.day:02d}", str(day.day), 1)
        return text

    return write


def _times(draw: Draw, points: Sequence[Sequence[int]], unit: str, *, three: bool) -> list[str]:
    """The durations in words, all in one form."""
    form = draw.phrase(words.THREE_POINTS if three else words.TIMES)
    if unit == "hours":
        form = form.replace("}d", "}h").replace("day", "hour")
    weeks = not three and unit == "days" and draw.count(1, 4) == 1
    found = []
    for a, b, c in points:
        text = form.format(a=a, b=b, c=c, words=in_words(b))
        if not three and b == 1:
            text = text.replace("days", "day").replace("day'", "day's")
        if weeks and b % _DAYS_A_WEEK == 0:
            number = b // _DAYS_A_WEEK
            text = f"{number} week{'s' if number > 1 else ''}"
        found.append(text)
    return found


def in_words(number: int) -> str:
    """A whole number from 0 to 99 in English; larger ones than 49 in digits."""
    if number < len(_ONES):
        return _ONES[number]
    if number >= 10 * len(_TENS):
        return str(number)
    tens, rest = divmod(number, 10)
    return _TENS[tens] + (f"-{_ONES[rest]}" if rest else "")


def hours_said(draw: Draw, hours: Decimal) -> str:
    """ "90 minutes", "1.5 hours" or "1.5h"."""
    minutes = hours * 60
    unit = "hour" if hours == 1 else "hours"
    ways = [f"{plain(hours)} {unit}", f"{plain(hours)} {unit}", f"{plain(hours)}h"]
    if hours < 3:
        ways.append(f"{plain(minutes)} minutes")
    if hours == hours.to_integral_value():
        ways.append(f"{in_words(int(hours))} {unit}")
    return draw.choice(ways)


def add_people(draw: Draw, work: Work) -> str:
    """Give each task somebody, by name or as some of a team; what is said of them all, or ""."""
    if draw.count(0, 2):
        people = list(dict.fromkeys(draw.phrase(words.PEOPLE) for _ in range(4)))[:2]
        form = draw.phrase(words.PERSON)
        for task in work.tasks:
            who = draw.choice(people)
            task["resources"] = [who]
            work.extras[task["id"]] = form.format(who=who)
        used = dict.fromkeys(task["resources"][0] for task in work.tasks)
        work.arguments["resources"] = [{"id": who} for who in used]
        return ""
    team, capacity = draw.phrase(words.TEAMS), draw.count(2, 6)
    form = draw.phrase(words.TEAM)
    for task in work.tasks:
        units = draw.count(1, capacity)
        task["resources"] = {team: units}
        work.extras[task["id"]] = form.format(who=_some(units, team))
    work.arguments["resources"] = [{"id": team, "capacity": capacity}]
    whole = _some(capacity, team)
    return draw.phrase(words.HAVING).format(who=whole, Who=whole)


def _some(units: int, team: str) -> str:
    return f"{units} {team if units > 1 else team.removesuffix('s')}"


def add_outages(draw: Draw, work: Work) -> str:
    """Give some tasks downtime, and all of them a limit; the limit in words."""
    form = draw.phrase(words.OUTAGE)
    affected = draw.random.sample(work.tasks, draw.count(1, len(work.tasks) - 1))
    for task in work.tasks:
        if task in affected:
            hours = draw.number("0.5", "6", "0.5")
            task["downtime_hours"] = exact(hours)
            work.extras[task["id"]] = form.format(hours=hours_said(draw, hours))
    whole = sum(Decimal(str(task.get("downtime_hours", 0))) for task in work.tasks)
    for _ in range(_TRIES):  # mostly a limit that is not far from what is needed
        limit = draw.number("0.5", "12", "0.5")
        if abs(limit - whole) <= _NEAR:
            break
    work.arguments.setdefault("constraints", {})["max_downtime_hours"] = exact(limit)
    return hours_said(draw, limit)


def add_deadline(draw: Draw, work: Work, finish: datetime.date) -> str:
    """A deadline some days before or after a finish; the sentence that names it."""
    day = max(work.start, finish + datetime.timedelta(days=draw.count(-9, 12)))
    limits = work.arguments.get("constraints", {})
    work.arguments["constraints"] = {"deadline": day.isoformat(), **limits}
    return draw.phrase(words.DEADLINES).format(deadline=work.date(day))
