"""Compiling a training step for TPU pods: LILITH beside MaxText 0.2.5. Nothing runs on a TPU.

    python -m benchmarks.pods --maxtext /where/bin/python [--larger [NAME ...]] [--rows NAME ...]

Memory of a chip by each compiler's own analysis, and seconds of each whole process: one at a time,
in turn, without a compilation cache. What is measured is kept in results/pods.jsonl, and the same
command goes on where it was stopped. ``--larger`` looks for a batch and a length that fit here and
not there. Without ``--maxtext`` its side is the figures published for it (``pod_rows``).

MaxText lives in an environment of its own, with Python 3.12:

    python3.12 -m venv maxtext-env && maxtext-env/bin/pip install 'maxtext[tpu]==0.2.5'
"""

from __future__ import annotations

import argparse
import dataclasses
import math
import os
import pathlib
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks import harness
from benchmarks.pod_rows import ROWS, Row
from benchmarks.pod_sides import (
    ROOT,
    Compiled,
    Measurements,
    compile_maxtext,
    compile_ours,
    compiler_versions,
    markdown,
    maxtext_words,
    published,
    versions,
    write_section,
)
from lilith.config import UserError
from lilith.pods.topologies import get_topology

DOCS = ROOT / "docs" / "scaling.md"
VERSION = "0.2.5"  # of MaxText
TRIES = 4  # batches or lengths that --larger compiles there, for each row
COLUMNS = (
    "model, topology, batch x length", "remat here", "remat there",
    "LILITH GiB", "s", "MaxText GiB", "MaxText s", "memory ratio", "time ratio",
)  # fmt: skip


@dataclass(frozen=True)
class Sides:
    """Both sides by their interpreters, and what they have said so far.

    Attributes:
      maxtext: empty: the published figures stand for it.
      layers: of every model, 0: all.
    """

    ours: str
    maxtext: str
    kept: Measurements
    layers: int = 0

    def lilith(self, row: Row, repeat: int = 0) -> Compiled:
        """Ours, measured or known."""
        words = [*row.words, *([f"model.layers={self.layers}"] if self.layers else [])]
        return self._known("lilith", repeat, words, lambda: compile_ours(words, self.ours)[0])

    def peer(self, row: Row, repeat: int = 0) -> Compiled:
        """MaxText's, measured, known or published."""
        if not self.maxtext:
            return published(row)
        words = maxtext_words(row, self.layers)
        return self._known("maxtext", repeat, words, lambda: compile_maxtext(words, self.maxtext))

    def _known(
        self, side: str, repeat: int, words: Sequence[str], make: Callable[[], Compiled]
    ) -> Compiled:
        key = f"{side} {repeat} {' '.join(words)}"
        record = self.kept.get(key, lambda: dataclasses.asdict(make()))
        return Compiled(**{name: value for name, value in record.items() if name != "key"})


def middle(answers: Sequence[Compiled]) -> Compiled:
    """One answer of several repeats, with their median times."""
    return dataclasses.replace(
        answers[0],
        seconds=harness.median([own.seconds for own in answers]),
        cpu_seconds=harness.median([own.cpu_seconds for own in answers]),
    )


def compare(rows: Sequence[Row], sides: Sides, repeats: int) -> list[list[Any]]:
    """The table: every row by both sides, in turn."""
    answers: dict[Row, tuple[list[Compiled], list[Compiled]]] = {row: ([], []) for row in rows}
    for repeat in range(repeats):
        for row, (ours, theirs) in answers.items():
            ours.append(sides.lilith(row, repeat))
            theirs.append(sides.peer(row, repeat))
    return [cells(row, middle(ours), middle(theirs)) for row, (ours, theirs) in answers.items()]


def cells(row: Row, ours: Compiled, theirs: Compiled) -> list[Any]:
    """A line of the table; a ratio is ours over theirs, and none where a side does not fit."""
    fit = not ours.why and not theirs.why
    return [
        f"{row.model} {row.topology} {row.batch:g} x {row.length:,}", row.remat,
        row.maxtext_remat, ours.memory(), round(ours.seconds, 1), theirs.memory(),
        round(theirs.seconds, 1), round(ours.used / theirs.used, 3) if fit else "-",
        round(ours.seconds / theirs.seconds, 3) if fit else "-",
    ]  # fmt: skip


def larger_batches(row: Row) -> Iterator[Row]:
    """One row more a device, again and again."""
    for more in range(1, 65):
        yield dataclasses.replace(row, batch=row.batch + more)


def larger_lengths(row: Row) -> Iterator[Row]:
    """A half longer, and half as long again, in whole kilotokens."""
    length = row.length
    while length < 2**20:
        length = math.ceil(1.5 * length / 1024) * 1024
        yield dataclasses.replace(row, length=length,
                                  settings=(*row.settings, f"model.context={length}"))  # fmt: skip


def first_refused(row: Row, candidates: Iterator[Row], sides: Sides) -> Row | None:
    """The smallest candidate that MaxText's step has no room for; None after TRIES that it has.

    Its temporaries grow with the tokens, so the first one tried is where they should be too many.
    """
    base, capacity = sides.peer(row), get_topology(row.topology).chip.hbm_bytes
    if base.why:
        return None
    tried = 0
    for candidate in candidates:
        tokens = candidate.batch * candidate.length / (row.batch * row.length)
        if base.arguments + base.temporaries * tokens < capacity:
            continue
        if sides.peer(candidate).why:
            return candidate
        tried += 1
        if tried == TRIES:
            break
    return None


def larger(rows: Sequence[Row], sides: Sides) -> list[list[Any]]:
    """Rows with a larger batch or length that MaxText has no room for, by both sides."""
    found = []
    for row in rows:
        for grow in (larger_batches, larger_lengths):
            candidate = first_refused(row, grow(row), sides)
            if candidate is None:
                print(f"{row.name}: all that was tried fits MaxText too", flush=True)
            else:
                found.append(cells(candidate, sides.lilith(candidate), sides.peer(candidate)))
    return found


def facts(sides: Sides, repeats: int) -> dict[str, Any]:
    """What the figures were taken with."""
    theirs = f"the figures published for {VERSION}, marked *"
    if sides.maxtext:
        theirs = versions(sides.maxtext, ["maxtext", "jax", "libtpu"])
        if f"maxtext {VERSION}" not in theirs:
            raise UserError(f"{sides.maxtext} has {theirs}; the table is of maxtext {VERSION}")
    return {
        "LILITH": compiler_versions(sides.ours), "MaxText": theirs,
        "repeats": repeats, "processor": harness.machine()["cpu"], "cores": os.cpu_count(),
    }  # fmt: skip


def parsed(words: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    names = [row.name for row in ROWS]
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--maxtext", default="", metavar="PYTHON", help="of its environment")
    parser.add_argument("--python", default=sys.executable, help="the interpreter of our side")
    parser.add_argument("--rows", nargs="+", choices=names, default=names, metavar="NAME",
                        help=", ".join(names))  # fmt: skip
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--larger", nargs="*", choices=names, metavar="NAME",
                        help="what fits here and not there; of these rows, or all")  # fmt: skip
    parser.add_argument("--again", choices=("lilith", "maxtext"),
                        help="forget all that is kept of a side: its code has changed")  # fmt: skip
    parser.add_argument("--layers", type=int, default=0,
                        help="of every model, to try it; nothing goes to the docs")  # fmt: skip
    parser.add_argument("--out", type=pathlib.Path, default=harness.RESULTS / "pods.jsonl",
                        help="where each measurement is kept")  # fmt: skip
    return parser.parse_args(words)


def main(words: Sequence[str] | None = None) -> int:
    """Measure what is not known yet, print, write."""
    options = parsed(words)
    rows = [row for row in ROWS if row.name in options.rows]
    try:
        if options.larger is not None and not options.maxtext:
            raise UserError("--larger compiles with MaxText; name its interpreter with --maxtext")
        if options.layers and not options.maxtext:
            raise UserError("nothing is published for --layers; name MaxText's with --maxtext")
        kept = Measurements(options.out)
        if options.again:
            kept.forget(lambda key: key.startswith(f"{options.again} "))
        sides = Sides(options.python, options.maxtext, kept, options.layers)
        about = facts(sides, options.repeats)
        table = compare(rows, sides, options.repeats)
        if options.larger is not None:
            names = options.larger or options.rows
            table += larger([row for row in rows if row.name in names], sides)
        whole = options.rows == [row.name for row in ROWS] and not options.layers
        text = markdown(COLUMNS, table)
        text += "\n" + "".join(f"- {key}: {value}\n" for key, value in about.items())
        print(text)
        if whole:
            harness.report("pods", COLUMNS, table, about)
            write_section(DOCS, "benchmarks.pods", text)
    except UserError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
