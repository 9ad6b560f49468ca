"""The chat as a person meets it: in a pseudo-terminal, with Ctrl-C and Ctrl-D."""

from __future__ import annotations

import json
import os
import pathlib
import pty
import re
import select
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest
from tiny_run import ROOT

CHILD = pathlib.Path(__file__).with_name("chat_child.py")
SECONDS = 60
CTRL_C, CTRL_D = "\x03", "\x04"
STYLE = re.compile(r"\x1b\[[0-9;?]*[a-zA-Z]|\x1b(\[[0-9;?]*)?$")  # whole, or cut off at the end


class Screen:
    """A terminal with the chat in it. ``shown`` is all that was printed, without styles."""

    def __init__(self, *arguments: str, **environment: str) -> None:
        self._master, slave = pty.openpty()
        self.process = subprocess.Popen(
            [sys.executable, str(CHILD), *arguments],
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


@pytest.fixture
def screen(tmp_path: pathlib.Path) -> Iterator[Screen]:
    opened = Screen("--workdir", str(tmp_path / "run"))
    yield opened
    opened.close()


def test_a_conversation(screen: Screen, tmp_path: pathlib.Path) -> None:
    screen.wait_for("loading smollm2-135m-instruct")
    screen.wait_for("fake: 0 parameters")
    screen.wait_for("/help lists the commands")
    screen.ask("hello you")
    screen.wait_for("1: hello you\n")
    screen.wait_for("12 tokens")
    screen.wait_for("first after")
    screen.ask("more")
    screen.wait_for("2: more\n")
    screen.ask("/rest")
    screen.wait_for("unknown command '/rest' (did you mean '/reset'?)")
    screen.ask("/system Be brief.")
    screen.wait_for("the system prompt is set")
    screen.ask("/save talk.json")
    path = ROOT / "talk.json"
    try:
        screen.wait_for("saved 4 messages in talk.json")
        assert json.loads(path.read_text())["messages"][0]["content"] == "Be brief."
    finally:
        path.unlink(missing_ok=True)
    screen.ask("/save")
    screen.wait_for("saved 4 messages in")
    assert len(list((tmp_path / "run").glob("chat-*.json"))) == 1
    screen.ask("/help")
    screen.wait_for("Ctrl-C twice at the empty prompt")
    screen.ask("/reset")
    screen.wait_for("the conversation is empty")
    screen.ask(" /usr is a folder?")
    screen.wait_for("1:  /usr is a folder?\n")
    screen.ask("/quit")
    assert screen.exit_code() == 0


def test_ctrl_c_stops_the_answer_and_not_the_program(screen: Screen) -> None:
    screen.ask("slow " + "word " * 90 + "end")
    screen.wait_for("1: slow word word")
    screen.interrupt()
    rest = screen.wait_for("stopped,")
    assert "end" not in rest
    screen.ask("and now")
    screen.wait_for("2: and now\n")
    screen.ask("slow mute")  # the second Ctrl-C interrupts what does not look at the first
    screen.wait_for("3: slow")
    screen.interrupt()
    screen.interrupt()
    screen.wait_for("stopped,")
    screen.ask("still here")
    screen.wait_for("4: still here\n")
    assert "Traceback" not in screen.shown


def test_ctrl_c_at_the_prompt_leaves_the_second_time(screen: Screen) -> None:
    screen.ask("hi")
    screen.wait_for("> ")
    screen.type("half a ques")
    screen.wait_for("half a ques")
    screen.interrupt()  # gives up the line, and is no first one
    screen.wait_for("> ")
    screen.interrupt()
    screen.wait_for("Ctrl-C again leaves")
    screen.ask("more")  # a question between them starts the count again
    screen.wait_for("2: more")
    screen.wait_for("> ")
    screen.interrupt()
    screen.wait_for("Ctrl-C again leaves")
    screen.wait_for("> ")
    screen.interrupt()
    assert screen.exit_code() == 0
    assert "Traceback" not in screen.shown


def test_ctrl_d_leaves(screen: Screen) -> None:
    screen.wait_for("> ")
    screen.type(CTRL_D)
    assert screen.exit_code() == 0


def test_what_the_model_says_can_not_steer_the_terminal(screen: Screen) -> None:
    screen.wait_for("> ")
    screen.type("a\x16\x1b[2Jb\n")  # Ctrl-V takes the escape as it is
    screen.wait_for("1: a\\x1b[2Jb\n")


def test_a_full_context_in_the_terminal() -> None:
    screen = Screen("--set", "checkpoint=small", "max_tokens=10")
    try:
        screen.ask("a" * 60)
        screen.wait_for("tokens")
        screen.ask("b" * 60)
        screen.wait_for("the model's context is 128: /reset begins anew")
        screen.ask("/reset")
        screen.ask("b" * 60)
        screen.wait_for("1: bbbbbbb")
    finally:
        screen.close()


def test_a_plain_terminal_gets_plain_text() -> None:
    screen = Screen(TERM="dumb")
    try:
        screen.ask("hi")
        screen.wait_for("1: hi\n")
        screen.wait_for("> ")
        assert b"\x1b" not in screen.raw
    finally:
        screen.close()
