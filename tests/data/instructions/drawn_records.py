"""Records of the generators, for the tests beside this file."""

from __future__ import annotations

import importlib
from decimal import Decimal
from typing import Any

from lilith.data.instructions.drawing import BANDS, Conversation, Draw

PLANNING = ("planning_schedule", "planning_agile", "planning_choices")
CODE = (
    "code_pricers", "code_bonds", "code_performance", "code_portfolios", "code_series",
    "code_algorithms", "code_reading", "review",
)  # fmt: skip
GENERAL = ("arithmetic", "arithmetic_tools", "refusals", "small_talk")


def generators(*modules: str) -> dict:
    """Kind to function, of several modules."""
    found: dict = {}
    for name in modules:
        found |= importlib.import_module(f"lilith.data.instructions.{name}").GENERATORS
    return found


FUNCTIONS = generators(*PLANNING, *CODE, *GENERAL)


def records(kind: str, count: int, *, held_out: bool = False, seed: int = 0) -> list[Conversation]:
    """Conversations 0 to ``count`` of a kind."""
    draws = (Draw(seed, kind, index, held_out=held_out) for index in range(count))
    return [FUNCTIONS[kind](draw) for draw in draws]


def both_splits(kind: str, count: int) -> list[Conversation]:
    """Training and held-out records, ``count`` of each."""
    return records(kind, count) + records(kind, count, held_out=True)


def text_of(record: Conversation, role: str) -> str:
    """The messages of a role, one after another."""
    return "\n".join(m["content"] for m in record["messages"] if m["role"] == role)


class Watched(Draw):
    """A draw that notes its phrasings and its numbers."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.phrases: list[int] = []
        self.bands: list[int] = []

    def phrase(self, templates: Any) -> Any:
        found = super().phrase(templates)
        assert len(set(templates)) == len(templates)
        self.phrases.append(list(templates).index(found))
        return found

    def number(self, low: str, high: str, step: str = "1") -> Decimal:
        found = super().number(low, high, step)
        self.bands.append(band(found, low, high, step))
        return found


def band(value: Decimal, low: str, high: str, step: str) -> int:
    """The tenth of a range that a number is in."""
    count = int((Decimal(high) - Decimal(low)) / Decimal(step)) + 1
    at = int((value - Decimal(low)) / Decimal(step))
    return next(b for b in range(BANDS) if b * count // BANDS <= at < (b + 1) * count // BANDS)
