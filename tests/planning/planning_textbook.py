"""Published networks, and what their textbooks find."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

# Hillier and Lieberman, "Introduction to Operations Research", the Reliable Construction Co.: weeks
# (optimistic, most likely, pessimistic) and immediate predecessors. Expected length 44 weeks,
# critical path A-B-C-E-F-J-L-N with variance 9; PERT meets 47 weeks with probability 0.8413.
RELIABLE: Mapping[str, tuple[tuple[float, float, float], Sequence[str]]] = {
    "A": ((1, 2, 3), ""),
    "B": ((2, 3.5, 8), "A"),
    "C": ((6, 9, 18), "B"),
    "D": ((4, 5.5, 10), "C"),
    "E": ((1, 4.5, 5), "C"),
    "F": ((4, 4, 10), "E"),
    "G": ((5, 6.5, 11), "D"),
    "H": ((5, 8, 17), "EG"),
    "I": ((3, 7.5, 9), "C"),
    "J": ((3, 9, 9), "FI"),
    "K": ((4, 4, 4), "J"),
    "L": ((1, 5.5, 7), "J"),
    "M": ((1, 2, 3), "H"),
    "N": ((5, 5.5, 9), "KL"),
}
RELIABLE_MEANS = dict(zip("ABCDEFGHIJKLMN", (2, 4, 10, 6, 4, 5, 7, 9, 7, 8, 4, 5, 2, 6)))
RELIABLE_SLACK = dict(zip("ABCDEFGHIJKLMN", (0, 0, 0, 4, 0, 0, 4, 4, 2, 0, 1, 0, 4, 0)))
RELIABLE_PATH = "ABCEFJLN"

# Heizer and Render, "Operations Management", Milwaukee Paper: weeks, predecessors; earliest and
# latest starts and finishes, length 15, critical path A-C-E-G-H, variance 3.11 and P(16 weeks) of
# 0.7157 with the estimates below.
MILWAUKEE: Mapping[str, tuple[tuple[float, float, float], Sequence[str]]] = {
    "A": ((1, 2, 3), ""),
    "B": ((2, 3, 4), ""),
    "C": ((1, 2, 3), "A"),
    "D": ((2, 4, 6), "AB"),
    "E": ((1, 4, 7), "C"),
    "F": ((1, 2, 9), "C"),
    "G": ((3, 4, 11), "DE"),
    "H": ((1, 2, 3), "FG"),
}
MILWAUKEE_TIMES = {  # early start, early finish, late start, late finish
    "A": (0, 2, 0, 2),
    "B": (0, 3, 1, 4),
    "C": (2, 4, 2, 4),
    "D": (3, 7, 4, 8),
    "E": (4, 8, 4, 8),
    "F": (4, 7, 10, 13),
    "G": (8, 13, 8, 13),
    "H": (13, 15, 13, 15),
}


def entries(
    table: Mapping[str, tuple[tuple[float, float, float], Sequence[str]]],
) -> list[dict[str, Any]]:
    """A table as the tasks that ``read_project`` takes."""
    return [
        {"id": name, "estimate": list(points), "depends_on": list(before)}
        for name, (points, before) in table.items()
    ]
