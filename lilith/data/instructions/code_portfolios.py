"""Functions that choose weights and test strategies: requests and answers."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

from lilith.data.instructions.code_performance import NUMPY, on_prices, prices_of
from lilith.data.instructions.code_writing import Case, Task, code_answer
from lilith.data.instructions.drawing import Conversation, Draw

Words = Mapping[str, str]
Matrix = list[list[float]]
COVARIANCE = ("covariance", "cov", "sigma")
MEAN = ("mean", "expected_returns", "mu")


def drawn_covariance(draw: Draw, size: int) -> Matrix:
    """Volatilities in bands and equal correlations, positive definite."""
    vols = [float(draw.number("0.08", "0.39", "0.01")) for _ in range(size)]
    rho = draw.count(0, 5) / 10
    return [
        [round(a * b * (1 if i == j else rho), 6) for j, b in enumerate(vols)]
        for i, a in enumerate(vols)
    ]


def solve(matrix: Matrix, right: list[float]) -> list[float]:
    """The solution of linear equations by Gauss-Jordan elimination with pivoting."""
    rows = [[*row, value] for row, value in zip(matrix, right)]
    for i in range(len(rows)):
        pivot = max(range(i, len(rows)), key=lambda k: abs(rows[k][i]))
        rows[i], rows[pivot] = rows[pivot], rows[i]
        rows[i] = [value / rows[i][i] for value in rows[i]]
        for k in range(len(rows)):
            if k != i:
                rows[k] = [a - rows[k][i] * b for a, b in zip(rows[k], rows[i])]
    return [row[-1] for row in rows]


def _scaled(raw: list[float]) -> list[float]:
    return [value / sum(raw) for value in raw]


def _minimum_variance(draw: Draw, words: Words) -> list[Case]:
    made = [drawn_covariance(draw, draw.count(2, 3)) for _ in range(3)]
    return [[[m], _scaled(solve(m, [1.0] * len(m))), 1e-8] for m in made]


def _tangency(draw: Draw, words: Words) -> list[Case]:
    cases: list[Case] = []
    for _ in range(3):
        m = drawn_covariance(draw, 2)
        mean = [float(draw.number("0.05", "0.14", "0.005")) for _ in m]
        rate = float(draw.number("0", "0.018", "0.002"))
        raw = solve(m, [value - rate for value in mean])
        if min(raw) > 0:
            cases.append([[mean, m, rate], _scaled(raw), 1e-7])
    return cases or [[[[0.1, 0.05], [[0.04, 0.0], [0.0, 0.01]], 0.0], [1 / 3, 2 / 3], 1e-7]]


def _risk_parity(draw: Draw, words: Words) -> list[Case]:
    """Equal correlations: weights are proportional to 1 / volatility."""
    made = [drawn_covariance(draw, draw.count(2, 3)) for _ in range(3)]
    return [[[m], _scaled([1 / math.sqrt(row[i]) for i, row in enumerate(m)]), 1e-4] for m in made]


def _volatility(draw: Draw, words: Words) -> list[Case]:
    cases: list[Case] = []
    for _ in range(3):
        m = drawn_covariance(draw, 3)
        first, second = draw.count(1, 5) / 10, draw.count(1, 4) / 10
        w = [first, second, round(1 - first - second, 1)]
        variance = sum(w[i] * w[j] * m[i][j] for i in range(3) for j in range(3))
        cases.append([[w, m], math.sqrt(variance), 1e-9])
    return cases


def _average(values: list[float], k: int) -> list[float]:
    return [math.fsum(values[i : i + k]) / k for i in range(len(values) - k + 1)]


def _crossover(draw: Draw, words: Words) -> list[Case]:
    """Long from the day after the fast average is above the slow one."""
    cases: list[Case] = []
    for _ in range(3):
        prices, fast, slow = prices_of(draw, 12), draw.choice((2, 3)), draw.choice((4, 5))
        wealth = 1.0
        for day in range(slow, len(prices)):
            known = prices[:day]
            if sum(known[-fast:]) / fast > sum(known[-slow:]) / slow:
                wealth *= prices[day] / prices[day - 1]
        cases.append([[prices, fast, slow], wealth - 1, 1e-9])
    return cases


def _momentum(draw: Draw, words: Words) -> list[Case]:
    cases: list[Case] = []
    for _ in range(3):
        prices, look, cost = prices_of(draw, 11), draw.choice((2, 3)), draw.choice((0.0, 0.001))
        wealth, held = 1.0, 0
        for day in range(look + 1, len(prices)):
            want = 1 if prices[day - 1] > prices[day - 1 - look] else -1
            wealth *= 1 - cost * abs(want - held)
            wealth *= 1 + want * (prices[day] / prices[day - 1] - 1)
            held = want
        cases.append([[prices, look, cost], wealth - 1, 1e-9])
    return cases


def _buy_and_hold(draw: Draw, words: Words) -> list[Case]:
    made = [(prices_of(draw), draw.choice((0.0, 0.001, 0.002))) for _ in range(3)]
    return [[[p, c], (1 - c) ** 2 * p[-1] / p[0] - 1, 1e-9] for p, c in made]


_SERIES = {"x": ("prices", "closes", "values", "series"), "n": ("window", "length", "n")}
_XN = (("x", "list[float]", ""), ("n", "int", ""))

TASKS = (
    Task(
        names=("minimum_variance", "min_variance_weights", "lowest_risk_weights"),
        words={"c": COVARIANCE},
        parameters=(("c", "list[list[float]]", ""),),
        returns="list[float]",
        does=("the fully invested minimum variance weights for the matrix `$c`, shorts allowed",),
        bodies={
            "numpy.linalg.solve": (
                NUMPY,
                """
    matrix = np.asarray($c, dtype=float)
    raw = np.linalg.solve(matrix, np.ones(len(matrix)))
    return (raw / raw.sum()).tolist()
""",
            )
        },
        cases=_minimum_variance,
        guards=(("any(len(row) != len($c) for row in $c)", "$c must be square", [[[1.0, 0.1]]]),),
        note="The weights are proportional to the inverse of the matrix times a vector of ones; "
        "solving is steadier than inverting.",
        level=2,
    ),
    Task(
        names=("maximum_sharpe", "max_sharpe_weights", "tangency_portfolio"),
        words={"m": MEAN, "c": COVARIANCE, "rate": ("risk_free_rate", "rf")},
        parameters=(
            ("m", "list[float]", ""),
            ("c", "list[list[float]]", ""),
            ("rate", "float", "0.0"),
        ),
        returns="list[float]",
        does=("the weights of the portfolio with the highest Sharpe ratio, shorts allowed",),
        bodies={
            "numpy": (
                NUMPY,
                """
    excess = np.asarray($m, dtype=float) - $rate
    raw = np.linalg.solve(np.asarray($c, dtype=float), excess)
    return (raw / raw.sum()).tolist()
""",
            )
        },
        cases=_tangency,
        guards=(
            (
                "len($m) != len($c)",
                "$m and $c differ in length",
                [[0.1], [[1.0, 0.0], [0.0, 1.0]], 0.0],
            ),
        ),
        note="It is the tangency portfolio; the sum of the raw weights must be positive.",
        level=2,
    ),
    Task(
        names=("risk_parity", "equal_risk_weights", "equal_risk_contribution"),
        words={"c": COVARIANCE, "n": ("rounds", "iterations", "max_rounds")},
        parameters=(("c", "list[list[float]]", ""), ("n", "int", "500")),
        returns="list[float]",
        does=("long-only weights whose risk contributions are equal, by fixed-point iteration",),
        bodies={
            "numpy": (
                NUMPY,
                """
    matrix = np.asarray($c, dtype=float)
    weights = np.full(len(matrix), 1 / len(matrix))
    for _ in range($n):
        weights = np.sqrt(weights / (matrix @ weights))
        weights = weights / weights.sum()
    return weights.tolist()
""",
            ),
            "plain lists": (
                "",
                """
    size = len($c)
    weights = [1 / size] * size
    for _ in range($n):
        pull = [sum(a * w for a, w in zip(row, weights)) for row in $c]
        raw = [(w / p) ** 0.5 for w, p in zip(weights, pull)]
        weights = [value / sum(raw) for value in raw]
    return weights
""",
            ),
        },
        cases=_risk_parity,
        guards=(("$n < 1", "$n must be at least 1", [[[1.0]], 0]),),
        note="At the fixed point each weight times its marginal risk is the same.",
        level=2,
    ),
    Task(
        names=("portfolio_volatility", "portfolio_risk", "risk_of_weights"),
        words={"w": ("weights", "w", "holdings"), "c": COVARIANCE},
        parameters=(("w", "list[float]", ""), ("c", "list[list[float]]", "")),
        returns="float",
        does=("the volatility of a portfolio with weights `$w` and covariance matrix `$c`",),
        bodies={
            "numpy": (
                NUMPY,
                """
    vector = np.asarray($w, dtype=float)
    return float(np.sqrt(vector @ np.asarray($c) @ vector))
""",
            ),
            "nested sums": (
                "import math",
                """
    size = range(len($w))
    variance = sum($w[i] * $w[j] * $c[i][j] for i in size for j in size)
    return math.sqrt(variance)
""",
            ),
        },
        cases=_volatility,
        guards=(
            ("len($w) != len($c)", "$w and $c differ in length", [[1.0], [[1.0, 0.0], [0.0, 1.0]]]),
        ),
    ),
    Task(
        names=("moving_average", "sma", "simple_moving_average", "rolling_mean"),
        words=_SERIES,
        parameters=_XN,
        returns="list[float]",
        does=("the simple moving averages of `$x` over full windows of `$n`",),
        bodies={
            "a running sum": (
                "",
                """
    total = sum($x[:$n])
    averages = [total / $n]
    for old, latest in zip($x, $x[$n:]):
        total += latest - old
        averages.append(total / $n)
    return averages
""",
            ),
            "slices": (
                "",
                """
    starts = range(len($x) - $n + 1)
    return [sum($x[i : i + $n]) / $n for i in starts]
""",
            ),
            "numpy": (
                NUMPY,
                """
    return np.convolve($x, np.full($n, 1 / $n), mode="valid").tolist()
""",
            ),
        },
        cases=on_prices(_average, lambda draw: draw.choice((2, 3, 4, 5))),
        guards=(
            ("not 1 <= $n <= len($x)", "$n must lie between 1 and the length", [[1.0, 2.0], 3]),
        ),
        level=0,
    ),
    Task(
        names=("crossover_return", "backtest_crossover", "sma_crossover"),
        words={
            "x": ("prices", "closes"),
            "f": ("fast", "short_window"),
            "s": ("slow", "long_window"),
        },
        parameters=(("x", "list[float]", ""), ("f", "int", ""), ("s", "int", "")),
        returns="float",
        does=(
            "the total return of holding `$x` on days after the `$f` average closed above the `$s` "
            "average, and cash otherwise",
        ),
        bodies={
            "a loop": (
                "",
                """
    wealth = 1.0
    for day in range($s, len($x)):
        # signals use prices up to yesterday only: no look-ahead
        fast_mean = sum($x[day - $f : day]) / $f
        slow_mean = sum($x[day - $s : day]) / $s
        if fast_mean > slow_mean:
            wealth *= $x[day] / $x[day - 1]
    return wealth - 1
""",
            )
        },
        cases=_crossover,
        guards=(("$f >= $s", "$f must be below $s", [[1.0, 2.0, 3.0], 3, 2]),),
        note="The signal of a day is traded on the next one, which keeps the future out.",
        level=2,
    ),
    Task(
        names=("momentum_return", "backtest_momentum", "trend_backtest"),
        words={"x": ("prices", "closes"), "n": ("lookback", "window"), "cost": ("cost", "fee")},
        parameters=(("x", "list[float]", ""), ("n", "int", ""), ("cost", "float", "0.0")),
        returns="float",
        does=(
            "the total return of being long after a rise over `$n` days and short otherwise, less "
            "`$cost` for each unit traded",
        ),
        bodies={
            "a loop": (
                "",
                """
    wealth, position = 1.0, 0
    for day in range($n + 1, len($x)):
        signal = 1 if $x[day - 1] > $x[day - 1 - $n] else -1
        wealth *= 1 - $cost * abs(signal - position)
        wealth *= 1 + signal * ($x[day] / $x[day - 1] - 1)
        position = signal
    return wealth - 1
""",
            )
        },
        cases=_momentum,
        guards=(("$n < 1", "$n must be at least 1", [[1.0, 2.0], 0, 0.0]),),
        note="A turn from long to short trades two units and pays twice.",
        level=2,
    ),
    Task(
        names=("buy_and_hold", "hold_return", "round_trip_return"),
        words={"x": ("prices", "closes"), "cost": ("cost", "fee", "commission")},
        parameters=(("x", "list[float]", ""), ("cost", "float", "0.0")),
        returns="float",
        does=(
            "the return of buying at the first and selling at the last of `$x`, with the share "
            "`$cost` lost on each trade",
        ),
        bodies={
            "arithmetic": (
                "",
                """
    growth = $x[-1] / $x[0]
    return growth * (1 - $cost) ** 2 - 1
""",
            )
        },
        cases=_buy_and_hold,
        guards=(("len($x) < 2", "$x needs two prices", [[1.0], 0.0]),),
        level=0,
    ),
)


def code_portfolios(draw: Draw) -> Conversation:
    """A request for an optimiser or a backtest."""
    return code_answer("code_portfolios", draw, TASKS)


GENERATORS: dict[str, Callable[[Draw], Conversation]] = {"code_portfolios": code_portfolios}
