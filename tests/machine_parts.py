"""Pieces of the machine that tests in several rooms need: a free port, a small disk."""

from __future__ import annotations

import contextlib
import pathlib
import socket
import subprocess
from collections.abc import Callable, Iterator

import pytest


def free_port() -> int:
    """A port of this machine that nothing listens on."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        return free.getsockname()[1]


@contextlib.contextmanager
def small_disk(folder: pathlib.Path, limit: str) -> Iterator[Callable[[str], None]]:
    """A file system with ``limit``, a mount option, at ``folder``; yields what gives it another."""
    folder.mkdir(exist_ok=True)

    def mount(options: str) -> None:
        command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
        try:
            mounted = subprocess.run(command, capture_output=True, text=True, timeout=20)
        except FileNotFoundError:
            pytest.skip("a full disk needs a small file system, and there is no mount command")
        if mounted.returncode:
            pytest.skip(f"a full disk needs a small file system: {mounted.stderr.strip()}")

    mount(limit)
    try:
        yield lambda other: mount(f"remount,{other}")
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True, timeout=20)
