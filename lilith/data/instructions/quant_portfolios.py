"""Portfolios from small tables of returns, by tool: optimal weights and efficient frontiers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from decimal import Decimal
from typing import Any

from lilith.data.instructions.conversations import joined, plain
from lilith.data.instructions.drawing import Conversation, Draw
from lilith.data.instructions.quant_talk import Talk, run, tool_call
from lilith.data.instructions.quant_words import HUNDRED, banded, fill, percent
from lilith.data.instructions.tool_text import exact

ASSETS = 3
PERIODS = 5
POINTS = 5
NAMES = (
    ("A", "B", "C"), ("X", "Y", "Z"), ("stocks", "bonds", "gold"), ("EQ", "FI", "CMD"),
    ("tech", "energy", "health"), ("SPX", "AGG", "GLD"), ("value", "growth", "cash_plus"),
    ("Alpha", "Beta", "Gamma"), ("US", "EU", "JP"), ("banks", "autos", "retail"),
)  # fmt: skip
FREQUENCIES = (("monthly", 12), ("monthly", 12), ("weekly", 52))
GOALS = {
    "min_variance": ("minimum-variance", "lowest-variance", "minimum variance", "least-risk"),
    "max_sharpe": ("maximum-Sharpe", "max Sharpe", "best Sharpe ratio", "tangency"),
    "risk_parity": ("risk-parity", "risk parity", "equal-risk-contribution"),
}
OPTIMISE = (
    "Find the {goal} portfolio from these {frequency} returns{rate}:\n{table}",
    "Here are {frequency} returns:\n{table}\nWhat are the {goal} weights{rate}?",
    "Build me the {goal} portfolio{rate}. {Frequency} returns:\n{table}",
    "Optimise for the {goal} portfolio{rate}, given {frequency} returns\n{table}",
    "{Frequency} return history:\n{table}\nHow would the {goal} portfolio split the money{rate}?",
    "I hold three assets with {frequency} returns\n{table}\nGive me {goal} weights{rate}.",
    "Compute {goal} weights{rate}.\n{table}\n(The returns are {frequency}.)",
    "Using the {frequency} returns below, which allocation is the {goal} one{rate}?\n{table}",
    "Long-only {goal} portfolio, please{rate}. {Frequency} data:\n{table}",
    "What should I hold for a {goal} mix{rate}? The {frequency} returns are\n{table}",
    "Allocate between these assets by the {goal} rule{rate}. Returns are {frequency}:\n{table}",
)
FRONTIER = (
    "Draw the efficient frontier with 5 points from these {frequency} returns{rate}:\n{table}",
    "Here are {frequency} returns:\n{table}\nGive me 5 portfolios on the efficient frontier{rate}.",
    "Compute a 5-point efficient frontier{rate}. {Frequency} returns:\n{table}",
    "{Frequency} returns\n{table}\nWhat does the efficient frontier look like in 5 points{rate}?",
    "How do risk and return trade off for these assets? Use 5 frontier points{rate}. {Frequency} "
    "returns:\n{table}",
    "I need five efficient portfolios{rate} from {frequency} data:\n{table}",
    "Trace the mean-variance frontier in 5 steps{rate}.\n{table}\nThese are {frequency} returns.",
    "From the {frequency} returns below, find 5 points of the frontier and the tangency "
    "portfolio{rate}.\n{table}",
    "Markowitz frontier, 5 points{rate}, {frequency} returns:\n{table}",
    "Which five mixes of these assets are efficient{rate}? Their {frequency} returns:\n{table}",
)
RATES = (
    ", risk-free rate {}", " with a risk-free rate of {}", " (risk-free {} a year)",
    ", taking {} as the risk-free rate",
)  # fmt: skip


def draw_series(draw: Draw, count: int) -> list[Decimal]:
    """Returns in percent, from -4.0 to 5.9, some above 0 and some below."""
    while True:
        values = [draw.number("-4.0", "5.9", "0.1") for _ in range(count)]
        if min(values) < 0 < max(values):
            return values


def as_fractions(series: Sequence[Decimal]) -> list[int | float]:
    """Percentages as the fractions that tools take."""
    return [exact(value / HUNDRED) for value in series]


def written(series: Sequence[Decimal], in_percent: bool) -> str:
    """A series in a prompt: "1.2%, -0.4%" or "0.012, -0.004"."""
    if in_percent:
        return ", ".join(f"{plain(value)}%" for value in series)
    return ", ".join(plain(value / HUNDRED) for value in series)


def draw_table(draw: Draw, difficulty: str) -> tuple[dict[str, Any], str]:
    """The argument ``returns`` of a portfolio tool, and the same as lines of text."""
    names = draw.choice(NAMES)
    columns = [draw_series(draw, PERIODS) for _ in names]
    in_percent = difficulty == "hard"
    lines = [f"{name}: {written(own, in_percent)}" for name, own in zip(names, columns)]
    return {name: as_fractions(own) for name, own in zip(names, columns)}, "\n".join(lines)


def draw_request(
    draw: Draw, difficulty: str, tool: str, chosen: dict[str, Any], has_rate: bool
) -> tuple[dict[str, Any], dict[str, str]]:
    """A call that the tool can answer with every figure, and the slots of the prompt for it."""
    frequency, periods = draw.choice(FREQUENCIES)
    while True:
        table, text = draw_table(draw, difficulty)
        rate = banded(draw, "rate", difficulty) if has_rate else None
        arguments = {"returns": table, **chosen, "periods_per_year": periods}
        if rate is not None:
            arguments["risk_free_rate"] = exact(rate / HUNDRED)
        call = tool_call(tool, **arguments)
        answer = run(call)
        if answer["ok"] and answer["result"].get("tangency", True) is not None:
            break
    said = "" if rate is None else draw.choice(RATES).format(percent(draw, rate))
    slots = {
        "table": text, "rate": said, "frequency": frequency, "Frequency": frequency.capitalize(),
    }  # fmt: skip
    return call, slots


def _weights(talk: Talk, names: Sequence[str], *path: str) -> str:
    parts = [
        f"{talk.quote(*path, 'weights', i, form='percent', places=1)} {name}"
        for i, name in enumerate(names)
    ]
    return joined(parts)


def _risk_and_return(talk: Talk, *path: str) -> str:
    mean = talk.quote(*path, "expected_return", form="percent", places=1)
    volatility = talk.quote(*path, "volatility", form="percent", places=1)
    return f"an expected return of {mean} a year and a volatility of {volatility}"


def quant_portfolio(draw: Draw) -> Conversation:
    """Weights that are optimal by one of three rules."""
    difficulty = draw.difficulty()
    method = draw.choice(tuple(GOALS))
    has_rate = method == "max_sharpe"
    call, slots = draw_request(draw, difficulty, "portfolio_optimize", {"method": method}, has_rate)
    talk = Talk(draw, "quant_portfolio")
    talk.system("portfolio_optimize")
    goal = draw.choice(GOALS[method])
    talk.user(fill(draw, OPTIMISE, {**slots, "goal": goal}))
    talk.call(call)
    names = tuple(call["arguments"]["returns"])
    text = f"Hold {_weights(talk, names)}. That has {_risk_and_return(talk)}"
    sharpe = talk.quote("sharpe")
    talk.say(
        f"{text}, a Sharpe ratio of {sharpe}. With {PERIODS} observations these estimates are very "
        "rough."
    )
    return talk.record(difficulty)


def quant_frontier(draw: Draw) -> Conversation:
    """An efficient frontier: its least risky and its tangency portfolio."""
    difficulty = draw.difficulty()
    has_rate = draw.count(0, 1) == 1
    call, slots = draw_request(draw, difficulty, "efficient_frontier", {"points": POINTS}, has_rate)
    talk = Talk(draw, "quant_frontier")
    talk.system("efficient_frontier")
    talk.user(fill(draw, FRONTIER, slots))
    talk.call(call)
    names = tuple(call["arguments"]["returns"])
    top = talk.quote("expected_return", POINTS - 1, form="percent", places=1)
    risk = talk.quote("volatility", POINTS - 1, form="percent", places=1)
    least, best = (_weights(talk, names, name) for name in ("minimum_variance", "tangency"))
    talk.say(
        f"The frontier starts at the minimum-variance portfolio ({least}) with "
        f"{_risk_and_return(talk, 'minimum_variance')}, and ends at a return of {top} with a "
        f"volatility of {risk}. The tangency portfolio is {best}, with a Sharpe ratio of "
        f"{talk.quote('tangency', 'sharpe')}."
    )
    return talk.record(difficulty)


GENERATORS: dict[str, Callable[[Draw], Conversation]] = {
    "quant_portfolio": quant_portfolio,
    "quant_frontier": quant_frontier,
}
