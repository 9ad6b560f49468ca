"""Machines that lack something, simulated in a process of its own, and the level without jail."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

from lilith.shamshel import Limits, Sandbox

REPOSITORY = Path(__file__).resolve().parents[2]


def run_patched(patch: str, code: str) -> str:
    """Run code in a process whose zygote is patched first; returns what it printed."""
    program = f"""
import sys
sys.path.insert(0, {str(REPOSITORY)!r})
from lilith.shamshel import Limits, Sandbox, client, verify
client._BOOT = client._BOOT.replace("\\nmain()", {chr(10) + patch + chr(10) + "main()"!r})
assert {patch!r} in client._BOOT
{code}
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_without_control_groups_memory_is_watched() -> None:
    patch = "from shamshel import cgroup\ncgroup.find = lambda: (None, 'none')"
    bomb = "import os\nfor _ in range(3): os.fork()\nx = []\nwhile 1: x.append(b'1' * (1 << 20))"
    text = run_patched(
        patch,
        f"box = Sandbox(Limits(wall_s=20, memory_mb=128))\nrun = box.run({bomb!r})\n"
        "print(run.status, run.peak_mb < 400)\n"
        "print(box.capabilities()['memory and process control'])\n"
        "print(box.run('import mmap; mmap.mmap(-1, 4096)').status)",
    ).splitlines()
    assert text[0] == "memory True"
    assert "a watchdog over resident memory" in text[1]
    assert text[2] == "error"  # shared anonymous memory, which the watchdog could not see


@pytest.mark.parametrize("mechanism", ["network namespace", "landlock", "seccomp", "fresh proc"])
def test_each_step_that_fails_is_named(mechanism: str) -> None:
    patch = {
        "network namespace": "from shamshel import linux, jail\nkeep = linux.unshare\n"
        "def unshare(flags):\n    if flags == linux.CLONE_NEWNET: raise OSError(28, 'No space')\n"
        "    keep(flags)\nlinux.unshare = unshare",
        "landlock": "from shamshel import landlock\n"
        "def restrict(*_): raise OSError(1, 'Not permitted')\nlandlock.restrict = restrict",
        "seccomp": "from shamshel import linux\n"
        "def install(*_): raise OSError(22, 'Invalid')\nlinux.install_filter = install",
        "fresh proc": "from shamshel import jail\n"
        "def proc(*_): raise OSError(1, 'Not permitted')\njail._mount_proc = proc",
    }[mechanism]
    text = run_patched(
        patch,
        "box = Sandbox()\nrun = box.run('print(1)')\nprint(run.status, run.stdout, run.reason)\n"
        "print([n for n, c in box.capabilities().items() if c.remedy])",
    ).splitlines()
    assert text[0].startswith(f"refused  {mechanism}: ")
    assert "Remedy: " in text[0]
    assert text[1] == f"[{mechanism!r}]"


def test_the_process_level_counts_processes_and_clears_up() -> None:
    bare = Sandbox(Limits(level="process", processes=6, wall_s=10))
    many = "import os, time\nfor _ in range(20):\n    if os.fork() == 0:\n        time.sleep(60)\n"
    run = bare.run(many + "time.sleep(60)")
    assert run.status == "killed"
    assert run.wall_s < 8
    hidden = "import os\nos.mkdir('closed'); open('closed/x', 'w').close(); os.chmod('closed', 0)"
    before = set(Path("/tmp").glob("lilith-shamshel-*"))
    assert bare.run(hidden).status == "ok"
    deadline = time.monotonic() + 5  # others may use the sandbox at the same time
    while set(Path("/tmp").glob("lilith-shamshel-*")) - before and time.monotonic() < deadline:
        time.sleep(0.05)
    assert set(Path("/tmp").glob("lilith-shamshel-*")) - before == set()
    run = Sandbox(Limits(level="process", output_kb=1)).run("print('x' * 5000)")
    assert (run.status, run.cut) == ("output", ("stdout",))
