"""Which limits can not hold together, said by name. Host code, run after a core found no answer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from scipy.optimize import linprog

from lilith.quant.portfolio.quadratic import Limits

TOLERANCE = 1e-9


class Inequality(NamedTuple):
    """``coefficients @ z <= bound`` over the weights, and the trades where turnover is limited."""

    coefficients: np.ndarray
    bound: float
    label: str


def inequalities(
    limits: Limits, names: Sequence[str], groups: Sequence[str]
) -> tuple[list[Inequality], int]:
    """The limits as inequalities with a name each, and the number of variables."""
    n = len(names)
    size = n if limits.turnover is None else 2 * n
    units = np.eye(n, size)
    found: list[Inequality] = []

    def add(coefficients: np.ndarray, bound: Any, label: str) -> None:
        if np.isfinite(bound):
            found.append(Inequality(coefficients, float(bound), label))

    lower, upper = _each(limits.lower, n, -np.inf), _each(limits.upper, n, np.inf)
    for i, name in enumerate(names):
        add(-units[i], -lower[i], f"the lower bound {lower[i]:g} of {name}")
        add(units[i], upper[i], f"the upper bound {upper[i]:g} of {name}")
    if limits.groups is not None:
        rows = np.pad(np.asarray(limits.groups, float), ((0, 0), (0, size - n)))
        least = _each(limits.group_lower, len(rows), -np.inf)
        most = _each(limits.group_upper, len(rows), np.inf)
        for row, low, high, name in zip(rows, least, most, groups):
            add(-row, -low, f"the minimum {low:g} of group {name}")
            add(row, high, f"the maximum {high:g} of group {name}")
    if limits.turnover is not None:
        previous = np.asarray(limits.previous, float)
        for i in range(n):
            trade = np.eye(1, size, n + i)[0]
            add(units[i] - trade, previous[i], "")
            add(-units[i] - trade, -previous[i], "")
        total = np.concatenate([np.zeros(n), np.ones(n)])
        add(total, limits.turnover, f"the turnover limit {float(limits.turnover):g}")
    return found, size


def conflict(limits: Limits, names: Sequence[str], groups: Sequence[str]) -> str | None:
    """A sentence naming limits that exclude each other and by how much, or None.

    The names are those of the multipliers (Farkas' certificate) of the linear program that misses
    the limits by as little as possible in total.
    """
    found, size = inequalities(limits, names, groups)
    matrix = np.array([own.coefficients for own in found]).reshape(len(found), size)
    bounds = np.array([own.bound for own in found])
    count = len(found)
    budget = np.concatenate([np.ones(len(names)), np.zeros(size - len(names) + count), [1.0, -1.0]])
    answer = linprog(
        np.concatenate([np.zeros(size), np.ones(count + 2)]),
        A_ub=np.concatenate([matrix, -np.eye(count), np.zeros((count, 2))], axis=1),
        b_ub=bounds,
        A_eq=budget[None],
        b_eq=[1.0],
        bounds=[(None, None)] * size + [(0, None)] * (count + 2),
        method="highs",
    )
    if answer.status != 0 or answer.fun <= TOLERANCE:
        return None
    blamed = [
        own
        for own, multiplier in zip(found, answer.ineqlin.marginals)
        if own.label and abs(multiplier) > TOLERANCE
    ]
    at_fault = [own.label for own in blamed if own.bound != 0]
    if abs(answer.eqlin.marginals[0]) > TOLERANCE:
        at_fault.append("weights that sum to 1")
    if any(own.bound == 0 for own in blamed):
        at_fault.append("bounds at 0")
    shown = at_fault[:8] + ([f"{len(at_fault) - 8} more"] if len(at_fault) > 8 else [])
    return f"{', '.join(shown)} exclude each other: together they miss by {answer.fun:.6g}"


def highest_return(
    expected_returns: np.ndarray, limits: Limits, names: Sequence[str], groups: Sequence[str]
) -> float:
    """The largest expected return within the limits; infinite where they do not bound it."""
    found, size = inequalities(limits, names, groups)
    n = len(names)
    answer = linprog(
        np.concatenate([-np.asarray(expected_returns, float), np.zeros(size - n)]),
        A_ub=np.array([own.coefficients for own in found]) if found else None,
        b_ub=np.array([own.bound for own in found]) if found else None,
        A_eq=np.concatenate([np.ones(n), np.zeros(size - n)])[None],
        b_eq=[1.0],
        bounds=[(None, None)] * size,
        method="highs",
    )
    return float(-answer.fun) if answer.status == 0 else np.inf


def _each(bound: Any, count: int, otherwise: float) -> np.ndarray:
    return np.broadcast_to(np.asarray(otherwise if bound is None else bound, float), (count,))
