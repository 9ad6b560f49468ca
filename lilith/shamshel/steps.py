"""Naming the mechanism that failed, so that a refusal can say which one and what to do."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

# Every mechanism of the default level, in the order of defence, with what to do without it.
REMEDIES = {
    "own session": "run on Linux with a working fork",
    "closed descriptors": "run Linux 5.9 or newer",
    "spare user": "give root CAP_SETUID and CAP_SETGID, or start as an ordinary user",
    "user namespace": "set sysctl user.max_user_namespaces above 0 and, on Ubuntu, "
    "kernel.apparmor_restrict_unprivileged_userns to 0; in a container, allow unshare",
    "mount namespace": "set sysctl user.max_mnt_namespaces above 0",
    "pid namespace": "set sysctl user.max_pid_namespaces above 0",
    "network namespace": "set sysctl user.max_net_namespaces above 0",
    "ipc namespace": "set sysctl user.max_ipc_namespaces above 0",
    "uts namespace": "set sysctl user.max_uts_namespaces above 0",
    "cgroup namespace": "set sysctl user.max_cgroup_namespaces above 0",
    "private mounts": "run Linux 5.12 or newer; make the interpreter readable by everyone",
    "fresh proc": "in a container, start it with an unmasked /proc",
    "resource limits": "raise the hard limits under which this process was started",
    "memory and process control": "mount /proc with process information readable",
    "no capabilities": "run an ordinary Linux kernel, not an emulated one",
    "no_new_privs": "run Linux 3.5 or newer",
    "landlock": "run Linux 5.13 or newer with landlock in its lsm= list",
    "seccomp": "run a kernel with CONFIG_SECCOMP_FILTER on x86_64 or aarch64",
    "empty environment": "run an ordinary Linux kernel",
    "isolated interpreter": "make the interpreter and the folders above it readable by everyone",
}


class SetupError(Exception):
    """A mechanism could not be put in place. `mechanism` is a key of `REMEDIES`."""

    def __init__(self, mechanism: str, reason: str) -> None:
        super().__init__(f"{mechanism}: {reason}")
        self.mechanism = mechanism
        self.reason = reason


@contextmanager
def step(mechanism: str) -> Iterator[None]:
    """Turn an `OSError` raised inside into a `SetupError` for `mechanism`."""
    try:
        yield
    except OSError as error:
        raise SetupError(mechanism, error.strerror or str(error)) from error
    except NotImplementedError as error:
        raise SetupError(mechanism, str(error)) from error
