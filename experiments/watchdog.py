"""A step that hangs ends the process, with every thread's stack, so that it can be restarted."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable

from experiments import hosts

Report = Callable[[int, int, str], None]  # done, total, what is being done
LOOKS = 20  # in the time that a piece of work may take
LONGEST_LOOK = 5.0  # seconds


class Watchdog:
    """Ends the process when one piece of work takes too long.

    Time in which the process itself stood still (SIGSTOP, a sleeping laptop) does not count.
    """

    def __init__(
        self, seconds: float, *, field: str = "train.hang_seconds", again: str = hosts.GO_ON
    ) -> None:
        """Allow each piece of work ``seconds``; 0: any time.

        Args:
          field: of the config that says how many.
          again: what another start does.
        """
        self._seconds, self._field, self._again = seconds, field, again
        self._work: list[str] = ["starting"]  # a new list for each piece of work
        self._closed = threading.Event()

    def __enter__(self) -> Watchdog:
        if self._seconds:
            threading.Thread(target=self._watch, name="watchdog", daemon=True).start()
        return self

    def __exit__(self, *error: object) -> None:
        self._closed.set()

    def working(self, what: str) -> None:
        """Say that the last piece of work is done and ``what`` begins."""
        self._work = [what]
        if (others := hosts.current()) is not None:
            others.working(what)

    def counted(self, what: str, report: Report) -> Report:
        """``report``, called after each of many pieces ``what``, which are watched one by one."""
        self.working(f"{what} 1")

        def note(done: int, total: int, words: str) -> None:
            self.working(f"{what} {done + 1} of {total}")
            report(done, total, words)

        return note

    def _watch(self) -> None:
        look = min(self._seconds / LOOKS, LONGEST_LOOK)
        work, spent, before = self._work, 0.0, time.monotonic()
        while not self._closed.wait(look):
            now = time.monotonic()
            if work is self._work:
                spent += min(now - before, 2 * look)
            else:
                work, spent = self._work, 0.0
            before = now
            if spent > self._seconds:
                self._bite(work[0])

    def _bite(self, what: str) -> None:
        running = hosts.current()
        me = "this process" if running is None else running.name(running.process)
        print(f"{what} hangs; what the threads of {me} do:", file=sys.stderr, flush=True)
        hosts.show_stacks()
        hosts.stop(
            f"{what} took more than {self._seconds:g} s ({self._field}) in {me}; its threads are "
            f"shown above; {self._again}",
            hosts.RESTART,
            stacks=True,
        )
