"""The sandbox as callers see it: `Sandbox`, and the sessions that it opens."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

from . import wire
from .client import Channel, Job, MechanismMissing, program
from .limits import Limits
from .probe import Capability, capabilities
from .result import Run, from_message, refusal, warning_of

MAX_SOURCE = 1 << 20
MAX_INPUT = 64 << 20
_MAX_PARTS = 16


def source_problem(source: str) -> Run | None:
    """Return the result for a source that can not be run at all; None when it can be tried.

    Raises `TypeError` for what is not a string.
    """
    if not isinstance(source, str):
        raise TypeError(f"source is {type(source).__name__}; it must be str")
    if "\0" in source:
        line = source[: source.index("\0")].count("\n") + 1
        text = f"SyntaxError: the source holds a NUL character in line {line}\n"
        return Run("error", stderr=text, raw_stderr=text.encode(), exit_code=1)
    try:
        size = len(source.encode())
    except UnicodeEncodeError as error:
        text = f"SyntaxError: the source holds half of a surrogate pair at {error.start}\n"
        return Run("error", stderr=text, raw_stderr=text.encode(), exit_code=1)
    if size > MAX_SOURCE:
        return Run("refused", reason=f"the source is {size} bytes; at most {MAX_SOURCE} are run")
    return None


def _check_name(name: str) -> str:
    if not isinstance(name, str):
        raise ValueError(f"input file name {name!r} is not a string")
    parts = name.split("/")
    if name.startswith("/") or any(part in ("", ".", "..") for part in parts):
        raise ValueError(f"input file name {name!r}: it must be relative, without '.' and '..'")
    if "\0" in name or len(parts) > _MAX_PARTS or len(name) > 1024:
        raise ValueError(f"input file name {name!r}: it holds NUL, is too long or too deep")
    try:
        too_long = any(len(part.encode()) > 255 for part in parts)
    except UnicodeEncodeError:
        raise ValueError(f"input file name {name!r} can not be written in UTF-8") from None
    if too_long:
        raise ValueError(f"input file name {name!r}: a part is longer than 255 bytes")
    return name


def _check_files(files: Mapping[str, bytes | str] | None) -> dict[str, bytes]:
    checked: dict[str, bytes] = {}
    for name, content in (files or {}).items():
        raw = content.encode() if isinstance(content, str) else content
        if not isinstance(raw, (bytes, bytearray, memoryview)):
            kind = type(content).__name__
            raise ValueError(f"input file {name!r} is {kind}; it must be bytes or str")
        checked[_check_name(name)] = bytes(raw)
    for name in checked:
        parents = name.split("/")[:-1]
        for depth in range(1, len(parents) + 1):
            if "/".join(parents[:depth]) in checked:
                raise ValueError(f"input file {name!r} lies beneath another input file")
    total = sum(map(len, checked.values()))
    if total > MAX_INPUT or len(checked) > 4096:
        raise ValueError(f"input files: {len(checked)} of {total} bytes; at most 4096 of 64 MiB")
    return checked


class Sandbox:
    """Runs Python source that nobody vouches for.

    limits: the bounds of each run. packages: distributions that the code may import besides the
    standard library, with all that they require. workers: how many runs may be under way at once;
    further calls wait (default: two for each processor). May be used from any thread.

    Raises `ValueError` for a package that is not installed.
    """

    def __init__(
        self,
        limits: Limits | None = None,
        packages: Iterable[str] = (),
        workers: int | None = None,
    ) -> None:
        self.limits = limits or Limits()
        self.packages = (packages,) if isinstance(packages, str) else tuple(packages)
        self.workers = 2 * (os.cpu_count() or 1) if workers is None else workers
        if self.workers <= 0:
            raise ValueError(f"workers is {workers}; it must be above zero")
        if self.packages:
            from .interpreter import describe

            describe(self.packages)
        self.slots = threading.BoundedSemaphore(self.workers)

    def capabilities(self) -> dict[str, Capability]:
        """Probe each mechanism of the default level on this machine, in the order of defence."""
        return capabilities(self.packages)

    def run(
        self,
        source: str,
        stdin: str | bytes = "",
        files: Mapping[str, bytes | str] | None = None,
    ) -> Run:
        """Run `source` as a program of its own and return what came of it.

        Raises `ValueError` for a file name that is absolute or leads outside, and for input over
        64 MiB; `TypeError` for a source that is not a string. All else is in the result.
        """
        given = _check_files(files)
        raw = stdin.encode("utf-8", "surrogateescape") if isinstance(stdin, str) else bytes(stdin)
        if len(raw) > MAX_INPUT:
            raise ValueError(f"stdin is {len(raw)} bytes; at most {MAX_INPUT} are taken")
        problem = source_problem(source)
        if problem is not None:
            return replace(problem, level=self.limits.level, warning=warning_of(self.limits.level))
        job = Job(
            self.limits,
            ["/box/code/main.py"],
            {"main.py": source.encode()},
            given,
            raw,
            self.packages,
        )
        with self.slots:
            return finish(job)

    def run_many(self, sources: Iterable[str]) -> list[Run]:
        """Run many sources, `workers` at once; the results are in the order of the sources."""
        with ThreadPoolExecutor(self.workers) as pool:
            return list(pool.map(self.run, sources))

    def session(self) -> Session:
        """Open a session: cells that share their state, each held to the same limits."""
        return Session(self.limits, self.packages)


def finish(job: Job) -> Run:
    """Run a job to its end."""
    try:
        with Channel(job) as channel:
            message = channel.result()
    except MechanismMissing as error:
        return refusal(error.mechanism, error.reason, job.limits.level)
    except (wire.Closed, OSError) as error:
        return refusal("own session", f"the run's supervisor is gone: {error}", job.limits.level)
    return from_message(message, job.limits.level, job.limits.output_kb)


class Session:
    """Cells run one after another in one process, which keeps its state between them.

    A cell that breaks a limit ends the process; the next cell begins anew, and both results say
    `state_lost`. Close it, or use it in a `with` statement.
    """

    def __init__(self, limits: Limits, packages: tuple[str, ...] = ()) -> None:
        self.limits = limits
        self.packages = packages
        self._lock = threading.Lock()
        self._channel: Channel | None = None
        self._count = 0
        self._lost = False
        self._closed = False

    def run(self, source: str) -> Run:
        """Run one cell. The value of a last line that is an expression is printed.

        Raises `ValueError` when the session is closed.
        """
        with self._lock:
            if self._closed:
                raise ValueError("the session is closed")
            problem = source_problem(source)
            if problem is not None:
                return replace(
                    problem, level=self.limits.level, warning=warning_of(self.limits.level)
                )
            try:
                return self._cell(source)
            except MechanismMissing as error:
                return refusal(error.mechanism, error.reason, self.limits.level)
            except (wire.Closed, OSError) as error:
                self._drop()
                reason = f"the session's supervisor is gone: {error}"
                return refusal("own session", reason, self.limits.level)
            except BaseException:  # interrupted: the answer of this cell must not be the next one's
                self._drop()
                self._lost = True
                raise

    def _cell(self, source: str) -> Run:
        lost_before, self._lost = self._lost, False
        if self._channel is None:
            self._channel = self._open()
            self._count = 0
        self._count += 1
        message = self._channel.exchange(source.encode(), self.limits.wall_s, fresh=True)
        if message.get("failure"):
            self._drop()
            mechanism, reason = message["failure"]
            return refusal(mechanism, reason, self.limits.level)
        run = from_message(message, self.limits.level, self.limits.output_kb)
        number, _, status = (message["reply"] or b"").partition(b":")
        told = status.decode("ascii", "replace")
        if number != b"%d" % self._count or told not in ("ok", "error", "memory"):
            # it ended in the middle of the cell, or something else than our worker answered
            self._drop()
            self._lost = True
            ended = "error" if run.status == "ok" else run.status
            return replace(run, status=ended, state_lost=True)
        if message["ended"]:
            self._drop()
            self._lost = True
            return replace(run, state_lost=True)
        return replace(run, status=told, exit_code=int(told != "ok"), state_lost=lost_before)

    def _open(self) -> Channel:
        argv = ["/box/code/start.pyc"]
        if self.limits.level == "process":
            argv.append("/box/code")
        files = program("worker")
        return Channel(Job(self.limits, argv, files, packages=self.packages, session=True))

    def _drop(self) -> None:
        if self._channel is not None:
            self._channel.close()
            self._channel = None

    def reset(self) -> None:
        """Forget all state; the next cell begins anew."""
        with self._lock:
            self._drop()
            self._lost = False

    def close(self) -> None:
        """End the session's processes. Closing twice does nothing."""
        with self._lock:
            self._drop()
            self._closed = True

    def __enter__(self) -> Session:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
