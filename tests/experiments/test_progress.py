"""Progress: a bar on a terminal, plain lines elsewhere, and never a reason for a run to end."""

import errno
import io
import os
import re
import subprocess
import sys

import numpy as np
import pytest
from rich.console import Console

from experiments.progress import Progress, format_duration, format_value, task


class Clock:
    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


class ClosedPipe(io.StringIO):
    """A stream that fails after some writes, as when its reader leaves."""

    def __init__(self, writes, error):
        super().__init__()
        self.writes, self.error = writes, error

    def write(self, text):
        self.writes -= 1
        if self.writes < 0:
            raise OSError(self.error, os.strerror(self.error))
        return super().write(text)


def plain_console(stream=None):
    return Console(file=stream or io.StringIO(), force_terminal=False, width=40)


def terminal(width):
    return Console(
        file=io.StringIO(), force_terminal=True, width=width, color_system=None, _environ={}
    )


def last_line(console):
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", console.file.getvalue())
    return [line for line in re.split(r"[\r\n]+", text) if line.strip()][-1].rstrip()


def run_steps(console, steps, clock=None, **options):
    clock = clock or Clock()
    with Progress(40, "nano", console=console, clock=clock, **options) as progress:
        for step in steps:
            clock.now += 2.0
            progress.update(step, loss=np.float32(3.2141), tokens_per_second=12345.4, mfu=0.412)


def test_plain_lines_each_log_every_and_at_the_end():
    console = plain_console()
    run_steps(console, range(1, 41), log_every=15)
    facts = "loss 3.214  12,345 tokens/s  MFU 41%"
    assert console.file.getvalue().splitlines() == [  # wider than the console: never wrapped
        f"step 15/40  {facts}  left 50s",
        f"step 30/40  {facts}  left 20s",
        f"step 40/40  {facts}",
    ]


def test_a_resumed_run_counts_only_its_own_steps():
    console = plain_console()
    run_steps(console, range(31, 36), start=30, log_every=5)
    assert console.file.getvalue().endswith("left 10s\n")  # 5 steps of 2 s are left
    assert console.file.getvalue().startswith("step 35/40")


def test_steps_need_not_be_multiples_of_log_every():
    console = plain_console()
    run_steps(console, [7, 14, 16, 21, 23], log_every=10)
    steps = [line.split()[1] for line in console.file.getvalue().splitlines()]
    assert steps == ["14/40", "21/40"]


def test_values_stay_and_none_is_left_out():
    console = plain_console()
    with Progress(4, "nano", console=console, log_every=1) as progress:
        progress.update(1, loss=2.0, mfu=None)
        progress.update(2)
        progress.update(3, loss=float("nan"))
    assert [line.split("  ")[:2] for line in console.file.getvalue().splitlines()] == [
        ["step 1/4", "loss 2.000"],
        ["step 2/4", "loss 2.000"],
        ["step 3/4", "loss nan"],
    ]


@pytest.mark.parametrize("width", [120, 65, 60, 45, 25, 8, 1])
def test_the_bar_fits_the_terminal(width):
    console = terminal(width)
    run_steps(console, range(1, 31))
    line = last_line(console)
    assert len(line) <= width
    if width >= 8:
        assert "30/40" in line
    if width >= 25:
        assert "loss 3.214" in line
    assert ("━" in line) == (width == 120)
    if width >= 65:
        assert "nano" in line
        assert line.endswith("12,345 tokens/s  MFU 41%  left 20s")


def test_messages_are_above_the_bar_and_control_characters_are_visible():
    console = terminal(80)
    with Progress(10, "nano", console=console) as progress:
        progress.update(1, loss=1.0)
        progress.message("def f():\n\treturn '\x1b[2J[bold]'")
        progress.update(10)
    out = console.file.getvalue()
    assert "\x1b[2J" not in out
    assert "return '\\x1b[2J[bold]'" in out
    assert "10/10" in last_line(console)


def test_a_stream_without_unicode_gets_escapes():
    raw = io.BytesIO()
    console = plain_console(io.TextIOWrapper(raw, encoding="ascii"))
    with Progress(10, "nano", console=console) as progress:
        progress.message("é→")
    assert raw.getvalue() == b"\\xe9\\u2192\n"


@pytest.mark.parametrize("is_terminal", [True, False])
@pytest.mark.parametrize("writes", [0, 1, 3])
@pytest.mark.parametrize("error", [errno.EPIPE, errno.EIO])
def test_a_stream_that_breaks_does_not_end_the_work(is_terminal, writes, error, monkeypatch):
    # At a broken pipe rich points standard output at nothing, which here is pytest's own.
    monkeypatch.setattr(os, "dup2", lambda *descriptors: None)
    stream = ClosedPipe(writes, error)
    console = Console(file=stream, force_terminal=is_terminal, width=60)
    with Progress(5, "nano", console=console, log_every=1) as progress:
        for step in range(1, 6):
            progress.update(step, loss=1.0)
            progress.message("sample")
    with task("reading", console=console) as report:
        report(1, 2, "file")


@pytest.mark.parametrize("is_terminal", [True, False])
def test_a_closed_stream_does_not_end_the_work(is_terminal):
    console = Console(file=io.StringIO(), force_terminal=is_terminal, width=60)
    with Progress(5, "nano", console=console, log_every=1) as progress:
        progress.update(1)
        console.file.close()
        progress.update(5, loss=1.0)
        progress.message("sample")


def test_a_pipe_whose_reader_left_does_not_end_the_process():
    code = (
        "import sys, time\n"
        "from experiments.progress import Progress\n"
        "with Progress(2000, 'nano', log_every=1) as progress:\n"
        "    for step in range(1, 2001):\n"
        "        progress.update(step, loss=1.0)\n"
        "        progress.message('x' * 200)\n"
        "print('end', file=sys.stderr)\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout.readline().startswith("step 1/2000")
    process.stdout.close()
    assert process.stderr.read() == "end\n"
    assert process.wait(timeout=30) == 0


def test_an_exit_asked_for_by_the_work_is_not_swallowed():
    class Exiting(io.StringIO):
        def write(self, text):
            raise SystemExit(143)  # as a signal handler might, in the middle of a write

    progress = Progress(5, "nano", console=plain_console(Exiting()), log_every=1)
    with pytest.raises(SystemExit), progress:
        progress.update(1)


def test_a_disabled_display_writes_nothing():
    for console in (plain_console(), terminal(60)):
        run_steps(console, range(1, 41), enabled=False)
        with task("reading", console=console, enabled=False) as report:
            report(1, 2, "file")
        assert console.file.getvalue() == ""


def test_task_in_plain_lines():
    console, clock = plain_console(), Clock()
    with task("reading files", 4, console=console, clock=clock) as report:
        for done in range(1, 5):
            clock.now += 3
            report(done, None, f"{done}.py")
    assert console.file.getvalue().splitlines() == [
        "reading files  2/4  2.py",
        "reading files  4/4  4.py",
        "reading files  4/4  4.py  took 12s",
    ]


def test_task_on_a_terminal():
    console = terminal(80)
    with task("reading files", console=console) as report:
        report(5, 5000, "[red]a\nb.py")
        report(5000, 5000, "[red]z\nb.py")
    assert re.fullmatch(r"reading files  ━+  5,000/5,000  \[red\]z b\.py  0s", last_line(console))


def test_a_task_that_fails_says_no_end():
    console = plain_console()
    with pytest.raises(KeyError), task("reading", console=console):
        raise KeyError("x")
    assert console.file.getvalue() == ""


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(-1, "0s"), (59.4, "59s"), (59.6, "1m00s"), (192, "3m12s"), (3600, "1h00m"),
     (3899, "1h04m"), (183_600, "2d03h")],
)  # fmt: skip
def test_durations(seconds, text):
    assert format_duration(seconds) == text


def test_values_in_words():
    assert format_value("tokens_per_second", 42.34) == "42.3 tokens/s"
    assert format_value("mfu", 0.0123) == "MFU 1.2%"
    assert format_value("learning_rate", 3e-4) == "learning rate 0.0003"
    assert format_value("skipped_steps", 1200) == "skipped steps 1,200"
