"""What generation asks of a grammar: which ids may come next, and when it must be asked."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np


class Constraint(Protocol):
    """One row of a grammar, as it is generated."""

    @property
    def reserve(self) -> int:
        """With so few tokens left, or fewer, :meth:`allowed` is asked before each of them."""

    def allowed(self, left: int) -> np.ndarray | None:
        """Uint32 [W], the ids that may come next, 32 a number, lowest bit first; None for all.

        Args:
          left: how many tokens may still be generated.
        """

    def accept(self, token: int) -> None:
        """Take a generated token. Ids that end an answer come here too."""


class Grammar(Protocol):
    """Which ids may follow which."""

    @property
    def pause_ids(self) -> Sequence[int]:
        """Ids after which a row may be constrained: generation stops there and asks."""

    def start(self, prompt: Sequence[int]) -> Constraint:
        """Follow a row that goes on from ``prompt``."""


def masks(states: Sequence[Constraint], left: Sequence[int]) -> np.ndarray | None:
    """What the rows allow, uint32 [B, W]; None where none of them is constrained.

    Args:
      left: how many tokens each row may still generate; rows with 0 are not asked.
    """
    found = [state.allowed(own) if own else None for state, own in zip(states, left)]
    known = [mask for mask in found if mask is not None]
    if not known:
        return None
    every = np.full_like(known[0], np.uint32(0xFFFFFFFF))
    return np.stack([every if mask is None else mask for mask in found])


def unmasked_budget(states: Sequence[Constraint], left: Sequence[int]) -> list[int]:
    """How many tokens each row may generate before its constraint must be asked again."""
    if not states:
        return list(left)
    return [
        own if own <= state.reserve else own - state.reserve for state, own in zip(states, left)
    ]
