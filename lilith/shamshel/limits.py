"""What a run may use."""

from __future__ import annotations

from dataclasses import dataclass, fields

_MOST = 2**31
LEVELS = ("default", "process")


@dataclass(frozen=True)
class Limits:
    """The bounds of one run, or of one cell of a session.

    wall_s: elapsed seconds. cpu_s: processor seconds over all processes. memory_mb: MiB over all
    processes, the work folder included. processes: processes and threads alive at once.
    file_mb: MiB in the work folder, over all files. files: files in the work folder, and open
    files of one process. output_kb: KiB kept of stdout and of stderr, each. level: "default",
    or "process" for resource limits and a process group only, without isolation.

    Raises `ValueError` for a limit that is not a number above zero, and for an unknown level.
    """

    wall_s: float = 5.0
    cpu_s: float = 5.0
    memory_mb: int = 512
    processes: int = 16
    file_mb: int = 8
    files: int = 256
    output_kb: int = 64
    level: str = "default"

    def __post_init__(self) -> None:
        if self.level not in LEVELS:
            raise ValueError(f"level is {self.level!r}; it must be one of {', '.join(LEVELS)}")
        for field in fields(self):
            if field.name == "level":
                continue
            value = getattr(self, field.name)
            whole = field.name not in ("wall_s", "cpu_s")
            kinds = (int,) if whole else (int, float)
            if isinstance(value, bool) or not isinstance(value, kinds):
                kind = "a whole number" if whole else "a number"
                raise ValueError(f"{field.name} is {value!r}; it must be {kind} above zero")
            if not 0 < value < _MOST:  # NaN is refused too
                raise ValueError(f"{field.name} is {value!r}; it must be above zero, below 2**31")
        if self.memory_mb < 32:
            raise ValueError(f"memory_mb is {self.memory_mb}; Python itself needs at least 32")
        if self.files < 16:
            raise ValueError(f"files is {self.files}; Python itself needs at least 16")
