"""One process per run, outside of the jail: limits, output, the end, and what was left.

It is forked from the zygote, so that it keeps watching when the caller's process is busy, and
ends the jail when the caller's process is gone.
"""

from __future__ import annotations

import math
import os
import select
import signal
import socket
import time
from typing import Any, NoReturn

from . import wire
from .collect import collect
from .jails import Prepared, Running, prepare, start
from .steps import SetupError
from .tree import Usage
from .zygote_state import State

_TICK_WATCHED_S = 0.01
_TICK_S = 0.05
_FRAME = 4


class Stream:
    """One captured output, kept up to a size."""

    def __init__(self, descriptor: int, limit: int) -> None:
        self.descriptor = descriptor
        self.limit = limit
        self.kept = bytearray()
        self.cut = False

    def read(self) -> bool:
        """Take what is there. False at the end of the stream."""
        try:
            raw = os.read(self.descriptor, 65536)
        except BlockingIOError:
            return True
        except OSError:
            return False
        room = self.limit - len(self.kept)
        self.kept += raw[:room]
        self.cut = self.cut or len(raw) > room
        return bool(raw)

    def drain(self) -> None:
        """Take all that is there now, within the limit."""
        for _ in range(1 + self.limit // 4096):
            before = len(self.kept)
            if not self.read() or self.cut or len(self.kept) == before:
                return


class Supervisor:
    """Runs one request to its end, or one session cell by cell."""

    def __init__(
        self, link: socket.socket, state: State, request: dict[str, Any], prepared: Prepared
    ) -> None:
        self.link = link
        self.request = request
        self.limits = request["limits"]
        self.session = self.limits["session"]
        self.started = time.monotonic()
        self.cause: str | None = None
        self.ended = False
        self.failure: tuple[str, str] | None = None
        self.exit_status: int | None = None
        self.spent_cpu_s = 0.0
        self.peak_bytes = 0
        self.reply = bytearray()
        self.waiting = b""
        self.known: dict[str, bytes] = request["files"]  # to tell what a cell has written
        self.jail: Running = start(request, state, prepared)
        limit = self.limits["output_kb"] * 1024
        self.streams = [Stream(descriptor, limit) for descriptor in self.jail.outputs]
        self.poll = select.poll()
        for stream in self.streams:
            self.poll.register(stream.descriptor, select.POLLIN)
        self.poll.register(self.jail.report.fileno(), select.POLLIN)
        self.poll.register(link.fileno(), select.POLLRDHUP | select.POLLHUP)
        self.cpu_base_s = 0.0
        self.next_sample = self.started
        if self.jail.from_worker is not None:
            self.poll.register(self.jail.from_worker, select.POLLIN)

    # -- the loop --------------------------------------------------------------------------

    def watch(self, wall_s: float, cpu_s: float, until_reply: bool) -> None:
        """Let the jail run until it ends, breaks a limit, or (`until_reply`) answers."""
        begin = time.monotonic()
        deadline = begin + wall_s
        tick = _TICK_S if self.jail.group else _TICK_WATCHED_S
        while not self.ended and self.cause is None:
            if until_reply and self._reply_complete():
                return
            now = time.monotonic()
            if now >= deadline:
                self.cause = "timeout"
                break
            if now >= self.next_sample:
                self._check_usage(cpu_s)
                self.next_sample = time.monotonic() + tick
                continue
            self._wait(min(deadline, self.next_sample) - now)
        self._finish()

    def _wait(self, seconds: float) -> None:
        for descriptor, _ in self.poll.poll(math.ceil(max(seconds, 0) * 1000)):
            if descriptor == self.link.fileno():
                self.cause = self.cause or "killed"
            elif descriptor == self.jail.report.fileno():
                self._read_report()
            elif descriptor == self.jail.from_worker:
                self._read_worker()
            elif descriptor == self.jail.to_worker:
                self._write_worker()
            else:
                self._read_output(descriptor)

    def _read_output(self, descriptor: int) -> None:
        for stream in self.streams:
            if stream.descriptor == descriptor:
                if not stream.read():
                    self.poll.unregister(descriptor)
                if stream.cut:
                    self.cause = self.cause or "output"

    def _read_report(self) -> None:
        message = self.jail.receive()
        if message[:1] == b"E":
            self.exit_status = int(message[1:])
        elif message[:1] == b"F":
            mechanism, _, reason = message[1:].decode("utf-8", "replace").partition("\n")
            self.failure = (mechanism, reason)
        elif message:
            return
        self.ended = True

    def _check_usage(self, cpu_s: float) -> None:
        usage = self.jail.tree.sample() if self.jail.tree else Usage()
        self.spent_cpu_s = max(self.spent_cpu_s, usage.cpu_s)
        if usage.cpu_s - self.cpu_base_s > cpu_s:
            self.cause = "timeout"
        limit = self.limits["memory_mb"] << 20
        if self.jail.group is not None:
            if self.jail.group.killed_for_memory():
                self.cause = "memory"
            return
        used = usage.memory_bytes
        if used > limit and self.jail.tree:
            used = self.jail.tree.proportional_bytes()
        used += self.jail.box_bytes()
        self.peak_bytes = max(self.peak_bytes, used)
        if used > limit:
            self.cause = "memory"
        if usage.processes > self.limits["processes"]:
            self.cause = self.cause or self.jail.too_many_processes()

    # -- a session's cells ------------------------------------------------------------------

    def _reply_complete(self) -> bool:
        if len(self.reply) < _FRAME:
            return False
        size = int.from_bytes(self.reply[:_FRAME], "big")
        if size > self.request["max_reply"] or len(self.reply) > _FRAME + size:
            self.cause = "output"  # more than one answer, or too long: not our worker's doing
            return False
        return len(self.reply) == _FRAME + size

    def _read_worker(self) -> None:
        assert self.jail.from_worker is not None
        try:
            raw = os.read(self.jail.from_worker, 1 << 18)
        except OSError:
            raw = b""
        if not raw:
            self.poll.unregister(self.jail.from_worker)
            return
        self.reply += raw
        if len(self.reply) > self.request["max_reply"] + _FRAME:
            self.cause = self.cause or "output"

    def _write_worker(self) -> None:
        assert self.jail.to_worker is not None
        try:
            written = os.write(self.jail.to_worker, self.waiting[: 1 << 18])
            self.waiting = self.waiting[written:]
        except BlockingIOError:
            return
        except OSError:
            self.waiting = b""
        if not self.waiting:
            self.poll.unregister(self.jail.to_worker)

    def _cell(self, message: dict[str, Any]) -> None:
        self.started = time.monotonic()
        self.reply = bytearray()
        for stream in self.streams:
            stream.kept.clear()
        if message["fresh"]:
            self.cpu_base_s = self.jail.tree.sample().cpu_s if self.jail.tree else 0.0
        raw = message["cell"]
        self.waiting = len(raw).to_bytes(_FRAME, "big") + raw
        if self.jail.to_worker is not None and not self.ended:
            self._write_worker_first()
        self.watch(message["wall_s"], self.limits["cpu_s"], until_reply=True)
        for stream in self.streams:
            stream.drain()
        if any(stream.cut for stream in self.streams) and self.cause is None:
            self.cause = "output"
            self._finish()
        wire.send(self.link, self._result(self._reply_complete()))

    def _write_worker_first(self) -> None:
        assert self.jail.to_worker is not None
        self.poll.register(self.jail.to_worker, select.POLLOUT)
        self._write_worker()

    def serve(self) -> None:
        """Answer cells until the caller hangs up or the jail ends."""
        ready = select.poll()
        ready.register(self.link.fileno(), select.POLLIN | select.POLLRDHUP | select.POLLHUP)
        interval = _TICK_S if self.jail.group else 2 * _TICK_WATCHED_S
        while not self.ended and self.cause is None:
            if ready.poll(interval * 1000):
                try:
                    message = wire.receive(self.link)
                except wire.Closed:
                    self.cause = "killed"
                    break
                self._cell(message)
            else:  # what runs on between cells is held to the last cell's processor time
                self._check_usage(self.limits["cpu_s"])
                self._wait(0)
        was_told = self.jail.finished
        self._finish()
        if not was_told and self.cause != "killed":
            wire.send(self.link, self._result(False))

    # -- the end ----------------------------------------------------------------------------

    def _finish(self) -> None:
        """End every process of the jail. What they wrote stays readable until `close`."""
        if self.jail.finished:
            return
        self.wall_s = time.monotonic() - self.started
        usage = self.jail.kill()
        while (message := self.jail.receive()) and self.exit_status is None and not self.failure:
            if message[:1] == b"E" and self.cause is None:
                self.exit_status = int(message[1:])
        for stream in self.streams:
            stream.drain()
        self.spent_cpu_s = max(self.spent_cpu_s, usage.ru_utime + usage.ru_stime)
        self.peak_bytes = max(self.peak_bytes, usage.ru_maxrss * 1024)
        if self.jail.group is not None:
            if self.jail.group.killed_for_memory():
                self.cause = "memory"
            self.peak_bytes = self.jail.group.peak_bytes() or self.peak_bytes
        if self.cause is None and any(stream.cut for stream in self.streams):
            self.cause = "output"
        self.ended = True

    def _status(self) -> tuple[str, int | None, int | None]:
        """Return the status, the exit code and the signal."""
        if self.failure is not None:
            return "refused", None, None
        exit_code = ended_by = None
        if self.exit_status is not None:
            if os.WIFSIGNALED(self.exit_status):
                ended_by = os.WTERMSIG(self.exit_status)
            else:
                exit_code = os.WEXITSTATUS(self.exit_status)
        elif self.ended:
            ended_by = int(signal.SIGKILL)
        if self.cause is not None:
            return self.cause, exit_code, ended_by
        if ended_by is not None:
            over = ended_by == signal.SIGXCPU or self.spent_cpu_s > self.limits["cpu_s"]
            return ("timeout" if over and not self.session else "killed"), None, ended_by
        if exit_code and self._ran_out_of_memory():
            return "memory", exit_code, None
        return ("error" if exit_code else "ok"), exit_code, None

    def _ran_out_of_memory(self) -> bool:
        lines = bytes(self.streams[-1].kept).rstrip().rsplit(b"\n", 1)
        return lines[-1].startswith(b"MemoryError")

    def _result(self, answered: bool) -> dict[str, Any]:
        status, exit_code, ended_by = self._status()
        files: dict[bytes, bytes] = {}
        cut = [n for n, s in zip(("stdout", "stderr"), self.streams, strict=True) if s.cut]
        if self.request["collect"] and self.jail.work is not None:
            limit = self.limits["file_mb"] << 20
            files, short = collect(self.jail.work, self.known, limit, self.limits["files"])
            cut += ["files"] if short else []
            named = {name.decode("utf-8", "surrogateescape"): raw for name, raw in files.items()}
            self.known = {**self.known, **named}
        wall_s = self.wall_s if self.ended else time.monotonic() - self.started
        return {
            "status": status,
            "exit_code": exit_code,
            "signal": ended_by,
            "cut": cut,
            "stdout": bytes(self.streams[0].kept),
            "stderr": bytes(self.streams[1].kept),
            "wall_s": wall_s,
            "cpu_s": self.spent_cpu_s,
            "peak_bytes": self.peak_bytes,
            "files": files,
            "failure": self.failure,
            "ended": self.ended,
            "reply": bytes(self.reply[_FRAME:]) if answered else None,
        }

    def run(self) -> None:
        """Do the request and send its result."""
        try:
            if self.session:
                self.serve()
            else:
                self.watch(self.limits["wall_s"], self.limits["cpu_s"], until_reply=False)
                result = self._result(False)
                self.jail.close()  # before the caller hears: nothing is left when it looks
                wire.send(self.link, result)
        finally:
            self._finish()
            self.jail.close()


def _serve_one(link: socket.socket, state: State, prepared: Prepared | SetupError) -> None:
    try:
        request = wire.receive(link)
    except wire.Closed:
        if isinstance(prepared, Prepared):
            prepared.abandon()
        return
    try:
        if isinstance(prepared, SetupError):
            raise prepared
        Supervisor(link, state, request, prepared).run()
    except SetupError as error:
        wire.send(link, {"failure": (error.mechanism, error.reason)})
        if isinstance(prepared, Prepared):
            prepared.abandon()
    except wire.Closed:
        pass
    except Exception as error:
        wire.send(link, {"failure": ("supervisor", f"{type(error).__name__}: {error}")})
        raise


def main(handover: socket.socket, state: State) -> NoReturn:
    """Prepare a jail, wait to be handed a caller's link, and serve it."""
    code = 1  # which tells the zygote to clear up what this process could not
    try:
        prepared: Prepared | SetupError
        try:
            prepared = prepare(state)
        except SetupError as error:
            prepared = error
        message, descriptors, _, _ = socket.recv_fds(handover, 1, 1)
        if message:
            handover.close()
            _serve_one(socket.socket(fileno=descriptors[0]), state, prepared)
        elif isinstance(prepared, Prepared):
            prepared.abandon()
        code = 0
    finally:
        os._exit(code)
