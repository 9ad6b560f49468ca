"""Mistakes that a person can mend, in one sentence each."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class UserError(Exception):
    """A mistake the person at the keyboard can mend: shown as one sentence, exit code 2."""


class ConfigError(UserError):
    """A config field is unknown, has the wrong type, or holds an impossible value."""


def require(condition: bool, message: str) -> None:
    """Raise :class:`ConfigError` unless ``condition``."""
    if not condition:
        raise ConfigError(message)


def require_choice(name: str, value: str, choices: Iterable[str]) -> None:
    """Raise :class:`ConfigError` unless ``value`` is among ``choices``."""
    choices = tuple(choices)
    if value not in choices:
        raise ConfigError(f"{name} is {value!r}{nearest(value, choices)}; known: "
                          f"{', '.join(choices)}")  # fmt: skip


def nearest(word: str, known: Iterable[str]) -> str:
    """The words to add to "unknown X": the closest known name, or nothing."""
    close = difflib.get_close_matches(word, list(known), n=1, cutoff=0.5)
    return f" (did you mean {close[0]!r}?)" if close else ""
