"""What reading and preparing conversations found, kept and left out."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any, ClassVar

from lilith.data.report import NAMES_KEPT, DataError


class RecordError(DataError):
    """One record can not be used. ``reason`` says why in a few words, for counting."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


@dataclass
class ChatReport:
    """Figures of conversations. Every record read is kept or counted in ``skipped``.

    ``skipped`` counts by reason, ``names`` names the first of each reason, ``contaminated`` counts
    the conversations dropped by the evaluation file that they overlap with (one that overlaps with
    two is counted for both). Tokens, rows and padding are of the training side.
    """

    read: int = 0
    files: int = 0
    train: int = 0
    validation: dict[str, int] = field(default_factory=dict)  # by domain
    train_domains: dict[str, int] = field(default_factory=dict)
    skipped: dict[str, int] = field(default_factory=dict)
    names: dict[str, list[str]] = field(default_factory=dict)
    truncated: int = 0
    contaminated: dict[str, int] = field(default_factory=dict)
    rows: int = 0
    tokens: int = 0
    trained_tokens: int = 0
    length: int = 0
    unit: ClassVar[str] = "conversation"  # what is counted, in the log

    def skip(self, reason: str, what: str) -> None:
        """Count one record that is left out, and keep what there is to say of the first ones."""
        self.skipped[reason] = self.skipped.get(reason, 0) + 1
        named = self.names.setdefault(reason, [])
        if len(named) < NAMES_KEPT:
            named.append(what)

    @property
    def padding(self) -> float:
        """Share of the training rows' places that is padding."""
        return 1.0 - self.tokens / (self.rows * self.length) if self.rows else 0.0

    def to_dict(self) -> dict[str, Any]:
        """Plain data, ready for JSON."""
        return dataclasses.asdict(self)

    def lines(self) -> list[str]:
        """What was found, one fact a line, for a log."""
        files = "" if not self.files else f" from {_counted(self.files, 'file')}"
        first = f"{_counted(self.read, self.unit)} read{files}"
        if self.train:
            first += (
                f": {self.train:,} to train on{_by_name(self.train_domains)}, "
                f"{sum(self.validation.values()):,} held out{_by_name(self.validation)}, "
                f"{sum(self.skipped.values()):,} left out"
            )
        lines = [first]
        if self.rows:
            lines.append(
                f"{self.rows:,} rows of {self.length:,}: {self.tokens:,} tokens, of which "
                f"{self.trained_tokens:,} are learnt, {self.padding:.1%} padding"
            )
        if self.truncated:
            lines.append(f"{_counted(self.truncated, self.unit)} cut at a turn to fit a row")
        for file, count in sorted(self.contaminated.items()):
            lines.append(f"dropped {count:,} that overlap with the evaluation file {file}")
        for reason, count in sorted(self.skipped.items()):
            lines.append(f"left out {count:,}: {reason} (first: {self.names[reason][0]})")
        return lines


def _counted(count: int, what: str) -> str:
    return f"{count:,} {what}{'' if count == 1 else 's'}"


def _by_name(counts: dict[str, int]) -> str:
    """Counts by domain in brackets; nothing where there is only the one of all."""
    if set(counts) <= {"all"}:
        return ""
    return " (" + ", ".join(f"{name} {count:,}" for name, count in sorted(counts.items())) + ")"
