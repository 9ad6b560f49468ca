"""Option formulas in mpmath, from the textbook and without any of the library's tricks."""

from __future__ import annotations

import itertools
from typing import Any

import mpmath
import numpy as np
from mpmath import mpf

ORDERS = {
    "price": {},
    "delta": {"spot": 1},
    "gamma": {"spot": 2},
    "theta": {"time": 1},
    "vega": {"volatility": 1},
    "rho": {"rate": 1},
    "phi": {"dividend": 1},
    "vanna": {"spot": 1, "volatility": 1},
    "volga": {"volatility": 2},
    "charm": {"spot": 1, "time": 1},
    "veta": {"volatility": 1, "time": 1},
    "speed": {"spot": 3},
    "zomma": {"spot": 2, "volatility": 1},
    "color": {"spot": 2, "time": 1},
    "ultima": {"volatility": 3},
    "dual_delta": {"strike": 1},
    "dual_gamma": {"strike": 2},
}
EPS = float(np.finfo(np.float64).eps)
ARGUMENTS = ("spot", "strike", "time", "rate", "volatility", "dividend")


def exact(value: float) -> mpf:
    """The very number that a float is."""
    return mpf(float(value))


def normal(x: Any) -> Any:
    """The distribution function, of complex numbers too."""
    return mpmath.erfc(-x / mpmath.sqrt(2)) / 2


def black_scholes(
    spot: Any, strike: Any, time: Any, rate: Any, volatility: Any, dividend: Any, is_call: bool
) -> mpf:
    """The price at the working precision of mpmath."""
    total = volatility * mpmath.sqrt(time)
    d1 = (mpmath.log(spot / strike) + (rate - dividend) * time) / total + total / 2
    sign = 1 if is_call else -1
    share = spot * mpmath.exp(-dividend * time) * normal(sign * d1)
    return sign * (share - strike * mpmath.exp(-rate * time) * normal(sign * (d1 - total)))


def greek(name: str, option: dict[str, float], is_call: bool) -> mpf:
    """By numerical differentiation with 60 digits; theta and the like per year of calendar time."""
    with mpmath.workdps(60):
        orders = tuple(ORDERS[name].get(argument, 0) for argument in ARGUMENTS)
        point = [exact(option[argument]) for argument in ARGUMENTS]
        if not any(orders):
            return black_scholes(*point, is_call)
        used = [i for i, order in enumerate(orders) if order]

        def along(*values: Any) -> mpf:
            own = dict(zip(used, values))
            return black_scholes(*(own.get(i, x) for i, x in enumerate(point)), is_call)

        # mpmath steps by a fixed amount: scale it to the arguments.
        sizes = [x or mpf(1) for x in point]
        scaled = mpmath.diff(
            lambda *t: along(*(point[i] + sizes[i] * x for i, x in zip(used, t))),
            tuple(0 for _ in used),
            tuple(orders[i] for i in used),
        )
        for i in used:
            scaled /= sizes[i] ** orders[i]
        return -scaled if "time" in ORDERS[name] else scaled


def implied_volatility(
    price: float, option: dict[str, float], is_call: bool, near: float
) -> tuple[mpf, mpf]:
    """Root for the exact binary price by Newton from ``near``, and price / (vega volatility)."""
    with mpmath.workdps(60):
        spot, strike, time, rate, _, dividend = (exact(option[name]) for name in ARGUMENTS)
        share, cash = spot * mpmath.exp(-dividend * time), strike * mpmath.exp(-rate * time)
        sign = 1 if is_call else -1
        target = exact(price) - max(sign * (share - cash), 0)  # of the option out of the money
        side = 1 if share <= cash else -1
        unit, x = min(share, cash), mpmath.log(share / cash)
        total = exact(near) * mpmath.sqrt(time)
        for _ in range(80):
            d1 = x / total + total / 2
            value = side * (share * normal(side * d1) - cash * normal(side * (d1 - total)))
            slope = share * mpmath.npdf(d1)
            if target > unit / 2:
                left, slope = unit - value, -slope
                step = -mpmath.log(left / (unit - target)) * left / slope
            else:
                step = -mpmath.log(value / target) * value / slope
            total += step
            if abs(step) < total * mpf(10) ** -35:
                break
        else:
            raise ArithmeticError(f"no root for {price} of {option}")
        condition = exact(price) / (share * mpmath.npdf(x / total + total / 2) * total)
        return total / mpmath.sqrt(time), condition


def random_options(count: int, seed: int, near: bool = False) -> list[tuple]:
    """Rows (price, *ARGUMENTS, is_call): the price is rounded to binary64 from 60 digits.

    Prices from 1e-290 to the upper bound, volatilities from 1e-4 to 10, both sides of the money.
    ``near``: so near the money that log(spot / strike) and the carry must cancel exactly.
    """
    random = np.random.default_rng(seed)
    rows: list[tuple] = []
    while len(rows) < count:
        time, volatility = 10 ** random.uniform(-3, 1.5), 10 ** random.uniform(-4, 1)
        rate, dividend = random.uniform(-0.05, 0.15), random.uniform(0, 0.1)
        if random.random() < 0.3:
            rate = dividend = 0.0
        total, strike = volatility * np.sqrt(time), 100 * np.exp(random.normal())
        d = random.uniform(-20, 20) if random.random() < 0.6 else random.normal()
        d = random.normal() * 10 ** random.uniform(-6, 0) if near else d
        spot = float(strike * np.exp(np.clip(d * total, -8, 8) - (rate - dividend) * time))
        is_call = bool(random.random() < 0.5)
        row = (spot, float(strike), time, rate, volatility, dividend)
        with mpmath.workdps(60):
            point = [exact(x) for x in row]
            price = float(black_scholes(*point, is_call))
            share = point[0] * mpmath.exp(-point[5] * point[2])
            cash = point[1] * mpmath.exp(-point[3] * point[2])
            lower = max(share - cash if is_call else cash - share, 0)
            inside = min(price - lower, (share if is_call else cash) - price)
            if price > 1e-290 and inside > 8 * EPS * price:
                rows.append((price, *row, is_call))
    return rows


def barrier(
    spot: float, strike: float, level: float, time: float, rate: float, volatility: float,
    dividend: float, rebate: float, is_call: bool, kind: str,
) -> mpf:  # fmt: skip
    """Reiner and Rubinstein's table of terms A to F (as in Haug, Option Pricing Formulas)."""
    with mpmath.workdps(60):
        s, k, h, t, r, v, q, paid = map(
            exact, (spot, strike, level, time, rate, volatility, dividend, rebate)
        )
        phi, eta = (1 if is_call else -1), (1 if kind.startswith("down") else -1)
        total, mu = v * mpmath.sqrt(t), (r - q) / v**2 - mpf(1) / 2
        power = mpmath.sqrt(mu**2 + 2 * r / v**2)
        share, cash, ratio = s * mpmath.exp(-q * t), k * mpmath.exp(-r * t), h / s

        def legs(argument: mpf, sign: int, scaled: bool) -> mpf:
            d = mpmath.log(argument) / total + (1 + mu) * total
            one, two = (ratio ** (2 * mu + 2), ratio ** (2 * mu)) if scaled else (1, 1)
            return phi * (share * one * normal(sign * d) - cash * two * normal(sign * (d - total)))

        a, b = legs(s / k, phi, False), legs(s / h, phi, False)
        c, d = legs(h * h / (s * k), eta, True), legs(ratio, eta, True)
        d2 = mpmath.log(s / h) / total + mu * total
        image = ratio ** (2 * mu) * normal(eta * (mpmath.log(ratio) / total + mu * total))
        e = paid * mpmath.exp(-r * t) * (normal(eta * d2) - image)
        z = mpmath.log(ratio) / total + power * total
        f = paid * mpmath.re(
            ratio ** (mu + power) * normal(eta * z)
            + ratio ** (mu - power) * normal(eta * (z - 2 * power * total))
        )
        high = strike >= level
        table = {
            ("down-in", True): c + e if high else a - b + d + e,
            ("up-in", True): a + e if high else b - c + d + e,
            ("down-in", False): b - c + d + e if high else a + e,
            ("up-in", False): a - b + d + e if high else c + e,
            ("down-out", True): a - c + f if high else b - d + f,
            ("up-out", True): f if high else a - b + c - d + f,
            ("down-out", False): a - b + c - d + f if high else f,
            ("up-out", False): b - d + f if high else a - c + f,
        }
        return table[kind, is_call]


def grid(**choices: tuple[Any, ...]) -> list[dict[str, Any]]:
    """Every combination."""
    return [dict(zip(choices, values)) for values in itertools.product(*choices.values())]
