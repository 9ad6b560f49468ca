"""Risks ranked and priced, scope chosen under limits, and ways of doing a migration compared."""

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
    steps,
    table,
    user,
)
from lilith.data.instructions.drawing import Conversation, Draw
from lilith.data.instructions.planning_material import MANDATES, OUTCOMES, PROJECTS, RISKS, sizes
from lilith.data.instructions.planning_math import best_subset, broken_limits
from lilith.planning.risks import risk_band

MATRIX_ASKS = (
    "Rank the risks of {title} (probability and impact, 1 to 5):\n{risks}",
    "Make a risk matrix:\n{risks}",
    "Which of these risks matter most?\n{risks}",
    "Risk register for {title}:\n{risks}\nScore and sort it.",
    "Probability × impact, please:\n{risks}",
    "What should we deal with first in {title}?\n{risks}",
    "Prioritise these risks and say what to do about the worst:\n{risks}",
    "Turn this into a heat map order:\n{risks}",
    "I present the risks of {title} tomorrow. Rank them:\n{risks}",
    "Score the following risks on a 5x5 matrix:\n{risks}",
    "Help with risk assessment:\n{risks}",
)


def risk_matrix(draw: Draw) -> Conversation:
    """Probability times impact, ranked, with bands and what to do."""
    difficulty = draw.difficulty()
    chosen = draw.random.sample(RISKS, sizes(difficulty, 3, 5, 6))
    marks = [(draw.count(1, 5), draw.count(1, 5)) for _ in chosen]
    style = draw.choice(("- {}: probability {}, impact {}", "- {} (P={}, I={})", "- {} | {} | {}"))
    risks = "\n".join(style.format(risk, p, i) for (risk, _), (p, i) in zip(chosen, marks))
    # of equal scores the one with the greater impact comes first
    order = sorted(range(len(chosen)), key=lambda k: (-marks[k][0] * marks[k][1], -marks[k][1], k))
    rows = [
        (chosen[k][0], marks[k][0], marks[k][1], marks[k][0] * marks[k][1],
         risk_band(marks[k][0] * marks[k][1])) for k in order
    ]  # fmt: skip
    answer = table(("risk", "P", "I", "score", "band"), rows) + "\n\n"
    acted = order[: sizes(difficulty, 1, 2, 3)]
    answer += "First actions:\n" + steps([f"{chosen[k][0]}: {chosen[k][1]}." for k in acted])
    if difficulty == "hard":
        answer += "\nBands: 15 and more critical, 10 high, 5 medium, below low."
    ask = draw.phrase(MATRIX_ASKS).format(title=draw.choice(PROJECTS).title, risks=risks)
    check = {
        "risks": [[risk, *mark] for (risk, _), mark in zip(chosen, marks)],
        "order": [chosen[k][0] for k in order],
        "bands": [row[4] for row in rows],
    }
    return conversation(
        "risk_matrix", "planning", difficulty, [user(ask), assistant(answer)], check
    )


RESERVE_ASKS = (
    "How large a contingency does {title} need?\n{risks}",
    "Expected cost of these risks:\n{risks}",
    "Risk budget for {title}:\n{risks}",
    "What is the expected exposure?\n{risks}",
    "Finance asks for a risk reserve. The risks:\n{risks}",
    "Put a number on the risks of {title}:\n{risks}",
    "Compute the expected monetary value:\n{risks}",
    "How much money should I set aside?\n{risks}",
    "Price this risk list:\n{risks}",
    "Contingency for {title}, by expected value:\n{risks}",
)


def risk_reserve(draw: Draw) -> Conversation:
    """Expected loss of each risk, the reserve, and whether a mitigation pays at higher levels."""
    difficulty = draw.difficulty()
    chosen = draw.random.sample(RISKS, sizes(difficulty, 2, 3, 4))
    chances = [int(draw.number("5", "54")) for _ in chosen]
    costs = [int(draw.number("20", "400", "5")) * 1000 for _ in chosen]
    money = money_format(draw)
    lines = [
        f"- {risk}: {chance}% chance, {money.format(grouped(cost))}"
        for (risk, _), chance, cost in zip(chosen, chances, costs)
    ]
    losses = [Fraction(chance * cost, 100) for chance, cost in zip(chances, costs)]
    answer = bullets(
        [
            f"{risk}: {chance}% × {money.format(grouped(cost))} = {money.format(grouped(loss))}"
            for (risk, _), chance, cost, loss in zip(chosen, chances, costs, losses)
        ]
    )
    answer += f"\nReserve: {money.format(grouped(sum(losses)))}, the sum of expected losses."
    check: dict[str, object] = {
        "chances": chances, "costs": costs, "reserve": str(sum(losses, Fraction(0)))
    }  # fmt: skip
    if difficulty != "easy":
        lower = draw.count(1, chances[0] - 1)
        price = draw.count(2, 60) * 1000
        saved = Fraction((chances[0] - lower) * costs[0], 100)
        lines.append(
            f"For {money.format(grouped(price))} we could {chosen[0][1]}, which cuts the first "
            f"chance to {lower}%."
        )
        verdict = "worth it" if saved > price else "not worth it by expected value"
        answer += (
            f"\nThe mitigation saves ({chances[0]}% − {lower}%) × {money.format(grouped(costs[0]))}"
            f" = {money.format(grouped(saved))} for {money.format(grouped(price))}: {verdict}."
        )
        check |= {"lower": lower, "price": price, "worth": saved > price}
    if difficulty == "hard":
        most = sum(costs)
        answer += f" If everything happens at once it costs {money.format(grouped(most))}."
    ask = draw.phrase(RESERVE_ASKS).format(
        title=draw.choice(PROJECTS).title, risks="\n".join(lines)
    )
    return conversation(
        "risk_reserve", "planning", difficulty, [user(ask), assistant(answer)], check
    )


SCOPE_ASKS = (
    "What should we build next? {facts}\n{options}",
    "{facts} Choose the scope with the most value:\n{options}",
    "Help me pick features under our limits. {facts}\n{options}",
    "We can not do it all. {facts}\n{options}\nWhat stays out?",
    "Trade-off for the next release: {facts}\n{options}",
    "Select the best combination. {facts}\n{options}",
    "{options}\n{facts} Which ones give the most value?",
    "Release scope, please: {facts}\n{options}",
    "Which features fit, and which do we drop? {facts}\n{options}",
    "Our limits: {facts} Maximise value over:\n{options}",
    "Portfolio of features. {facts}\n{options}",
)


def trade_off_scope(draw: Draw) -> Conversation:
    """The most valuable features within engineer-months (and downtime), mandates included."""
    difficulty = draw.difficulty()
    names = draw.random.sample(OUTCOMES, sizes(difficulty, 4, 5, 6))
    must = draw.random.sample(MANDATES, 1) if difficulty != "easy" else []
    options = {
        name: {
            "value": draw.count(10, 90), "effort": draw.count(2, 12), "downtime": draw.count(0, 6),
        }
        for name in [*must, *names]
    }  # fmt: skip
    engineers, span = draw.count(2, 5), draw.count(3, 6)
    limits = {"effort": max(engineers * span, *(options[n]["effort"] for n in [*must, *names]))}
    engineers_text = f"{limits['effort']} engineer-months"
    if limits["effort"] == engineers * span:
        engineers_text = f"{engineers} engineers for {span} months"
    facts = f"We have {engineers_text}"
    if difficulty == "hard":
        limits["downtime"] = int(draw.number("6", "15"))
        facts += f" and at most {limits['downtime']} hours of downtime"
    facts += "." + (f" {must[0]} is required by compliance." if must else "")
    best = best_subset(options, limits, must)
    total = {
        key: sum(options[name][key] for name in best) for key in ("value", "effort", "downtime")
    }
    listed = []
    for name, needs in options.items():
        line = f"- {name}: value {needs['value']}, {needs['effort']} engineer-months"
        listed.append(line + (f", {needs['downtime']} h down" if "downtime" in limits else ""))
    out = [name for name in options if name not in best]
    answer = f"Budget: {limits['effort']} engineer-months.\nTake {joined(best)}: value "
    answer += f"{total['value']}, {total['effort']} engineer-months"
    if "downtime" in limits:
        answer += f", {total['downtime']} h of downtime"
    answer += "."
    if must:
        answer += f" {must[0]} is in whatever its value, since compliance demands it."
    if out:
        answer += (
            f"\nLeave out {joined(out)}. No other combination within the limits has a higher value."
        )
    else:
        answer += "\nEverything fits."
    ask = draw.phrase(SCOPE_ASKS).format(facts=facts, options="\n".join(listed))
    check = {"options": options, "limits": limits, "must": list(must), "best": list(best)}
    return conversation(
        "trade_off_scope", "planning", difficulty, [user(ask), assistant(answer)], check
    )


WAYS = (
    "Big-bang cut-over", "Phased rollout by desk", "Parallel run with nightly reconciliation",
    "Blue-green switch", "Strangler pattern, service by service", "Vendor-led migration",
)  # fmt: skip
WAY_ASKS = (
    "Which approach for {title}? {facts}\n{ways}",
    "{facts} Compare these ways to do {title}:\n{ways}",
    "Choose the migration approach. {facts}\n{ways}",
    "What can we afford? {facts}\n{ways}",
    "Trade-offs for {title}: {facts}\n{ways}\nRecommend one.",
    "Management wants a recommendation on {title}. {facts}\n{ways}",
    "{ways}\n{facts} Which of these is feasible, and which is cheapest?",
    "I am torn between these options for {title}. {facts}\n{ways}",
    "Rule out what does not fit. {facts}\n{ways}",
    "Decide under constraints: {facts}\n{ways}",
    "Evaluate the options. {facts}\n{ways}",
)
_UNITS = {"engineers": "engineers", "months": "months", "downtime": "h of downtime"}


def trade_off_approach(draw: Draw) -> Conversation:
    """Approaches against limits on engineers, months, downtime and compliance."""
    difficulty = draw.difficulty()
    ways = draw.random.sample(WAYS, sizes(difficulty, 2, 3, 4))
    needs = {
        way: {
            "engineers": draw.count(2, 10), "months": int(draw.number("2", "21")),
            "downtime": draw.count(0, 48), "audited": draw.count(0, 3) > 0,
        } for way in ways
    }  # fmt: skip
    limits = {"engineers": draw.count(4, 9), "months": int(draw.number("4", "21"))}
    if difficulty != "easy":
        limits["downtime"] = draw.count(4, 40)
    compliance = difficulty == "hard"
    facts = "Limits: " + joined([f"{most} {_UNITS[key]}" for key, most in limits.items()])
    facts += "; compliance needs a full audit trail." if compliance else "."
    lines, reasons, fitting = [], [], []
    for way, need in needs.items():
        parts = [f"{need[key]} {_UNITS[key]}" for key in limits]
        if compliance:
            parts.append("full audit trail" if need["audited"] else "no audit trail at cut-over")
        lines.append(f"- {way}: {', '.join(parts)}")
        broken = [
            f"needs {need[k]} {_UNITS[k]} (limit {limits[k]})" for k in broken_limits(need, limits)
        ]
        if compliance and not need["audited"]:
            broken.append("has no audit trail")
        effort = need["engineers"] * need["months"]
        if broken:
            reasons.append(f"{way}: out; it {joined(broken)}.")
        else:
            fitting.append((effort, way))
            reasons.append(
                f"{way}: fits; {need['engineers']} × {need['months']} = {effort} engineer-months."
            )
    answer = bullets(reasons)
    if fitting:
        effort, chosen = min(fitting)
        answer += f"\nRecommendation: {chosen}, the least effort of those that fit ({effort})."
    else:
        answer += "\nNone fits. Move a limit, or split the scope, before choosing."
    ask = draw.phrase(WAY_ASKS).format(
        title=draw.choice(PROJECTS).title, facts=facts, ways="\n".join(lines)
    )
    check = {
        "ways": needs, "limits": limits, "compliance": compliance,
        "chosen": min(fitting)[1] if fitting else None,
    }  # fmt: skip
    return conversation(
        "trade_off_approach", "planning", difficulty, [user(ask), assistant(answer)], check
    )


GENERATORS: dict[str, Callable[[Draw], Conversation]] = {
    "risk_matrix": risk_matrix,
    "risk_reserve": risk_reserve,
    "trade_off_scope": trade_off_scope,
    "trade_off_approach": trade_off_approach,
}
