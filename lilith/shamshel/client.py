"""The caller's side: starting zygotes, and talking to the supervisors that they fork."""

from __future__ import annotations

import atexit
import contextlib
import dataclasses
import functools
import marshal
import os
import socket
import subprocess
import sys
import threading
from importlib.util import MAGIC_NUMBER
from typing import Any

from . import wire
from .interpreter import describe
from .limits import Limits

_FOLDER = os.path.dirname(os.path.abspath(__file__))
# The package's modules without its __init__, which the zygote has no use for.
_BOOT = """
import sys, types
package = types.ModuleType("shamshel")
package.__path__ = [sys.argv.pop(1)]
sys.modules["shamshel"] = package
from shamshel.zygote import main
main()
"""
_START_S = 60.0
_GRACE_S = 30.0
MAX_REPLY = (4 << 20) + 4096


class MechanismMissing(Exception):
    """The machine lacks what the level needs: (mechanism, reason)."""

    def __init__(self, mechanism: str, reason: str) -> None:
        super().__init__(f"{mechanism}: {reason}")
        self.mechanism = mechanism
        self.reason = reason


class Zygote:
    """One zygote process. Raises `MechanismMissing` when it can not prepare."""

    def __init__(self, packages: tuple[str, ...], level: str) -> None:
        if sys.platform != "linux":
            raise MechanismMissing("own session", f"needs Linux, not {sys.platform}")
        try:
            interpreter = describe(packages)
        except (OSError, subprocess.SubprocessError) as error:
            raise MechanismMissing("isolated interpreter", str(error)) from None
        self.lock = threading.Lock()
        self.control, theirs = socket.socketpair()
        keep = {k: v for k, v in os.environ.items() if k == "LD_LIBRARY_PATH"}
        command = [interpreter.executable, "-I", "-S", "-B", "-c", _BOOT, _FOLDER]
        with theirs:
            self.process = subprocess.Popen(
                [*command, str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                env=keep,
                cwd="/",
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )
        plan = {"level": level, "parent": os.getpid(), **dataclasses.asdict(interpreter)}
        try:
            self.control.settimeout(_START_S)
            wire.send(self.control, plan)
            self.facts = wire.receive(self.control)
            self.control.settimeout(None)
        except wire.Closed:
            self.close()
            reason = f"{interpreter.executable} did not start: {self.process.returncode}"
            raise MechanismMissing("isolated interpreter", reason) from None
        if self.facts["failure"]:
            self.close()
            raise MechanismMissing(*self.facts["failure"])

    def connect(self) -> socket.socket:
        """Return a link to a new supervisor. Raises `wire.Closed` when the zygote is gone."""
        ours, theirs = socket.socketpair()
        try:
            with theirs, self.lock:
                socket.send_fds(self.control, [b"."], [theirs.fileno()])
        except OSError as error:
            ours.close()
            raise wire.Closed(str(error)) from None
        return ours

    def close(self) -> None:
        """End the zygote. Runs under way end by themselves."""
        self.control.close()
        try:
            self.process.wait(5)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


_zygotes: dict[tuple[tuple[str, ...], str], Zygote] = {}
_lock = threading.Lock()


def zygote(packages: tuple[str, ...], level: str) -> Zygote:
    """Return this process's zygote for a set of packages, started on first use."""
    with _lock:
        found = _zygotes.get((packages, level))
        if found is None or found.process.poll() is not None:
            if found is not None:
                found.close()
            found = _zygotes[packages, level] = Zygote(packages, level)
        return found


@atexit.register
def shutdown() -> None:
    """End every zygote of this process. A later run starts them anew."""
    with _lock:
        for found in _zygotes.values():
            found.close()
        _zygotes.clear()


def _after_fork() -> None:
    global _lock
    _lock = threading.Lock()
    for found in _zygotes.values():
        found.control.close()  # the parent's: a child must not keep them alive
        found.process.returncode = 0  # nor wait for a process that is not its own
    _zygotes.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


# Run by the jail's interpreter; without isolation the folder is not /box/code, and is told.
_START = """
import sys
code = sys.argv.pop(1) if sys.argv[1:] else "/box/code"
sys.path.insert(0, code)
from shamshel import {name}
del sys.path[0]
{name}.main(code)
"""


def _compiled(source: str, name: str) -> bytes:
    code = compile(source, f"<{name}>", "exec", dont_inherit=True, optimize=0)
    return MAGIC_NUMBER + bytes(12) + marshal.dumps(code)


@functools.cache
def program(name: str) -> dict[str, bytes]:
    """Return the files of one of the package's own jail programs, compiled: start.pyc runs it."""
    files = {"start.pyc": _compiled(_START.format(name=name), "start")}
    for module in ("plain", "frames", name):
        with open(os.path.join(_FOLDER, f"{module}.py"), encoding="utf-8") as source:
            files[f"shamshel/{module}.pyc"] = _compiled(source.read(), module)
    return files


@dataclasses.dataclass
class Job:
    """What a supervisor is asked to run. `program`: files of the code folder."""

    limits: Limits
    argv: list[str]
    program: dict[str, bytes]
    files: dict[str, bytes] = dataclasses.field(default_factory=dict)
    stdin: bytes = b""
    packages: tuple[str, ...] = ()
    session: bool = False
    collect: bool = True  # whether to hand back the files that it writes
    trusted: bool = False  # the tests of a verdict, which need no interpreter of their own

    def request(self) -> dict[str, Any]:
        """The message for the supervisor."""
        # libraries of linear algebra start one thread a core unless told, past `processes`
        single = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
        return {
            "limits": {**dataclasses.asdict(self.limits), "session": self.session},
            "argv": self.argv,
            "program": self.program,
            "files": self.files,
            "stdin": self.stdin,
            "env": single if self.packages else {},
            "max_reply": MAX_REPLY,
            "collect": self.collect,
            "trusted": self.trusted and self.limits.level != "process",
        }


class Channel:
    """A link to one run's supervisor. Closing it ends the run."""

    def __init__(self, job: Job) -> None:
        self.job = job
        request = job.request()
        for attempt in range(2):
            try:
                self.link = zygote(job.packages, job.limits.level).connect()
                self.link.settimeout(job.limits.wall_s + _GRACE_S)
                wire.send(self.link, request)
                return
            except wire.Closed:  # the zygote was killed from outside: once more with another
                if attempt:
                    raise

    def result(self) -> dict[str, Any]:
        """Wait for the run's end. Raises `wire.Closed` when the supervisor is gone."""
        return wire.receive(self.link)

    def exchange(self, cell: bytes, wall_s: float, fresh: bool) -> dict[str, Any]:
        """Hand a session's program one message and wait for its answer or its end.

        `fresh` begins a new count of processor time. Raises `wire.Closed`.
        """
        self.link.settimeout(wall_s + _GRACE_S)
        with contextlib.suppress(wire.Closed):  # it ended meanwhile, and said how
            wire.send(self.link, {"cell": cell, "wall_s": wall_s, "fresh": fresh})
        return wire.receive(self.link)

    def close(self) -> None:
        """End the run and wait until nothing of it is left (at most a few seconds)."""
        try:
            self.link.shutdown(socket.SHUT_WR)
            self.link.settimeout(_GRACE_S)
            while self.link.recv(65536):
                pass
        except OSError:
            pass
        finally:
            self.link.close()

    def __enter__(self) -> Channel:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
