"""Functions with places for a defect: what reviews find, fixes mend and tests must catch."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from string import Template

from lilith.data.instructions.code_performance import depth, prices_of, returns_of
from lilith.data.instructions.code_pricers import black_scholes, market
from lilith.data.instructions.code_writing import Case
from lilith.data.instructions.drawing import Draw


@dataclass(frozen=True)
class Defect:
    """A line gone wrong: ``right`` is the line, ``wrong`` what stands there instead."""

    name: str
    right: str
    wrong: str
    reason: str


@dataclass(frozen=True)
class Subject:
    """A right function, with the defects that can be seeded; ``$words`` as in a task."""

    purpose: str
    names: tuple[str, ...]
    words: Mapping[str, tuple[str, ...]]
    source: str
    defects: tuple[Defect, ...]
    cases: Callable[[Draw, Mapping[str, str]], list[Case]]


def filled(text: str, words: Mapping[str, str]) -> str:
    """A template with its words."""
    return Template(text).substitute(words)


def seeded(source: str, right: str, wrong: str) -> tuple[str, int]:
    """The source with one line replaced, and the number of the line, from 1.

    Raises:
      ValueError: the line is not there exactly once.
    """
    lines = source.split("\n")
    found = [i for i, line in enumerate(lines) if line.strip() == right]
    if len(found) != 1:
        raise ValueError(f"the line {right!r} is there {len(found)} times; 1 is needed")
    indent = lines[found[0]][: len(lines[found[0]]) - len(right)]
    lines[found[0]] = indent + wrong
    return "\n".join(lines), found[0] + 1


def growing(draw: Draw, words: Mapping[str, str]) -> list[Case]:
    """Prices with a strong turn, so that knowing the future shows."""
    cases: list[Case] = []
    for _ in range(3):
        x = [
            round(100 + 5 * math.sin(i / draw.count(1, 2)) + draw.count(0, 9), 1) for i in range(9)
        ]
        x += [x[-1] + draw.count(8, 20), x[-1] - draw.count(8, 20)]
        wealth = 1.0
        for day in range(2, len(x)):
            wealth *= x[day] / x[day - 1] if x[day - 1] > x[day - 2] else 1
        cases.append([[x], wealth - 1, 1e-9])
    return cases


def sharpe(draw: Draw, words: Mapping[str, str]) -> list[Case]:
    """Cases of a Sharpe ratio, constant returns among them."""
    made = [returns_of(draw) for _ in range(3)]
    n = int(words["year"])
    found: list[Case] = [
        [[x], statistics.fmean(x) / statistics.stdev(x) * math.sqrt(n), 1e-9] for x in made
    ]
    return [*found, [[[0.25, 0.25, 0.25]], 0.0, None]]


def drawdowns(draw: Draw, words: Mapping[str, str]) -> list[Case]:
    """Cases of a drawdown, one with a loss on the first day."""
    made = [returns_of(draw) for _ in range(2)]
    first_loss = [-float(draw.number("0.05", "0.3", "0.01")), 0.01, 0.02]
    return [[[x], depth(x), 1e-9] for x in [*made, first_loss, [0.5, -0.2, 0.1]]]


def windows(draw: Draw, words: Mapping[str, str]) -> list[Case]:
    """Cases of moving averages."""
    made = [(prices_of(draw), draw.count(2, 4)) for _ in range(3)]
    return [
        [[x, n], [statistics.fmean(x[i : i + n]) for i in range(len(x) - n + 1)], 1e-9]
        for x, n in made
    ]


def totals(draw: Draw, words: Mapping[str, str]) -> list[Case]:
    """Cases of totals by name; the calls share no state."""
    first = [["ACME", int(draw.number("5", "84"))], ["ZETA", 5]]
    second = [["ACME", draw.count(1, 9)], ["ACME", -draw.count(1, 9)]]
    return [
        [[rows], {name: sum(q for n, q in rows if n == name) for name, _ in rows}, None]
        for rows in (first, second, [])
    ]


def weights(draw: Draw, words: Mapping[str, str]) -> list[Case]:
    """Cases of valid and invalid weights."""
    thirds = [0.1] * 10
    made = [draw.count(1, 9) / 10 for _ in range(2)]
    return [
        [[thirds], True, None],
        [[[made[0], 1 - made[0]]], True, None],
        [[[made[1], 0.3 + 1 - made[1]]], False, None],
        [[[1.2, -0.2]], False, None],
    ]


def calls(draw: Draw, words: Mapping[str, str]) -> list[Case]:
    """Cases of a call's price, one at expiry."""
    found: list[Case] = [[m, black_scholes(m, 1), 1e-6] for m in (market(draw) for _ in range(3))]
    spot = float(draw.number("60", "159"))
    half_year = [spot, spot, 0.5, 0.06, 0.3]  # with a rate and a time that no defect leaves alone
    known: Case = [half_year, black_scholes(half_year, 1), 1e-6]
    return [known, *found, [[spot, spot - 10, 0, 0.05, 0.2], 10.0, 1e-9]]


def growth(draw: Draw, words: Mapping[str, str]) -> list[Case]:
    """Cases of a growth rate."""
    cases: list[Case] = []
    n = int(words["year"])
    for _ in range(3):
        x = returns_of(draw)
        cases.append([[x], math.exp(n * statistics.fmean(map(math.log1p, x))) - 1, 1e-9])
    return cases


def below(draw: Draw, words: Mapping[str, str]) -> list[Case]:
    """Cases of a downside deviation."""
    cases: list[Case] = []
    for _ in range(3):
        x, target = returns_of(draw), draw.choice((0.0, 0.001))
        value = math.sqrt(statistics.fmean(min(r - target, 0) ** 2 for r in x))
        cases.append([[x, target], value, 1e-9])
    return cases


def places(draw: Draw, words: Mapping[str, str]) -> list[Case]:
    """Cases of a search: both ends, the middle, and what is missing."""
    x = sorted({int(draw.number("0", "99")) for _ in range(8)})
    found: list[Case] = [[[x, key], x.index(key), None] for key in (x[0], x[-1], x[len(x) // 2])]
    return [*found, [[x, x[-1] + 1], -1, None], [[x, -1], -1, None], [[[], 3], -1, None]]


def rebalanced(draw: Draw, words: Mapping[str, str]) -> list[Case]:
    """Cases of a cost: one weight is bought and one is sold."""
    cases: list[Case] = []
    for _ in range(3):
        old = [draw.count(1, 5) / 10, draw.count(5, 9) / 10]
        target, bps = [0.6, 0.4], int(draw.number("5", "34"))
        traded = abs(target[0] - old[0]) + abs(target[1] - old[1])
        cases.append([[old, target, bps], traded * bps / 10000, 1e-9])
    return cases


def value_at_risk(draw: Draw, words: Mapping[str, str]) -> list[Case]:
    """Cases of a value at risk at 90%, the second worst of twenty."""
    cases: list[Case] = []
    for _ in range(3):
        x = returns_of(draw, 18)
        cases.append([[x, 0.9], -sorted(x)[1], 1e-9])
    return cases
