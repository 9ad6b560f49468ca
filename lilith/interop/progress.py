"""What a person sees of files that grow: a bar on a terminal, plain lines anywhere else."""

from __future__ import annotations

import contextlib
import os
import pathlib
import sys
import threading
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

LOOK_SECONDS = 0.2
LINE_SECONDS = 5.0  # without a terminal, a line about this often


def make_console(*, stderr: bool = False) -> Console:
    """A console that draws over its lines on a terminal alone.

    A notebook asks for colours and has no terminal: it gets lines of text, and no HTML.
    """
    from rich.console import Console

    stream = sys.stderr if stderr else sys.stdout
    try:
        terminal = stream.isatty()
    except ValueError:  # closed
        terminal = False
    return Console(stderr=stderr, force_jupyter=False, force_terminal=terminal)


@contextlib.contextmanager
def growth_bar(
    description: str, path: pathlib.Path, total: int, console: Console | None = None
) -> Iterator[None]:
    """Show how a file, or a folder's files, grow to ``total`` bytes while the body runs.

    It is drawn on stderr, so that a program's output stays its own. A stream that closes ends the
    display and nothing else.
    """
    watcher = _Watcher(description, path, total, console or make_console(stderr=True))
    watcher.start()
    try:
        yield
        watcher.finished = True
    finally:
        watcher.stop.set()
        watcher.join()


class _Watcher(threading.Thread):
    """Looks at a path again and again, and shows how much is there."""

    def __init__(self, description: str, path: pathlib.Path, total: int, console: Console) -> None:
        super().__init__(daemon=True, name="growth")
        self._description, self._path, self._total = description, path, total
        self._console = console
        self.stop = threading.Event()
        self.finished = False

    def run(self) -> None:
        """Show it until told to stop."""
        with contextlib.suppress(OSError, ValueError):  # the stream has gone: say no more
            if self._console.is_terminal and not self._console.is_dumb_terminal:
                self._draw()
            else:
                self._print()

    def _draw(self) -> None:
        from rich import progress

        columns = (
            progress.TextColumn("{task.description}"),
            progress.BarColumn(),
            progress.DownloadColumn(),
            progress.TransferSpeedColumn(),
            progress.TimeRemainingColumn(),
        )
        with progress.Progress(*columns, console=self._console) as bar:
            task = bar.add_task(self._description, total=self._total)
            while not self.stop.wait(LOOK_SECONDS):
                bar.update(task, completed=min(_bytes_at(self._path), self._total))
            if self.finished:
                bar.update(task, completed=self._total)

    def _print(self) -> None:
        begin = printed = time.monotonic()
        self._line(f"{self._description}: {self._total / 1e6:,.1f} MB")
        while not self.stop.wait(LOOK_SECONDS):
            if time.monotonic() - printed >= LINE_SECONDS:
                printed = time.monotonic()
                done = min(_bytes_at(self._path), self._total)
                self._line(f"{self._description}: {done / 1e6:,.1f} of {self._total / 1e6:,.1f} MB")
        if self.finished:
            self._line(f"{self._description}: done in {time.monotonic() - begin:.1f} s")

    def _line(self, text: str) -> None:
        self._console.out(text, highlight=False)


def _bytes_at(path: pathlib.Path) -> int:
    """Bytes of a file, or of all files in a folder that others write to and delete from."""
    total = 0
    with contextlib.suppress(OSError):
        total = path.stat().st_size if path.is_file() else 0
    for parent, _, names in os.walk(path):
        for name in names:
            with contextlib.suppress(OSError):
                total += os.stat(os.path.join(parent, name)).st_size
    return total
