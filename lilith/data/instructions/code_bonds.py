"""Functions that value bonds: requests and answers."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from lilith.data.instructions.code_writing import Case, Task, code_answer
from lilith.data.instructions.drawing import Conversation, Draw


def _bond(draw: Draw, words: Mapping[str, str]) -> list[Case]:
    cases: list[Case] = []
    for _ in range(4):
        face, coupon = 100, float(draw.number("0.005", "0.085", "0.0025"))
        rate, years = float(draw.number("0.01", "0.08", "0.0025")), int(draw.number("2", "31"))
        annuity = (1 - (1 + rate) ** -years) / rate
        cases.append(
            [[face, coupon, rate, years], face * (coupon * annuity + (1 + rate) ** -years), 1e-8]
        )
    return cases


def _duration(draw: Draw, words: Mapping[str, str]) -> list[Case]:
    def price(c: float, y: float, n: int) -> float:
        return 100 * (c * (1 - (1 + y) ** -n) / y + (1 + y) ** -n)

    cases: list[Case] = []
    for args, value, _ in _bond(draw, words):
        _, c, y, n = args
        slope = (price(c, y + 1e-5, n) - price(c, y - 1e-5, n)) / 2e-5
        cases.append([args, -slope / value, 1e-5])
    return cases


_BOND_WORDS = {
    "face": ("face", "notional", "par"),
    "coupon": ("coupon_rate", "coupon", "c"),
    "rate": ("yield_rate", "ytm", "y"),
    "n": ("years", "n", "periods"),
}


_BOND_FOUR = (
    ("face", "float", ""),
    ("coupon", "float", ""),
    ("rate", "float", ""),
    ("n", "int", ""),
)


_BOND_GUARD = (("$n < 1", "$n must be at least 1", [100, 0.05, 0.05, 0]),)

TASKS = (
    Task(
        names=("bond_price", "coupon_bond_value", "price_bond"),
        words=_BOND_WORDS,
        parameters=_BOND_FOUR,
        returns="float",
        does=("the price of a bond with yearly coupons, from its yield",),
        bodies={
            "a comprehension": (
                "",
                """
    flows = [$face * $coupon] * $n
    flows[-1] += $face
    return sum(cash / (1 + $rate) ** k for k, cash in enumerate(flows, 1))
""",
            ),
            "a loop": (
                "",
                """
    total = 0.0
    for year in range(1, $n + 1):
        total += $face * $coupon / (1 + $rate) ** year
    return total + $face / (1 + $rate) ** $n
""",
            ),
            "numpy": (
                "import numpy as np",
                """
    flows = np.full($n, $face * $coupon)
    flows[-1] += $face
    return float(flows @ (1 + $rate) ** -np.arange(1.0, $n + 1))
""",
            ),
        },
        cases=_bond,
        guards=_BOND_GUARD,
        record="Bond",
        level=0,
    ),
    Task(
        names=("modified_duration", "bond_duration", "duration"),
        words=_BOND_WORDS,
        parameters=_BOND_FOUR,
        returns="float",
        does=("the modified duration of a bond with yearly coupons",),
        bodies={
            "a loop": (
                "",
                """
    price = weighted = 0.0
    for year in range(1, $n + 1):
        cash = $face * $coupon + ($face if year == $n else 0)
        value = cash / (1 + $rate) ** year
        price += value
        weighted += year * value
    return weighted / price / (1 + $rate)
""",
            )
        },
        cases=_duration,
        guards=_BOND_GUARD,
        record="Bond",
        note="A yield move of 0.01 changes the price by about minus that much percent.",
    ),
)


def code_bonds(draw: Draw) -> Conversation:
    """A request for a function that values bonds."""
    return code_answer("code_bonds", draw, TASKS)


GENERATORS: dict[str, Callable[[Draw], Conversation]] = {"code_bonds": code_bonds}
