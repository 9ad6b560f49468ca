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

from . import jail, linux, wire
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


@dataclass
class Prepared:
    """A jail with all but its request, waiting. Without isolation there is no init as yet."""

    child: int
    report: socket.socket
    theirs: socket.socket
    order: socket.socket | None
    pipes: list[tuple[int, int]]
    group: Group | None

    def streams(self) -> list[int | None]:
        """The program's ends: stdin from the request, then stdout, stderr, and a session's two."""
        pipes = self.pipes
        return [None, pipes[0][1], pipes[1][1], pipes[2][0], pipes[3][1]]

    def abandon(self) -> None:
        """End a jail that no request came for."""
        if self.child:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.child, signal.SIGKILL)
            os.waitpid(self.child, 0)
        if self.group is not None:
            self.group.remove()


def prepare(state: State) -> Prepared:
    """Make a jail's namespaces and control group. Raises `SetupError`; then nothing is left."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ours.setblocking(False)
    made = Prepared(0, ours, theirs, None, [os.pipe() for _ in range(4)], None)
    for pipe, end in ((0, 0), (1, 0), (2, 1), (3, 0)):
        os.set_blocking(made.pipes[pipe][end], False)
    if state.mode == "process":
        return made
    made.order, order = socket.socketpair()
    identity = state.first_identity + os.getpid() % state.identities  # no two runs share one
    try:
        if state.groups is not None:
            with step("memory and process control"):
                made.group = state.groups.create(f"{PREFIX}{os.getppid()}-{os.getpid()}")
        with step("pid namespace"):
            linux.unshare(linux.CLONE_NEWPID)
            made.child = os.fork()
    except SetupError:
        made.abandon()
        raise
    if made.child == 0:
        made.order.close()
        plan = jail.Jail(
            state.mode,
            identity,
            state.executable,
            state.readable,
            state.landlock_abi,
            state.filter,
            made.group,
            made.streams(),
        )
        jail.init(plan, theirs, order)
    order.close()
    return made


def start(request: dict[str, Any], state: State, prepared: Prepared) -> Running:
    """Start the request's program in a jail prepared for it. Raises `SetupError`."""
    limits = request["limits"]
    if prepared.order is None:
        made = _start_bare(request, state, prepared)
    else:
        made = Running(prepared.child, prepared.report, [], None, None, prepared.group)
        if prepared.group is not None:
            with step("memory and process control"):  # init is one process more
                prepared.group.limit(limits["memory_mb"] << 20, limits["processes"] + 1)
        with contextlib.suppress(wire.Closed):  # init has failed, and its report says how
            wire.send(prepared.order, request)
        prepared.order.close()
    prepared.theirs.close()
    for stream in prepared.streams():
        if stream is not None:
            os.close(stream)
    made.outputs = [prepared.pipes[0][0], prepared.pipes[1][0]]
    if limits["session"]:
        made.to_worker, made.from_worker = prepared.pipes[2][1], prepared.pipes[3][0]
    return made


def _start_bare(request: dict[str, Any], state: State, prepared: Prepared) -> Running:
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
    streams = prepared.streams() if request["limits"]["session"] else prepared.streams()[:3]
    child = os.fork()
    if child == 0:
        _bare_init(request, state, streams, prepared.theirs, folder)
    running = Running(child, prepared.report, [], None, None, None, folder=folder)
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
