"""SIGTERM and Ctrl-C as a question between steps, to which all processes have one answer."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator

import jax
from jax.experimental import multihost_utils


class StopSignals:
    """Turns SIGTERM and SIGINT into a flag that the loop reads between steps.

    With several processes SIGTERM belongs to jax's preemption service, which tells the others and
    agrees with them on a step; SIGINT is handed to it.
    """

    def __init__(self) -> None:
        self.received: int | None = None

    @contextlib.contextmanager
    def watch(self) -> Iterator[StopSignals]:
        several = jax.process_count() > 1
        watched = (signal.SIGINT,) if several else (signal.SIGTERM, signal.SIGINT)
        before = {number: signal.getsignal(number) for number in watched}

        def note(number: int, frame: object) -> None:
            if self.received == signal.SIGINT == number:
                raise KeyboardInterrupt  # asked twice: do not wait for the step
            self.received = number
            if several:
                os.kill(os.getpid(), signal.SIGTERM)

        for number in before:
            signal.signal(number, note)
        try:
            yield self
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def stop_after(self, step: int) -> bool:
        """Whether every process is to stop after ``step``; they agree on the step."""
        if jax.process_count() == 1:
            return self.received is not None
        if not multihost_utils.reached_preemption_sync_point(step):
            return False
        self.received = self.received or signal.SIGTERM
        return True
