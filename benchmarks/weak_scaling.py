"""Weak scaling on paper: the step bound of a chip from 16 to 4,096 v5p chips, by compilation.

    python -m benchmarks.weak_scaling [--models 7b,13b] [--chips 16,64]

Each chip has the same rows at every size; a point is one compilation of ``compile_pod`` and the
roofline of its scheduled program, a bound and not a measured time. Points are kept in
results/weak_scaling.jsonl, and the same command goes on where it was stopped. The table and the
plot in docs/scaling.md have every point known so far.
"""

from __future__ import annotations

import argparse
import dataclasses
import math
import pathlib
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from benchmarks import harness
from benchmarks.pod_sides import (
    GIB,
    ROOT,
    Measurements,
    compile_ours,
    compiler_versions,
    markdown,
    write_section,
)
from experiments.plots import ACCENT, FAINT, INK, SECOND, Series, line_chart
from lilith.config import UserError
from lilith.model.presets import get_model_config
from lilith.pods.report import shape_words
from lilith.pods.topologies import SHAPES

DOCS = ROOT / "docs" / "scaling.md"
PLOT = ROOT / "docs" / "weak_scaling.svg"
CHIP, LENGTH = "v5p", 4096
MOST_LAYOUT = 1024  # chips over which one copy of the weights is split at most
COLUMNS = (
    "model", "chips", "mesh", "rows a chip", "remat", "GiB a chip", "bound, ms", "scheduled, ms",
    "of the smallest slice's", "MFU bound", "limit", "compile s",
)  # fmt: skip
# What the chart's colours are on a page of its own.
_STYLE = (
    "<style>svg{background:#faf9f7;color:#211d2b;fill:#211d2b;--grid:#dedae4;--accent:#6a3fd1;"
    "--second:#c8641b;--faint:#a99cc4;font-family:system-ui,sans-serif}"
    "@media (prefers-color-scheme:dark){svg{background:#14121a;color:#ebe7f2;fill:#ebe7f2;"
    "--grid:#3a3547;--accent:#ab8dff;--second:#f2a15c;--faint:#6f6391}}</style>"
)


@dataclass(frozen=True)
class Load:
    """What each chip has of a model at every size, and the colour of its line."""

    batch: int
    remat: str
    colour: str


LOADS = {
    "7b": Load(4, "dots", ACCENT),
    "13b": Load(2, "dots", SECOND),
    "70b": Load(1, "full", INK),
}


def slices() -> dict[int, str]:
    """The shapes that double from 16 to 4,096 chips, by their chips."""
    shapes = {math.prod(map(int, shape.split("x"))): shape for shape in SHAPES[CHIP]}
    return {2**power: shapes[2**power] for power in range(4, 13)}


def words_of(model: str, chips: int, layers: int = 0) -> list[str]:
    """The overrides of a point: weights split over all chips, or over MOST_LAYOUT and copied.

    The chips that hold one copy must divide the model's width.
    """
    load = LOADS[model]
    split = math.gcd(get_model_config(model).d_model, min(chips, MOST_LAYOUT))
    words = [
        f"model={model}", f"topology={CHIP}:{slices()[chips]}", f"batch={load.batch}",
        f"length={LENGTH}", f"model.remat={load.remat}",
    ]  # fmt: skip
    if split < chips:
        words.append(f"mesh.data={chips // split}")
    return [*words, *([f"model.layers={layers}"] if layers else [])]


def key_of(words: Sequence[str]) -> str:
    """What a point is kept under."""
    return f"lilith {' '.join(words)}"


def point(words: Sequence[str], python: str) -> dict[str, Any]:
    """Compile a point; what the table and the plot need of its report."""
    compiled, report = compile_ours(words, python)
    if not report:
        return dataclasses.asdict(compiled)
    names = ("chips", "mesh", "rows", "remat", "parameters", "overlapped_share", "roofline")
    return {**dataclasses.asdict(compiled), **{name: report[name] for name in names},
            "memory": report["memory"]["used"]}  # fmt: skip


def cells(model: str, chips: int, own: Mapping[str, Any], first: float | None) -> list[Any]:
    """A line of the table; ``first`` is the scheduled bound of the model's smallest slice."""
    load = LOADS[model]
    start = [model, chips, shape_words(own["mesh"]) if "mesh" in own else "", load.batch]
    if own["why"]:
        return [*start, load.remat, "does not fit", "-", "-", "-", "-", "-",
                round(own["seconds"])]  # fmt: skip
    found = own["roofline"]
    return [
        *start, own["remat"], round(own["memory"] / GIB, 2), round(1e3 * found["bound"], 1),
        round(1e3 * found["scheduled_bound"], 1),
        round(found["scheduled_bound"] / first, 3) if first else "-",
        round(found["scheduled_mfu_bound"], 3), found["limit"], round(own["seconds"]),
    ]  # fmt: skip


def table(known: Mapping[str, Mapping[str, Any]], layers: int) -> list[list[Any]]:
    """Every point that is known, by model and chips."""
    rows = []
    for model in LOADS:
        points = _points(known, model, layers)
        bounds = [own["roofline"]["scheduled_bound"] for own in points.values() if not own["why"]]
        first = bounds[0] if bounds else None
        rows += [cells(model, chips, own, first) for chips, own in points.items()]
    return rows


def _points(
    known: Mapping[str, Mapping[str, Any]], model: str, layers: int
) -> dict[int, Mapping[str, Any]]:
    keys = {chips: key_of(words_of(model, chips, layers)) for chips in slices()}
    return {chips: known[key] for chips, key in keys.items() if key in known}


def plot(known: Mapping[str, Mapping[str, Any]]) -> str:
    """The step bounds over the chips as an SVG that stands alone; "" with no point to draw.

    As scheduled in colour, and thin what they are if all collectives run beside compute.
    """
    series: list[Series] = []
    least: list[Series] = []
    for model, load in LOADS.items():
        fit = {chips: own["roofline"] for chips, own in _points(known, model, 0).items()
               if not own["why"]}  # fmt: skip
        if fit:
            label = f"{model}, {load.batch} x {LENGTH:,} a chip"
            bounds = [own["scheduled_bound"] for own in fit.values()]
            series.append(Series(label, list(fit), bounds, load.colour, dots=True))
            bounds = [own["bound"] for own in fit.values()]
            least.append(Series("" if least else "if all overlap", list(fit), bounds, FAINT))
    if not series:
        return ""
    top = 1.7 * max(max(line.y) for line in series)
    svg = line_chart(
        "weak-scaling", "Seconds of a training step at least, by chips", [*series, *least],
        y_top=top, from_zero=True, x_label=f"{CHIP} chips; seconds a step at least", doublings=True,
    )  # fmt: skip
    svg = svg.replace("<svg ", '<svg xmlns="http://www.w3.org/2000/svg" ', 1)
    return svg.replace(">", f">{_STYLE}", 1) + "\n"


def parsed(words: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--models", default=",".join(LOADS), help="with commas")
    parser.add_argument("--chips", default=",".join(map(str, slices())), help="with commas")
    parser.add_argument("--python", default=sys.executable, help="the interpreter that compiles")
    parser.add_argument("--again", action="store_true",
                        help="forget all points that are kept: the code has changed")  # fmt: skip
    parser.add_argument("--layers", type=int, default=0,
                        help="of every model, to try it; nothing goes to the docs")  # fmt: skip
    parser.add_argument("--out", type=pathlib.Path, default=harness.RESULTS / "weak_scaling.jsonl",
                        help="where each point is kept")  # fmt: skip
    return parser.parse_args(words)


def selected(options: argparse.Namespace) -> list[tuple[str, int]]:
    """The points asked for, the smallest slices first.

    Raises:
      UserError: a model or a number of chips that is none of the plot's.
    """
    models, chips = options.models.split(","), options.chips.split(",")
    for own, known in ((models, list(LOADS)), (chips, [str(number) for number in slices()])):
        unknown = [name for name in own if name not in known]
        if unknown:
            raise UserError(f"no point of the plot has {unknown[0]!r}; known: {', '.join(known)}")
    return [(model, number) for number in sorted(map(int, chips)) for model in models]


def main(words: Sequence[str] | None = None) -> int:
    """Compile what is not known yet, print, draw, write."""
    options = parsed(words)
    try:
        points = selected(options)
        kept = Measurements(options.out)
        if options.again:
            kept.forget(lambda key: True)
        for model, chips in points:
            own = words_of(model, chips, options.layers)
            kept.get(key_of(own), partial(point, own, options.python))
        rows = table(kept.known, options.layers)
        about = {"compiled with": compiler_versions(options.python)}
        text = markdown(COLUMNS, rows)
        print(text)
        if not options.layers:
            harness.report("weak_scaling", COLUMNS, rows, about)
            PLOT.write_text(plot(kept.known))
            picture = "![Seconds of a step at least, from 16 to 4,096 chips](weak_scaling.svg)\n\n"
            write_section(DOCS, "benchmarks.weak_scaling", picture + text)
    except UserError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
