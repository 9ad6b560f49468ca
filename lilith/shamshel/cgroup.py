"""Memory and process counts held by control groups, version 1 or 2, where they are writable.

Folders are reached through descriptors, since the caller leaves the host's file system.
"""

from __future__ import annotations

import contextlib
import os
import time
from dataclasses import dataclass, field

PREFIX = "lilith-shamshel-"
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC


def _write(folder: int, name: str, text: str) -> None:
    descriptor = os.open(name, os.O_WRONLY | os.O_CLOEXEC, dir_fd=folder)
    try:
        os.write(descriptor, text.encode())
    finally:
        os.close(descriptor)


def _read(folder: int, name: str) -> str:
    descriptor = os.open(name, os.O_RDONLY | os.O_CLOEXEC, dir_fd=folder)
    try:
        return os.read(descriptor, 65536).decode()
    finally:
        os.close(descriptor)


def _counter(text: str, name: str) -> int:
    for line in text.splitlines():
        key, _, value = line.partition(" ")
        if key == name:
            return int(value)
    return 0


@dataclass
class Group:
    """One run's control group. `folders` are open descriptors, memory's first."""

    name: str
    version: int
    parents: list[int]
    folders: list[int] = field(default_factory=list)

    def limit(self, memory_bytes: int, processes: int) -> None:
        """Set the bounds, on the group's memory (swap included) and its tasks."""
        memory, pids = self.folders[0], self.folders[-1]
        if self.version == 1:
            _write(memory, "memory.limit_in_bytes", str(memory_bytes))
            with contextlib.suppress(OSError):  # absent where swap is not accounted
                _write(memory, "memory.memsw.limit_in_bytes", str(memory_bytes))
        else:
            _write(memory, "memory.max", str(memory_bytes))
            with contextlib.suppress(OSError):
                _write(memory, "memory.swap.max", "0")
            _write(memory, "memory.oom.group", "1")
        _write(pids, "pids.max", str(processes))

    def join(self) -> None:
        """Move the calling process into the group."""
        for folder in self.folders:
            _write(folder, "cgroup.procs", "0")

    def killed_for_memory(self) -> bool:
        """Whether the kernel killed a process of the group for want of memory."""
        name = "memory.oom_control" if self.version == 1 else "memory.events"
        return _counter(_read(self.folders[0], name), "oom_kill") > 0

    def peak_bytes(self) -> int:
        """The most memory in use at once; 0 where the kernel does not keep it."""
        name = "memory.max_usage_in_bytes" if self.version == 1 else "memory.peak"
        try:
            return int(_read(self.folders[0], name))
        except OSError:
            return 0

    def remove(self) -> None:
        """Remove the group once its processes are gone. Waits up to 2 s for the kernel."""
        for folder in self.folders:
            os.close(folder)
        self.folders = []
        for parent in self.parents:
            for _ in range(200):
                try:
                    os.rmdir(self.name, dir_fd=parent)
                except FileNotFoundError:
                    break
                except OSError:
                    time.sleep(0.01)
                else:
                    break


@dataclass
class Parent:
    """Where groups can be made. `folders` are open descriptors, memory's first."""

    version: int
    folders: list[int]

    def create(self, name: str) -> Group:
        """Make a group, without limits as yet. Raises `OSError`, and then leaves nothing."""
        group = Group(name, self.version, self.folders)
        try:
            for parent in self.folders:
                os.mkdir(name, 0o755, dir_fd=parent)
                group.folders.append(os.open(name, _FOLDER, dir_fd=parent))
        except OSError:
            group.remove()
            raise
        return group

    def remove(self, name: str) -> None:
        """Remove a group whose supervisor died before it could."""
        Group(name, self.version, self.folders).remove()


def _mounts(mountinfo: str) -> list[tuple[str, str, str, set[str]]]:
    """Return (kind, root, mount point, options) of each control group mount."""
    found = []
    for line in mountinfo.splitlines():
        left, _, right = line.partition(" - ")
        before, after = left.split(), right.split()
        if after and after[0] in ("cgroup", "cgroup2"):
            found.append((after[0], before[3], before[4], set(after[-1].split(","))))
    return found


def candidates(mountinfo: str, membership: str) -> list[tuple[int, list[str]]]:
    """Return the places to try: (version, folders with memory's first), likeliest first.

    `mountinfo` and `membership` are the texts of /proc/self/mountinfo and /proc/self/cgroup.
    """
    own = {}
    for line in membership.splitlines():
        _, controllers, path = line.split(":", 2)
        for controller in controllers.split(","):
            own[controller] = path
    places: dict[str, str] = {}
    for kind, root, point, options in _mounts(mountinfo):
        for controller in ("memory", "pids", ""):
            if controller in own and (
                (kind == "cgroup" and controller in options)
                or (kind == "cgroup2" and controller == "")
            ):
                inside = os.path.relpath(own[controller], root)
                places[controller] = os.path.normpath(os.path.join(point, inside))
    found: list[tuple[int, list[str]]] = []
    if "memory" in places and "pids" in places:
        folders = [places["memory"], places["pids"]]
        found.append((1, folders if folders[0] != folders[1] else folders[:1]))
    if "" in places:
        # A group with processes in it can not have limited children: next to it they can be.
        found.append((2, [places[""]]))
        found.append((2, [os.path.dirname(places[""])]))
    return found


def _try(version: int, paths: list[str]) -> Parent:
    folders: list[int] = []
    try:
        folders += [os.open(path, _FOLDER) for path in paths]
        parent = Parent(version, folders)
        group = parent.create(f"{PREFIX}{os.getpid()}-probe")
        try:
            group.limit(64 << 20, 8)
            child = os.fork()
            if child == 0:
                try:
                    group.join()
                    os._exit(0)
                except BaseException:
                    os._exit(1)
            if os.waitpid(child, 0)[1] != 0:
                raise OSError("a process could not be moved into a group")
        finally:
            group.remove()
        return parent
    except OSError:
        for folder in folders:
            os.close(folder)
        raise


def _sweep(parent: Parent) -> None:
    """Remove groups left by a machine-side kill of an earlier process."""
    for folder in parent.folders:
        for name in os.listdir(folder):
            owner = name.removeprefix(PREFIX).partition("-")[0]
            if name.startswith(PREFIX) and not os.path.exists(f"/proc/{owner}"):
                with contextlib.suppress(OSError):
                    os.rmdir(name, dir_fd=folder)


def find() -> tuple[Parent | None, str]:
    """Return where groups can be made and a sentence; None when nowhere is writable."""
    reason = "no control groups are mounted with memory and pids"
    try:
        with open("/proc/self/mountinfo") as mounts, open("/proc/self/cgroup") as own:
            places = candidates(mounts.read(), own.read())
    except OSError as error:
        return None, f"control groups can not be read: {error.strerror}"
    for version, paths in places:
        try:
            parent = _try(version, paths)
        except OSError as error:
            reason = f"version {version} at {paths[0]}: {error.strerror or error}"
            continue
        _sweep(parent)
        return parent, f"control groups, version {version}"
    return None, reason
