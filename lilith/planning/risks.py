"""The risk register: levels, a 5 by 5 matrix, exposure, and what is missing in it."""

from __future__ import annotations

import bisect
from collections.abc import Sequence
from typing import Any

from lilith.planning.project import Risk

LEVELS = 5
_PROBABILITIES = (0.1, 0.3, 0.5, 0.7)  # the upper ends of levels 1 to 4
_NAMES = ("rare", "unlikely", "possible", "likely", "almost certain")


def probability_level(probability: float) -> int:
    """1 (up to 10%), 2 (30%), 3 (50%), 4 (70%) or 5."""
    return bisect.bisect_left(_PROBABILITIES, probability) + 1


def risk_band(score: int) -> str:
    """The name of probability (1-5) times impact (1-5)."""
    if score >= 15:
        return "critical"
    return "high" if score >= 10 else "medium" if score >= 5 else "low"


def risk_register(risks: Sequence[Risk]) -> dict[str, Any]:
    """Every risk with its score, the worst first; the matrix; the exposure; and the gaps.

    ``matrix[5 - probability level][impact - 1]`` holds names: the most probable row comes first.
    Exposure is probability times delay (of all the tasks it delays, in task-days) or cost.
    """
    rows: list[dict[str, Any]] = []
    matrix: list[list[list[str]]] = [[[] for _ in range(LEVELS)] for _ in range(LEVELS)]
    gaps = []
    for risk in risks:
        level = probability_level(risk.probability)
        score = level * risk.impact
        matrix[LEVELS - level][risk.impact - 1].append(risk.name)
        rows.append({
            "risk": risk.name,
            "probability": risk.probability,
            "probability_level": level,
            "impact": risk.impact,
            "score": score,
            "band": risk_band(score),
            "tasks": list(risk.tasks),
            "delay_days": risk.delay,
            "exposure_days": round(risk.probability * risk.delay * len(risk.tasks), 4),
            "cost": risk.cost,
            "exposure_cost": round(risk.probability * risk.cost, 4),
            "mitigation": risk.mitigation,
            "owner": risk.owner,
            "trigger": risk.trigger,
        })  # fmt: skip
        missing = [name for name in ("mitigation", "owner", "trigger") if not getattr(risk, name)]
        if missing and score >= 10:
            gaps.append(f"{risk.name} is {risk_band(score)} and has no {' and no '.join(missing)}")
    rows.sort(key=lambda row: -row["score"])
    return {
        "risks": rows,
        "matrix": matrix,
        "rows": [f"{i + 1} {name}" for i, name in reversed(list(enumerate(_NAMES)))],
        "columns": [f"impact {i + 1}" for i in range(LEVELS)],
        "exposure_days": round(sum(row["exposure_days"] for row in rows), 4),
        "exposure_cost": round(sum(row["exposure_cost"] for row in rows), 4),
        "gaps": gaps,
    }
