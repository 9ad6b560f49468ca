"""Every attack, at the default level, as root and as an ordinary user."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import shamshel_host
import shamshel_user

HERE = Path(__file__).parent
NAMES = [str(p.relative_to(shamshel_host.ATTACKS)) for p in shamshel_host.ATTACKS.glob("*/*.py")]
Results = dict[str, list[str]]


class Suites:
    """The two runs of all attacks, each in a process of its own, at the same time."""

    def __init__(self) -> None:
        self.folder = tempfile.TemporaryDirectory()
        os.chmod(self.folder.name, 0o777)
        script = str(HERE / "shamshel_host.py")
        self.running: dict[str, subprocess.Popen[str]] = {}
        self.results: dict[str, Results] = {}
        users = {"user": [str(HERE / "shamshel_user.py"), script], "root": [script]}
        if os.geteuid() != 0:
            users = {"user": [script]}
        for user, command in users.items():
            self.running[user] = subprocess.Popen(
                [sys.executable, *command, self.path(user)], text=True, stderr=subprocess.PIPE
            )

    def path(self, user: str) -> str:
        return f"{self.folder.name}/{user}.json"

    def of(self, user: str) -> Results:
        """Wait for one of them."""
        if user not in self.running:
            pytest.skip("the suite was not started by root, so root's half can not run")
        if user not in self.results:
            _, errors = self.running[user].communicate(timeout=240)
            if errors.startswith("REFUSED") and user == "user" and len(self.running) == 2:
                pytest.skip(f"this machine gives ordinary users no jail: {errors.strip()}")
            assert self.running[user].returncode == 0, errors
            found = json.loads(Path(self.path(user)).read_text())
            assert (found["uid"] == 0) == (user == "root")
            self.results[user] = found["results"]
        return self.results[user]

    def close(self) -> None:
        for process in self.running.values():
            process.kill()
            process.wait()
        self.folder.cleanup()


@pytest.fixture(scope="module")
def suites() -> Iterator[Suites]:
    """Both runs, started once."""
    made = Suites()
    yield made
    made.close()


@pytest.mark.slow  # the first of them waits for the whole of the attacks
@pytest.mark.parametrize("user", ["root", "user"])
@pytest.mark.parametrize("name", sorted(NAMES))
def test_attack_is_held(suites: Suites, name: str, user: str) -> None:
    assert suites.of(user)[name] == []


def test_there_are_enough_and_each_says_what_it_tries() -> None:
    assert len(NAMES) >= 60
    for name in NAMES:
        first = (shamshel_host.ATTACKS / name).read_text().partition("\n")[0]
        assert first.startswith("# Tries: "), name
        assert len(first) > len("# Tries: sleep") - 1, name


def test_the_ordinary_user_is_one(suites: Suites) -> None:
    suites.of("user")
    assert shamshel_user.NOBODY != 0


def test_the_harness_notices_what_is_left_behind() -> None:
    host = shamshel_host.Host()
    try:
        before = host.settled_state()
        Path(host.secret_file).write_text("changed")
        child = subprocess.Popen(["sleep", "5"])
        found = host.changes(before)
        child.kill()
        child.wait()
        assert any(text.startswith("files changed") for text in found)
        assert any(text.startswith("processes changed") for text in found)
    finally:
        host.close()
