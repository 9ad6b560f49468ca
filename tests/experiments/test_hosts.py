"""The watch of processes over each other, over real connections within one process."""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Iterator
from typing import Any

import pytest

from experiments import hosts
from experiments.hosts import RESTART, Hosts
from experiments.roll_call import Wire

NAMES = ["process 0 (a)", "process 1 (b)", "process 2 (c)"]


class Ended(BaseException):
    """Instead of the end of a process."""


class Watch(Hosts):
    """One that notes its end instead of ending."""

    end: tuple[str, int] | None = None

    def _watch(self) -> None:
        with contextlib.suppress(Ended):  # a thread may see the end after the test that wanted it
            super()._watch()

    def _end(self, sentence: str, code: int) -> Any:
        self.end = self.end or (sentence, code)
        self._closed.set()
        for wire in self._wires.values():
            wire.close()
        raise Ended


@pytest.fixture
def three(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Watch]]:
    """Three processes that watch over each other; a second of silence is too long."""
    monkeypatch.setattr(hosts, "TICK", 0.05)
    monkeypatch.setattr(hosts, "LONGEST_LOOK", 0.25)
    monkeypatch.setattr(hosts, "REPEAT_SECONDS", 0.1)
    pairs = [socket.socketpair() for _ in (1, 2)]
    first = Watch(0, NAMES, {n + 1: Wire(pair[0]) for n, pair in enumerate(pairs)}, 1.0)
    others = [Watch(n + 1, NAMES, {0: Wire(pair[1])}, 1.0) for n, pair in enumerate(pairs)]
    yield [first, *others]
    for watch in (first, *others):
        watch._closed.set()


def wait_for(reached: Any, seconds: float = 60.0) -> None:
    end = time.monotonic() + seconds
    while not reached():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_a_closed_connection_stops_all_with_its_name(three: list[Watch]) -> None:
    for watch in three[:2]:
        watch.start()
    three[2]._wires[0].send({"doing": "step 7"})
    wait_for(lambda: 2 in three[0]._others_doing)
    three[2]._wires[0].close()
    wait_for(lambda: three[0].end and three[1].end)
    assert three[0].end == three[1].end
    sentence, code = three[0].end or ("", 0)
    assert code == RESTART
    assert sentence.startswith("process 2 (c) is lost: its connection closed")
    assert "(last known to be at: step 7)" in sentence


@pytest.mark.parametrize("silent", [0, 2])
def test_silence_stops_all_with_the_name(three: list[Watch], silent: int) -> None:
    rest = [watch for watch in three if watch.process != silent]
    for watch in rest:
        watch.start()
    wait_for(lambda: all(watch.end for watch in rest))
    for watch in rest:
        sentence, code = watch.end or ("", 0)
        assert sentence.startswith(f"{NAMES[silent]} is lost: it gave no sign of life for 1 s")
        assert code == RESTART


def test_none_that_lives_is_lost(three: list[Watch]) -> None:
    for watch in three:
        watch.start()
    wait_for(lambda: all(watch._clock > 2.0 for watch in three))
    assert [watch.end for watch in three] == [None] * 3
    assert 0.0 <= three[1].heartbeat_age() < 1.0


def test_time_in_which_this_process_stood_still_does_not_count(
    three: list[Watch], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As after SIGCONT: the clock jumps, and what the others sent is read only then."""
    jump = 0.0
    monotonic = time.monotonic
    monkeypatch.setattr(hosts.time, "monotonic", lambda: monotonic() + jump)
    for watch in three:
        watch.start()
    wait_for(lambda: all(watch._clock > 0.2 for watch in three))
    jump = 3600.0
    wait_for(lambda: all(watch._clock > 1.0 for watch in three))
    assert [watch.end for watch in three] == [None] * 3


@pytest.mark.parametrize(("code", "repeated"), [(2, 2), (130, 130), (1, RESTART), (75, RESTART)])
def test_the_error_of_one_is_repeated_by_the_others(
    three: list[Watch], code: int, repeated: int
) -> None:
    for watch in three:
        watch.start()
    with pytest.raises(Ended):
        three[1].fail("data.length is 0", code, patience=0.0)
    wait_for(lambda: three[0].end and three[2].end)
    assert three[1].end == ("data.length is 0", code)
    assert three[0].end == three[2].end == ("process 1 (b) stopped: data.length is 0", repeated)


def test_figures_that_differ_name_the_process_once(three: list[Watch]) -> None:
    for watch in three:
        watch.start()
    for step in (1, 2, 3):
        for watch in three:
            wrong = watch.process == 2 and step > 1
            watch.compare(f"step {step}", "loss 2.5" if wrong else "loss 2.0")
    found: list[str] = []
    wait_for(lambda: found.extend(three[0].differences()) or found)
    wait_for(lambda: not three[0]._figures)
    found += three[0].differences()
    assert len(found) == 1
    assert found[0].startswith(
        "process 2 (c) has other figures of step 2 (loss 2.5) than process 0 (a) (loss 2.0)"
    )


def test_all_leave_when_the_last_has_done_its_work(three: list[Watch]) -> None:
    import threading

    for watch in three:
        watch.start()
    leaving = [threading.Thread(target=watch.leave) for watch in three]
    for thread in leaving[:2]:
        thread.start()
    time.sleep(0.3)
    assert all(thread.is_alive() for thread in leaving[:2])
    leaving[2].start()
    for thread in leaving:
        thread.join(60)
        assert not thread.is_alive()
    assert [watch.end for watch in three] == [None] * 3
