"""What a person sees of long work: a live bar on a terminal, plain lines anywhere else.

A display must never cost a run: when its stream closes (a pipe's reader has gone) it falls silent
and the work goes on. rich is imported when a display starts.
"""

from __future__ import annotations

import contextlib
import math
import os
import sys
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from lilith.train.metrics import Throughput

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderResult

REDRAW_SECONDS = 0.1
TASK_LINE_SECONDS = 5.0  # without a terminal, a task reports about this often
BAR_WIDTH = (8, 40)  # least and most; a terminal too narrow for the least has no bar
_VISIBLE_CONTROLS = {
    code: f"\\x{code:02x}" for code in (*range(32), *range(127, 160)) if chr(code) not in "\n\t"
}


def format_duration(seconds: float) -> str:
    """At most two units: ``45s``, ``3m12s``, ``1h04m``, ``2d03h``."""
    minutes, s = divmod(max(0, round(seconds)), 60)
    hours, m = divmod(minutes, 60)
    days, h = divmod(hours, 24)
    if days:
        return f"{days}d{h:02d}h"
    if hours:
        return f"{h}h{m:02d}m"
    return f"{m}m{s:02d}s" if minutes else f"{s}s"


def format_value(name: str, value: Any) -> str:
    """One value in words: ``loss 3.214``, ``12,345 tokens/s``, ``MFU 41%``."""
    if name == "tokens_per_second":
        return f"{value:,.0f} tokens/s" if value >= 100 else f"{value:,.1f} tokens/s"
    if name == "mfu":
        return f"MFU {100 * value:.0f}%" if value >= 0.1 else f"MFU {100 * value:.1f}%"
    label = name.replace("_", " ")
    if isinstance(value, float):
        return f"{label} {value:.4g}" if name != "loss" else f"{label} {value:.3f}"
    return f"{label} {value:,}" if isinstance(value, int) else f"{label} {value}"


class Progress:
    """Progress of ``total`` steps, of which ``start`` were done by an earlier run.

    On a terminal one bar is redrawn in place; elsewhere a line is printed whenever ``step`` passes
    a multiple of ``log_every`` and at the end. Values stay on display until replaced; a None is
    left out. Use as a context manager. ``enabled=False`` (every process but 0) shows nothing.
    """

    def __init__(
        self,
        total: int,
        description: str,
        *,
        console: Console | None = None,
        log_every: int = 10,
        start: int = 0,
        enabled: bool = True,
        clock: Callable[[], float] = time.monotonic,
    ):
        self._total, self._description, self._log_every = total, description, log_every
        self._step = self._printed = start
        self._values: dict[str, Any] = {}
        self._clock = clock
        self._speed = Throughput(window=200, clock=clock)  # steps per second, pauses included
        self._display = _Display(console, clock, enabled)

    def __enter__(self) -> Progress:
        self._display.open(self)
        return self

    def __exit__(self, *exception: object) -> None:
        self._display.close()

    def update(self, step: int, **values: Any) -> None:
        """Say that ``step`` steps are done, with what is known of them (loss, mfu and so on)."""
        self._speed.update(step - self._step)
        self._step = step
        self._values |= {name: _number(value) for name, value in values.items()}
        due = step // self._log_every > self._printed // self._log_every or step >= self._total
        if self._display.live:
            self._display.redraw(now=step >= self._total)
        elif due and step > self._printed:
            self._printed = step
            self._display.print_line("  ".join([f"step {step}/{self._total}", *self._facts()]))

    def message(self, text: str) -> None:
        """Print lines above the bar, as a sample; control characters are made visible."""
        self._display.print_line(text)

    def _facts(self) -> list[str]:
        facts = [format_value(k, v) for k, v in self._values.items() if v is not None]
        speed = self._speed.rate
        if speed and self._step < self._total:
            facts.append(f"left {format_duration((self._total - self._step) / speed)}")
        return facts

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        facts = [f"{self._step}/{self._total}", *self._facts()]
        yield from _bar_line(options, self._description, self._step, self._total, facts)


@contextlib.contextmanager
def task(
    description: str,
    total: int | None = None,
    *,
    console: Console | None = None,
    enabled: bool = True,
    clock: Callable[[], float] = time.monotonic,
) -> Iterator[Callable[[int, int | None, str], None]]:
    """Show one piece of preparation; yields ``report(done, total, message)`` to call as it goes.

    On a terminal it is a bar that stays when full; elsewhere a line every few seconds and one at
    the end that says how long the work took.
    """
    state = _Task(description, total, clock)
    display = _Display(console, clock, enabled)
    display.open(state)

    def report(done: int, total: int | None = None, message: str = "") -> None:
        state.done, state.message = done, message
        state.total = state.total if total is None else total
        if display.live:
            display.redraw(now=done == state.total)
        elif clock() - state.printed >= TASK_LINE_SECONDS:
            state.printed = clock()
            display.print_line(f"{description}  " + "  ".join(state.facts()))

    try:
        yield report
        if not display.live:
            display.print_line(f"{description}  {'  '.join([*state.facts(), state.took()])}")
    finally:
        display.close()


class _Task:
    def __init__(self, description: str, total: int | None, clock: Callable[[], float]):
        self.description, self.total, self._clock = description, total, clock
        self.begin = self.printed = clock()
        self.done, self.message = 0, ""

    def facts(self) -> list[str]:
        count = f"{self.done:,}/{self.total:,}" if self.total else f"{self.done:,}"
        return [count, self.message] if self.message else [count]

    def took(self) -> str:
        seconds = self._clock() - self.begin
        return f"took {seconds:.1f}s" if seconds < 10 else f"took {format_duration(seconds)}"

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        facts = [*self.facts(), format_duration(self._clock() - self.begin)]
        yield from _bar_line(options, self.description, self.done, self.total, facts)


class _Display:
    """One stream: a live renderable or plain lines, silent once the stream has gone."""

    def __init__(self, console: Console | None, clock: Callable[[], float], enabled: bool):
        self._console, self._clock, self._enabled = console, clock, enabled
        self._live: Any = None
        self._drawn = -math.inf

    @property
    def live(self) -> bool:
        return self._live is not None

    def open(self, renderable: Any) -> None:
        if not self._enabled:
            return
        from rich.live import Live

        from lilith.interop.progress import make_console

        with self._lost_stream_is_silence():
            self._console = self._console or make_console()
            if self._console.is_terminal and not self._console.is_dumb_terminal:
                # No thread redraws: a stream that breaks then breaks here, where it is handled.
                live = Live(renderable, console=self._console, auto_refresh=False)
                live.start()
                self._live = live  # once it has started it can, and must, be stopped
                live.refresh()

    def redraw(self, now: bool) -> None:
        if self._enabled and (now or self._clock() - self._drawn >= REDRAW_SECONDS):
            self._drawn = self._clock()
            with self._lost_stream_is_silence():
                self._live.refresh()

    def print_line(self, text: str) -> None:
        if not self._enabled:
            return
        with self._lost_stream_is_silence():
            assert self._console is not None  # made by open
            self._console.out(visible_text(text, self._console.encoding), highlight=False)
            self._console.file.flush()

    def close(self) -> None:
        if self._live is not None:
            with self._lost_stream_is_silence():
                self._live.stop()

    @contextlib.contextmanager
    def _lost_stream_is_silence(self) -> Iterator[None]:
        """Stop showing once the stream is closed (ValueError) or can not be written (OSError)."""
        try:
            yield
        except OSError:
            self._enabled = False
        except ValueError:
            if self._console is not None and not self._console.file.closed:
                raise
            self._enabled = False
        except SystemExit:  # how rich reports a broken pipe, after it has set quiet
            if self._console is None or not self._console.quiet:
                raise
            self._enabled = False


def visible_text(text: str, encoding: str = "utf-8") -> str:
    """``text`` with control characters and what ``encoding`` lacks written as escapes."""
    return text.translate(_VISIBLE_CONTROLS).encode(encoding, "backslashreplace").decode(encoding)


def set_off(text: str) -> str:
    """``text`` in green on a terminal, and between brackets where there is no colour."""
    if sys.stdout.isatty() and "NO_COLOR" not in os.environ:
        return f"\x1b[32m{text}\x1b[0m"
    return f"⟦{text}⟧"


def _number(value: Any) -> Any:
    """An array that holds one number as that number."""
    return value.item() if hasattr(value, "item") else value


def _bar_line(
    options: ConsoleOptions, description: str, done: int, total: int | None, facts: list[str]
) -> Iterator[Any]:
    """One line as wide as the terminal: what does not fit is left out, the bar first."""
    from rich.cells import cell_len
    from rich.progress_bar import ProgressBar
    from rich.table import Table
    from rich.text import Text

    def plain(text: str) -> str:
        return visible_text(text.replace("\n", " ").replace("\t", " "), options.encoding)

    width = options.max_width - 1  # a full last column makes some terminals wrap
    facts = [plain(fact) for fact in facts]
    while len(facts) > 1 and cell_len("  ".join(facts)) > width:
        del facts[-2 if len(facts) > 3 else -1]  # the first two say most, then the last
    name, line = plain(description), "  ".join(facts)
    room = width - cell_len(line) - cell_len(name) - 4
    cells: list[Any] = [Text(line, no_wrap=True, overflow="crop")]
    if room >= -2:
        bar = ProgressBar(total or 1, min(done, total or 1), width=min(room, BAR_WIDTH[1]))
        named = Text(name, style="bold", no_wrap=True)
        cells = [named, bar, *cells] if total and room >= BAR_WIDTH[0] else [named, *cells]
    grid = Table.grid(padding=(0, 2))
    grid.add_row(*cells)
    yield grid
