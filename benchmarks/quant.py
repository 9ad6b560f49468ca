"""The quant library beside its peers: accuracy and speed, a section an area. Needs [peers].

python -m benchmarks.quant [--only SECTION ...] [--quick]
"""

from __future__ import annotations

import argparse
import importlib
import importlib.metadata
import os
import pathlib
from typing import Any

os.environ.setdefault("JAX_PLATFORMS", "cpu")

from benchmarks import harness

FOLDER = pathlib.Path(__file__).resolve().parent / "quant_sections"
COLUMNS = ("what", "ours", "peer", "peer_name", "ratio", "target", "note")
PEERS = (
    "jax", "numpy", "scipy", "QuantLib", "vollib", "cvxpy", "PyPortfolioOpt", "skfolio",
    "Riskfolio-Lib", "arch", "statsmodels", "quantstats", "empyrical-reloaded",
)  # fmt: skip


def sections() -> list[str]:
    """The sections there are: files with a ``run(quick)``."""
    files = (path for path in FOLDER.glob("*.py") if "def run(" in path.read_text())
    return sorted(path.stem for path in files)


def installed(*packages: str) -> list[str]:
    """Those of ``packages`` that are here."""
    found = []
    for package in packages:
        try:
            importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
        found.append(package)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="+", choices=sections(), default=sections())
    parser.add_argument("--quick", action="store_true", help="fewer repeats and smaller cases")
    arguments = parser.parse_args()
    rows: list[list[Any]] = []
    for name in arguments.only:
        print(f"{name} ...", flush=True)
        found = importlib.import_module(f"benchmarks.quant_sections.{name}").run(arguments.quick)
        rows += [[f"{row.get(column, '')}" if column in ("note", "target") else row.get(column, "")
                  for column in COLUMNS] for row in found]  # fmt: skip
    whole = arguments.only == sections()
    name = "quant" if whole else "quant_" + "_".join(arguments.only)
    harness.report(name, COLUMNS, rows, harness.machine(*installed(*PEERS)))


if __name__ == "__main__":
    main()
