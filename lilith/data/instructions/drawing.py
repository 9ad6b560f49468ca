"""Seeded choices for generated conversations, with held-out phrasings and ranges kept apart.

Every fifth phrasing and two of every ten bands of a number's range belong to the held-out split and
never appear in training, so that held-out prompts ask in words and about numbers never seen.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from decimal import Decimal
from typing import Any, TypedDict, TypeVar

Item = TypeVar("Item")
HELD_OUT_EVERY = 5  # of phrasings
BANDS = 10  # of a range of numbers
HELD_OUT_BANDS = (3, 7)
DIFFICULTIES = ("easy", "medium", "hard")
DOMAINS = ("code", "quant", "planning", "general")


class Conversation(TypedDict):
    """One generated record, a line of JSONL.

    ``messages``: ``{"role", "content"}``, an assistant's may have ``tool_calls``: a list of
    ``{"name", "arguments"}``. ``metadata``: ``domain``, ``difficulty``, ``requires_tools``,
    ``kind`` (the generator), ``split``, ``seed``, ``index`` and ``check``, what the answer can be
    verified against.
    """

    messages: list[dict[str, Any]]
    metadata: dict[str, Any]


class Draw:
    """Choices of one conversation, the same for the same arguments.

    Args:
      seed, kind, index: the stream of random numbers: generator ``kind``, conversation ``index``.
      held_out: draw from the held-out phrasings and number bands instead of the training ones.
      known_words: of these two, only the number bands are held out.
    """

    def __init__(
        self, seed: int, kind: str, index: int, *, held_out: bool = False, known_words: bool = False
    ) -> None:
        self.held_out = held_out
        self._held_out_words = held_out and not known_words
        split = "held_out" if held_out else "train"
        self.random = random.Random(f"{seed}/{kind}/{index}/{split}")

    def choice(self, items: Sequence[Item]) -> Item:
        """One of ``items``; the same ones in both splits."""
        return self.random.choice(items)

    def difficulty(self) -> str:
        """One of :data:`DIFFICULTIES`."""
        return self.choice(DIFFICULTIES)

    def phrase(self, templates: Sequence[Item]) -> Item:
        """One of at least five ``templates``, of this split: every fifth is held out.

        Raises:
          ValueError: fewer than five, so that nothing would be held out.
        """
        if len(templates) < HELD_OUT_EVERY:
            raise ValueError(f"{len(templates)} phrasings; at least {HELD_OUT_EVERY} are needed")
        mine = [
            item
            for i, item in enumerate(templates)
            if (i % HELD_OUT_EVERY == HELD_OUT_EVERY - 1) == self._held_out_words
        ]
        return self.random.choice(mine)

    def number(self, low: str, high: str, step: str = "1") -> Decimal:
        """A multiple of ``step`` from ``low`` to ``high`` (decimal text), in a band of this split.

        Raises:
          ValueError: fewer than ten multiples, so that some bands are empty.
        """
        first, last, width = Decimal(low), Decimal(high), Decimal(step)
        count = int((last - first) / width) + 1
        if count < BANDS:
            raise ValueError(f"{count} numbers from {low} to {high}; bands need {BANDS} or more")
        mine = [b for b in range(BANDS) if (b in HELD_OUT_BANDS) == self.held_out]
        band = self.random.choice(mine)
        begin, end = band * count // BANDS, (band + 1) * count // BANDS
        return first + width * self.random.randrange(begin, end)

    def count(self, low: int, high: int) -> int:
        """A whole number from ``low`` to ``high``, both included; the same in both splits."""
        return self.random.randint(low, high)
