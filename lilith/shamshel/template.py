"""The zygote's own surroundings: privileges, and a root folder with Python and nothing else.

Built once; each run then makes fresh namespaces from it.
"""

from __future__ import annotations

import os
from typing import Any

from . import linux
from .steps import SetupError, step

BOX = "/box"
WORK = "/box/work"
_DEVICES = ("null", "random", "urandom")
_LINKS = {
    "/tmp": "/box/tmp",
    "/dev/shm": "/box/tmp",
    "/dev/fd": "/proc/self/fd",
    "/dev/stdin": "/proc/self/fd/0",
    "/dev/stdout": "/proc/self/fd/1",
    "/dev/stderr": "/proc/self/fd/2",
}
# Far above what distributions give to people and services.
_SPARE_BASE, _SPARE_COUNT = 1_879_048_192, 1 << 22
_SPARE_SMALL, _SPARE_SMALL_COUNT = 61_000, 3_000  # where a container maps only 65,536


def _mapped(path: str, identity: int) -> bool:
    with open(path) as lines:
        ranges = [[int(number) for number in line.split()] for line in lines]
    return any(first <= identity < first + count for first, _, count in ranges)


def spare_base() -> tuple[int, int]:
    """Return the first spare user and group id, and how many follow."""
    top = _SPARE_BASE + _SPARE_COUNT - 1
    if _mapped("/proc/self/uid_map", top) and _mapped("/proc/self/gid_map", top):
        return _SPARE_BASE, _SPARE_COUNT
    return _SPARE_SMALL, _SPARE_SMALL_COUNT


def become(identity: int) -> None:
    """Turn this process into the ordinary user and group `identity`, for good."""
    with step("spare user"):
        os.setgroups([])
        os.setresgid(identity, identity, identity)
        os.setresuid(identity, identity, identity)
        linux.prctl(linux.PR_SET_DUMPABLE, 1)  # else its own /proc files belong to root


def take_privileges() -> tuple[str, int, int]:
    """Get the right to make namespaces. Returns ("root" or "user", first spare id, count).

    Root with full rights keeps them until each run gives them up. Anyone else, and a root that
    a container has stripped, enters a user namespace of its own.
    """
    powers = linux.capabilities()
    base, count = spare_base()
    if os.geteuid() == 0 and powers >> linux.CAP_SYS_ADMIN & 1:
        return "root", base, count
    if os.geteuid() == 0:
        become(base + os.getpid() % count)
    uid, gid = os.geteuid(), os.getegid()
    with step("user namespace"):
        linux.unshare(linux.CLONE_NEWUSER)
        linux.map_own_ids(uid, gid)
    return "user", uid, 1


def _make_target(path: str, folder: bool) -> None:
    if folder:
        os.makedirs(path, exist_ok=True)
        return
    os.makedirs(os.path.dirname(path), exist_ok=True)
    if not os.path.lexists(path):
        os.close(os.open(path, os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC, 0o644))


def _bind(opened: dict[str, int], source: str, target: str) -> None:
    path = f"/proc/self/fd/{opened[source]}"
    _make_target(target, os.path.isdir(path))
    linux.mount(path, target, "", linux.MS_BIND)


def _open_sources(sources: list[str]) -> dict[str, int]:
    opened = {}
    for source in sources:
        try:
            opened[source] = os.open(source, os.O_PATH | os.O_CLOEXEC)
        except OSError as error:
            raise SetupError("private mounts", f"{source}: {error.strerror}") from error
    return opened


def _fill(root: str, plan: dict[str, Any], opened: dict[str, int]) -> None:
    for source, target in plan["binds"]:
        _bind(opened, source, root + target)
    for path in plan["hidden"]:
        packages = [pair for pair in plan["package_binds"] if pair[1].startswith(path + "/")]
        if not packages and not os.path.isdir(root + path):
            continue
        os.makedirs(root + path, exist_ok=True)
        linux.mount("none", root + path, "tmpfs", linux.MS_NOSUID, "mode=755,size=256k")
        for source, target in packages:
            _bind(opened, source, root + target)
    for folder in ("/proc", "/dev", BOX):
        os.makedirs(root + folder, exist_ok=True)
    for link, target in _LINKS.items():
        if not os.path.lexists(root + link):
            os.symlink(target, root + link)
    for name in _DEVICES:
        _make_target(f"{root}/dev/{name}", folder=False)


def _readable(plan: dict[str, Any]) -> list[str]:
    """The folders that a run may read, seen from the new root."""
    targets = [target for _, target in plan["binds"]] + list(plan["hidden"])
    folders = {t if os.path.isdir(t) else os.path.dirname(t) for t in targets}
    return sorted(folder for folder in folders if os.path.isdir(folder))


def build_root(plan: dict[str, Any], keep_proc: bool) -> list[str]:
    """Leave the host's file system for a read-only root of the interpreter's files.

    Returns the folders in it that hold them.

    `plan` holds binds, hidden and package_binds, as in `interpreter.Interpreter`. `keep_proc`
    leaves the host's /proc mounted, which the kernel wants to see before an ordinary user may
    mount a fresh one; each run takes it away. Raises `SetupError`.
    """
    os.umask(0o022)
    with step("mount namespace"):
        linux.unshare(linux.CLONE_NEWNS)
    devices = [f"/dev/{name}" for name in _DEVICES]
    pairs = [*plan["binds"], *plan["package_binds"]]
    with step("private mounts"):
        linux.mount("none", "/", "", linux.MS_REC | linux.MS_PRIVATE)
        opened = _open_sources([source for source, _ in pairs] + devices + ["/proc"])
        root = "/tmp" if os.path.isdir("/tmp") else "/mnt"
        flags = linux.MS_NOSUID | linux.MS_NODEV
        linux.mount("none", root, "tmpfs", flags, "mode=755,size=1m")
        os.chdir("/")
        _fill(root, plan, opened)
        quiet = linux.MOUNT_ATTR_RDONLY | linux.MOUNT_ATTR_NOSUID
        linux.set_mount_attributes(root, quiet | linux.MOUNT_ATTR_NODEV)
        for device in devices:
            linux.mount(f"/proc/self/fd/{opened[device]}", root + device, "", linux.MS_BIND)
            linux.set_mount_attributes(root + device, linux.MOUNT_ATTR_NOSUID, recursive=False)
        if keep_proc:
            flags = linux.MS_BIND | linux.MS_REC
            linux.mount(f"/proc/self/fd/{opened['/proc']}", root + "/proc", "", flags)
        linux.pivot_root(root)
        for descriptor in opened.values():
            os.close(descriptor)
        return _readable(plan)
