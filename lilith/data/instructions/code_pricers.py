"""Functions that price options: requests and answers."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from statistics import NormalDist

from lilith.data.instructions.code_writing import Case, Task, code_answer
from lilith.data.instructions.drawing import Conversation, Draw

N = NormalDist()
MARKET = {
    "spot": ("spot", "s0", "underlying", "price"),
    "strike": ("strike", "k", "strike_price"),
    "time": ("maturity", "t", "years", "expiry"),
    "rate": ("rate", "r", "risk_free"),
    "vol": ("volatility", "sigma", "vol"),
}
FIVE = tuple((word, "float", "") for word in MARKET)
GUARDS = (
    ("$spot <= 0 or $strike <= 0", "$spot and $strike must be positive", [0.0, 100, 1, 0.05, 0.2]),
    ("$time <= 0 or $vol <= 0", "$time and $vol must be positive", [100, 100, 0.0, 0.05, 0.2]),
)


def black_scholes(market: Sequence[float], sign: int) -> float:
    """Black-Scholes of spot, strike, time, rate, volatility; ``sign`` 1 is a call, -1 a put."""
    spot, strike, time, rate, vol = market
    deviation = vol * math.sqrt(time)
    d1 = (math.log(spot / strike) + rate * time) / deviation + deviation / 2
    forward = strike * math.exp(-rate * time)
    return sign * (spot * N.cdf(sign * d1) - forward * N.cdf(sign * (d1 - deviation)))


def market(draw: Draw) -> list[float]:
    """Spot, strike near it, years, rate, volatility."""
    spot = draw.number("20", "219")
    strike = (spot * draw.count(85, 115) / 100).quantize(spot)
    terms = draw.number("0.25", "2.5", "0.05"), draw.number("0", "0.09", "0.005")
    vol = draw.number("0.1", "0.59", "0.01")
    return [float(number) for number in (spot, strike, *terms, vol)]


def _vanilla(sign: int) -> Callable[[Draw, Mapping[str, str]], list[Case]]:
    def cases(draw: Draw, words: Mapping[str, str]) -> list[Case]:
        return [[m, black_scholes(m, sign), 1e-6] for m in (market(draw) for _ in range(4))]

    return cases


_D1 = """    deviation = $vol * math.sqrt($time)
    d1 = (math.log($spot / $strike) + ($rate + $vol**2 / 2) * $time) / deviation
"""
_CDF = "def normal_cdf(z):\n    return 0.5 * (1 + math.erf(z / math.sqrt(2)))\n---\n"
_DIST = "import math\nfrom statistics import NormalDist"
CALL = """    d2 = d1 - deviation
    discounted = $strike * math.exp(-$rate * $time)
    return $spot * {0}(d1) - discounted * {0}(d2)
"""
PUT = """    d2 = d1 - deviation
    discounted = $strike * math.exp(-$rate * $time)
    return discounted * {0}(-d2) - $spot * {0}(-d1)
"""


def _black_scholes_task(sign: int, right: str, text: str) -> Task:
    return Task(
        names=(f"bs_{right}", f"black_scholes_{right}", f"{right}_price", f"european_{right}"),
        words=MARKET,
        parameters=FIVE,
        returns="float",
        does=(
            f"the Black-Scholes price of a European {right}",
            f"the value of a European {right} without dividends (Black-Scholes)",
        ),
        bodies={
            "math.erf": ("import math", _CDF + _D1 + text.format("normal_cdf")),
            "statistics.NormalDist": (
                _DIST,
                _D1
                + """
    cdf = NormalDist().cdf
"""
                + text.format("cdf"),
            ),
        },
        cases=_vanilla(sign),
        guards=GUARDS,
        record="Option",
        note="Rate and volatility are yearly fractions, $time is in years.",
        level=0,
    )


def _greek(value: Callable[[list[float]], float]) -> Callable[..., list[Case]]:
    def cases(draw: Draw, words: Mapping[str, str]) -> list[Case]:
        return [[m, value(m), 1e-4] for m in (market(draw) for _ in range(3))]

    return cases


def _slope(place: int, bump: float) -> Callable[[list[float]], float]:
    """The call's derivative by a central difference: an independent way to the formula."""

    def value(m: list[float]) -> float:
        up, down = list(m), list(m)
        up[place] += bump
        down[place] -= bump
        return (black_scholes(up, 1) - black_scholes(down, 1)) / (2 * bump)

    return value


def _greek_task(name: str, place: int, formula: str, meaning: str) -> Task:
    return Task(
        names=(f"call_{name}", f"bs_{name}", f"{name}_of_call"),
        words=MARKET,
        parameters=FIVE,
        returns="float",
        does=(
            f"the Black-Scholes {name} of a European call",
            f"{name}, {meaning}, for a European call",
        ),
        bodies={"statistics.NormalDist": (_DIST, _D1 + formula)},
        cases=_greek(_slope(place, 1e-4)),
        guards=GUARDS,
        record="Option",
        note=f"{name.capitalize()} is {meaning}.",
    )


def _tree_cases(american: bool) -> Callable[[Draw, Mapping[str, str]], list[Case]]:
    def value(market: Sequence[float], n: int) -> float:
        spot, strike, time, rate, vol = market
        step = time / n
        up = math.exp(vol * math.sqrt(step))
        chance = (math.exp(rate * step) - 1 / up) / (up - 1 / up)
        known: dict[tuple[int, int], float] = {}

        def node(i: int, ups: int) -> float:
            now = max(strike - spot * up ** (2 * ups - i), 0.0)
            if i == n:
                return now
            if (i, ups) not in known:
                later = chance * node(i + 1, ups + 1) + (1 - chance) * node(i + 1, ups)
                known[i, ups] = math.exp(-rate * step) * later
            return max(now, known[i, ups]) if american else known[i, ups]

        return node(0, 0)

    def cases(draw: Draw, words: Mapping[str, str]) -> list[Case]:
        made = [(market(draw), draw.choice((10, 25, 50))) for _ in range(3)]
        return [[[*m, n], value(m, n), 1e-6] for m, n in made]

    return cases


_TREE = """    dt = $time / $n
    up = math.exp($vol * math.sqrt(dt))
    chance = (math.exp($rate * dt) - 1 / up) / (up - 1 / up)
    discount = math.exp(-$rate * dt)
    values = [max($strike - $spot * up ** (2 * i - $n), 0.0) for i in range($n + 1)]
    for level in range($n - 1, -1, -1):
        for i in range(level + 1):
            later = discount * (chance * values[i + 1] + (1 - chance) * values[i])
            values[i] = {}
    return values[0]
"""
_TREE_NUMPY = """    dt = $time / $n
    up = np.exp($vol * np.sqrt(dt))
    chance = (np.exp($rate * dt) - 1 / up) / (up - 1 / up)
    discount = np.exp(-$rate * dt)
    values = np.maximum($strike - $spot * up ** (2.0 * np.arange($n + 1) - $n), 0)
    for level in range($n - 1, -1, -1):
        values = discount * (chance * values[1:] + (1 - chance) * values[:-1])
{}    return float(values[0])
"""


def _tree_task(kind: str, american: bool) -> Task:
    early = "max(later, $strike - $spot * up ** (2 * i - level))" if american else "later"
    exercise = """
        prices = $spot * up ** (2.0 * np.arange(level + 1) - level)
"""
    exercise += """
        values = np.maximum(values, $strike - prices)
"""
    return Task(
        names=(f"{kind}_put_tree", f"binomial_{kind}_put", f"crr_{kind}_put"),
        words=MARKET | {"n": ("steps", "n", "n_steps")},
        parameters=(*FIVE, ("n", "int", "")),
        returns="float",
        does=(
            f"the price of {'an American' if american else 'a European'} put in a Cox-Ross-"
            "Rubinstein binomial tree with `$n` steps",
        ),
        bodies={
            "plain lists": ("import math", _TREE.format(early)),
            "numpy": ("import numpy as np", _TREE_NUMPY.format(exercise if american else "")),
        },
        cases=_tree_cases(american),
        guards=(("$n < 1", "$n must be at least 1", [100, 100, 1, 0.05, 0.2, 0]),),
        record="",
        note="Backward induction: each node is the discounted expectation of the two after it"
        + (", or the exercise value where that is higher." if american else "."),
        level=2,
    )


def _simulated(draw: Draw, words: Mapping[str, str]) -> list[Case]:
    cases: list[Case] = []
    for seed in (draw.count(0, 99), draw.count(100, 199)):
        m = market(draw)
        m[1] = m[0]  # at the money the relative error of a simulation is small
        cases.append([[*m, 20000, seed], black_scholes(m, 1), 0.06])
    return cases


_PATHS = {
    "numpy": (
        "import numpy as np",
        """    normals = np.random.default_rng($seed).standard_normal($n)
    drift = ($rate - 0.5 * $vol**2) * $time
    ends = $spot * np.exp(drift + $vol * np.sqrt($time) * normals)
    payoffs = np.maximum(ends - $strike, 0)
    return float(np.exp(-$rate * $time) * payoffs.mean())
""",
    ),
    "numpy and antithetic paths": (
        "import numpy as np",
        """    half = np.random.default_rng($seed).standard_normal($n // 2)
    normals = np.concatenate([half, -half])
    drift = ($rate - 0.5 * $vol**2) * $time
    ends = $spot * np.exp(drift + $vol * np.sqrt($time) * normals)
    return float(np.exp(-$rate * $time) * np.maximum(ends - $strike, 0).mean())
""",
    ),
    "a plain loop": (
        "import math\nimport random",
        """    generator = random.Random($seed)
    drift = ($rate - 0.5 * $vol**2) * $time
    scale = $vol * math.sqrt($time)
    total = 0.0
    for _ in range($n):
        end = $spot * math.exp(drift + scale * generator.gauss(0, 1))
        total += max(end - $strike, 0.0)
    return math.exp(-$rate * $time) * total / $n
""",
    ),
}


def _implied(draw: Draw, words: Mapping[str, str]) -> list[Case]:
    cases: list[Case] = []
    for _ in range(3):
        *m, vol = market(draw)
        value = round(black_scholes([*m, vol], 1), 6)
        cases.append([[value, *m], vol, 1e-4])
    return cases


_IMPLIED = """def call_value(spot, strike, time, rate, vol):
    deviation = vol * math.sqrt(time)
    d1 = (math.log(spot / strike) + (rate + vol**2 / 2) * time) / deviation
    cdf = NormalDist().cdf
    return spot * cdf(d1) - strike * math.exp(-rate * time) * cdf(d1 - deviation)
---
    low, high = 1e-6, 5.0
    for _ in range(100):
        middle = (low + high) / 2
        if call_value($spot, $strike, $time, $rate, middle) < $quote:
            low = middle
        else:
            high = middle
    return (low + high) / 2
"""


TASKS = (
    _black_scholes_task(1, "call", CALL),
    _black_scholes_task(-1, "put", PUT),
    _greek_task(
        "delta",
        0,
        """
    return NormalDist().cdf(d1)
""",
        "the change of the value with the spot",
    ),
    _greek_task(
        "vega",
        4,
        """
    return $spot * NormalDist().pdf(d1) * math.sqrt($time)
""",
        "the change of the value with volatility, per 1.00",
    ),
    _greek_task(
        "rho",
        3,
        """
    d2 = d1 - deviation
    return $strike * $time * math.exp(-$rate * $time) * NormalDist().cdf(d2)
""",
        "the change of the value with the rate, per 1.00",
    ),
    _tree_task("american", True),
    _tree_task("european", False),
    Task(
        names=("monte_carlo_call", "mc_call", "simulate_call", "call_by_simulation"),
        words=MARKET | {"n": ("paths", "n_paths", "simulations"), "seed": ("seed",)},
        parameters=(*FIVE, ("n", "int", "20000"), ("seed", "int", "0")),
        returns="float",
        does=("a Monte Carlo estimate of the price of a European call",),
        bodies=_PATHS,
        cases=_simulated,
        guards=(("$n < 2", "$n must be at least 2", [100, 100, 1, 0.05, 0.2, 1, 0]),),
        note="The error falls with the square root of `$n`; the seed makes runs repeatable.",
        level=1,
    ),
    Task(
        names=("implied_volatility", "implied_vol", "iv_from_call"),
        words={w: a for w, a in MARKET.items() if w != "vol"} | {"quote": ("quote", "premium")},
        parameters=(("quote", "float", ""), *FIVE[:4]),
        returns="float",
        does=("the implied volatility of a European call, found by bisection",),
        bodies={"bisection": (_DIST, _IMPLIED)},
        cases=_implied,
        guards=(("$quote <= 0", "$quote must be positive", [0.0, 100, 100, 1, 0.05]),),
        note="A call's price rises with volatility, so halving the interval must converge.",
        level=2,
    ),
)


def code_pricers(draw: Draw) -> Conversation:
    """A request for a pricing function."""
    return code_answer("code_pricers", draw, TASKS)


GENERATORS: dict[str, Callable[[Draw], Conversation]] = {"code_pricers": code_pricers}
