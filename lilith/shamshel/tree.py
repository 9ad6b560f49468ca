"""The memory, processor time and count of a run's processes, read from /proc."""

from __future__ import annotations

import os
from dataclasses import dataclass

_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass
class Usage:
    """A sample. memory_bytes: resident, page tables included, shared pages counted in each."""

    memory_bytes: int = 0
    cpu_s: float = 0.0
    processes: int = 0


def _read(proc: int, name: str) -> bytes:
    try:
        descriptor = os.open(name, os.O_RDONLY | os.O_CLOEXEC, dir_fd=proc)
    except OSError:  # ended meanwhile
        return b""
    try:
        return os.read(descriptor, 65536)
    except OSError:
        return b""
    finally:
        os.close(descriptor)


def _kilobytes(text: bytes, names: tuple[bytes, ...]) -> int:
    total = 0
    for line in text.splitlines():
        key, _, value = line.partition(b":")
        if key in names:
            total += int(value.split()[0])
    return total


class Tree:
    """The processes of one run.

    With `root` they are the descendants of that process; without, all of the /proc that the
    descriptor `proc` has open, which belongs to the run's own namespace, save its init.
    """

    def __init__(self, proc: int, root: int | None = None) -> None:
        self.proc = proc
        self.root = root

    def processes(self) -> list[str]:
        """Return the process ids, in the numbering of `proc`."""
        if self.root is None:
            return [name for name in os.listdir(self.proc) if name.isdigit() and name != "1"]
        found: list[str] = []
        waiting = [str(self.root)]
        while waiting:
            parent = waiting.pop()
            try:
                threads = os.listdir(f"/proc/{parent}/task")
            except OSError:
                continue
            for thread in threads:
                text = _read(self.proc, f"{parent}/task/{thread}/children")
                children = text.decode().split()
                found += children
                waiting += children
        return found

    def sample(self) -> Usage:
        """Measure. `processes` counts threads too."""
        usage = Usage()
        for process in self.processes():
            status = _read(self.proc, f"{process}/status")
            usage.memory_bytes += 1024 * _kilobytes(status, (b"VmRSS", b"VmPTE", b"VmSwap"))
            usage.processes += _kilobytes(status, (b"Threads",))
        names = self.processes() if self.root is not None else os.listdir(self.proc)
        for process in names:
            if process.isdigit():
                after = _read(self.proc, f"{process}/stat").rpartition(b")")[2].split()
                usage.cpu_s += sum(map(int, after[11:15])) / _TICKS
        return usage

    def proportional_bytes(self) -> int:
        """Measure memory with each shared page counted once. Slower."""
        total = 0
        for process in self.processes():
            rollup = _read(self.proc, f"{process}/smaps_rollup")
            status = _read(self.proc, f"{process}/status")
            total += 1024 * _kilobytes(rollup, (b"Pss", b"SwapPss"))
            total += 1024 * _kilobytes(status, (b"VmPTE",))
        return total
