"""Files of JSON lines that a run makes prompt by prompt, and goes on with after a stop."""

from __future__ import annotations

import pathlib
from collections.abc import Callable, Sequence
from typing import Any

from experiments.progress import task
from experiments.stop_signals import StopSignals
from experiments.watchdog import Watchdog
from lilith.config import UserError
from lilith.data.json_lines import JsonLines


class Stopped(Exception):
    """A signal asked for a stop; everything until then is in the file."""

    def __init__(self, signal: int) -> None:
        super().__init__(signal)
        self.signal = signal


def grow(
    path: pathlib.Path,
    prompts: Sequence[str],
    make: Callable[[slice], Sequence[dict[str, Any]]],
    *,
    group: int,
    what: str,
    hang_seconds: float = 0.0,
) -> list[dict[str, Any]]:
    """The records of a file, one a prompt, those that are missing made group by group.

    A group depends on nothing outside it, and one that was not finished is made again: stopped
    anywhere and started again, the file is the same.

    Args:
      make: gives the records of a part of the prompts.
      hang_seconds: a group that takes longer ends the process; 0: any time.

    Raises:
      Stopped: after a group, by SIGTERM or Ctrl-C.
      UserError: the file holds the records of other prompts.
    """
    file = JsonLines(path)
    for number, (record, prompt) in enumerate(zip(file.records, prompts), 1):
        if record.get("prompt") != prompt:
            raise UserError(
                f"line {number} of {path} is of another prompt than this run's; remove the file, "
                "or choose another --workdir"
            )
    if len(file.records) < len(prompts):
        path.parent.mkdir(parents=True, exist_ok=True)
        file.cut(len(file.records) // group * group)
        again = "the same command goes on after the last group that was finished"
        with (
            task(what, len(prompts)) as report,
            StopSignals().watch() as signals,
            Watchdog(hang_seconds, again=again) as watchdog,
        ):
            for first in range(len(file.records), len(prompts), group):
                if signals.received is not None:
                    raise Stopped(signals.received)
                part = slice(first, min(first + group, len(prompts)))
                watchdog.working(f"{what}, {part.start + 1} to {part.stop}")
                file.append(make(part))
                report(part.stop, len(prompts), "")
    return file.records
