"""A trace of some training steps, and its operations in words.

The trace is what ``jax.profiler`` writes: ``*.xplane.pb`` for XProf and TensorBoard,
``perfetto_trace.json.gz`` for ui.perfetto.dev. Which part of the model an operation belongs to is
in the names that the compiled program keeps (``jax.named_scope``).
"""

from __future__ import annotations

import collections
import pathlib
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import jax

from lilith.config import UserError
from lilith.pods.hlo import parse

# Parts of the model, by the named scopes of its code; the first that is in an operation's name.
BLOCKS = ("attention", "mlp", "embed", "final_norm", "loss", "optimizer")
OTHER = "other"
CONTROL = ("while", "conditional", "call")  # last as long as what they contain
TOP = 12
_WRAPPED = re.compile(r"\b(?:jit|jvp|transpose|vmap|remat|checkpoint)\(([^()]*)\)")


@dataclass(frozen=True)
class Operation:
    """What one instruction of the program took over all traced steps.

    Attributes:
      where: the named scopes that it comes from, such as ``backward attention/dot_general``.
      block: one of :data:`BLOCKS`, or other.
      seconds: of one device, in all.
    """

    name: str
    where: str
    block: str
    count: int
    seconds: float


def operation_names(program: str) -> dict[str, str]:
    """Where each instruction of a compiled program's text comes from, by its name."""
    return {
        own.name: own.op_name
        for computation in parse(program).computations.values()
        for own in computation.instructions
        if own.op_name
    }


def read_trace(folder: pathlib.Path, names: Mapping[str, str]) -> list[Operation]:
    """The operations of the newest trace in ``folder``, those that took longest first.

    Args:
      names: from :func:`operation_names`, for platforms whose trace does not say it.

    Raises:
      UserError: there is no trace, or none of its events is an operation of a program.
    """
    files = sorted(folder.rglob("*.xplane.pb"), key=lambda path: path.stat().st_mtime)
    if not files:
        raise UserError(f"{folder} holds no trace (*.xplane.pb)")
    seconds: dict[str, float] = collections.defaultdict(float)
    counts: collections.Counter[str] = collections.Counter()
    scopes = dict(names)
    for name, scope, duration in _events(jax.profiler.ProfileData.from_file(str(files[-1]))):
        seconds[name] += duration
        counts[name] += 1
        if scope:
            scopes.setdefault(name, scope)
    if not seconds:
        raise UserError(f"{files[-1]} holds no operation of a compiled program")
    found = [
        Operation(name, where(scopes.get(name, "")), block_of(scopes.get(name, "")), counts[name],
                  took)
        for name, took in seconds.items()
    ]  # fmt: skip
    return sorted(found, key=lambda own: -own.seconds)


def _events(trace: Any) -> Iterator[tuple[str, str, float]]:
    """Name, scope and seconds of the operations on the first device, or on the host's threads."""
    devices = sorted(plane.name for plane in trace.planes if plane.name.startswith("/device:"))
    chosen = next((name for name in devices if "CUSTOM" not in name), "/host:CPU")
    for plane in trace.planes:
        if plane.name != chosen:
            continue
        for line in plane.lines:
            for event in line.events:
                stats = dict(event.stats)
                name = str(stats.get("hlo_op", ""))
                if line.name == "XLA Ops":  # of a TPU: the event is called as its instruction
                    name = event.name.partition(" = ")[0].lstrip("%")
                if name and not name.startswith("end: ") and not name.startswith(CONTROL):
                    scope = str(stats.get("tf_op", ""))
                    yield name, scope, event.duration_ns / 1e9


def where(op_name: str) -> str:
    """An operation's scopes without what jax wraps them in; ``backward`` before those of gradients.

    ``jit(step)/transpose(jvp(layers))/while/body/mlp/dot_general`` is ``backward mlp/dot_general``.
    """
    backward = "transpose(" in op_name
    text, before = op_name, ""
    while text != before:
        text, before = _WRAPPED.sub(r"\1", text), text
    parts = [part for part in text.split("/") if part not in ("", "while", "body", "closed_call")]
    first = next((i for i, part in enumerate(parts) if part in BLOCKS), max(len(parts) - 2, 0))
    return ("backward " if backward else "") + "/".join(parts[first:])


def block_of(op_name: str) -> str:
    """The part of the model that an operation belongs to."""
    words = set(re.split(r"[/()]", op_name))
    return next((block for block in BLOCKS if block in words), OTHER)


def summary(operations: Iterable[Operation], steps: int, top: int = TOP) -> list[str]:
    """Lines of two tables: the parts of the model, and the operations that took longest.

    Args:
      steps: how many were traced; milliseconds are those of one.
    """
    operations = list(operations)
    total = sum(own.seconds for own in operations)
    passes: dict[str, list[float]] = {block: [0.0, 0.0] for block in (*BLOCKS, OTHER)}
    for own in operations:
        passes[own.block][own.where.startswith("backward ")] += own.seconds
    lines = [f"{1e3 * total / steps:.2f} ms a step in operations",
             f"  {'part':<12}{'forward ms':>12}{'backward ms':>13}{'share':>8}"]  # fmt: skip
    for block, (forward, backward) in sorted(passes.items(), key=lambda item: -sum(item[1])):
        if forward + backward:
            lines.append(
                f"  {block:<12}{1e3 * forward / steps:>12.2f}{1e3 * backward / steps:>13.2f}"
                f"{(forward + backward) / total:>8.0%}"
            )
    lines.append(f"  {'ms a step':>10}{'share':>7}{'times':>7}  operation")
    for own in operations[:top]:
        lines.append(
            f"  {1e3 * own.seconds / steps:>10.2f}{own.seconds / total:>7.0%}"
            f"{own.count / steps:>7.0f}  {own.name}  {own.where}"
        )
    return lines


class StepProfiler:
    """Traces the steps of ``first:last`` of one process's training.

    Args:
      steps: the first and the last step that are traced, or None for none.
      show: prints lines.
    """

    def __init__(
        self, steps: tuple[int, int] | None, folder: pathlib.Path, show: Callable[[str], None]
    ) -> None:
        self._steps, self._folder, self._show = steps, folder, show
        self._began = 0  # the first step of the trace under way; 0: none is

    def __enter__(self) -> StepProfiler:
        return self

    def __exit__(self, *error: object) -> None:
        """End a trace that is under way: training stops within the range."""
        if self._began:
            self._began = 0
            jax.profiler.stop_trace()
            self._show(f"the profile in {self._folder} ends early, with the training")

    def before(self, step: int, state: Any) -> None:
        """Step ``step`` comes next: begin the trace if it is in the range."""
        if self._steps and self._steps[0] <= step <= self._steps[1] and not self._began:
            jax.block_until_ready(state)  # or work of earlier steps would be in it
            self._folder.mkdir(parents=True, exist_ok=True)
            jax.profiler.start_trace(str(self._folder), create_perfetto_trace=True)
            self._began = step

    def ends_with(self, step: int) -> bool:
        """Whether step ``step``, which is under way, is the last of the trace."""
        return bool(self._began and self._steps and step >= self._steps[1])

    def end(self, step: int, figures: Any, program: jax.stages.Lowered) -> None:
        """End the trace with step ``step``, and say what it has.

        Args:
          figures: of the step, which are there when it has ended.
          program: the step's, from which the names of its parts are.
        """
        jax.block_until_ready(figures)
        jax.profiler.stop_trace()
        count, self._began = step - self._began + 1, 0
        text = program.compile().as_text()
        names = operation_names(text) if text else {}
        lines = [f"profile of {count} steps, in {self._folder}:"]
        lines += summary(read_trace(self._folder, names), count)
        self._show("\n".join(lines))
