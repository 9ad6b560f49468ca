"""Goodput: the share of wall time that went into steps whose result is kept."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

from lilith.train.metrics import WorkClock

_began: float | None = None  # when the command, or the training after another's, began


def start_clock() -> None:
    """Say that a run begins now: what follows is wall time of the next training."""
    global _began
    _began = time.perf_counter()


class Goodput:
    """Wall time and useful time of a run, over all of its starts.

    Wall time begins with the command and counts start-up, preparation of data, compilation,
    restoring, saving, evaluation and steps. Useful time is that of steps alone, from one step's end
    to the next's; the first step of each start, which compiles, does not count. Both are written to
    metrics.jsonl, and a later start goes on from there: steps after the checkpoint that it resumes
    from were in vain, so their time stays in the wall time and leaves the useful time. Time between
    two starts, in which no process runs, is not known to either; neither is what a killed start
    did after its last record.
    """

    def __init__(
        self,
        records: Sequence[dict[str, Any]],
        step: int,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        """Go on from earlier starts' records (of the whole metrics.jsonl) at ``step``."""
        kept = [record for record in records if record["step"] <= step]
        self._clock = clock
        self._working = WorkClock(clock)
        self.paused = self._working.paused  # time within is not useful
        self._began = clock() if _began is None else _began
        self._wall_before = max((r.get("wall_seconds", 0.0) for r in records), default=0.0)
        self._useful = max((r.get("useful_seconds", 0.0) for r in kept), default=0.0)
        self._mark: float | None = None

    def step(self) -> None:
        """A step has ended."""
        now = self._working()
        if self._mark is not None:
            self._useful += now - self._mark
        self._mark = now

    def figures(self) -> dict[str, float]:
        """``goodput`` in [0, 1], ``useful_seconds`` and ``wall_seconds``."""
        wall = self._wall_before + self._clock() - self._began
        share = self._useful / wall if wall > 0 else 0.0
        return {"goodput": share, "useful_seconds": self._useful, "wall_seconds": wall}
