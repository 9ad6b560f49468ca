"""The chat as a person meets it: in a pseudo-terminal, with Ctrl-C and Ctrl-D."""

from __future__ import annotations

import json
import pathlib
from collections.abc import Iterator

import pytest
from screen import Screen
from tiny_run import ROOT

CHILD = "chat_child.py"
CTRL_D = "\x04"


@pytest.fixture
def screen(tmp_path: pathlib.Path) -> Iterator[Screen]:
    opened = Screen(CHILD, "--workdir", str(tmp_path / "run"))
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
    screen = Screen(CHILD, "--set", "checkpoint=small", "max_tokens=10")
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
    screen = Screen(CHILD, TERM="dumb")
    try:
        screen.ask("hi")
        screen.wait_for("1: hi\n")
        screen.wait_for("> ")
        assert b"\x1b" not in screen.raw
    finally:
        screen.close()
