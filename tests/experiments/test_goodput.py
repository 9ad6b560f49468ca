"""The share of wall time in steps that count, over restarts."""

from __future__ import annotations

import pytest

from experiments import goodput
from experiments.goodput import Goodput


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Seconds, in a list of one; the command began at 0."""
    monkeypatch.setattr(goodput, "_began", 0.0)
    return [0.0]


def of(clock: list[float], records: list[dict[str, float]] | None = None, step: int = 0) -> Goodput:
    return Goodput(records or [], step, lambda: clock[0])


def test_only_steps_after_the_first_count(clock: list[float]) -> None:
    clock[0] = 10.0  # start-up
    meter = of(clock)
    for now in (20.0, 22.0, 24.0):  # the first compiles
        clock[0] = now
        meter.step()
    assert meter.figures() == {
        "goodput": pytest.approx(4 / 24), "useful_seconds": 4.0, "wall_seconds": 24.0
    }  # fmt: skip


def test_pauses_do_not_count(clock: list[float]) -> None:
    meter = of(clock)
    with meter.paused():  # before any step
        clock[0] = 5.0
    meter.step()
    clock[0] = 6.0
    with meter.paused():
        clock[0] = 16.0
    clock[0] = 17.0
    meter.step()
    assert meter.figures()["useful_seconds"] == 2.0
    assert meter.figures()["wall_seconds"] == 17.0


def test_steps_that_are_done_again_count_once(clock: list[float]) -> None:
    records = [
        {"step": 5, "useful_seconds": 50.0, "wall_seconds": 60.0},
        {"step": 10, "useful_seconds": 100.0, "wall_seconds": 120.0},
        {"step": 13, "useful_seconds": 130.0, "wall_seconds": 150.0},
    ]
    meter = of(clock, records, step=10)
    for now in (10.0, 20.0, 30.0, 40.0):
        clock[0] = now
        meter.step()
    assert meter.figures() == {
        "goodput": pytest.approx(130 / 190), "useful_seconds": 130.0, "wall_seconds": 190.0
    }  # fmt: skip


def test_records_of_older_runs_have_no_such_figures(clock: list[float]) -> None:
    clock[0] = 1.0
    assert of(clock, [{"step": 3, "loss": 1.0}], step=3).figures()["wall_seconds"] == 1.0
