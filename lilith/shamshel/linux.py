"""The Linux calls that the sandbox needs and `os` lacks, through ctypes.

Every function raises `OSError` with the kernel's error number when the kernel says no.
"""

from __future__ import annotations

import ctypes
import os
import platform

CLONE_NEWNS = 0x00020000
CLONE_NEWCGROUP = 0x02000000
CLONE_NEWUTS = 0x04000000
CLONE_NEWIPC = 0x08000000
CLONE_NEWUSER = 0x10000000
CLONE_NEWPID = 0x20000000
CLONE_NEWNET = 0x40000000

MS_RDONLY = 1
MS_NOSUID = 2
MS_NODEV = 4
MS_NOEXEC = 8
MS_BIND = 4096
MS_MOVE = 8192
MS_REC = 16384
MS_PRIVATE = 1 << 18
MNT_DETACH = 2
MOUNT_ATTR_RDONLY = 1
MOUNT_ATTR_NOSUID = 2
MOUNT_ATTR_NODEV = 4
AT_FDCWD = -100
AT_RECURSIVE = 0x8000

PR_SET_PDEATHSIG = 1
PR_SET_DUMPABLE = 4
PR_SET_SECCOMP = 22
PR_CAPBSET_DROP = 24
PR_SET_SECUREBITS = 28
PR_SET_CHILD_SUBREAPER = 36
PR_SET_NO_NEW_PRIVS = 38
PR_CAP_AMBIENT = 47
PR_CAP_AMBIENT_CLEAR_ALL = 4
SECCOMP_MODE_FILTER = 2

CAP_SETUID = 7
CAP_SYS_ADMIN = 21
LAST_CAPABILITY = 63

_MACHINE = platform.machine()
_NUMBERS = {  # the same on every architecture since they came after the tables were unified
    "close_range": 436,
    "mount_setattr": 442,
    "landlock_create_ruleset": 444,
    "landlock_add_rule": 445,
    "landlock_restrict_self": 446,
}
_PIVOT_ROOT = {"x86_64": 155, "aarch64": 41}

# PyDLL keeps the interpreter lock: the callers are single-threaded children of a fork.
_libc = ctypes.PyDLL(None, use_errno=True)


def check(result: int, what: str) -> int:
    """Return `result`, or raise `OSError` naming `what` when it is negative."""
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")
    return result


def syscall(name: str, *arguments: object) -> int:
    """Make a system call that is newer than libc's wrappers."""
    return check(_libc.syscall(ctypes.c_long(_NUMBERS[name]), *arguments), name)


def unshare(flags: int) -> None:
    """Leave the namespaces in `flags` for fresh ones."""
    check(_libc.unshare(ctypes.c_int(flags)), "unshare")


def mount(source: str, target: str, kind: str, flags: int, options: str = "") -> None:
    """Mount, bind or change the propagation of a file system."""
    result = _libc.mount(
        source.encode(), target.encode(), kind.encode(), ctypes.c_ulong(flags), options.encode()
    )
    check(result, f"mount {kind or 'bind'} on {target}")


def unmount(target: str) -> None:
    """Detach the file system mounted on `target`."""
    check(_libc.umount2(target.encode(), MNT_DETACH), f"unmount {target}")


def set_mount_attributes(target: str, attributes: int, recursive: bool = True) -> None:
    """Add MOUNT_ATTR_* bits to the mount on `target`, and to all beneath it."""
    # struct mount_attr: set, clear, propagation, user namespace descriptor
    attr = (ctypes.c_uint64 * 4)(attributes, 0, 0, 0)
    flags = AT_RECURSIVE if recursive else 0
    path = ctypes.c_char_p(target.encode())
    syscall("mount_setattr", AT_FDCWD, path, flags, ctypes.byref(attr), ctypes.c_size_t(32))


def pivot_root(folder: str) -> None:
    """Make the mount on `folder` the root of this mount namespace; detach the old root."""
    number = _PIVOT_ROOT.get(_MACHINE)
    if number is None:
        raise OSError(38, f"pivot_root: no system call number known for {_MACHINE}")
    os.chdir(folder)
    check(_libc.syscall(ctypes.c_long(number), b".", b"."), "pivot_root")
    unmount(".")
    os.chdir("/")


def prctl(option: int, first: int = 0, second: int = 0) -> None:
    """Set a property of this process."""
    zero = ctypes.c_ulong(0)
    result = _libc.prctl(option, ctypes.c_ulong(first), ctypes.c_ulong(second), zero, zero)
    check(result, f"prctl {option}")


def close_descriptors(first: int) -> None:
    """Close every descriptor numbered `first` or above."""
    syscall("close_range", ctypes.c_uint(first), ctypes.c_uint(0xFFFFFFFF), ctypes.c_uint(0))


def capabilities() -> int:
    """Return the effective capability bits of this process."""
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)
    data = (ctypes.c_uint32 * 6)()
    check(_libc.capget(ctypes.byref(header), ctypes.byref(data)), "capget")
    return int(data[0]) | int(data[3]) << 32


def drop_capabilities() -> None:
    """Empty the effective, permitted, inheritable, ambient and bounding sets for good."""
    for capability in range(LAST_CAPABILITY + 1):
        try:
            prctl(PR_CAPBSET_DROP, capability)
        except OSError:  # past the last that this kernel knows
            break
    # no fix-ups for uid 0, ambient raise refused, all locked: nothing comes back by exec
    prctl(PR_SET_SECUREBITS, 0xEF)
    prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL)
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)
    data = (ctypes.c_uint32 * 6)()
    check(_libc.capset(ctypes.byref(header), ctypes.byref(data)), "capset")


def set_host_name(name: str) -> None:
    """Set the host name of this uts namespace."""
    raw = name.encode()
    check(_libc.sethostname(raw, ctypes.c_size_t(len(raw))), "sethostname")


def map_own_ids(uid: int, gid: int) -> None:
    """Map one user and one group to themselves in the user namespace just entered."""
    for name, text in (
        ("setgroups", "deny"),
        ("gid_map", f"{gid} {gid} 1"),
        ("uid_map", f"{uid} {uid} 1"),
    ):
        descriptor = os.open(f"/proc/self/{name}", os.O_WRONLY)
        try:
            os.write(descriptor, text.encode())
        finally:
            os.close(descriptor)


def namespaces(process: str = "self") -> dict[str, str]:
    """Return the identity of each namespace of a process, by kind."""
    kinds = ("user", "mnt", "pid", "net", "ipc", "uts", "cgroup")
    return {kind: os.readlink(f"/proc/{process}/ns/{kind}") for kind in kinds}


def install_filter(program: bytes) -> None:
    """Install a seccomp filter given as packed BPF instructions (8 bytes each)."""

    class Program(ctypes.Structure):
        _fields_ = [("length", ctypes.c_ushort), ("filter", ctypes.c_char_p)]

    prog = Program(len(program) // 8, program)
    address = ctypes.c_void_p(ctypes.addressof(prog))
    zero = ctypes.c_ulong(0)
    mode = ctypes.c_ulong(SECCOMP_MODE_FILTER)
    check(_libc.prctl(PR_SET_SECCOMP, mode, address, zero, zero), "seccomp")
