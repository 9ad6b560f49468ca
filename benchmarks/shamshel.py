"""SHAMSHEL's figures: the cost of a run, of a cell and of a verdict.

    python -m benchmarks.shamshel                    # all but the forgeries; about a minute
    python -m benchmarks.shamshel --only overhead session
    python -m benchmarks.shamshel --only forgeries   # every forgery on all of HumanEval; minutes

HumanEval, MBPP and the forgeries need LILITH_DATA. Results are added to
benchmarks/results/shamshel.json, section by section.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(REPOSITORY), str(REPOSITORY / "tests" / "shamshel")]

import shamshel_data  # noqa: E402

from lilith.shamshel import Limits, Sandbox, verify  # noqa: E402
from lilith.shamshel.client import zygote  # noqa: E402
from lilith.shamshel.interpreter import describe  # noqa: E402

OUTPUT = REPOSITORY / "benchmarks" / "results" / "shamshel.json"
ATTACKS = REPOSITORY / "tests" / "shamshel" / "attacks" / "verdict"
ADD = "def add(a, b): return a + b"
Section = dict[str, Any]


def interleaved(repeats: int, **actions: Callable[[], object]) -> dict[str, list[float]]:
    """Time each action in turn, `repeats` rounds; milliseconds by name."""
    times: dict[str, list[float]] = {name: [] for name in actions}
    for _ in range(repeats):
        for name, action in actions.items():
            begin = time.perf_counter()
            action()
            times[name].append(1e3 * (time.perf_counter() - begin))
    return times


def median(values: list[float]) -> float:
    return round(statistics.median(values), 3)


def overhead() -> Section:
    """A print in the jail against a bare interpreter without site, started by subprocess."""
    bare = [describe().executable, "-I", "-S", "-c", "print(42)"]
    box = Sandbox()
    box.run("")

    def in_jail() -> None:
        assert box.run("print(42)").stdout == "42\n"

    def outside() -> None:
        assert subprocess.run(bare, capture_output=True, check=True).stdout == b"42\n"

    times = interleaved(30, bare=outside, jail=in_jail)
    bare_ms, jail_ms = median(times["bare"]), median(times["jail"])
    return {"bare_ms": bare_ms, "jail_ms": jail_ms, "ratio": round(jail_ms / bare_ms, 2)}


def session() -> Section:
    """The next cell of a warm session, the first of a new one, and verdicts of one call."""
    box = Sandbox()

    def first() -> None:
        with box.session() as opened:
            assert opened.run("1").status == "ok"

    with box.session() as warm:
        warm.run("x = 0")
        times = interleaved(
            30,
            cell=lambda: warm.run("x += 1; x"),
            first=first,
            by_cases=lambda: verify(ADD, "add", [((1, 2), {}, 3)]),
            by_tests=lambda: verify(ADD, "add", tests="assert add(1, 2) == 3"),
        )
    return {
        "warm_cell_ms": median(times["cell"]),
        "warm_cell_slowest_ms": round(max(times["cell"]), 3),
        "first_cell_ms": median(times["first"]),
        "verify_by_cases_ms": median(times["by_cases"]),
        "verify_by_tests_ms": median(times["by_tests"]),
    }


def jobs() -> Section:
    """Two hundred runs asked for at once."""
    box = Sandbox(Limits(wall_s=30))
    begin = time.perf_counter()
    with ThreadPoolExecutor(200) as pool:
        runs = list(pool.map(box.run, [f"print({n} ** 2)" for n in range(200)]))
    seconds = time.perf_counter() - begin
    right = sum(run.stdout == f"{n * n}\n" for n, run in enumerate(runs))
    return {"jobs": 200, "right": right, "seconds": round(seconds, 2)}


def _verify_all(tasks: list[shamshel_data.Task], forgery: str = "") -> tuple[int, float]:
    limits = Limits(wall_s=1.0, cpu_s=1.0) if forgery else Limits(wall_s=60, cpu_s=30)

    def one(task: shamshel_data.Task) -> bool:
        source = forgery.replace("ENTRY", task.entry_point) if forgery else task.source
        return verify(source, task.entry_point, tests=task.tests, limits=limits).passed

    begin = time.perf_counter()
    with ThreadPoolExecutor(2 * (os.cpu_count() or 1)) as pool:
        passed = sum(pool.map(one, tasks))
    return passed, time.perf_counter() - begin


def _data() -> Path:
    found = shamshel_data.folder()
    if found is None:
        sys.exit("LILITH_DATA is unset, or holds no humaneval and mbpp")
    return found


def humaneval() -> Section:
    """HumanEval's reference solutions."""
    tasks = shamshel_data.humaneval(_data())
    passed, seconds = _verify_all(tasks)
    return {"tasks": len(tasks), "verified": passed, "seconds": round(seconds, 2)}


def mbpp() -> Section:
    """MBPP's reference solutions."""
    tasks = shamshel_data.mbpp(_data())
    passed, seconds = _verify_all(tasks)
    return {"tasks": len(tasks), "verified": passed, "seconds": round(seconds, 2)}


def forgeries() -> Section:
    """Every forgery on all of HumanEval: how many tasks each passes."""
    tasks = shamshel_data.humaneval(_data())
    found = {}
    for path in sorted(ATTACKS.glob("*.py")):
        passed, _ = _verify_all(tasks, path.read_text())
        found[path.stem] = {"tasks": len(tasks), "passed": passed}
        print(f"  {path.stem}: {found[path.stem]}", flush=True)
    return found


SECTIONS: dict[str, Callable[[], Section]] = {
    "overhead": overhead, "session": session, "jobs": jobs, "humaneval": humaneval,
    "mbpp": mbpp, "forgeries": forgeries,
}  # fmt: skip


def main() -> None:
    """Measure the sections asked for, print them, and add them to the results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="+", choices=SECTIONS, metavar="SECTION")
    chosen = parser.parse_args().only or [name for name in SECTIONS if name != "forgeries"]
    facts = zygote((), "default").facts
    for name in chosen:
        measured = SECTIONS[name]()
        measured["measured_on"] = {
            "machine": platform.machine(), "cpus": os.cpu_count(), "kernel": platform.release(),
            "python": platform.python_version(), "user": facts["mode"],
            "control_groups": facts["cgroup"], "load": round(os.getloadavg()[0], 1),
        }  # fmt: skip
        results = json.loads(OUTPUT.read_text()) if OUTPUT.exists() else {}
        results[name if facts["mode"] == "root" else f"{name} (ordinary user)"] = measured
        for key, value in measured.items():
            if key != "measured_on":
                print(f"{name:12} {key:24} {value}")
        try:
            OUTPUT.parent.mkdir(exist_ok=True)
            OUTPUT.write_text(json.dumps(results, indent=1) + "\n")
        except PermissionError:
            print(f"not written: {OUTPUT} belongs to another user")


if __name__ == "__main__":
    main()
