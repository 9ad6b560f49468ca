"""The functions that reviews, fixes and tests are about, each with its seeded defects."""

from __future__ import annotations

from lilith.data.instructions import code_defects as defects
from lilith.data.instructions.code_defects import Defect, Subject

RETURNS = ("returns", "daily_returns", "rets", "r")
PRICES = ("prices", "closes", "px")

SUBJECTS = (
    Subject(
        "backtests a rule: hold the asset on the day after a rise",
        ("backtest", "follow_rises", "run_strategy"),
        {"x": PRICES},
        """def $name($x):
    wealth = 1.0
    for day in range(2, len($x)):
        signal = $x[day - 1] > $x[day - 2]
        if signal:
            wealth *= $x[day] / $x[day - 1]
    return wealth - 1
""",
        (
            Defect("look-ahead bias", "signal = $x[day - 1] > $x[day - 2]",
                   "signal = $x[day] > $x[day - 1]",
                   "look-ahead bias: the signal uses the close of the day whose return it earns"),
            Defect("off by one", "for day in range(2, len($x)):",
                   "for day in range(2, len($x) - 1):",
                   "off by one: the last day is never traded"),
            Defect("wrong base", "return wealth - 1", "return wealth",
                   "it returns the growth factor, not the return: 1 must be taken off"),
        ),
        defects.growing,
    ),
    Subject(
        "computes an annualised Sharpe ratio, 0 for constant returns",
        ("sharpe", "sharpe_ratio", "annual_sharpe"),
        {"x": RETURNS, "year": ("252", "52", "12")},
        """import math


def $name($x, periods=$year):
    mean = sum($x) / len($x)
    variance = sum((value - mean) ** 2 for value in $x) / (len($x) - 1)
    if variance == 0:
        return 0.0
    return mean / math.sqrt(variance) * math.sqrt(periods)
""",
        (
            Defect("ddof", "variance = sum((value - mean) ** 2 for value in $x) / (len($x) - 1)",
                   "variance = sum((value - mean) ** 2 for value in $x) / len($x)",
                   "ddof: a sample variance divides by n − 1, otherwise the ratio is too high"),
            Defect("annualisation", "return mean / math.sqrt(variance) * math.sqrt(periods)",
                   "return mean / math.sqrt(variance) * periods",
                   "annualisation: means grow with time and deviations with its root, so the ratio "
                   "is scaled by the root of the periods"),
            Defect("division by zero", "if variance == 0:", "if not $x:",
                   "division by zero: constant returns have no variance, and nothing guards that"),
        ),
        defects.sharpe,
    ),
    Subject(
        "computes the maximum drawdown (at most 0) from returns",
        ("max_drawdown", "drawdown", "worst_fall"),
        {"x": RETURNS},
        """def $name($x):
    wealth = 1.0
    peak = 1.0
    worst = 0.0
    for value in $x:
        wealth *= 1 + value
        peak = max(peak, wealth)
        worst = min(worst, wealth / peak - 1)
    return worst
""",
        (
            Defect("missing baseline", "peak = 1.0", "peak = 0.0",
                   "the peak must begin at the starting wealth, or a loss on the first day is "
                   "missed"),
            Defect("wrong base", "worst = min(worst, wealth / peak - 1)",
                   "worst = min(worst, wealth - peak)",
                   "a drawdown is relative to the peak; this is a difference of wealth"),
            Defect("no compounding", "wealth *= 1 + value", "wealth += value",
                   "simple returns compound: wealth is multiplied, not added to"),
        ),
        defects.drawdowns,
    ),
    Subject(
        "returns moving averages over full windows",
        ("moving_average", "sma", "rolling_mean"),
        {"x": PRICES, "n": ("window", "n", "length")},
        """def $name($x, $n):
    averages = []
    for end in range($n, len($x) + 1):
        window_sum = sum($x[end - $n : end])
        averages.append(window_sum / $n)
    return averages
""",
        (
            Defect("off by one", "for end in range($n, len($x) + 1):",
                   "for end in range($n, len($x)):",
                   "off by one: the last full window is left out"),
            Defect("off by one", "window_sum = sum($x[end - $n : end])",
                   "window_sum = sum($x[end - $n : end - 1])",
                   "off by one: the slice has one value too few for the divisor"),
            Defect("wrong divisor", "averages.append(window_sum / $n)",
                   "averages.append(window_sum / len($x))",
                   "the sum of a window is divided by the length of the whole series"),
        ),
        defects.windows,
    ),
    Subject(
        "collects quantities by ticker into a new dict",
        ("collect", "group_fills", "by_ticker"),
        {"x": ("trades", "fills", "rows")},
        """def $name($x, book=None):
    if book is None:
        book = {}
    for ticker, quantity in $x:
        book[ticker] = book.get(ticker, 0) + quantity
    return book
""",
        (
            Defect("mutable default", "def $name($x, book=None):", "def $name($x, book={}):",
                   "mutable default: the dict is made once, when the function is defined, so every "
                   "call adds to the same one"),
            Defect("lost sign", "book[ticker] = book.get(ticker, 0) + quantity",
                   "book[ticker] = book.get(ticker, 0) + abs(quantity)",
                   "the sign is lost: a sale is added like a purchase"),
        ),
        defects.totals,
    ),
    Subject(
        "checks that long-only weights sum to 1",
        ("valid_weights", "weights_ok", "is_fully_invested"),
        {"x": ("weights", "w", "allocation")},
        """def $name($x):
    if any(weight < 0 for weight in $x):
        return False
    return abs(sum($x) - 1) < 1e-9
""",
        (
            Defect("float equality", "return abs(sum($x) - 1) < 1e-9", "return sum($x) == 1",
                   "float equality: ten times 0.1 does not sum to exactly 1, so compare with a "
                   "tolerance"),
            Defect("one-sided check", "return abs(sum($x) - 1) < 1e-9",
                   "return sum($x) - 1 < 1e-9",
                   "without the absolute value a sum far below 1 passes"),
            Defect("missed shorts", "if any(weight < 0 for weight in $x):",
                   "if all(weight < 0 for weight in $x):",
                   "all() lets a portfolio with a single short position through; it must be any()"),
        ),
        lambda draw, words: [*defects.weights(draw, words), [[[0.25, 0.25]], False, None]],
    ),
    Subject(
        "prices a European call, also at expiry",
        ("call_price", "bs_call", "price_call"),
        {"s": ("spot", "s"), "k": ("strike", "k"), "v": ("vol", "sigma", "volatility")},
        """import math
from statistics import NormalDist


def $name($s, $k, years, rate, $v):
    if years == 0:
        return max($s - $k, 0.0)
    deviation = $v * math.sqrt(years)
    d1 = (math.log($s / $k) + (rate + $v**2 / 2) * years) / deviation
    d2 = d1 - deviation
    cdf = NormalDist().cdf
    return $s * cdf(d1) - $k * math.exp(-rate * years) * cdf(d2)
""",
        (
            Defect("missing root", "deviation = $v * math.sqrt(years)", "deviation = $v * years",
                   "volatility grows with the square root of time, not with time"),
            Defect("wrong sign", "d2 = d1 - deviation", "d2 = d1 + deviation",
                   "d2 lies below d1: the deviation must be taken off"),
            Defect("no discounting",
                   "return $s * cdf(d1) - $k * math.exp(-rate * years) * cdf(d2)",
                   "return $s * cdf(d1) - $k * cdf(d2)",
                   "the strike is paid at expiry and must be discounted"),
            Defect("division by zero", "if years == 0:", "if years < 0:",
                   "division by zero: at expiry the deviation is 0, and the guard misses it"),
        ),
        defects.calls,
    ),
    Subject(
        "computes the compound annual growth rate",
        ("cagr", "annual_growth", "compound_rate"),
        {"x": RETURNS, "year": ("252", "52", "12")},
        """def $name($x, periods=$year):
    growth = 1.0
    for value in $x:
        growth *= 1 + value
    years = len($x) / periods
    return growth ** (1 / years) - 1
""",
        (
            Defect("annualisation", "years = len($x) / periods", "years = periods / len($x)",
                   "the fraction is upside down: years are the number of returns over the periods"),
            Defect("no compounding", "growth *= 1 + value", "growth += value",
                   "simple returns compound: they are multiplied, not added"),
            Defect("wrong base", "growth = 1.0", "growth = 0.0",
                   "a product that starts at 0 stays 0"),
        ),
        defects.growth,
    ),
    Subject(
        "computes the downside deviation over all periods",
        ("downside_deviation", "semi_deviation", "downside_risk"),
        {"x": RETURNS, "t": ("target", "mar", "required")},
        """import math


def $name($x, $t=0.0):
    squares = [min(value - $t, 0.0) ** 2 for value in $x]
    mean = sum(squares) / len($x)
    return math.sqrt(mean)
""",
        (
            Defect("wrong side", "squares = [min(value - $t, 0.0) ** 2 for value in $x]",
                   "squares = [max(value - $t, 0.0) ** 2 for value in $x]",
                   "max() keeps the gains; the downside is min()"),
            Defect("wrong count", "mean = sum(squares) / len($x)",
                   "mean = sum(squares) / sum(value < $t for value in $x)",
                   "the mean is over all periods, not only over the bad ones"),
            Defect("missing root", "return math.sqrt(mean)", "return mean",
                   "this is the variance: the root is missing"),
        ),
        defects.below,
    ),
    Subject(
        "finds a key in a sorted list, -1 when missing",
        ("binary_search", "find_sorted", "lookup"),
        {"x": ("items", "xs", "values"), "k": ("key", "target", "wanted")},
        """def $name($x, $k):
    low, high = 0, len($x) - 1
    while low <= high:
        middle = (low + high) // 2
        if $x[middle] == $k:
            return middle
        if $x[middle] < $k:
            low = middle + 1
        else:
            high = middle - 1
    return -1
""",
        (
            Defect("off by one", "while low <= high:", "while low < high:",
                   "off by one: a part with a single item is never looked at"),
            Defect("off by one", "low, high = 0, len($x) - 1", "low, high = 1, len($x) - 1",
                   "off by one: indices start at 0, so the first item is never found"),
            Defect("swapped comparison", "if $x[middle] < $k:", "if $x[middle] > $k:",
                   "the comparison is the wrong way round and throws away the half with the key"),
        ),
        defects.places,
    ),
    Subject(
        "computes the cost of rebalancing, as a share of the portfolio",
        ("rebalancing_cost", "trade_cost", "turnover_cost"),
        {"o": ("old", "current", "held"), "t": ("target", "wanted", "goal")},
        """def $name($o, $t, cost_bps):
    turnover = 0.0
    for now, then in zip($o, $t):
        turnover += abs(then - now)
    return turnover * cost_bps / 10_000
""",
        (
            Defect("lost sign", "turnover += abs(then - now)", "turnover += then - now",
                   "purchases and sales cancel: turnover needs absolute values"),
            Defect("wrong unit", "return turnover * cost_bps / 10_000",
                   "return turnover * cost_bps / 100",
                   "a basis point is a hundredth of a percent: divide by 10,000"),
        ),
        defects.rebalanced,
    ),
    Subject(
        "returns the historical value at risk: the loss that the k-th worst return makes",
        ("value_at_risk", "historical_var", "var_loss"),
        {"x": RETURNS, "c": ("confidence", "level")},
        """def $name($x, $c):
    ordered = sorted($x)
    worst = round((1 - $c) * len($x))
    return -ordered[worst - 1]
""",
        (
            Defect("wrong order", "ordered = sorted($x)", "ordered = sorted($x, reverse=True)",
                   "sorted from the best: this returns a gain of the right tail"),
            Defect("off by one", "return -ordered[worst - 1]", "return -ordered[worst + 1]",
                   "off by one: the k-th worst value has index k − 1"),
            Defect("wrong sign", "return -ordered[worst - 1]", "return ordered[worst - 1]",
                   "the sign is lost: a loss must come out positive"),
        ),
        defects.value_at_risk,
    ),
)  # fmt: skip
