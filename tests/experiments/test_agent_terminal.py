"""The agent as a person meets it: in a pseudo-terminal, with commands and Ctrl-C."""

from __future__ import annotations

import pathlib
import re
import tempfile
from collections.abc import Iterator

import pytest
from screen import Screen

from lilith.agent import saving

CHILD = "agent_child.py"


@pytest.fixture
def screen(tmp_path: pathlib.Path) -> Iterator[Screen]:
    opened = Screen(CHILD, "--workdir", str(tmp_path / "run"), COLUMNS="80")
    yield opened
    opened.close()


def test_a_conversation(screen: Screen, tmp_path: pathlib.Path) -> None:
    screen.wait_for("loading smollm2-135m-instruct")
    screen.wait_for("fake: 0 parameters")
    screen.wait_for("/help lists the commands")
    screen.ask("price a call")
    screen.wait_for("I will see. \n→ black_scholes(spot=100, strike=105, time=0.5, rate=0.05")
    screen.wait_for("black_scholes: ")
    screen.wait_for("price 4.58168")
    screen.wait_for("It is 4.58168, and not 17.25.\n")
    screen.wait_for("unverified: 17.25 (from no tool, question or arithmetic)\n")
    screen.wait_for("1 call, ")
    screen.ask("/role")
    screen.wait_for("* quant_dev: a quantitative developer")
    screen.wait_for("  hybrid_quant_pm: ")
    screen.ask("/role project_manger")
    screen.wait_for("did you mean 'project_manager'?")
    screen.ask("/role project_manager")
    screen.wait_for("the role is project_manager")
    screen.ask("/trcae")
    screen.wait_for("unknown command '/trcae' (did you mean '/trace'?)")
    saved = tmp_path / "talk.json"
    screen.ask(f"/save {saved}")
    screen.wait_for("saved 1 turn in")
    screen.ask("/reset")
    screen.wait_for("the conversation is empty")
    screen.ask("/trace")
    screen.wait_for("there is no turn yet")
    screen.ask(f"/load {saved}")
    screen.wait_for("going on after 1 turn as project_manager")
    screen.ask("/trace")
    screen.wait_for('→ black_scholes {"spot": 100, ')
    screen.wait_for("  4.58168: from black_scholes\n")
    screen.wait_for("  17.25: unverified")
    screen.ask("/quit")
    assert screen.exit_code() == 0
    # No line of calls and results is longer than the terminal is wide.
    lines = screen.shown.replace("\r", "\n").splitlines()
    figures = [line for line in lines if line.startswith(("→", "  price", "  vega"))]
    assert len(figures) >= 3
    assert max(map(len, figures)) <= 80


def test_ctrl_c_stops_the_answer_and_not_the_program(
    screen: Screen, tmp_path: pathlib.Path
) -> None:
    screen.ask("slow " + "word " * 40 + "end")
    screen.wait_for("You said: slow word word")
    screen.interrupt()
    rest = screen.wait_for("stopped, ")
    assert "end" not in rest
    screen.ask("sleep now")
    screen.wait_for("→ execute_python(")
    screen.interrupt()  # one is enough while a tool runs and nothing is written
    assert "execute_python: " not in screen.wait_for("stopped")  # no result was waited for
    screen.ask("hello you")
    screen.wait_for("You said: hello you\n")
    screen.ask("/save")
    screen.wait_for("saved 3 turns in")
    screen.wait_for("> ")
    screen.interrupt()
    screen.wait_for("Ctrl-C again leaves")
    screen.wait_for("> ")
    screen.interrupt()
    assert screen.exit_code() == 0
    assert "Traceback" not in screen.shown, screen.shown
    (saved,) = (tmp_path / "run").glob("agent-*.json")
    turns = saving.load(saved).turns
    assert [(turn.message.split()[0], turn.ended) for turn in turns] == [
        ("slow", "stopped"), ("sleep", "stopped"), ("hello", "answer"),
    ]  # fmt: skip
    assert turns[0].answer.startswith("You said: slow word")
    assert "end" not in turns[0].answer
    assert turns[1].answer == "I will see."


def test_plans_and_pages(screen: Screen, tmp_path: pathlib.Path) -> None:
    screen.ask("/plan")
    screen.wait_for("no call of plan_project was answered")
    screen.ask("plan a move")
    screen.wait_for("Project: 2026-03-02 to 2026-03-09, 5.167 working days")
    screen.wait_for("critical path: Analyse → Build")
    bars = screen.wait_for("unverified")
    assert re.search(r"Analyse 2026-03-02 2026-03-04 █+·+\n", bars)
    assert re.search(r"Check {3}2026-03-04 2026-03-05 ·+▒+·+\n", bars)
    screen.ask("/plan")
    screen.wait_for("simulated finish: P50 2026-")
    screen.wait_for("Gantt chart: ")
    (chart,) = (tmp_path / "run").glob("plan-*.svg")
    assert chart.read_text().startswith("<svg")
    with tempfile.TemporaryDirectory() as short:  # a longer line would be wrapped by the terminal
        page, notes = pathlib.Path(short, "talk.html"), pathlib.Path(short, "notes.txt")
        screen.ask(f"/page {page}")
        screen.wait_for("wrote 1 turn to")
        assert "plan_project" in page.read_text()
        notes.write_text("mine")
        screen.ask(f"/page {notes}")
        screen.wait_for("is no page; choose another name")
        assert notes.read_text() == "mine"


def test_a_plain_terminal_gets_plain_text(tmp_path: pathlib.Path) -> None:
    screen = Screen(CHILD, "--workdir", str(tmp_path), TERM="dumb", PYTHONIOENCODING="ascii")
    try:
        screen.ask("share of it")
        screen.wait_for('-> calculator(expression="15% of 240")\n')
        screen.wait_for("value 36")
        screen.wait_for("It is 36, and not 17.25.\n")
        screen.ask("accent")
        screen.wait_for("    \\xe9\n")
        screen.wait_for("> ")
        assert b"\x1b" not in screen.raw
    finally:
        screen.close()
