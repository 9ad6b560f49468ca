"""What preparing a corpus found, kept and left out, and the room's one error."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from lilith.config import UserError

NAMES_KEPT = 20  # how many skipped documents of each reason are named


class DataError(UserError):
    """There is no usable corpus, or a data state belongs to another one."""


class AbsentSource(DataError):
    """A source has nothing to read; an optional one is then left out."""


@dataclass
class SourceReport:
    """One source's figures. Bytes are of UTF-8 text; rows and tokens are of the training side.

    ``skipped`` counts the documents left out by reason, ``names`` names the first of each.
    """

    name: str
    kind: str
    absent: str = ""  # why an optional source gave nothing; "": it was there
    documents: int = 0
    bytes: int = 0
    validation_documents: int = 0
    validation_bytes: int = 0
    skipped: dict[str, int] = field(default_factory=dict)
    names: dict[str, list[str]] = field(default_factory=dict)
    tokens: int = 0
    rows: int = 0
    share: float = 0.0  # of the training rows drawn

    def skip(self, reason: str, name: str) -> None:
        """Count one document that is left out, and name it if it is among the first."""
        self.skipped[reason] = self.skipped.get(reason, 0) + 1
        named = self.names.setdefault(reason, [])
        if len(named) < NAMES_KEPT:
            named.append(name)

    def sentence(self) -> str:
        """One line for a log."""
        if self.absent:
            return f"{self.name}: left out, {self.absent}"
        text = (
            f"{self.name}: {self.documents:,} documents, {self.bytes / 1e6:.1f} MB, "
            f"{self.share:.1%} of rows"
        )
        if self.validation_documents:
            text += (
                f"; {self.validation_documents:,} documents, "
                f"{self.validation_bytes / 1e3:.0f} kB held out"
            )
        if self.skipped:
            reasons = ", ".join(f"{count:,} {why}" for why, count in sorted(self.skipped.items()))
            text += f"; skipped {reasons}"
        return text


@dataclass
class PrepareReport:
    """Figures of every source, in the order of the config.

    ``unused`` documents fell to the validation side but did not fit under its cap: they are held
    out of training all the same.
    """

    sources: list[SourceReport]
    unused: int = 0

    def to_dict(self) -> dict[str, Any]:
        """Plain data, ready for JSON."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> PrepareReport:
        """The report that :meth:`to_dict` wrote."""
        return cls([SourceReport(**source) for source in data["sources"]], data["unused"])

    def lines(self) -> list[str]:
        """One line a source, and one that names each unreadable document, for a log."""
        lines = []
        for source in self.sources:
            lines.append(source.sentence())
            for reason in ("unreadable", "not UTF-8", "bad record"):
                if named := source.names.get(reason):
                    more = source.skipped[reason] - len(named)
                    tail = f" and {more:,} more" if more else ""
                    lines.append(f"{source.name}: {reason}: {', '.join(named)}{tail}")
        return lines
