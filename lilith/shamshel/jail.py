"""The two processes of a run: the namespace's init, and the program that it starts.

Both are forks of the zygote and run no hostile code until `_program` calls exec.
"""

from __future__ import annotations

import os
import resource
import signal
import socket
from dataclasses import dataclass, field
from typing import Any, NoReturn

from . import landlock, linux, tester, wire
from .cgroup import Group
from .steps import SetupError, step
from .template import BOX, WORK

_MIB = 1 << 20
_NAMESPACES = (
    ("mount namespace", linux.CLONE_NEWNS),
    ("network namespace", linux.CLONE_NEWNET),
    ("ipc namespace", linux.CLONE_NEWIPC),
    ("uts namespace", linux.CLONE_NEWUTS),
)


@dataclass
class Jail:
    """What a run's processes need to know.

    mode: "root" or "user". identity: the user that the program runs as. streams: descriptors for
    stdin (None: the request's own bytes), stdout and stderr, and two more that a session uses.
    request: what to run, known last.
    """

    mode: str
    identity: int
    executable: str
    readable: list[str]
    landlock_abi: int
    filter: bytes
    group: Group | None
    streams: list[int | None]
    request: dict[str, Any] = field(default_factory=dict)


def send_failure(report: socket.socket, error: SetupError) -> None:
    """Tell the supervisor which mechanism failed."""
    text = f"{error.mechanism}\n{error.reason}"
    report.send(b"F" + text.encode("utf-8", "replace")[:4000])


def init(jail: Jail, report: socket.socket, order: socket.socket) -> NoReturn:
    """Be process 1: make the namespaces, await the request on `order`, let the program go, reap.

    The program's process is forked and has its user namespace before the request comes, since
    that is the slow part.
    """
    code = 1
    try:
        linux.prctl(linux.PR_SET_PDEATHSIG, signal.SIGKILL)
        os.setsid()
        _surroundings(jail)
        begin, theirs = socket.socketpair()
        program = os.fork()
        if program == 0:
            begin.close()
            _program(jail, report, theirs)
        theirs.close()
        _map_ids(jail, program, begin)
        jail.request = wire.receive(order)
        with step("private mounts"):
            _mount_box(jail)
        folders = [os.open(path, os.O_RDONLY | os.O_DIRECTORY) for path in ("/proc", WORK)]
        socket.send_fds(report, [b"R"], folders)
        wire.send(begin, {**jail.request, "program": {}, "files": {}, "stdin": b""})
        report = _guard(report)
        while True:
            ended, status = os.wait()
            if ended == program:
                break
        report.send(b"E%d" % status)
        code = 0
    except wire.Closed:  # no request came
        code = 0
    except SetupError as error:
        send_failure(report, error)
    except BaseException as error:
        send_failure(report, SetupError("isolated interpreter", f"{type(error).__name__}: {error}"))
    finally:
        os._exit(code)


def _map_ids(jail: Jail, program: int, begin: socket.socket) -> None:
    """As root, give the program's user namespace its one user: it may not map another's itself."""
    if jail.mode != "root" or not begin.recv(1):
        return
    for name in ("gid_map", "uid_map"):
        with open(f"/proc/{program}/{name}", "w") as file:
            file.write(f"{jail.identity} {jail.identity} 1")
    begin.send(b".")


def _enter_user_namespace(jail: Jail, begin: socket.socket) -> None:
    with step("cgroup namespace"):
        linux.unshare(linux.CLONE_NEWCGROUP)
    if jail.mode != "root":
        identity, group = os.getuid(), os.getgid()
        with step("user namespace"):
            linux.unshare(linux.CLONE_NEWUSER)
            linux.map_own_ids(identity, group)
        return
    # Entered as root, since some distributions give no rights inside to those who are not.
    with step("user namespace"):
        os.setgroups([])
        linux.unshare(linux.CLONE_NEWUSER)
        begin.send(b".")
        if not begin.recv(1):
            raise OSError("init could not map the user")
    with step("spare user"):
        os.setresgid(jail.identity, jail.identity, jail.identity)
        os.setresuid(jail.identity, jail.identity, jail.identity)
        linux.prctl(linux.PR_SET_DUMPABLE, 1)  # else its own /proc files belong to root


def _guard(report: socket.socket) -> socket.socket:
    """Give up every right and descriptor: nothing in the jail may gain by reaching init."""
    kept = os.dup2(report.detach(), 3, inheritable=False)
    linux.close_descriptors(4)
    for stream in range(3):
        os.close(stream)
    linux.drop_capabilities()
    linux.prctl(linux.PR_SET_NO_NEW_PRIVS, 1)
    linux.prctl(linux.PR_SET_DUMPABLE, 0)
    linux.prctl(linux.PR_SET_PDEATHSIG, signal.SIGKILL)  # a change of rights may clear it
    return socket.socket(fileno=kept)


def _surroundings(jail: Jail) -> None:
    if jail.group is not None:
        # Before the request is known, since the kernel may take 10 ms to move a process.
        with step("memory and process control"):
            jail.group.join()
    for mechanism, flag in _NAMESPACES:
        with step(mechanism):
            linux.unshare(flag)
    with step("uts namespace"):
        linux.set_host_name("jail")
    with step("fresh proc"):
        _mount_proc(jail.mode)


def _mount_box(jail: Jail) -> None:
    request, limits = jail.request, jail.request["limits"]
    given = {"work": request["files"], "code": request["program"]}
    contents = sum(-(-len(raw) // 4096) for files in given.values() for raw in files.values())
    pages = limits["file_mb"] * 256 + contents + -(-len(request["stdin"]) // 4096) + 4
    names = [name for files in given.values() for name in files]
    nodes = limits["files"] + sum(1 + name.count("/") for name in names) + 8
    flags = linux.MS_NOSUID | linux.MS_NODEV | linux.MS_NOEXEC
    options = f"mode=755,nr_blocks={pages},nr_inodes={nodes}"
    linux.mount("none", BOX, "tmpfs", flags, options)
    for folder in ("work", "tmp", "code"):
        os.mkdir(f"{BOX}/{folder}", 0o755)
    write_files(f"{BOX}/code", request["program"])
    made = write_files(WORK, request["files"])
    with open(f"{BOX}/code/stdin", "xb") as file:
        file.write(request["stdin"])
    if jail.mode == "root":
        for path in (WORK, f"{BOX}/tmp", *made):
            os.chown(path, jail.identity, jail.identity)


def write_files(folder: str, files: dict[str, bytes]) -> list[str]:
    """Write files beneath a folder; returns every path made. Names were checked by the caller."""
    made = []
    for name, raw in files.items():
        path = folder
        *parents, last = name.split("/")
        for part in parents:
            path = f"{path}/{part}"
            if not os.path.isdir(path):
                os.mkdir(path, 0o755)
                made.append(path)
        with open(f"{path}/{last}", "xb") as file:
            file.write(raw)
        made.append(f"{path}/{last}")
    return made


def _mount_proc(mode: str) -> None:
    flags = linux.MS_NOSUID | linux.MS_NODEV | linux.MS_NOEXEC
    # hidden from one another: init, and what is not about processes
    options = "subset=pid,hidepid=invisible"
    if mode == "root":
        linux.mount("proc", "/proc", "proc", flags, options)
        return
    linux.mount("proc", BOX, "proc", flags, options)  # while the host's can still be seen
    linux.unmount("/proc")
    linux.mount(BOX, "/proc", "", linux.MS_MOVE)


def set_limits(limits: dict[str, Any], watched: bool) -> None:
    """Set the resource limits of this process, and so of all that it starts."""
    memory = limits["memory_mb"] * _MIB
    cpu = int(limits["cpu_s"]) + 2  # the supervisor ends it at cpu_s; this holds without it
    stacks = limits["processes"] * 8 * _MIB
    bounds = {
        resource.RLIMIT_CORE: 1,  # 0 would still start the host's handler for core dumps
        resource.RLIMIT_DATA: memory + stacks,
        resource.RLIMIT_FSIZE: limits["file_mb"] * _MIB,
        resource.RLIMIT_NOFILE: limits["files"],
        resource.RLIMIT_MEMLOCK: 0,
        resource.RLIMIT_MSGQUEUE: 0,
        resource.RLIMIT_NICE: 0,
        resource.RLIMIT_RTPRIO: 0,
        resource.RLIMIT_SIGPENDING: 256,
        resource.RLIMIT_STACK: 8 * _MIB,
    }
    if not limits["session"]:  # a session's processor time is counted cell by cell
        bounds[resource.RLIMIT_CPU] = cpu
    if watched:
        bounds[resource.RLIMIT_AS] = 4 * memory + (1 << 30)
    for name, bound in bounds.items():
        hard = resource.getrlimit(name)[1]
        if hard != resource.RLIM_INFINITY:
            bound = min(bound, hard)
        resource.setrlimit(name, (bound, bound))


def place_streams(streams: list[int | None], stdin: str, report: int) -> int:
    """Put the streams at descriptors 0, 1, ...; close all others but `report`, which moves.

    Returns the descriptor of `report`, to be closed by exec.
    """
    opened = [os.open(stdin, os.O_RDONLY) if s is None else s for s in streams]
    above = max(*opened, report) + 1  # clear of the low numbers while moving
    high = [os.dup2(descriptor, above + i) for i, descriptor in enumerate([*opened, report])]
    for target, descriptor in enumerate(high):
        os.dup2(descriptor, target, inheritable=target < len(opened))
    linux.close_descriptors(len(high))
    return len(high) - 1


def _rules(readable: list[str]) -> list[tuple[str, int]]:
    read = landlock.READ
    rules = [(f"{BOX}/code", read), (WORK, landlock.WRITE), (f"{BOX}/tmp", landlock.WRITE)]
    rules += [("/proc", read), ("/dev/null", read | landlock.WRITE)]
    rules += [("/dev/random", read), ("/dev/urandom", read)]
    return rules + [(folder, read | landlock.EXECUTE) for folder in readable]


def _confine(jail: Jail) -> None:
    """Give up, in order: resources, rights, files, system calls."""
    limits = jail.request["limits"]
    with step("resource limits"):
        with open("/proc/self/oom_score_adj", "w") as score:
            score.write("1000")  # the first to go when the machine itself runs short
        resource.setrlimit(resource.RLIMIT_NPROC, (limits["processes"], limits["processes"]))
        set_limits(limits, watched=jail.group is None)
    with step("no capabilities"):
        linux.drop_capabilities()
    with step("no_new_privs"):
        linux.prctl(linux.PR_SET_NO_NEW_PRIVS, 1)
    with step("landlock"):
        landlock.restrict(_rules(jail.readable), jail.landlock_abi)
    with step("seccomp"):
        linux.install_filter(jail.filter)


def _program(jail: Jail, report: socket.socket, begin: socket.socket) -> NoReturn:
    try:
        with step("own session"):
            os.setsid()
        _enter_user_namespace(jail, begin)
        jail.request = wire.receive(begin)
        with step("closed descriptors"):
            used = jail.streams if jail.request["limits"]["session"] else jail.streams[:3]
            kept = place_streams(used, f"{BOX}/code/stdin", report.detach())
        report = socket.socket(fileno=kept)
        os.chdir(WORK)
        _confine(jail)
        if jail.request["trusted"]:  # in this very interpreter: it saves starting another
            signal.signal(signal.SIGINT, signal.SIG_DFL)
            report.close()
            tester.main(f"{BOX}/code")
            os._exit(0)
        with step("isolated interpreter"):
            arguments = [jail.executable, "-I", "-B", *jail.request["argv"]]
            os.execve(jail.executable, arguments, jail.request["env"])
    except SetupError as error:
        send_failure(report, error)
    except BaseException as error:
        send_failure(report, SetupError("isolated interpreter", f"{type(error).__name__}: {error}"))
    finally:
        os._exit(127)
