"""Running the attacks and looking at the host before and after.

Also a program, for running them as another user: `python shamshel_host.py OUTPUT.json`.
"""

from __future__ import annotations

import glob
import hashlib
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from lilith.shamshel import Limits, Run, Sandbox, verify

ATTACKS = Path(__file__).parent / "attacks"
SECRET = "LILITH-SECRET-IN-PARENT"
TESTS = """
def check(candidate):
    assert candidate(2, 3) == 5
    assert candidate(-4, 1) == -3
"""


def header(path: Path) -> dict[str, str]:
    """The attack's comment lines: Tries, Status, Limits."""
    return dict(re.findall(r"^# (\w+): (.*)$", path.read_text(), re.MULTILINE))


def descendants(process: int) -> set[str]:
    """The processes that a process started, and theirs."""
    found: set[str] = set()
    waiting = [str(process)]
    while waiting:
        for path in glob.glob(f"/proc/{waiting.pop()}/task/*/children"):
            try:
                children = Path(path).read_text().split()
            except OSError:
                continue
            waiting += children
            found.update(children)
    return found


def mounts() -> list[str]:
    """The mounts of this process, but for those that other programs' tests make in /tmp."""
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    return [m for m in lines if not m.split()[4].startswith("/tmp/pytest-") or "shamshel" in m]


def groups_of(process: int) -> list[str]:
    """The control groups made by a process's descendants."""
    found: list[str] = []
    for child in descendants(process):
        found += glob.glob(f"/sys/fs/cgroup/**/lilith-shamshel-{child}-*", recursive=True)
    return found


def command_line(process: str) -> str:
    """A process's arguments; "" when it is gone."""
    try:
        return Path(f"/proc/{process}/cmdline").read_text().replace("\0", " ")
    except OSError:
        return ""


class Host:
    """Things on the host that an attack must neither see nor change."""

    def __init__(self) -> None:
        self.folder = tempfile.mkdtemp(prefix="shamshel-host-")
        self.secret_file = f"{self.folder}/secret"
        Path(self.secret_file).write_text(SECRET)
        os.environ["LILITH_SECRET"] = SECRET
        self.secret_in_memory = bytearray(SECRET.encode() * 100)
        self.victim = subprocess.Popen(["sleep", "600"])
        self.server = socket.create_server(("127.0.0.1", 0))
        self.unix = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.unix.bind(f"{self.folder}/socket")
        self.abstract = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.abstract.bind(f"\0shamshel-{os.getpid()}")
        for listener in (self.server, self.unix, self.abstract):
            listener.setblocking(False)
        # left open and inheritable, as a careless caller would
        self.leaked = os.open(self.secret_file, os.O_RDONLY)
        os.set_inheritable(self.leaked, True)

    def files(self) -> dict[str, bytes | str]:
        """What every attack is told of the host."""
        return {
            "host.json": json.dumps(
                {
                    "pid": self.victim.pid,
                    "port": self.server.getsockname()[1],
                    "socket": f"{self.folder}/socket",
                    "abstract": f"shamshel-{os.getpid()}",
                    "secret_file": self.secret_file,
                }
            )
        }

    def processes(self) -> set[str]:
        """All descendants of this process."""
        return descendants(os.getpid())

    def state(self) -> dict[str, Any]:
        """What must be the same before and after: files, processes, cgroups, mounts."""
        files = {}
        for path in sorted(glob.glob(f"{self.folder}/*")):
            if os.path.isfile(path):
                files[path] = hashlib.sha256(Path(path).read_bytes()).hexdigest()
        mine = [p for p in glob.glob("/tmp/lilith-shamshel-*") if os.stat(p).st_uid == os.getuid()]
        return {
            "files": files,
            "listings": {f: sorted(os.listdir(f)) for f in ("/etc", "/usr", "/home", "/var/tmp")},
            "left": mine,
            # the zygote and one supervisor that waits with a jail: which one, changes
            "processes": len(self.processes()),
            "programs": [p for p in self.processes() if "/box/code" in command_line(p)],
            "groups": len(groups_of(os.getpid())),
            "mounts": mounts(),
            "descriptors": len(os.listdir("/proc/self/fd")),
            "victim": self.victim.poll(),
            "modules": os.path.getmtime(os.__file__),
        }

    def settled_state(self) -> dict[str, Any]:
        """The state once two looks agree: the zygote may be making its next jail ready."""
        state = self.state()
        for _ in range(50):
            time.sleep(0.02)
            last, state = state, self.state()
            if last == state:
                break
        return state

    def changes(self, before: dict[str, Any]) -> list[str]:
        """What differs from `before`, after two seconds at most for the last process to end."""
        for _ in range(200):
            after = self.state()
            if after == before:
                break
            time.sleep(0.01)
        return [f"{k} changed: {before[k]} {after[k]}" for k in before if before[k] != after[k]]

    def contacted(self) -> bool:
        """Whether anything reached one of the listening sockets."""
        for listener in (self.server, self.unix, self.abstract):
            try:
                listener.accept() if listener is self.server else listener.recv(1)
            except BlockingIOError:
                continue
            return True
        return False

    def close(self) -> None:
        """Remove all of it."""
        self.victim.kill()
        self.victim.wait()
        for listener in (self.server, self.unix, self.abstract):
            listener.close()
        os.close(self.leaked)
        shutil.rmtree(self.folder)


def limits_of(text: str) -> Limits:
    """The attack's own limits over those of the suite."""
    given: dict[str, Any] = {"wall_s": 1.0, "cpu_s": 5.0, "memory_mb": 128}
    for item in text.split():
        name, value = item.split("=")
        given[name] = float(value) if name.endswith("_s") else int(value)
    return Limits(**given)


def judge(run: Run, expected: str, elapsed_s: float, limits: Limits) -> list[str]:
    """What is wrong with a result."""
    problems = []
    if run.status not in expected.split("|"):
        problems.append(f"status {run.status}, not {expected}: {run.reason}{run.stderr[-500:]}")
    seen = run.stdout + run.stderr + repr(run.raw_stdout) + repr(run.files)
    if "ESCAPED" in seen:
        problems.append(f"escaped: {run.stdout[:500]}")
    if SECRET in seen:
        problems.append("the secret was read")
    if any(ord(c) < 32 and c not in "\n\t" for c in run.stdout + run.stderr):
        problems.append("control characters in the text")
    if any(ord(c) < 32 or c == "\x7f" for name in run.files for c in name):
        problems.append("control characters in a file name")
    if len(run.raw_stdout) > limits.output_kb << 10 or len(run.raw_stderr) > limits.output_kb << 10:
        problems.append("more output than the cap")
    if sum(map(len, run.files.values())) > limits.file_mb << 20:
        problems.append("more in files than the cap")
    # a tenth for samples taken every 10 ms while four processes allocate
    if run.peak_mb > limits.memory_mb * 1.5 + 32:
        problems.append(f"peak of {run.peak_mb:.0f} MiB")
    if elapsed_s > limits.wall_s + 1:
        problems.append(f"took {elapsed_s:.2f} s")
    return problems


def attack_sandbox(path: Path, host: Host) -> list[str]:
    """Run one attack on containment; returns what went wrong."""
    about = header(path)
    limits = limits_of(about.get("Limits", ""))
    before = host.settled_state()
    begin = time.monotonic()
    run = Sandbox(limits).run(path.read_text(), files=host.files())
    elapsed = time.monotonic() - begin
    problems = judge(run, about["Status"], elapsed, limits)
    problems += host.changes(before)
    if host.contacted():
        problems.append("a socket of the host was reached")
    return problems


def attack_verdict(path: Path, host: Host) -> list[str]:
    """Run one attack on the verdict, by cases and by tests; returns what went wrong."""
    source = path.read_text().replace("ENTRY", "add")
    limits = limits_of("wall_s=1.0 cpu_s=1.0")
    problems = []
    before = host.settled_state()
    for form in (
        {"cases": [((2, 3), {}, 5), ((-4, 1), {}, -3)]},
        {"tests": TESTS},
    ):
        begin = time.monotonic()
        verdict = verify(source, "add", limits=limits, **form)
        elapsed = time.monotonic() - begin
        if verdict.passed or not verdict.failures:
            problems.append(f"passed by {list(form)}")
        if any("refused" in str(f) for f in verdict.failures):
            problems.append(f"was not run: {verdict.text}")
        if elapsed > limits.wall_s + 1:
            problems.append(f"took {elapsed:.2f} s")
    problems += host.changes(before)
    return problems


def run_all(only: str = "") -> dict[str, list[str]]:
    """Run every attack; returns the problems of each, by the path in the attacks folder."""
    host = Host()
    results: dict[str, list[str]] = {}
    try:
        first = Sandbox().run("")  # the zygote is a process of this one from here on
        if first.status == "refused":
            raise SystemExit(f"REFUSED: {first.reason}")
        for path in sorted(ATTACKS.glob("*/*.py")):
            name = str(path.relative_to(ATTACKS))
            if only and not re.search(only, name):
                continue
            attack = attack_verdict if path.parent.name == "verdict" else attack_sandbox
            problems = attack(path, host)
            if problems and all(p.startswith("took") for p in problems):
                problems = attack(path, host)  # a loaded machine; once more
            results[name] = problems
    finally:
        host.close()
    return results


if __name__ == "__main__":
    found = run_all(*sys.argv[2:3])
    Path(sys.argv[1]).write_text(json.dumps({"uid": os.getuid(), "results": found}))
