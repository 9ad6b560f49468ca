"""What every benchmark shares: interleaved timing, the machine in words, a table, a JSON file."""

from __future__ import annotations

import importlib.metadata
import json
import os
import pathlib
import platform
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from lilith.config import UserError

RESULTS = pathlib.Path(__file__).resolve().parent / "results"


def interleaved(
    sides: Mapping[str, Callable[[], Any]], repeats: int = 7, warmup: int = 1
) -> dict[str, list[float]]:
    """Seconds of each side's calls, taken in turn (A B A B ...) so that drift hits all alike."""
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for repeat in range(warmup + repeats):
        for name, call in sides.items():
            begin = time.perf_counter()
            call()
            if repeat >= warmup:
                seconds[name].append(time.perf_counter() - begin)
    return seconds


def median(values: Sequence[float]) -> float:
    """The middle one."""
    return statistics.median(values)


def claim(out: pathlib.Path, settings: Mapping[str, Any]) -> None:
    """Make the folder of a measurement that goes on where it was stopped.

    Raises:
      UserError: it holds answers made with other settings.
    """
    path = out / "settings.json"
    out.mkdir(parents=True, exist_ok=True)
    own = dict(settings)
    if path.exists() and json.loads(path.read_text()) != own:
        raise UserError(f"{out} holds answers made with {path.read_text().strip()}; choose another "
                        f"--out, or the same settings; these are {json.dumps(own)}")  # fmt: skip
    path.write_text(json.dumps(own) + "\n")


def machine(*packages: str) -> dict[str, Any]:
    """What the figures were taken on, with the versions of ``packages``."""
    model = platform.processor() or platform.machine()
    info = pathlib.Path("/proc/cpuinfo")
    if info.exists():
        names = [line for line in info.read_text().splitlines() if line.startswith("model name")]
        model = names[0].partition(":")[2].strip() if names else model
    return {
        "cpu": model,
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        **{name: importlib.metadata.version(name) for name in packages},
    }


def report(
    name: str, columns: Sequence[str], rows: Sequence[Sequence[Any]], facts: Mapping[str, Any]
) -> pathlib.Path:
    """Print a table and the facts beneath it; write both to ``results/name.json``."""
    cells = [[_cell(value) for value in row] for row in rows]
    widths = [max(len(row[i]) for row in [list(columns), *cells]) for i in range(len(columns))]
    for row in [list(columns), ["-" * width for width in widths], *cells]:
        print("  ".join(text.ljust(width) for text, width in zip(row, widths)).rstrip())
    print()
    for key, value in facts.items():
        print(f"{key}: {_cell(value)}")
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{name}.json"
    content = {"rows": [dict(zip(columns, row)) for row in rows], "facts": dict(facts)}
    path.write_text(json.dumps(content, indent=2) + "\n")
    return path


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:,.4g}" if abs(value) < 1000 else f"{value:,.0f}"
    if isinstance(value, int):
        return f"{value:,}"
    return str(value)
