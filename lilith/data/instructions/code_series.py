"""Series and tables prepared for analysis: requests for Python functions and answers."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

from lilith.data.instructions.code_algorithms import ITEMS, exact_cases, whole_numbers
from lilith.data.instructions.code_performance import on_prices
from lilith.data.instructions.code_writing import Task, code_answer
from lilith.data.instructions.drawing import Conversation, Draw

Words = Mapping[str, str]
SERIES = ("prices", "values", "series", "observations")
_XF = (("x", "list[float]", ""),)
_X = (("x", "list[int]", ""),)
_SERIES = {"x": SERIES}
_ITEMS = {"x": ITEMS}


def _records(draw: Draw) -> list[Any]:
    names = draw.random.sample(("ACME", "ZETA", "NOVA", "ORION", "LYRA"), 3)
    return [[[draw.choice(names), int(draw.number("1", "90"))] for _ in range(draw.count(4, 6))]]


def _totals(rows: list[list[Any]]) -> dict[str, int]:
    return {name: sum(v for n, v in rows if n == name) for name, _ in rows}


def _gaps(draw: Draw) -> list[Any]:
    values: list[Any] = [int(draw.number("50", "149")) for _ in range(draw.count(5, 8))]
    for place in draw.random.sample(range(1, len(values)), 2):
        values[place] = None
    return [values]


def _filled(values: list[Any]) -> list[Any]:
    return [next(v for v in reversed(values[: i + 1]) if v is not None) for i in range(len(values))]


def _smoothed(values: list[float], n: int) -> list[float]:
    a = 2 / (n + 1)
    return [
        (1 - a) ** i * values[0] + sum(a * (1 - a) ** (i - k) * values[k] for k in range(1, i + 1))
        for i in range(len(values))
    ]


def _scores(values: list[float]) -> list[float]:
    m = math.fsum(values) / len(values)
    s = math.sqrt(math.fsum(v * v for v in values) / len(values) - m * m)
    return [(v - m) / s for v in values]


def _table(draw: Draw) -> list[Any]:
    rows = [
        f"{name},{draw.number('10', '99')}.{draw.count(0, 9)}5"
        for name in draw.random.sample(("AAA", "BBB", "CCC", "DDD"), 3)
    ]
    return ["ticker,price\n" + "\n".join(rows) + "\n"]


def _parsed(text: str) -> dict[str, float]:
    cells = text.replace(",", "\n").split("\n")[2:-1]
    return {cells[i]: float(cells[i + 1]) for i in range(0, len(cells), 2)}


TASKS = (
    Task(
        names=("total_by_key", "sum_by_name", "aggregate"),
        words={"x": ("rows", "records", "trades")},
        parameters=(("x", "list", ""),),
        returns="dict[str, int]",
        does=(
            "a dict with the sum of the amounts for each name in the `[name, amount]` rows `$x`",
        ),
        bodies={
            "defaultdict": (
                "from collections import defaultdict",
                """
    totals = defaultdict(int)
    for name, amount in $x:
        totals[name] += amount
    return dict(totals)
""",
            ),
            "a plain dict": (
                "",
                """
    totals = {}
    for name, amount in $x:
        totals[name] = totals.get(name, 0) + amount
    return totals
""",
            ),
        },
        cases=exact_cases(_records, _totals),
        level=0,
    ),
    Task(
        names=("forward_fill", "fill_gaps", "last_known"),
        words=_SERIES,
        parameters=(("x", "list", ""),),
        returns="list",
        does=("`$x` with each None replaced by the last value before it",),
        bodies={
            "a loop": (
                "",
                """
    filled, last = [], None
    for value in $x:
        if value is not None:
            last = value
        filled.append(last)
    return filled
""",
            )
        },
        cases=exact_cases(_gaps, _filled),
        note="A gap at the very beginning stays None: there is nothing known yet.",
        level=0,
    ),
    Task(
        names=("ema", "exponential_average", "smooth"),
        words=_SERIES | {"n": ("span", "periods", "n")},
        parameters=(*_XF, ("n", "int", "")),
        returns="list[float]",
        does=(
            "the exponential moving average of `$x` with factor 2 / (`$n` + 1), begun at the first",
        ),
        bodies={
            "a loop": (
                "",
                """
    factor = 2 / ($n + 1)
    averages = [$x[0]]
    for value in $x[1:]:
        averages.append(factor * value + (1 - factor) * averages[-1])
    return averages
""",
            ),
            "itertools.accumulate": (
                "from itertools import accumulate",
                """
    factor = 2 / ($n + 1)
    return list(accumulate($x, lambda old, value: old + factor * (value - old)))
""",
            ),
        },
        cases=on_prices(_smoothed, lambda d: d.count(2, 9)),
        guards=(("not $x", "$x is empty", [[], 3]),),
        level=1,
    ),
    Task(
        names=("simple_returns", "pct_change", "returns_from_prices"),
        words=_SERIES,
        parameters=_XF,
        returns="list[float]",
        does=("the simple returns between neighbours in `$x`",),
        bodies={
            "zip": (
                "",
                """
    return [b / a - 1 for a, b in zip($x, $x[1:])]
""",
            ),
            "numpy": (
                "import numpy as np",
                """
    array = np.asarray($x, dtype=float)
    return (array[1:] / array[:-1] - 1).tolist()
""",
            ),
        },
        cases=on_prices(lambda p: [(p[i] - p[i - 1]) / p[i - 1] for i in range(1, len(p))]),
        guards=(("any(value <= 0 for value in $x)", "$x must be positive", [[1.0, 0.0]]),),
        level=0,
    ),
    Task(
        names=("z_scores", "standardise", "normalise"),
        words=_SERIES,
        parameters=_XF,
        returns="list[float]",
        does=("the z-scores of `$x` (population standard deviation)",),
        bodies={
            "the statistics module": (
                "import statistics",
                """
    mean, deviation = statistics.fmean($x), statistics.pstdev($x)
    return [(value - mean) / deviation for value in $x]
""",
            ),
            "numpy": (
                "import numpy as np",
                """
    array = np.asarray($x, dtype=float)
    return ((array - array.mean()) / array.std()).tolist()
""",
            ),
        },
        cases=lambda draw, words: [[a, w, 1e-6] for a, w, _ in on_prices(_scores)(draw, words)],
        guards=(("len(set($x)) < 2", "$x is constant", [[1.0, 1.0]]),),
        level=1,
    ),
    Task(
        names=("rolling_max", "window_peaks", "sliding_maximum"),
        words=_ITEMS | {"k": ("window", "width", "k")},
        parameters=(*_X, ("k", "int", "")),
        returns="list[int]",
        does=("the maximum of each window of `$k` neighbours in `$x`, in linear time",),
        bodies={
            "a deque": (
                "from collections import deque",
                """
    places, peaks = deque(), []
    for i, value in enumerate($x):
        while places and $x[places[-1]] <= value:
            places.pop()
        places.append(i)
        if places[0] <= i - $k:
            places.popleft()
        if i >= $k - 1:
            peaks.append($x[places[0]])
    return peaks
""",
            )
        },
        cases=exact_cases(
            lambda d: [whole_numbers(d), d.count(2, 4)],
            lambda xs, k: [max(xs[i : i + k]) for i in range(len(xs) - k + 1)],
        ),
        note="The deque holds places of falling values; its first one is the peak of the window.",
        level=2,
    ),
    Task(
        names=("parse_prices", "read_price_table", "prices_from_csv"),
        words={"x": ("text", "content", "csv_text")},
        parameters=(("x", "str", ""),),
        returns="dict[str, float]",
        does=("a dict from ticker to price, read from the CSV text `$x` with a header line",),
        bodies={
            "the csv module": (
                "import csv\nimport io",
                """
    rows = csv.DictReader(io.StringIO($x))
    return {row["ticker"]: float(row["price"]) for row in rows}
""",
            ),
            "split": (
                "",
                """
    lines = $x.strip().split("\\n")[1:]
    pairs = (line.split(",") for line in lines)
    return {ticker: float(price) for ticker, price in pairs}
""",
            ),
        },
        cases=exact_cases(_table, _parsed),
        level=1,
    ),
    Task(
        names=("clip_outliers", "winsorise", "limit_values"),
        words=_ITEMS | {"low": ("low", "lower", "floor"), "high": ("high", "upper", "cap")},
        parameters=(*_X, ("low", "int", ""), ("high", "int", "")),
        returns="list[int]",
        does=("`$x` with every value held between `$low` and `$high`",),
        bodies={
            "min and max": (
                "",
                """
    return [min(max(value, $low), $high) for value in $x]
""",
            ),
            "numpy": (
                "import numpy as np",
                """
    return np.clip($x, $low, $high).tolist()
""",
            ),
        },
        cases=exact_cases(
            lambda d: [whole_numbers(d), d.count(5, 30), d.count(50, 90)],
            lambda xs, lo, hi: [lo if x < lo else hi if x > hi else x for x in xs],
        ),
        guards=(("$low > $high", "$low is above $high", [[1], 3, 2]),),
        level=0,
    ),
)


def code_series(draw: Draw) -> Conversation:
    """A request for a function that prepares data."""
    return code_answer("code_series", draw, TASKS)


GENERATORS: dict[str, Callable[[Draw], Conversation]] = {"code_series": code_series}
