"""Reference cases by kind, from the optional data."""

import json
import math
import pathlib
from typing import Any


def cases(folder: pathlib.Path, kind: str) -> list[dict[str, Any]]:
    """Inputs (with "5/12" read as a number), expected figures and tolerance of each case."""
    path = folder / "quant_reference" / "reference_cases.json"
    found = [case for case in json.loads(path.read_text())["cases"] if case["kind"] == kind]
    assert found, f"no case of kind {kind}"
    for case in found:
        time = case["inputs"].get("T")
        if isinstance(time, str):
            top, bottom = time.split("/")
            case["inputs"]["T"] = float(top) / float(bottom)
    return found


def close(value: Any, expected: float, tolerance: float) -> bool:
    """Whether ``value`` is within ``tolerance`` of ``expected``, relative to it."""
    return math.isclose(float(value), expected, rel_tol=tolerance, abs_tol=0.0)
