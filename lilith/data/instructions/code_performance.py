"""Functions that measure returns and prepare series: requests and answers."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Mapping
from typing import Any

from lilith.data.instructions.code_writing import Case, Task, code_answer
from lilith.data.instructions.drawing import Conversation, Draw

Words = Mapping[str, str]
RETURNS = ("returns", "daily_returns", "r", "rets")
YEAR = ("252", "252", "52", "12", "365")  # periods, the default of an argument
NUMPY = "import numpy as np"


def returns_of(draw: Draw, count: int = 0) -> list[float]:
    """Returns of a strategy in steps of 0.001, at least one of each sign."""
    drawn = [
        float(draw.number("-0.03", "0.039", "0.001")) for _ in range(count or draw.count(5, 9))
    ]
    return [
        *drawn,
        float(draw.number("-0.03", "-0.001", "0.001")),
        float(draw.number("0.001", "0.03", "0.001")),
    ]


def prices_of(draw: Draw, count: int = 0) -> list[float]:
    """Prices that move by a few points."""
    price, found = float(draw.number("50", "149")), []
    for _ in range(count or draw.count(7, 11)):
        found.append(price)
        price = round(price + draw.count(-60, 65) / 10, 1)
    return found


def on_returns(
    value: Callable[..., Any], *more: Callable[[Draw], Any]
) -> Callable[..., list[Case]]:
    """Cases on drawn returns and further drawn arguments; ``value`` computes what is expected."""

    def cases(draw: Draw, words: Words) -> list[Case]:
        made = [[returns_of(draw), *(one(draw) for one in more)] for _ in range(3)]
        return [[args, value(*args), 1e-9] for args in made]

    return cases


def on_prices(value: Callable[..., Any], *more: Callable[[Draw], Any]) -> Callable[..., list[Case]]:
    """Cases on drawn prices, as :func:`on_returns`."""

    def cases(draw: Draw, words: Words) -> list[Case]:
        made = [[prices_of(draw), *(one(draw) for one in more)] for _ in range(3)]
        return [[args, value(*args), 1e-9] for args in made]

    return cases


def _with_year(value: Callable[..., float]) -> Callable[[Draw, Words], list[Case]]:
    """Cases whose last argument is the default number of periods, given in the first case."""

    def cases(draw: Draw, words: Words) -> list[Case]:
        found: list[Case] = []
        for _ in range(3):
            rate, rs = float(draw.number("0", "0.045", "0.005")), returns_of(draw)
            periods = int(words["year"]) if not found else draw.choice((252, 52, 12))
            found.append([[rs, rate, periods], value(rs, rate, periods), 1e-9])
        return found

    return cases


def _sharpe(rs: list[float], rate: float, n: int) -> float:
    return (statistics.fmean(rs) - rate / n) / statistics.stdev(rs) * math.sqrt(n)


def _sortino(rs: list[float], rate: float, n: int) -> float:
    below = [min(r - rate / n, 0) ** 2 for r in rs]
    return (statistics.fmean(rs) - rate / n) / math.sqrt(statistics.fmean(below)) * math.sqrt(n)


def depth(rs: list[float]) -> float:
    """The worst drawdown, over all pairs of days."""
    wealth = [math.prod(1 + r for r in rs[:k]) for k in range(len(rs) + 1)]
    return min(b / a - 1 for i, a in enumerate(wealth) for b in wealth[i:])


def _mean_below(rs: list[float], level: float) -> float:
    cut = sorted(rs)[: max(1, math.ceil((1 - level) * len(rs) - 1e-9))]
    return -sum(cut) / len(cut)


_RATIO = {
    "x": RETURNS,
    "rate": ("risk_free_rate", "rf", "annual_rate"),
    "year": YEAR,
    "n": ("periods_per_year", "periods", "n_year"),
}
_RATIO_PARAMETERS = (
    ("x", "list[float]", ""),
    ("rate", "float", "0.0"),
    ("n", "int", "$year"),
)
_FEW = (("len($x) < 2", "$x needs at least two values", [[0.01]]),)
_X = (("x", "list[float]", ""),)


def _beta(a: list[float], b: list[float]) -> float:
    return statistics.covariance(a, b) / statistics.variance(b)


def _two_series(draw: Draw, words: Words) -> list[Case]:
    made = [[returns_of(draw, 7), returns_of(draw, 7)] for _ in range(3)]
    return [[args, _beta(*args), 1e-9] for args in made]


TASKS = (
    Task(
        names=("sharpe_ratio", "sharpe", "annual_sharpe", "compute_sharpe"),
        words=_RATIO,
        parameters=_RATIO_PARAMETERS,
        returns="float",
        does=(
            "the annualised Sharpe ratio of `$x` over a yearly risk-free rate",
            "the yearly Sharpe ratio of periodic simple returns (sample standard deviation)",
        ),
        bodies={
            "numpy": (
                NUMPY,
                """
    excess = np.asarray($x, dtype=float) - $rate / $n
    return float(excess.mean() / excess.std(ddof=1) * np.sqrt($n))
""",
            ),
            "the statistics module": (
                "import math\nimport statistics",
                """
    excess = [value - $rate / $n for value in $x]
    ratio = statistics.fmean(excess) / statistics.stdev(excess)
    return ratio * math.sqrt($n)
""",
            ),
            "plain loops": (
                "import math",
                """
    excess = [value - $rate / $n for value in $x]
    mean = sum(excess) / len(excess)
    variance = sum((e - mean) ** 2 for e in excess) / (len(excess) - 1)
    return mean / math.sqrt(variance) * math.sqrt($n)
""",
            ),
        },
        cases=_with_year(_sharpe),
        guards=_FEW,
        note="The deviation divides by T − 1, and the ratio grows with the square root of `$n`.",
    ),
    Task(
        names=("sortino_ratio", "sortino", "annual_sortino"),
        words=_RATIO | {"rate": ("target", "required_return", "mar")},
        parameters=_RATIO_PARAMETERS,
        returns="float",
        does=("the annualised Sortino ratio of `$x` over a yearly required return",),
        bodies={
            "numpy": (
                NUMPY,
                """
    excess = np.asarray($x, dtype=float) - $rate / $n
    downside = np.sqrt(np.mean(np.minimum(excess, 0) ** 2))
    return float(excess.mean() / downside * np.sqrt($n))
""",
            ),
            "plain loops": (
                "import math",
                """
    excess = [value - $rate / $n for value in $x]
    squares = sum(min(e, 0.0) ** 2 for e in excess)
    downside = math.sqrt(squares / len(excess))
    return sum(excess) / len(excess) / downside * math.sqrt($n)
""",
            ),
        },
        cases=_with_year(_sortino),
        guards=(("not $x", "$x is empty", [[]]),),
        note="Only shortfalls count, but their mean is taken over all periods.",
    ),
    Task(
        names=("max_drawdown", "maximum_drawdown", "worst_drawdown", "mdd"),
        words={"x": RETURNS},
        parameters=_X,
        returns="float",
        does=(
            "the maximum drawdown of a list of simple returns `$x`, as a number of at most 0",
            "the deepest fall of wealth below its former peak (negative), from returns `$x`",
        ),
        bodies={
            "numpy": (
                NUMPY,
                """
    wealth = np.concatenate([[1.0], np.cumprod(1 + np.asarray($x, dtype=float))])
    peaks = np.maximum.accumulate(wealth)
    return float((wealth / peaks - 1).min())
""",
            ),
            "one loop": (
                "",
                """
    wealth = peak = 1.0
    worst = 0.0
    for value in $x:
        wealth *= 1 + value
        peak = max(peak, wealth)
        worst = min(worst, wealth / peak - 1)
    return worst
""",
            ),
        },
        cases=on_returns(depth),
        guards=(("not $x", "$x is empty", [[]]),),
        note="Wealth starts at 1, so a loss on the first day counts.",
    ),
    Task(
        names=("cagr", "annual_growth", "compound_growth"),
        words={"x": RETURNS, "n": ("periods_per_year", "periods"), "year": YEAR},
        parameters=(("x", "list[float]", ""), ("n", "int", "$year")),
        returns="float",
        does=("the compound annual growth rate of periodic returns `$x`",),
        bodies={
            "math.prod": (
                "import math",
                """
    growth = math.prod(1 + value for value in $x)
    return growth ** ($n / len($x)) - 1
""",
            ),
            "numpy": (
                NUMPY,
                """
    growth = np.prod(1 + np.asarray($x, dtype=float))
    return float(growth ** ($n / len($x)) - 1)
""",
            ),
        },
        cases=on_returns(
            lambda rs, n: math.exp(n * statistics.fmean(map(math.log1p, rs))) - 1,
            lambda draw: draw.choice((12, 52)),
        ),
        guards=(("not $x", "$x is empty", [[]]),),
        level=0,
    ),
    Task(
        names=("annual_volatility", "annualised_vol", "realised_volatility"),
        words={"x": RETURNS, "n": ("periods_per_year", "periods"), "year": YEAR},
        parameters=(("x", "list[float]", ""), ("n", "int", "$year")),
        returns="float",
        does=("the annualised sample standard deviation of `$x`",),
        bodies={
            "numpy": (
                NUMPY,
                """
    return float(np.std($x, ddof=1) * np.sqrt($n))
""",
            ),
            "the statistics module": (
                "import math\nimport statistics",
                """
    return statistics.stdev($x) * math.sqrt($n)
""",
            ),
        },
        cases=on_returns(
            lambda rs, n: math.sqrt(n * statistics.variance(rs)),
            lambda draw: draw.choice((12, 52, 252)),
        ),
        guards=_FEW,
        level=0,
    ),
    Task(
        names=("expected_shortfall", "historical_cvar", "tail_loss"),
        words={"x": RETURNS, "c": ("confidence", "level", "alpha")},
        parameters=(("x", "list[float]", ""), ("c", "float", "0.95")),
        returns="float",
        does=(
            "the historical expected shortfall of `$x`: the mean loss of the worst "
            "ceil((1 − $c) T) periods, as a positive number",
        ),
        bodies={
            "sorted lists": (
                "import math",
                """
    count = max(1, math.ceil((1 - $c) * len($x) - 1e-9))
    worst = sorted($x)[:count]
    return -sum(worst) / count
""",
            ),
            "numpy": (
                NUMPY,
                """
    count = max(1, int(np.ceil((1 - $c) * len($x) - 1e-9)))
    return float(-np.sort($x)[:count].mean())
""",
            ),
        },
        cases=on_returns(_mean_below, lambda draw: draw.choice((0.95, 0.9, 0.8, 0.75))),
        guards=(("not 0 < $c < 1", "$c must lie between 0 and 1", [[0.01, -0.02], 1.0]),),
        note="The small 1e-9 keeps a product such as 0.1 × 10 from being rounded up to 2.",
        level=2,
    ),
    Task(
        names=("beta", "market_beta", "beta_to_benchmark"),
        words={"x": RETURNS, "b": ("benchmark", "market", "index_returns")},
        parameters=(("x", "list[float]", ""), ("b", "list[float]", "")),
        returns="float",
        does=("the beta of `$x` to `$b`, covariance over variance",),
        bodies={
            "numpy": (
                NUMPY,
                """
    matrix = np.cov($x, $b)
    return float(matrix[0, 1] / matrix[1, 1])
""",
            ),
            "plain loops": (
                "",
                """
    mean_x, mean_b = sum($x) / len($x), sum($b) / len($b)
    both = sum((p - mean_x) * (q - mean_b) for p, q in zip($x, $b))
    return both / sum((q - mean_b) ** 2 for q in $b)
""",
            ),
        },
        cases=_two_series,
        guards=(("len($x) != len($b)", "$x and $b differ in length", [[0.1, 0.2], [0.1]]),),
    ),
    Task(
        names=("win_rate", "hit_ratio", "share_of_wins"),
        words={"x": ("pnl", "trades", *RETURNS)},
        parameters=_X,
        returns="float",
        does=("the share of positive numbers in `$x`, zeros not counted",),
        bodies={
            "comprehensions": (
                "",
                """
    counted = [value for value in $x if value != 0]
    return sum(value > 0 for value in counted) / len(counted)
""",
            )
        },
        cases=on_returns(lambda rs: sum(r > 0 for r in rs) / sum(r != 0 for r in rs)),
        guards=(("not any($x)", "$x holds no trade", [[0.0]]),),
        level=0,
    ),
)


def code_performance(draw: Draw) -> Conversation:
    """A request for a function that measures returns."""
    return code_answer("code_performance", draw, TASKS)


GENERATORS: dict[str, Callable[[Draw], Conversation]] = {"code_performance": code_performance}
