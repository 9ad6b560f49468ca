"""Bounds, groups and turnover as the tools take them, made :class:`Limits`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from lilith.quant.portfolio.quadratic import Limits
from lilith.quant.tool_values import ToolError


class NamedLimits(NamedTuple):
    """Limits with the names of the assets and of the groups, for sentences."""

    limits: Limits
    assets: tuple[str, ...]
    groups: tuple[str, ...]


def read_limits(
    bounds: Any, groups: Any, turnover: float | None, previous: Any, names: tuple[str, ...]
) -> NamedLimits:
    """Limits for assets of these names.

    Raises:
      ToolError: a name is unknown, a list has the wrong length, a group is malformed, or
        turnover and previous_weights are not given together.
    """
    lower, upper = _bounds(bounds, names)
    limits = Limits(lower=None if np.isneginf(lower).all() else lower)
    # A weight is at most what the others' lower bounds leave: upper bounds beyond say nothing.
    most = 1.0 - (lower.sum() - lower) if np.isfinite(lower).all() else np.inf
    if (upper < most).any():
        limits = limits._replace(upper=upper)
    group_names: tuple[str, ...] = ()
    if groups:
        rows, low, high = _groups(groups, names)
        group_names = tuple(groups)
        limits = limits._replace(groups=rows, group_lower=low, group_upper=high)
    if turnover is not None or previous is not None:
        limits = _with_turnover(limits, turnover, previous, len(names))
    return NamedLimits(limits, names, group_names)


def _bounds(bounds: Any, names: tuple[str, ...]) -> tuple[np.ndarray, np.ndarray]:
    n = len(names)
    if isinstance(bounds, Mapping):
        pairs = [(0.0, 1.0)] * n
        for name, pair in bounds.items():
            pairs[_index("bounds", name, names)] = pair
    elif isinstance(bounds, list):
        if len(bounds) != n:
            raise ToolError(
                "wrong_length",
                "bounds",
                f"bounds has {len(bounds)} pairs for {n} assets",
                "give one pair an asset, or one pair for all",
            )
        pairs = bounds
    else:
        pairs = [bounds] * n
    return np.array([pair[0] for pair in pairs]), np.array([pair[1] for pair in pairs])


def _index(field: str, name: Any, names: tuple[str, ...]) -> int:
    """An asset's number, from its name or from the number itself."""
    if isinstance(name, str) and name in names:
        return names.index(name)
    if isinstance(name, int) and not isinstance(name, bool) and 0 <= name < len(names):
        return name
    raise ToolError(
        "unknown_asset",
        field,
        f"{field} names {name!r}, which is none of the {len(names)} assets",
        f"the assets are {', '.join(names[:10])}{', ...' if len(names) > 10 else ''}; "
        "numbers count from 0",
    )


def _groups(
    groups: Mapping[str, Any], names: tuple[str, ...]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rows = np.zeros((len(groups), len(names)))
    low, high = np.full(len(groups), -np.inf), np.full(len(groups), np.inf)
    for i, (group, limit) in enumerate(groups.items()):
        where = f"groups[{group}]"
        if not isinstance(limit, Mapping) or not isinstance(limit.get("assets"), (list, tuple)):
            raise _bad_group(where, limit)
        unknown = set(limit) - {"assets", "min", "max"}
        if unknown or not limit["assets"] or not {"min", "max"} & set(limit):
            raise _bad_group(where, limit)
        for name in limit["assets"]:
            rows[i, _index("groups", name, names)] = 1.0
        for ends, key in ((low, "min"), (high, "max")):
            end = limit.get(key)
            if end is None:
                continue
            if isinstance(end, bool) or not isinstance(end, (int, float)) or not np.isfinite(end):
                raise _bad_group(f"{where}[{key}]", end)
            ends[i] = end
        if low[i] > high[i]:
            raise ToolError(
                "bounds_crossed",
                "groups",
                f"{where} has min {low[i]:g} above max {high[i]:g}",
                "give min at most max",
            )
    return rows, low, high


def _bad_group(where: str, value: Any) -> ToolError:
    return ToolError(
        "bad_group",
        "groups",
        f"{where} is {str(value)[:80]!r}",
        'write groups as {"tech": {"assets": ["A", "B"], "min": 0.1, "max": 0.4}}',
    )


def _with_turnover(limits: Limits, turnover: float | None, previous: Any, n: int) -> Limits:
    if turnover is None or previous is None:
        given, missing = ("previous_weights", "turnover") if turnover is None else (
            "turnover", "previous_weights")  # fmt: skip
        raise ToolError(
            "missing_argument", missing, f"{given} was given without {missing}", "give both"
        )
    if len(previous) != n:
        raise ToolError(
            "wrong_length",
            "previous_weights",
            f"previous_weights has {len(previous)} entries for {n} assets",
            "give one weight an asset, 0 for those not held",
        )
    return limits._replace(previous=np.asarray(previous), turnover=float(turnover))
