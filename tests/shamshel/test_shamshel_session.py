"""Sessions: state between cells, the same limits, and what ends them."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
import shamshel_host

from lilith.shamshel import Limits, Sandbox, Session


@pytest.fixture
def session() -> Iterator[Session]:
    """A session whose limits a loaded machine does not touch."""
    with Sandbox(Limits(wall_s=10, memory_mb=128)).session() as made:
        yield made


def test_state_is_kept_and_the_last_value_shown(session: Session) -> None:
    assert session.run("x = 20\ndef f(): return x + 1").status == "ok"
    run = session.run("f() * 2")
    assert (run.status, run.stdout, run.exit_code, run.state_lost) == ("ok", "42\n", 0, False)
    assert session.run("_ + 1").stdout == "43\n"
    assert session.run("x = 5; None").stdout == ""
    assert session.run(
        "import dataclasses\n@dataclasses.dataclass\nclass A:\n    n: int"
    ).status == ("ok")
    assert session.run("A(3)").stdout == "A(n=3)\n"


def test_an_error_keeps_the_state_and_shows_the_cell_only(session: Session) -> None:
    session.run("x = 1")
    run = session.run("y = 2\n1 / 0")
    assert (run.status, run.exit_code, run.state_lost) == ("error", 1, False)
    assert run.stderr.startswith('Traceback (most recent call last):\n  File "<cell 2>", line 2')
    assert "1 / 0" in run.stderr
    assert "worker" not in run.stderr
    assert session.run("x + y").stdout == "3\n"
    assert session.run("def").status == "error"
    assert session.run("raise SystemExit(3)").status == "error"
    assert session.run("exit()").status == "ok"
    assert session.run("x").stdout == "1\n"
    assert session.run("a\0b").status == "error"
    assert session.run("").status == "ok"


@pytest.mark.parametrize(
    ("cell", "status"),
    [
        ("while True: pass", "timeout"),
        ("x = []\nwhile True: x.append(bytearray(b'1') * (1 << 20))", "memory"),
        ("while True: print('x' * 1000)", "output"),
        ("import os; os._exit(0)", "error"),
        ("import os; os.kill(os.getpid(), 9)", "killed"),
        ("import os; os.close(4)", "error"),
        ("import os; os.write(4, b'\\0\\0\\0\\x041:ok' * 3)", "output"),
        ("import os; os.write(4, b'\\xff' * 100)", "output"),
    ],
)
def test_what_breaks_a_limit_ends_the_process_and_the_next_cell_begins_anew(
    cell: str, status: str
) -> None:
    with Sandbox(Limits(wall_s=1.5, memory_mb=96)).session() as session:
        session.run("x = 1")
        run = session.run(cell)
        assert (run.status, run.state_lost) == (status, True)
        run = session.run("'x' in dir()")
        assert (run.status, run.stdout, run.state_lost) == ("ok", "False\n", True)
        assert session.run("1").state_lost is False


def test_a_forged_answer_does_not_answer_the_next_cell(session: Session) -> None:
    session.run("import os, threading, time\nflag = threading.Event()")
    session.run(
        "def late():\n    flag.wait()\n    os.write(4, b'\\0\\0\\0\\x042:ok')\n"
        "threading.Thread(target=late).start()"
    )
    run = session.run("flag.set(); time.sleep(0.5); print('real')")
    assert (run.status, run.state_lost) == ("error", True)
    assert session.run("print('next')").stdout == "next\n"


def test_memory_is_caught_within_the_cell(session: Session) -> None:
    session.run("x = 1")
    run = session.run("bytearray(10**12)")
    assert (run.status, run.state_lost) == ("memory", False)
    assert session.run("x").stdout == "1\n"


def test_limits_are_counted_cell_by_cell() -> None:
    with Sandbox(Limits(wall_s=5, cpu_s=1, output_kb=1)).session() as session:
        spin = "import time\ne = time.process_time() + 0.4\nwhile time.process_time() < e: pass"
        for _ in range(4):
            assert session.run(spin).status == "ok"
            assert session.run("print('x' * 800)").status == "ok"
        run = session.run("print('x' * 2000)")
        assert (run.status, run.cut) == ("output", ("stdout",))


def test_each_cell_hands_back_what_it_wrote(session: Session) -> None:
    assert session.run("open('a', 'w').write('1'); open('b', 'w').write('2')").files == {
        "a": b"1",
        "b": b"2",
    }
    assert session.run("x = 1").files == {}
    assert session.run("open('b', 'a').write('3')").files == {"b": b"23"}


def test_an_interrupted_cell_does_not_answer_the_next(
    session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    session.run("x = 1")

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("lilith.shamshel.wire.receive", interrupt)
        with pytest.raises(KeyboardInterrupt):
            session.run("print('late')")
    run = session.run("print('x' in dir())")
    assert (run.stdout, run.state_lost) == ("False\n", True)


def test_reset_and_close(session: Session) -> None:
    session.run("x = 1")
    session.reset()
    run = session.run("'x' in dir()")
    assert (run.stdout, run.state_lost) == ("False\n", False)
    session.close()
    session.close()
    with pytest.raises(ValueError, match="closed"):
        session.run("1")


def test_a_closed_session_leaves_nothing() -> None:
    host = shamshel_host.Host()
    try:
        box = Sandbox(Limits(wall_s=10))
        box.run("")
        before = host.settled_state()
        session = box.session()
        session.run(
            "import subprocess, sys\np = subprocess.Popen([sys.executable, '-c', 'input()'])"
        )
        during = host.settled_state()
        assert during["processes"] > before["processes"]
        session.close()
        assert host.changes(before) == []
    finally:
        host.close()


def test_what_runs_on_between_cells_is_held_to_the_limits() -> None:
    with Sandbox(Limits(wall_s=5, cpu_s=0.3)).session() as session:
        session.run("import threading\ndef spin():\n    while True: pass")
        session.run("threading.Thread(target=spin, daemon=True).start()")
        time.sleep(1.5)
        run = session.run("1")
        assert (run.status, run.state_lost) == ("timeout", True)
