"""What the zygote knows and every run inherits."""

from __future__ import annotations

from dataclasses import dataclass

from .cgroup import Parent


@dataclass
class State:
    """mode: "root", "user", or "process" for the level without isolation.

    readable: the folders that hold the interpreter, its libraries and the packages.
    """

    mode: str
    executable: str
    readable: list[str]
    first_identity: int
    identities: int
    landlock_abi: int
    filter: bytes
    groups: Parent | None
