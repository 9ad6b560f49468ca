"""Planning: tasks, people and limits in; schedule, critical path, load, forecast and chart out.

Knows nothing of language models. Names load on first use.
"""

from __future__ import annotations

import importlib
from typing import Any

_HOMES = {
    "plan_project": "lilith.planning.plan",
    "Plan": "lilith.planning.plan",
    "read_project": "lilith.planning.reading",
    "PlanningError": "lilith.planning.project",
    "Project": "lilith.planning.project",
    "Task": "lilith.planning.project",
    "Estimate": "lilith.planning.project",
    "Dependency": "lilith.planning.project",
    "Resource": "lilith.planning.project",
    "Calendar": "lilith.planning.project",
    "Constraints": "lilith.planning.project",
    "Risk": "lilith.planning.project",
    "Progress": "lilith.planning.project",
}

__all__ = [*_HOMES]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'lilith.planning' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)
