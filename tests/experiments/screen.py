"""A terminal with the command line in it, as tests read and type it."""

from __future__ import annotations

import os
import pathlib
import pty
import re
import select
import subprocess
import sys
import time

import pytest
from tiny_run import ROOT

SECONDS = 60
CTRL_C = "\x03"
STYLE = re.compile(r"\x1b\[[0-9;?]*[a-zA-Z]|\x1b(\[[0-9;?]*)?$")  # whole, or cut off at the end


class Screen:
    """A terminal with the process of ``child`` in it, a file beside this one.

    ``shown`` is all that was printed, without styles.
    """

    def __init__(self, child: str, *arguments: str, **environment: str) -> None:
        self._master, slave = pty.openpty()
        self.process = subprocess.Popen(
            [sys.executable, str(pathlib.Path(__file__).with_name(child)), *arguments],
            stdin=slave, stdout=slave, stderr=slave, start_new_session=True, cwd=ROOT,
            env=os.environ | {"JAX_PLATFORMS": "cpu", "PYTHONPATH": str(ROOT), "TERM": "xterm",
                              "COLUMNS": "100"} | environment,
        )  # fmt: skip
        os.close(slave)
        self.raw, self._seen = b"", 0

    @property
    def shown(self) -> str:
        return STYLE.sub("", self.raw.decode(errors="replace")).replace("\r\n", "\n")

    def wait_for(self, text: str) -> str:
        """Read until ``text`` comes after what was last waited for; returns what came before."""
        end = time.monotonic() + SECONDS
        while (at := self.shown.find(text, self._seen)) < 0:
            if not self._read(end - time.monotonic()):
                pytest.fail(f"{text!r} did not come; shown:\n{self.shown[self._seen :]}")
        before = self.shown[self._seen : at]
        self._seen = at + len(text)
        return before

    def type(self, text: str) -> None:
        os.write(self._master, text.encode())

    def interrupt(self) -> None:
        """Ctrl-C, but not just when readline has shown its prompt and does not yet wait."""
        time.sleep(0.3)
        self.type(CTRL_C)

    def ask(self, line: str) -> None:
        """Type a line once there is a prompt, and wait for its echo."""
        self.wait_for("> ")
        self.type(line + "\n")
        self.wait_for(f"{line}\n")

    def exit_code(self) -> int:
        end = time.monotonic() + SECONDS
        while self._read(max(0.0, end - time.monotonic())):
            pass
        return self.process.wait(timeout=SECONDS)

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self._master)

    def _read(self, seconds: float) -> bool:
        if seconds <= 0 or not select.select([self._master], [], [], seconds)[0]:
            return False
        try:
            data = os.read(self._master, 65536)
        except OSError:  # how Linux says that nobody has the other end
            return False
        self.raw += data
        return bool(data)
