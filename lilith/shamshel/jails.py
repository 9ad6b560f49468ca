"""Starting and ending the processes of one run, seen from its supervisor."""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import socket
import time
from dataclasses import dataclass
from typing import Any, NoReturn

from . import jail, linux
from .cgroup import PREFIX, Group
from .steps import SetupError, step
from .tree import Tree
from .zygote_state import State


@dataclass
class Running:
    """A run under way. `child` is the process whose end is the end of all."""

    child: int
    report: socket.socket
    outputs: list[int]
    to_worker: int | None
    from_worker: int | None
    group: Group | None
    tree: Tree | None = None
    work: int | None = None
    folder: str | None = None  # only without isolation: to be removed
    finished: bool = False

    def receive(self) -> bytes:
        """Return the next report; b"" when its sender is gone or nothing waits."""
        try:
            message, descriptors, _, _ = socket.recv_fds(self.report, 8192, 2)
        except OSError:
            return b""
        if len(descriptors) == 2:
            self.tree = Tree(descriptors[0])
            self.work = descriptors[1]
        return message

    def box_bytes(self) -> int:
        """Memory held by the work folder's files, in use by a process or not."""
        if self.work is None or self.folder is not None:
            return 0
        found = os.fstatvfs(self.work)
        return (found.f_blocks - found.f_bfree) * found.f_frsize

    def too_many_processes(self) -> str | None:
        """The cause to end for, when more run than allowed: the jail's own limits hold it."""
        return "killed" if self.folder is not None else None

    def kill(self) -> resource.struct_rusage:
        """End every process; returns what they used."""
        if self.finished:
            raise ValueError("already ended")
        self.finished = True
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.child, signal.SIGKILL)
        usage = os.wait4(self.child, 0)[2]
        if self.folder is not None:
            _kill_tree()
        return usage

    def close(self) -> None:
        """Remove what the run had on the machine."""
        if self.group is not None:
            self.group.remove()
            self.group = None
        if self.work is not None:
            os.close(self.work)
            self.work = None
        if self.tree is not None:
            os.close(self.tree.proc)
            self.tree = None
        if self.folder is not None:
            _remove_folder(self.folder)
            self.folder = None


def start(request: dict[str, Any], state: State) -> Running:
    """Start the request's program. Raises `SetupError`; then nothing is left."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ours.setblocking(False)
    pipes = [os.pipe() for _ in range(4 if request["limits"]["session"] else 2)]
    outputs = [pipes[0][0], pipes[1][0]]
    streams: list[int | None] = [None, pipes[0][1], pipes[1][1]]
    to_worker = from_worker = None
    if request["limits"]["session"]:
        to_worker, from_worker = pipes[2][1], pipes[3][0]
        streams += [pipes[2][0], pipes[3][1]]
    for descriptor in (*outputs, to_worker, from_worker):
        if descriptor is not None:
            os.set_blocking(descriptor, False)
    made: Running
    if state.mode == "process":
        made = _start_bare(request, state, streams, ours, theirs)
    else:
        made = _start_jailed(request, state, streams, ours, theirs)
    made.outputs, made.to_worker, made.from_worker = outputs, to_worker, from_worker
    theirs.close()
    for stream in streams:
        if stream is not None:
            os.close(stream)
    return made


def _start_jailed(
    request: dict[str, Any],
    state: State,
    streams: list[int | None],
    ours: socket.socket,
    theirs: socket.socket,
) -> Running:
    group = None
    limits = request["limits"]
    if state.groups is not None:
        with step("memory and process control"):
            name = f"{PREFIX}{os.getppid()}-{os.getpid()}"
            group = state.groups.create(name, limits["memory_mb"] << 20, limits["processes"])
    try:
        with step("pid namespace"):
            linux.unshare(linux.CLONE_NEWPID)
            plan = jail.Jail(
                request,
                state.mode,
                state.first_identity + os.getpid() % state.identities,
                state.executable,
                state.readable,
                state.landlock_abi,
                state.filter,
                group,
                streams,
            )
            child = os.fork()
    except SetupError:
        if group is not None:
            group.remove()
        raise
    if child == 0:
        jail.init(plan, theirs)
    return Running(child, ours, [], None, None, group)


def _start_bare(
    request: dict[str, Any],
    state: State,
    streams: list[int | None],
    ours: socket.socket,
    theirs: socket.socket,
) -> Running:
    """The level without isolation: resource limits, a process group, a folder that is removed."""
    import tempfile  # not at the top: the zygote is kept small, since every run forks it

    linux.prctl(linux.PR_SET_CHILD_SUBREAPER, 1)
    folder = tempfile.mkdtemp(prefix="lilith-shamshel-")
    for name in ("work", "code"):
        os.mkdir(f"{folder}/{name}")
    jail.write_files(f"{folder}/code", request["program"])
    jail.write_files(f"{folder}/work", request["files"])
    with open(f"{folder}/code/stdin", "xb") as file:
        file.write(request["stdin"])
    child = os.fork()
    if child == 0:
        _bare_init(request, state, streams, theirs, folder)
    running = Running(child, ours, [], None, None, None, folder=folder)
    running.work = os.open(f"{folder}/work", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    proc = os.open("/proc", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    running.tree = Tree(proc, root=os.getpid())
    return running


def _bare_init(
    request: dict[str, Any],
    state: State,
    streams: list[int | None],
    report: socket.socket,
    folder: str,
) -> NoReturn:
    """Start the program, wait for it, and tell its end; the supervisor clears up after."""
    try:
        linux.prctl(linux.PR_SET_PDEATHSIG, signal.SIGKILL)
        program = os.fork()
        if program == 0:
            _bare_program(request, state, streams, report, folder)
        for stream in streams:
            if stream is not None:
                os.close(stream)
        while (ended := os.wait())[0] != program:
            pass
        report.send(b"E%d" % ended[1])
    except BaseException as error:
        jail.send_failure(report, SetupError("isolated interpreter", str(error)))
    finally:
        os._exit(0)


def _bare_program(
    request: dict[str, Any],
    state: State,
    streams: list[int | None],
    report: socket.socket,
    folder: str,
) -> NoReturn:
    try:
        os.setsid()
        kept = jail.place_streams(streams, f"{folder}/code/stdin", report.detach())
        report = socket.socket(fileno=kept)
        os.chdir(f"{folder}/work")
        with step("resource limits"):
            jail.set_limits(request["limits"], watched=True)
        arguments = [part.replace("/box/", f"{folder}/", 1) for part in request["argv"]]
        command = [state.executable, "-I", "-B", *arguments]
        os.execve(state.executable, command, request["env"])
    except SetupError as error:
        jail.send_failure(report, error)
    except BaseException as error:
        jail.send_failure(report, SetupError("isolated interpreter", str(error)))
    finally:
        os._exit(127)


def _kill_tree() -> None:
    """Kill and reap all descendants of this process, to which orphans are given."""
    proc = os.open("/proc", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    tree = Tree(proc, root=os.getpid())
    deadline = time.monotonic() + 2
    while (left := tree.processes()) and time.monotonic() < deadline:
        for process in left:
            with contextlib.suppress(OSError):
                os.kill(int(process), signal.SIGKILL)
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
    os.close(proc)


def _remove_folder(folder: str) -> None:
    import shutil

    def allow(_function: object, path: str, _error: object) -> None:
        with contextlib.suppress(OSError):  # a folder made unreadable by the program
            os.chmod(os.path.dirname(path), 0o700)
            os.chmod(path, 0o700, follow_symlinks=False) if not os.path.islink(path) else None
            shutil.rmtree(path) if os.path.isdir(path) else os.unlink(path)

    shutil.rmtree(folder, onerror=allow)
