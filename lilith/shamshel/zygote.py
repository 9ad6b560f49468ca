"""A small single-threaded process from which every run is forked.

The caller's process may be large and full of threads, from which forking is slow and unsafe.
The zygote is started fresh with an empty environment, leaves the host's file system, and then
only hands out supervisors. It ends with the caller's process.
"""

from __future__ import annotations

import contextlib
import gc
import os
import select
import signal
import socket
import sys
from typing import Any

from . import cgroup, landlock, linux, seccomp, supervisor, template, wire
from .steps import SetupError, step
from .zygote_state import State


def prepare(plan: dict[str, Any]) -> State:
    """Build what all runs share. Raises `SetupError`."""
    executable = plan["executable"]
    if plan["level"] == "process":
        return State("process", executable, [], 0, 1, 0, b"", None)
    with step("closed descriptors"):
        linux.close_descriptors(1 << 20)  # a trial, far above anything open
    mode, first, count = template.take_privileges()
    groups, _ = cgroup.find()
    abi = landlock.version()
    if abi == 0:
        raise SetupError("landlock", "the kernel has no Landlock, or it is off")
    with step("seccomp"):
        program = seccomp.compile_filter(shared_memory=groups is not None)
    readable = template.build_root(plan, keep_proc=mode == "user")
    return State(mode, executable, readable, first, count, abi, program, groups)


def _facts(state: State) -> dict[str, Any]:
    version = state.groups.version if state.groups else 0
    return {"mode": state.mode, "cgroup": version, "landlock": state.landlock_abi, "failure": None}


def _reap(state: State, own: int) -> None:
    with contextlib.suppress(ChildProcessError):
        while True:
            child, status = os.waitpid(-1, os.WNOHANG)
            if child == 0:
                return
            if status != 0 and state.groups is not None:  # it could not clear up by itself
                state.groups.remove(f"{cgroup.PREFIX}{own}-{child}")


class Zygote:
    """Keeps one supervisor waiting with a jail prepared, and hands it the next caller's link."""

    def __init__(self, control: socket.socket, parent: int, state: State) -> None:
        self.control = control
        self.parent = parent
        self.state = state
        self.own = os.getpid()
        self.wake_read, self.wake_write = os.pipe()
        os.set_blocking(self.wake_write, False)
        os.set_blocking(self.wake_read, False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(self.wake_write, warn_on_full_buffer=False)
        self.spare_process = 0
        self.spare = self.fork()

    def fork(self) -> socket.socket:
        """Start a supervisor; returns the socket to hand it a link on."""
        ours, theirs = socket.socketpair()
        self.spare_process = os.fork()
        if self.spare_process == 0:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            for descriptor in (self.parent, self.wake_read, self.wake_write):
                os.close(descriptor)
            ours.close()
            self.control.close()
            supervisor.main(theirs, self.state)
        theirs.close()
        return ours

    def hand_over(self, link: int) -> None:
        """Give a link to the waiting supervisor and start the next one."""
        for _ in range(2):
            try:
                socket.send_fds(self.spare, [b"."], [link])
                break
            except OSError:  # it was killed from outside
                self.spare.close()
                self.spare = self.fork()
        os.close(link)
        self.spare.close()
        self.spare = self.fork()

    def serve(self) -> None:
        """Hand over links until the caller's process is gone."""
        ready = select.poll()
        for descriptor in (self.control.fileno(), self.parent, self.wake_read):
            ready.register(descriptor, select.POLLIN)
        while True:
            events = dict(ready.poll())
            if self.wake_read in events:
                with contextlib.suppress(BlockingIOError):
                    os.read(self.wake_read, 4096)
                _reap(self.state, self.own)
            if self.parent in events:
                return
            if self.control.fileno() in events:
                message, descriptors, _, _ = socket.recv_fds(self.control, 1, 1)
                if not message:
                    return
                self.hand_over(descriptors[0])

    def close(self) -> None:
        """End the waiting supervisor, and see it gone."""
        self.spare.close()
        with contextlib.suppress(ChildProcessError):
            os.waitpid(self.spare_process, 0)


def main() -> None:
    """Serve on the descriptor named on the command line."""
    control = socket.socket(fileno=int(sys.argv[1]))
    try:
        plan = wire.receive(control)
        parent = os.pidfd_open(plan["parent"])
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the caller to decide on
        try:
            state = prepare(plan)
        except SetupError as error:
            wire.send(control, {"failure": (error.mechanism, error.reason)})
            return
        wire.send(control, _facts(state))
        gc.freeze()  # so that collecting in a child does not copy what it shares
        zygote = Zygote(control, parent, state)
        zygote.serve()
        zygote.close()
    except (wire.Closed, KeyboardInterrupt):
        pass
