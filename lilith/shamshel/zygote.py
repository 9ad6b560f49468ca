"""A small single-threaded process from which every run is forked.

The caller's process may be large and full of threads, from which forking is slow and unsafe.
The zygote is started fresh with an empty environment, leaves the host's file system, and then
only hands out supervisors. It ends with the caller's process.
"""

from __future__ import annotations

import contextlib
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


def serve(control: socket.socket, parent: int, state: State) -> None:
    """Fork a supervisor for each link that arrives, until the caller's process is gone."""
    own = os.getpid()
    wake_read, wake_write = os.pipe()
    os.set_blocking(wake_write, False)
    os.set_blocking(wake_read, False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(wake_write, warn_on_full_buffer=False)
    ready = select.poll()
    for descriptor in (control.fileno(), parent, wake_read):
        ready.register(descriptor, select.POLLIN)
    while True:
        events = dict(ready.poll())
        if wake_read in events:
            with contextlib.suppress(BlockingIOError):
                os.read(wake_read, 4096)
            _reap(state, own)
        if parent in events:
            return
        if control.fileno() not in events:
            continue
        message, descriptors, _, _ = socket.recv_fds(control, 1, 1)
        if not message:
            return
        if os.fork() == 0:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            for descriptor in (control.detach(), parent, wake_read, wake_write):
                os.close(descriptor)
            supervisor.main(socket.socket(fileno=descriptors[0]), state)
        os.close(descriptors[0])


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
        serve(control, parent, state)
    except (wire.Closed, KeyboardInterrupt):
        pass
