"""A file of JSON lines that grows record by record, and goes on growing after a kill."""

from __future__ import annotations

import json
import os
import pathlib
import reprlib
from collections.abc import Callable, Sequence
from typing import Any

from experiments.loop import StopSignals
from experiments.progress import task
from lilith.config import UserError


class Stopped(Exception):
    """A signal asked for a stop; everything until then is in the file."""

    def __init__(self, signal: int) -> None:
        super().__init__(signal)
        self.signal = signal


class JsonLines:
    """The records of a file; a last line that a kill cut off is none, and :meth:`cut` removes it.

    Raises:
      UserError: another line is no JSON object.
    """

    def __init__(self, path: pathlib.Path) -> None:
        self.path = path
        content = path.read_bytes() if path.exists() else b""
        self._lines = content.split(b"\n")[:-1]
        self.records = [self._record(number, line) for number, line in enumerate(self._lines, 1)]

    def cut(self, count: int) -> None:
        """Keep the first ``count`` records in the file, and nothing behind them."""
        self._lines, self.records = self._lines[:count], self.records[:count]
        if self.path.exists():
            os.truncate(self.path, sum(len(line) + 1 for line in self._lines))

    def append(self, records: Sequence[dict[str, Any]]) -> None:
        """Write records behind the others, to the disk."""
        lines = [json.dumps(record, ensure_ascii=False).encode() for record in records]
        with open(self.path, "ab") as file:
            file.write(b"".join(line + b"\n" for line in lines))
            file.flush()
            os.fsync(file.fileno())
        self._lines += lines
        self.records += records

    def _record(self, number: int, line: bytes) -> dict[str, Any]:
        try:
            record = json.loads(line)
        except ValueError:
            record = None
        if not isinstance(record, dict):
            raise UserError(
                f"line {number} of {self.path} is no record: {reprlib.repr(line.decode('latin-1'))}"
                "; remove the file, and it is made again"
            )
        return record


def grow(
    path: pathlib.Path,
    prompts: Sequence[str],
    make: Callable[[slice], Sequence[dict[str, Any]]],
    *,
    group: int,
    what: str,
) -> list[dict[str, Any]]:
    """The records of a file, one a prompt, those that are missing made group by group.

    A group depends on nothing outside it, and one that was not finished is made again: stopped
    anywhere and started again, the file is the same.

    Args:
      make: gives the records of a part of the prompts.

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
        with task(what, len(prompts)) as report, StopSignals().watch() as signals:
            for first in range(len(file.records), len(prompts), group):
                if signals.received is not None:
                    raise Stopped(signals.received)
                part = slice(first, min(first + group, len(prompts)))
                file.append(make(part))
                report(part.stop, len(prompts), "")
    return file.records
