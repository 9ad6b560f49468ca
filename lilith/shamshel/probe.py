"""Finding out, mechanism by mechanism, what this machine gives the default level."""

from __future__ import annotations

import functools
import json
from dataclasses import dataclass
from typing import Any

from . import client, wire
from .client import Channel, Job, MechanismMissing
from .limits import Limits
from .linux import namespaces
from .steps import REMEDIES

# Run in a jail: what a program sees of its own confinement.
_LOOK = r"""
import errno, json, os, resource, socket, sys
def refused(action, *expected):
    try:
        action()
    except OSError as error:
        return error.errno in expected
    return False
status = dict(l.rstrip("\n").split(":\t", 1) for l in open("/proc/self/status") if ":\t" in l)
kinds = ("user", "mnt", "pid", "net", "ipc", "uts", "cgroup")
print(json.dumps({
    "ns": {k: os.readlink("/proc/self/ns/" + k) for k in kinds},
    "session": os.getsid(0) == os.getpid(),
    "descriptors": sorted(int(n) for n in os.listdir("/proc/self/fd"))[:8],
    "uid": os.getuid(), "environment": dict(os.environ),
    "mounts": [l.split()[4] for l in open("/proc/self/mountinfo")],
    "processes": [n for n in os.listdir("/proc") if n.isdigit()],
    "caps": status["CapEff"] + status["CapPrm"] + status["CapBnd"],
    "nnp": status["NoNewPrivs"], "seccomp": status["Seccomp"],
    "limits": [resource.getrlimit(resource.RLIMIT_NPROC), resource.getrlimit(resource.RLIMIT_FSIZE),
               resource.getrlimit(resource.RLIMIT_NOFILE)],
    "listing": refused(lambda: os.listdir("/"), errno.EACCES),
    "socket": refused(socket.socket, errno.EPERM),
    "isolated": [sys.flags.isolated, sys.flags.dont_write_bytecode],
}))
"""


@dataclass(frozen=True)
class Capability:
    """held: whether the mechanism is in force here. detail: what was found. remedy: if not."""

    held: bool
    detail: str
    remedy: str = ""


def _findings(seen: dict[str, Any], facts: dict[str, Any]) -> dict[str, tuple[bool, str]]:
    host = namespaces()
    limits = Limits()
    fresh = {kind: seen["ns"][kind] != host[kind] for kind in host}
    if facts["mode"] == "root":
        spare = (seen["uid"] != 0, f"runs as user {seen['uid']}")
    else:
        spare = (seen["uid"] != 0, "not started by root: runs as the same ordinary user")
    memory = (
        f"control groups, version {facts['cgroup']}"
        if facts["cgroup"]
        else "a watchdog over resident memory, every 10 ms (no writable control groups)"
    )
    bounds = [[limits.processes] * 2, [limits.file_mb << 20] * 2, [limits.files] * 2]
    names = {"mnt": "mount", "net": "network"}
    found = {
        "own session": (seen["session"], "leads its own session"),
        "closed descriptors": (
            set(seen["descriptors"]) <= {0, 1, 2, 3},  # 3: the listing itself
            f"open: {seen['descriptors']}",
        ),
        "spare user": spare,
    }
    for kind in host:
        name = f"{names.get(kind, kind)} namespace"
        found[name] = (fresh[kind], seen["ns"][kind])
    found |= {
        "private mounts": ("/box" in seen["mounts"], f"{len(seen['mounts'])} mounts"),
        "fresh proc": (len(seen["processes"]) == 1, f"sees processes {seen['processes']}"),
        "resource limits": (seen["limits"] == bounds, f"{seen['limits']}"),
        "memory and process control": (True, memory),
        "no capabilities": (not seen["caps"].strip("0"), "all sets are empty"),
        "no_new_privs": (seen["nnp"] == "1", "set"),
        "landlock": (seen["listing"], f"interface version {facts['landlock']}"),
        "seccomp": (seen["seccomp"] == "2" and seen["socket"], "allow-list in force"),
        "empty environment": (not seen["environment"], f"{seen['environment']}"),
        "isolated interpreter": (seen["isolated"] == [1, 1], "python -I -B"),
    }
    return found


def _failed(mechanism: str, reason: str) -> dict[str, Capability]:
    found = {}
    for name in REMEDIES:
        detail = reason if name == mechanism else f"not probed: {mechanism} is lacking"
        remedy = REMEDIES[name] if name == mechanism else ""
        found[name] = Capability(False, detail, remedy)
    if mechanism not in REMEDIES:
        found[mechanism] = Capability(False, reason)
    return found


@functools.lru_cache(maxsize=16)
def capabilities(packages: tuple[str, ...] = ()) -> dict[str, Capability]:
    """Start a jail and look from inside; remembered. In the order of defence."""
    try:
        job = Job(Limits(), ["/box/code/main.py"], {"main.py": _LOOK.encode()}, packages=packages)
        with Channel(job) as channel:
            message = channel.result()
        facts = client.zygote(packages, "default").facts
    except MechanismMissing as error:
        return _failed(error.mechanism, error.reason)
    except (wire.Closed, OSError) as error:
        return _failed("own session", str(error))
    if message.get("failure"):
        return _failed(*message["failure"])
    if message["status"] != "ok":
        lines = message["stderr"].decode("utf-8", "replace").strip().rsplit("\n", 1)
        return _failed("isolated interpreter", f"{message['status']}: {lines[-1]}")
    seen = json.loads(message["stdout"])
    if packages:
        seen["environment"] = {}  # the two variables that hold libraries to one thread
    found = _findings(seen, facts)
    return {
        name: Capability(*found[name], remedy="" if found[name][0] else REMEDIES[name])
        for name in REMEDIES
    }
