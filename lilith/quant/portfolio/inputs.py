"""What the portfolio tools take: tables of returns or prices, estimates, bounds and groups."""

from __future__ import annotations

import datetime
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from lilith.quant.portfolio import estimate
from lilith.quant.tool import Parameter
from lilith.quant.tool_values import READERS, SCHEMAS, Table, ToolError

PICTURES = (".png", ".svg", ".pdf")
_NUMBERS = {"type": "array", "items": {"type": "number"}}
_PAIR = {"type": "array", "items": {"type": ["number", "null"]}, "minItems": 2, "maxItems": 2}


class Moments(NamedTuple):
    """Annual expected returns [n] (or None) and covariance [n, n], and where they came from."""

    mean: np.ndarray | None
    covariance: np.ndarray
    names: tuple[str, ...]
    named: bool
    returns: np.ndarray | None
    conventions: dict[str, str]
    diagnostics: dict[str, Any]
    warnings: list[str]


def _estimate_or_matrix(own: Parameter, value: Any) -> Any:
    """The covariance: the name of an estimator, or the matrix itself."""
    if isinstance(value, str):
        return _choice(own, value, estimate.COVARIANCES)
    return READERS["matrix"](own, value)


def _estimate_or_numbers(own: Parameter, value: Any) -> Any:
    """The expected returns: the name of an estimator, or the numbers."""
    if isinstance(value, str):
        return _choice(own, value, estimate.MEANS)
    return READERS["numbers"](own, value)


def _choice(own: Parameter, value: str, known: Sequence[str]) -> str:
    if value not in known:
        raise ToolError(
            "unknown_choice",
            own.name,
            f"{own.name} is {value!r}, which names no estimator",
            f"give numbers, or one of {', '.join(known)}",
        )
    return value


def _bounds(own: Parameter, value: Any) -> Any:
    """One pair for all assets, a list of pairs, or pairs by name: kept as they are."""
    value = value.tolist() if hasattr(value, "tolist") else value
    if isinstance(value, Mapping):
        return {str(name): _pair(own, f"{own.name}[{name}]", pair) for name, pair in value.items()}
    if not isinstance(value, Sequence) or isinstance(value, str) or not len(value):
        raise _bad_bounds(own, own.name, value)
    if any(isinstance(item, Sequence) and not isinstance(item, str) for item in value):
        return [_pair(own, f"{own.name}[{i}]", pair) for i, pair in enumerate(value)]
    return _pair(own, own.name, value)


def _pair(own: Parameter, where: str, pair: Any) -> tuple[float, float]:
    pair = pair.tolist() if hasattr(pair, "tolist") else pair
    if isinstance(pair, str) or not isinstance(pair, Sequence) or len(pair) != 2:
        raise _bad_bounds(own, where, pair)
    ends = []
    for end, none in zip(pair, (-np.inf, np.inf)):
        if end is not None and (isinstance(end, bool) or not isinstance(end, (int, float))):
            raise _bad_bounds(own, where, end)
        ends.append(none if end is None else float(end))
    if np.isnan(ends).any() or ends[0] == np.inf or ends[1] == -np.inf:
        raise _bad_bounds(own, where, pair)
    if ends[0] > ends[1]:
        raise ToolError(
            "bounds_crossed",
            own.name,
            f"{where} has the lower bound {ends[0]:g} above the upper bound {ends[1]:g}",
            "give bounds as [lower, upper]",
        )
    return ends[0], ends[1]


def _bad_bounds(own: Parameter, where: str, value: Any) -> ToolError:
    return ToolError(
        "bad_bounds",
        own.name,
        f"{where} is {str(value)[:60]!r} and must be a pair of numbers or nulls",
        "give [lower, upper] for all assets, a list of such pairs, or {name: [lower, upper]}",
    )


READERS["covariance"] = _estimate_or_matrix
READERS["expected_returns"] = _estimate_or_numbers
READERS["bounds"] = _bounds
SCHEMAS["covariance"] = {
    "anyOf": [
        {"type": "string", "enum": list(estimate.COVARIANCES)},
        {"type": "array", "items": _NUMBERS},
    ]
}
SCHEMAS["expected_returns"] = {
    "anyOf": [{"type": "string", "enum": list(estimate.MEANS)}, _NUMBERS]
}
SCHEMAS["bounds"] = {
    "anyOf": [
        _PAIR,
        {"type": "array", "items": _PAIR},
        {"type": "object", "additionalProperties": _PAIR},
    ]
}


def moments(
    returns: Table | None,
    kind: str,
    expected: Any,
    covariance: Any,
    *,
    halflife: float,
    periods_per_year: float,
    repair: bool,
) -> Moments:
    """Estimate what is not given, and check what is.

    Raises:
      ToolError: the table can not be what ``kind`` says, sizes differ, or the covariance is
        asymmetric or indefinite (unless ``repair``).
    """
    given = not isinstance(covariance, str), isinstance(expected, np.ndarray)
    if returns is None and not given[0]:
        raise ToolError(
            "missing_argument",
            "returns",
            f"there are no returns to estimate the {covariance} covariance from",
            "give returns, or the annual covariance as a matrix",
        )
    conventions: dict[str, str] = {}
    diagnostics: dict[str, Any] = {}
    warnings: list[str] = []
    values = None if returns is None else period_returns(returns, kind)
    n = len(covariance) if values is None else values.shape[1]
    if returns is not None and values is not None:
        warnings += _gaps(returns)
        diagnostics["observations"] = len(values)
        if len(values) <= n and not given[0]:
            warnings.append(_few(len(values), n, str(covariance)))
    options = {"halflife": halflife, "periods_per_year": periods_per_year}
    if given[0]:
        matrix, notes = _checked(np.asarray(covariance), n, repair)
        conventions["covariance"] = "as given, annual"
        warnings += notes
    else:
        assert values is not None  # or it was raised above
        matrix = _estimated(values, covariance, options, diagnostics)
        conventions["covariance"] = f"{covariance}, times {periods_per_year:g} periods per year"
    mean = None
    if given[1]:
        mean = _sized("expected_returns", expected, n)
        conventions["expected_returns"] = "as given, annual"
    elif values is not None:
        mean = estimate.expected_returns(values, method=expected, **options)
        conventions["expected_returns"] = (
            f"arithmetic {expected} mean, times {periods_per_year:g} periods per year"
        )
    given_names = None if returns is None else returns.names
    names = given_names or tuple(f"asset {i}" for i in range(n))
    named = given_names is not None
    return Moments(mean, matrix, names, named, values, conventions, diagnostics, warnings)


def _estimated(
    values: np.ndarray, method: str, options: dict[str, float], diagnostics: dict[str, Any]
) -> np.ndarray:
    """The annual covariance by ``method``; a shrinkage is noted in ``diagnostics``."""
    matrix = np.array(estimate.covariance(values, method=method, **options))
    if method.startswith("ledoit_wolf"):  # it shrinks a variance of 0 as well
        target = "constant_correlation" if method.endswith("correlation") else "identity"
        diagnostics["shrinkage"] = estimate.ledoit_wolf(values, target=target).shrinkage
    else:
        still = constant(values)
        matrix[still], matrix[:, still] = 0.0, 0.0  # what rounding left
    return matrix


def period_returns(table: Table, kind: str) -> np.ndarray:
    """Simple returns [T, n] of a table of returns or prices.

    Raises:
      ToolError: prices that are not positive, returns below -100%, a table that looks like the
        other kind, or fewer than two returns.
    """
    values, names = table.values, table.names or tuple(str(i) for i in range(table.values.shape[1]))

    def where(at: tuple[int, int]) -> str:
        row = table.dates[at[0]] if table.dates else str(at[0])
        return f"returns[{names[at[1]]}][{row}]"

    if kind == "prices":
        if (values <= 0).any():
            at = _first(values <= 0)
            raise ToolError(
                "price_not_positive",
                "returns",
                f"{where(at)} is {values[at]:g}, and a price must be above 0",
                'if these are returns, say kind="returns"',
            )
        values = np.asarray(estimate.returns_from_prices(values))
    else:
        if (values < -1).any():
            at = _first(values < -1)
            raise ToolError(
                "return_below_minus_one",
                "returns",
                f"{where(at)} is {values[at]:g}: a return below -100% loses more than everything",
                "give returns as fractions (0.01 is 1%), not as percentages",
            )
        high = (values > 0).all(axis=0) & (np.median(values, axis=0) > 0.5)
        if high.any():
            column = int(np.argmax(high))
            raise ToolError(
                "prices_as_returns",
                "returns",
                f"{names[column]} is always positive with a median of "
                f"{np.median(values[:, column]):g}: these look like prices, not returns",
                'say kind="prices", or give returns as fractions (0.01 is 1%)',
            )
    if len(values) < 2:
        raise ToolError(
            "too_few_observations",
            "returns",
            f"{len(values)} return of each asset is too few for a covariance",
            "give at least 2 returns, or 3 prices, of each asset",
        )
    return values


def constant(returns: np.ndarray) -> np.ndarray:
    """[n] bool: assets whose returns are all one number, to rounding."""
    return np.ptp(returns, axis=0) <= 1e-12 * np.abs(returns).max(axis=0)


def _first(wrong: np.ndarray) -> tuple[int, int]:
    row, column = np.argwhere(wrong)[0]
    return int(row), int(column)


def _few(count: int, n: int, method: str) -> str:
    hint = (
        "the estimate is shrunk, as it should be"
        if method.startswith("ledoit_wolf")
        else 'its covariance is singular: say covariance="ledoit_wolf" to shrink it'
    )
    return f"{count} observations of {n} assets are too few for a sample covariance; {hint}"


def _gaps(table: Table) -> list[str]:
    """A warning where the dates skip more than the usual step, weekends and holidays apart."""
    if table.dates is None or len(table.dates) < 4:
        return []
    days = np.array([datetime.date.fromisoformat(day).toordinal() for day in table.dates])
    steps = np.diff(days)
    usual = float(np.median(steps))
    wide = steps > max(2.5 * usual, usual + 4)
    if not wide.any():
        return []
    at = int(np.argmax(wide))
    return [
        f"dates skip {int(steps[at])} days between {table.dates[at]} and {table.dates[at + 1]} "
        f"({int(wide.sum())} such gaps; the usual step is {usual:g}): days may be missing, and "
        "annual figures count rows"
    ]


def _sized(field: str, values: np.ndarray, n: int) -> np.ndarray:
    if len(values) != n:
        raise ToolError(
            "wrong_length",
            field,
            f"{field} has {len(values)} entries for {n} assets",
            "give one number an asset, in the order of the columns",
        )
    return values


def _checked(matrix: np.ndarray, n: int, repair: bool) -> tuple[np.ndarray, list[str]]:
    """A given covariance, symmetric and positive semidefinite, and what repairing changed."""
    if matrix.shape != (n, n):
        raise ToolError(
            "wrong_shape",
            "covariance",
            f"covariance is {matrix.shape[0]} by {matrix.shape[1]} for {n} assets",
            f"give a {n} by {n} matrix",
        )
    original, size = matrix, np.abs(matrix).max()
    uneven = np.abs(matrix - matrix.T)
    if uneven.max() > 1e-9 * size and not repair:
        i, j = _first(uneven == uneven.max())
        raise ToolError(
            "asymmetric_covariance",
            "covariance",
            f"covariance[{i}][{j}] is {matrix[i, j]:g} and covariance[{j}][{i}] is "
            f"{matrix[j, i]:g}: a covariance is symmetric",
            "correct the entries, or say repair_covariance=true to take their mean",
        )
    matrix = (matrix + matrix.T) / 2
    values, vectors = np.linalg.eigh(matrix)
    if values[0] < -1e-10 * max(values[-1], 0.0) or values[-1] < 0:
        if not repair:
            raise ToolError(
                "indefinite_covariance",
                "covariance",
                f"the least eigenvalue of covariance is {values[0]:.6g}: some portfolio would "
                "have a negative variance",
                "estimate it from one common set of days, or say repair_covariance=true",
            )
        floor = 1e-8 * max(values[-1], 0.0)
        matrix = (vectors * np.maximum(values, floor)) @ vectors.T
        matrix = (matrix + matrix.T) / 2
    changed = float(np.abs(matrix - original).max())
    if changed <= 1e-9 * size:
        return matrix, []
    return matrix, [
        f"the covariance was repaired (its least eigenvalue was {values[0]:.6g}, now at least 1e-8 "
        f"of the largest); its entries changed by up to {changed:.3g}"
    ]


def checked_path(path: str) -> None:
    """Raise a ToolError unless a picture can be written there."""
    target = pathlib.Path(path)
    if target.suffix.lower() not in PICTURES:
        raise ToolError(
            "bad_path",
            "plot_path",
            f"plot_path {path!r} does not end in {', '.join(PICTURES)}",
            "name a picture file, such as frontier.png",
        )
    if not target.parent.is_dir():
        raise ToolError(
            "bad_path", "plot_path", f"the folder {target.parent} does not exist", "create it first"
        )
