"""SHAMSHEL: running Python that nobody vouches for, and judging it from outside.

`Sandbox` contains what runs in it; `verify` decides whether a source is right; `improve` repeats
that with the failures in hand. Linux only; standard library only.
"""

from .client import shutdown
from .improve import Attempt, improve
from .limits import Limits
from .probe import Capability
from .result import Run
from .sandbox import Sandbox, Session
from .verdict import Case, Failure, Verdict, verify

__all__ = [
    "Attempt",
    "Capability",
    "Case",
    "Failure",
    "Limits",
    "Run",
    "Sandbox",
    "Session",
    "Verdict",
    "improve",
    "shutdown",
    "verify",
]
