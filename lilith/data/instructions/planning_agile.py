"""Sprint plans, resource plans and the figures that tell how a project stands."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction

from lilith.data.instructions.conversations import (
    assistant,
    bullets,
    conversation,
    grouped,
    joined,
    money_format,
    plain,
    table,
    user,
)
from lilith.data.instructions.drawing import Conversation, Draw
from lilith.data.instructions.planning_material import PROJECTS, STORIES, sizes
from lilith.data.instructions.planning_math import (
    Story,
    duration_months,
    earned_value,
    pack_sprints,
    people_needed,
    sprint_capacity,
)

SPRINT_ASKS = (
    "Plan the next sprints. {facts}\nBacklog by priority:\n{stories}",
    "{facts} Which stories go into which sprint?\n{stories}",
    "Our backlog for {title}:\n{stories}\n{facts} Pack the sprints.",
    "Sprint planning for {title}. {facts}\n{stories}",
    "How many sprints do these stories take? {facts}\n{stories}",
    "Fill the sprints in order of priority. {facts}\n{stories}",
    "We plan on Monday. {facts}\n{stories}\nWhat do we commit to?",
    "Make a sprint plan:\n{stories}\n{facts}",
    "What is our capacity, and what fits in? {facts}\n{stories}",
    "{facts}\nDistribute these over sprints, most important first:\n{stories}",
    "I need a release forecast for {title}. {facts} Stories:\n{stories}",
)


def _drawn_stories(draw: Draw, count: int, *, waits: bool) -> list[Story]:
    names = draw.random.sample(STORIES, count)
    stories = [
        Story(name, draw.choice((1, 2, 3, 5, 8)), place) for place, name in enumerate(names, 1)
    ]
    if waits:
        later = draw.count(2, count - 1)
        story, first = stories[later], stories[draw.count(0, later - 1)].name
        stories[later] = Story(story.name, story.points, story.priority, first)
    return stories


def sprint_plan(draw: Draw) -> Conversation:
    """Stories into sprints by priority; at the hard level people are absent and stories wait."""
    difficulty = draw.difficulty()
    stories = _drawn_stories(draw, sizes(difficulty, 5, 7, 9), waits=difficulty == "hard")
    velocities = [int(draw.number("12", "31")) for _ in range(sizes(difficulty, 1, 3, 3))]
    people, length = draw.count(3, 8), draw.choice((5, 10, 10, 15))
    full = people * length
    absent = draw.count(1, people) if difficulty == "hard" else 0
    capacity = sprint_capacity(velocities, full - absent, full)
    sprint = pack_sprints(stories, capacity)
    shown = joined([str(v) for v in velocities])
    facts = f"Velocity: {shown} points" + (" in the last three sprints." if velocities[1:] else ".")
    working = f"Capacity: {capacity} points a sprint"
    if velocities[1:]:
        mean = plain(Fraction(sum(velocities), len(velocities)), 2)
        working += f", from a mean velocity of {mean}"
    if absent:
        days = "day" if absent == 1 else "days"
        facts += f" {people} people, {length} working days a sprint, {absent} {days} of leave."
        working += f" × {full - absent}/{full} person-days present, rounded down"
    lines = []
    for number in range(1, max(sprint.values()) + 1):
        inside = [story for story in stories if sprint[story.name] == number]
        points = sum(story.points for story in inside)
        named = ", ".join(f"{story.name} ({story.points})" for story in inside)
        lines.append(f"Sprint {number}, {points} of {capacity}: {named}")
    answer = f"{working}.\n{bullets(lines)}\n" + (
        f"{sum(s.points for s in stories)} points take {len(lines)} "
        f"sprint{'s' if lines[1:] else ''}. A story goes into the first sprint with room, by "
        "priority."
    )
    listed = "\n".join(
        f"{s.priority}. {s.name}, {s.points} pts" + (f", after {s.after}" if s.after else "")
        for s in stories
    )
    ask = draw.phrase(SPRINT_ASKS).format(
        title=draw.choice(PROJECTS).title, facts=facts, stories=listed
    )
    check = {
        "velocities": velocities, "present": full - absent, "full": full, "capacity": capacity,
        "stories": [[s.name, s.points, s.priority, s.after] for s in stories], "sprint": sprint,
    }  # fmt: skip
    return conversation(
        "sprint_plan", "planning", difficulty, [user(ask), assistant(answer)], check
    )


RESOURCE_ASKS = (
    "Staffing for {title}: {facts}\n{streams}\nWhen are we done?",
    "{facts} The work:\n{streams}\nHow long does it take, and where is the bottleneck?",
    "Resource plan, please. {facts}\n{streams}",
    "Do we have enough engineers for {title}? {facts}\n{streams}",
    "Which team holds up {title}? {facts}\n{streams}",
    "{streams}\n{facts} Is that feasible?",
    "Check my headcount plan:\n{streams}\n{facts}",
    "How many more people do I need? {facts}\n{streams}",
    "Effort and people for {title}:\n{streams}\n{facts} Tell me the duration per team.",
    "Help me plan engineers by month. {facts}\n{streams}",
    "We want to deliver {title}. {facts}\n{streams}\nWhat has to change?",
)
ROLES = ("Quant developers", "Data engineers", "Front-end engineers", "Test engineers", "Platform")


def resource_plan(draw: Draw) -> Conversation:
    """Months of each team for its effort, the bottleneck and the people that a deadline needs."""
    difficulty = draw.difficulty()
    deadline = int(draw.number("3", "22"))
    focus = Fraction(draw.choice((60, 70, 75, 80)), 100) if difficulty != "easy" else Fraction(1)
    roles = draw.random.sample(ROLES, sizes(difficulty, 2, 3, 4))
    people = [draw.count(1, 6) for _ in roles]
    effort = [Fraction(int(draw.number("4", "43"))) for _ in roles]
    spans = [duration_months(e, p, focus) for e, p in zip(effort, people)]
    needed = [people_needed(e, deadline, focus) for e in effort]
    rows = [
        (role, plain(e), p, f"{plain(e)} / ({p} × {plain(focus)}) = {plain(span, 1)}", need)
        for role, e, p, span, need in zip(roles, effort, people, spans, needed)
    ]
    head = ("team", "person-months", "people", "months", f"people for {deadline} months")
    slowest = roles[spans.index(max(spans))]
    short = {r: n - p for r, n, p in zip(roles, needed, people) if n > p}
    spare = {r: p - n for r, n, p in zip(roles, needed, people) if n < p}
    answer = f"{table(head, rows)}\n\n{slowest} is the bottleneck: {plain(max(spans), 1)} months. "
    if short:
        wanted = joined([f"{more} more in {role}" for role, more in short.items()])
        answer += f"{deadline} months are not feasible without {wanted}."
        if spare:
            idle = joined([f"{more} in {role}" for role, more in spare.items()])
            answer += f" There are people to spare: {idle}; retraining takes time, though."
    else:
        answer += f"The plan holds: {deadline} months are enough for every team."
    facts = f"the deadline is {deadline} months away"
    if focus != 1:
        facts += f", people work {plain(focus * 100)}% of their time on it"
    streams = "\n".join(f"- {r}: {p} people, {plain(e)} person-months" for r, p, e in zip(
        roles, people, effort))  # fmt: skip
    ask = draw.phrase(RESOURCE_ASKS).format(
        title=draw.choice(PROJECTS).title, facts=facts[0].upper() + facts[1:] + ".", streams=streams
    )
    check = {
        "teams": [[r, p, int(e)] for r, p, e in zip(roles, people, effort)],
        "focus_percent": int(focus * 100), "deadline": deadline, "needed": needed,
        "bottleneck": slowest, "months": [str(span) for span in spans],
    }  # fmt: skip
    return conversation(
        "resource_plan", "planning", difficulty, [user(ask), assistant(answer)], check
    )


VALUE_ASKS = (
    "How does {title} stand? {facts}",
    "Earned value for {title}: {facts}",
    "{facts} Are we over budget or late?",
    "Compute SPI and CPI. {facts}",
    "Steering committee tomorrow, {title}. {facts} What do I report?",
    "{facts} What will {title} cost in the end?",
    "Status in numbers, please. {facts}",
    "Is {title} healthy? {facts}",
    "{facts} Give me the variances and the forecast.",
    "I have these figures for {title}. {facts} Explain them.",
    "Budget check: {facts}",
)


def earned_value_report(draw: Draw) -> Conversation:
    """Variances, indices and the forecast at completion."""
    difficulty = draw.difficulty()
    unit = 1000 if difficulty == "easy" else 100
    budget = int(draw.number("200", "2000", "20")) * 1000
    planned = budget * draw.count(30, 80) // 100 // unit * unit
    done = planned * draw.count(70, 115) // 100 // unit * unit
    spent = done * draw.count(75, 135) // 100 // unit * unit
    figures = earned_value(budget, planned, done, spent)
    money = money_format(draw)
    bac, pv, ev, ac = (money.format(grouped(v)) for v in (budget, planned, done, spent))
    facts = (
        f"Budget at completion {bac}, planned value to date {pv}, earned value {ev}, "
        f"actual cost {ac}."
    )
    sv, cv = figures["schedule_variance"], figures["cost_variance"]
    schedule, cost = (("−" if v < 0 else "") + money.format(grouped(abs(v))) for v in (sv, cv))
    spi, cpi = (plain(figures[name], 3) for name in ("spi", "cpi"))
    lines = [
        f"Schedule: SV = {ev} − {pv} = {schedule}; SPI = {spi}, "
        + ("behind plan" if sv < 0 else "ahead of plan" if sv else "on plan"),
        f"Cost: CV = {ev} − {ac} = {cost}; CPI = {cpi}, "
        + ("over budget" if cv < 0 else "under budget" if cv else "on budget"),
    ]
    if difficulty != "easy":
        lines.append(
            "Forecast: EAC = BAC × AC / EV = "
            + money.format(grouped(rounded_money(figures["eac"])))
        )
    if difficulty == "hard":
        vac = rounded_money(figures["vac"])
        state = "an overrun" if vac < 0 else "a saving" if vac else "no change"
        lines.append(f"VAC = BAC − EAC = {money.format(grouped(vac))}, {state}")
        if done < budget and spent < budget:
            index = plain(Fraction(budget - done, budget - spent), 3)
            lines.append(f"To hold the budget the rest must run at a CPI of {index} (TCPI)")
    answer = bullets(lines) + "\n" + _advice(sv, cv)
    ask = draw.phrase(VALUE_ASKS).format(title=draw.choice(PROJECTS).title, facts=facts)
    check = {
        "budget": budget, "planned": planned, "done": done, "spent": spent,
        "figures": {name: str(value) for name, value in figures.items()},
    }  # fmt: skip
    return conversation(
        "earned_value", "planning", difficulty, [user(ask), assistant(answer)], check
    )


def rounded_money(value: Fraction) -> int:
    """To whole units of money, halves up."""
    return (2 * value.numerator + value.denominator) // (2 * value.denominator)


def _advice(schedule: Fraction, cost: Fraction) -> str:
    if schedule < 0 and cost < 0:
        return "Late and over budget: cut scope or ask for money now, not at the end."
    if schedule < 0:
        return "Late, but not over budget: money may buy time on the critical path."
    if cost < 0:
        return "On time, but over budget: find out which work costs more than estimated."
    return "On course: no action needed beyond watching the trend."


KPI_ASKS = (
    "Here is our month: {facts} What are the delivery KPIs?",
    "Compute our KPIs. {facts}",
    "{facts} How are we doing as a delivery team?",
    "Fill in the KPI slide for {title}: {facts}",
    "Numbers for the retrospective: {facts} Rates, please.",
    "{facts} Did we meet the targets?",
    "I report KPIs for {title} on Friday. {facts}",
    "Turn these counts into KPIs: {facts}",
    "Monthly figures: {facts} Which of them is off target?",
    "What should I say about {title}? {facts}",
    "Delivery metrics for last month, please. {facts}",
)


def delivery_kpis(draw: Draw) -> Conversation:
    """On-time rate, change failure rate, mean time to restore, escaped defects; with targets."""
    difficulty = draw.difficulty()
    due = int(draw.number("10", "59"))
    punctual = draw.count(due // 2, due)
    releases = int(draw.number("5", "44"))
    failed = draw.count(0, releases // 3)
    found, escaped = int(draw.number("10", "99")), draw.count(0, 12)
    outages = [draw.count(10, 300) for _ in range(draw.count(2, 4))]
    facts = [f"{punctual} of {due} items were on time", f"{failed} of {releases} releases failed"]
    figures = {
        "on-time rate": (Fraction(punctual, due), f"{punctual}/{due}", Fraction(85, 100), True),
        "change failure rate": (
            Fraction(failed, releases), f"{failed}/{releases}", Fraction(15, 100), False
        ),
    }  # fmt: skip
    if difficulty != "easy":
        facts.append(f"testing found {found} defects and {escaped} escaped to production")
        share = Fraction(escaped, found + escaped)
        figures["defect escape rate"] = (
            share, f"{escaped}/{found + escaped}", Fraction(1, 10), False
        )  # fmt: skip
    lines = []
    for name, (value, shown, target, above) in figures.items():
        met = value >= target if above else value <= target
        side = "at least" if above else "at most"
        goal = f"target {side} {plain(target * 100)}%: {'met' if met else 'missed'}"
        lines.append(f"{name[0].upper()}{name[1:]}: {shown} = {plain(value * 100, 1)}% ({goal})")
    if difficulty == "hard":
        facts.append(f"outages lasted {joined([str(o) for o in outages])} minutes")
        mean = Fraction(sum(outages), len(outages))
        lines.append(
            f"Mean time to restore: ({' + '.join(map(str, outages))}) / {len(outages)} = "
            f"{plain(mean, 1)} minutes (target at most 60: {'met' if mean <= 60 else 'missed'})"
        )
    said = joined(facts)
    goals = " Targets: 85% on time, at most 15% failed releases" + (
        "." if difficulty == "easy"
        else ", at most 10% of defects escaped." if difficulty == "medium"
        else ", at most 10% of defects escaped, restored within 60 minutes."
    )  # fmt: skip
    ask = draw.phrase(KPI_ASKS).format(
        title=draw.choice(PROJECTS).title, facts=said[0].upper() + said[1:] + "." + goals
    )
    check = {
        "rates": {name: str(value[0]) for name, value in figures.items()},
        "counts": [punctual, due, failed, releases, escaped, found],
        "outages": outages if difficulty == "hard" else [],
    }
    return conversation(
        "delivery_kpis", "planning", difficulty, [user(ask), assistant(bullets(lines))], check
    )


GENERATORS: dict[str, Callable[[Draw], Conversation]] = {
    "sprint_plan": sprint_plan,
    "resource_plan": resource_plan,
    "earned_value": earned_value_report,
    "delivery_kpis": delivery_kpis,
}
