"""A file of JSON lines that grows record by record, and goes on growing after a kill."""

from __future__ import annotations

import json
import os
import pathlib
import reprlib
from collections.abc import Sequence
from typing import Any

from lilith.config import UserError


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
