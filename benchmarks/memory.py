"""Memory of one device for training, adapting and generating, by the TPU compiler's own analysis.

    python -m benchmarks.memory [--only 7b-train 7b-generate] [--out DIR]

Compiles each row for one v5p chip (95 GiB), writes its report to the folder and goes on there when
it is stopped; a row that is in the folder is not compiled again. Needs libtpu and no TPU: a row is
minutes of one core. ``docs/memory.md`` has the table.
"""

from __future__ import annotations

import argparse
import json
import pathlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import jax

from benchmarks import harness
from experiments.compile_pod import DoesNotFit, compile_on_this_machine, compile_step
from experiments.compile_pod_config import CompilePodConfig
from experiments.run import load_config
from lilith.config import UserError
from lilith.train.metrics import write_atomically

GB = 1e9
# Weights, gradients and updates in bfloat16, a moment that is a row and a column of each weight.
LEAN = ("model.param_dtype=bfloat16", "optimizer.name=adafactor", "optimizer.rounding=stochastic")
INT8 = ("model.param_dtype=bfloat16", "optimizer.state_dtype=int8", "optimizer.rounding=stochastic")
LORA = ("lora.rank=16",)  # the weights below it in bfloat16, AdamW in float32 for the adapter
KINDS = ("weights", "base", "optimizer", "cache", "activations", "temporaries")


@dataclass(frozen=True)
class Row:
    """One program of one model.

    Attributes:
      use: train, lora, generate.
      length: tokens of the one row that is trained on, or held while generating.
      limit: GB that it may need.
      settings: further overrides.
    """

    model: str
    use: str
    length: int
    limit: float
    settings: tuple[str, ...] = ()
    suffix: str = ""

    @property
    def name(self) -> str:
        """As ``--only`` takes it."""
        return f"{self.model}-{self.use}{self.suffix}"

    @property
    def words(self) -> tuple[str, ...]:
        """The overrides of ``--config compile_pod --set`` that compile this row."""
        step = ("step=decode",) if self.use == "generate" else ("model.remat=full",)
        return (
            f"model={self.model}", "topology=v5p:1x1x1", "batch=1", f"length={self.length}",
            *step, *self.settings,
        )  # fmt: skip

    def config(self) -> CompilePodConfig:
        """The config that the command line makes of :attr:`words`."""
        config = load_config("compile_pod", self.words)
        assert isinstance(config, CompilePodConfig)
        return config


ROWS: tuple[Row, ...] = (
    Row("1b", "train", 2048, 10, LEAN),
    Row("1b", "train", 2048, 10, INT8, "-int8"),
    Row("1b", "lora", 2048, 10, LORA),
    Row("1b", "generate", 2048, 6),
    Row("7b", "train", 4096, 35, LEAN),
    Row("7b", "train", 4096, 35, (*INT8, "optimizer.offload=true"), "-int8-offloaded"),
    Row("7b", "lora", 4096, 35, LORA),
    Row("7b", "generate", 4096, 20),
    Row("13b", "train", 4096, 80, LEAN),
    Row("13b", "lora", 4096, 80, LORA),
    Row("13b", "generate", 4096, 40),
)


def chosen(names: Sequence[str]) -> list[Row]:
    """The rows of these names; all for none.

    Raises:
      UserError: no such row, with those that exist.
    """
    known = {row.name: row for row in ROWS}
    for name in names:
        if name not in known:
            raise UserError(f"unknown row {name!r}; known: {', '.join(known)}")
    return [known[name] for name in names] or list(ROWS)


def kept(row: Row, out: pathlib.Path) -> dict[str, Any] | None:
    """What ``out`` has of a row as it is now."""
    path = out / f"{row.name}.json"
    found = json.loads(path.read_text()) if path.exists() else {"words": None}
    return found if found["words"] == list(row.words) else None


def measured(row: Row, out: pathlib.Path) -> dict[str, Any]:
    """The row's memory in bytes, by kind, from ``out`` if it is there."""
    found = kept(row, out)
    if found is not None:
        return found
    try:
        report = compile_step(row.config())
        kinds, used = report.memory.kinds, report.memory.used
        seconds = report.compile_seconds
    except DoesNotFit as problem:
        kinds, used, seconds = {}, problem.needed, 0.0
    jax.clear_caches()
    found = {"words": list(row.words), "kinds": kinds, "used": used, "compile_seconds": seconds}
    out.mkdir(parents=True, exist_ok=True)
    write_atomically(out / f"{row.name}.json", json.dumps(found, indent=2) + "\n")
    return found


def table_row(row: Row, found: dict[str, Any]) -> list[Any]:
    """Sizes in GB; what the compiler gave no figure for is empty."""
    kinds = found["kinds"]
    sizes = [round(kinds[kind] / GB, 2) if kind in kinds else "" for kind in KINDS]
    used = found["used"] / GB
    return [row.name, row.length, *sizes, round(used, 2), row.limit,
            "yes" if used <= row.limit else "no"]  # fmt: skip


def main() -> None:
    """Compile what is not there yet, print, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", nargs="+", default=[], metavar="ROW")
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("runs/memory"))
    options = parser.parse_args()
    compile_on_this_machine()
    for row in chosen(options.only):
        used = measured(row, options.out)["used"]
        print(f"{row.name}: {used / GB:.2f} of {row.limit:g} GB", flush=True)
    table = [table_row(row, found) for row in ROWS if (found := kept(row, options.out))]
    columns = ["row", "tokens", *KINDS, "in all", "limit", "holds"]
    harness.report("memory", columns, table, {**harness.machine("jax"), "unit": "GB of 1e9 bytes"})


if __name__ == "__main__":
    main()
