"""Work that hangs ends the process, and says where every thread stood."""

from __future__ import annotations

import pathlib
import signal
import subprocess
import sys
import time

import pytest
from tiny_run import ROOT

from experiments.evaluate_config import EvaluateConfig
from experiments.run import main
from lilith.config import ConfigError, TrainConfig

CHILD = """
import sys, threading, time
from experiments.watchdog import Watchdog

def stuck_for_ever():
    threading.Event().wait()

threading.Thread(target=stuck_for_ever, daemon=True).start()
with Watchdog(float(sys.argv[1])) as watchdog:
    for step in range(5):
        watchdog.working(f"step {step}")
        time.sleep(float(sys.argv[2]))
    print("through", flush=True)
    watchdog.working("step 5")
    time.sleep(float(sys.argv[3]))
print("done", flush=True)
"""


def start(*seconds: float) -> subprocess.Popen[str]:
    words = [str(number) for number in seconds]
    return subprocess.Popen(
        [sys.executable, "-c", CHILD, *words],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_a_hung_step_ends_with_the_stacks_of_all_threads() -> None:
    child = start(2.0, 0.0, 3600.0)
    out, err = child.communicate(timeout=120)
    assert child.returncode == 75
    assert out == "through\n"
    assert "step 5 hangs; what the threads of this process do:" in err
    assert "in stuck_for_ever" in err
    assert "in <module>" in err
    last = err.strip().splitlines()[-1]
    assert last.startswith("error: step 5 took more than 2 s (train.hang_seconds)")
    assert "goes on from the last checkpoint" in last


GROUPS = """
import pathlib, sys, time
from experiments.json_lines import grow

def make(part):
    time.sleep(3600.0 if part.start else 0.0)
    return [{"prompt": str(i)} for i in range(part.start, part.stop)]

path = pathlib.Path(sys.argv[1])
grow(path, [str(i) for i in range(4)], make, group=2, what="answers", hang_seconds=2.0)
"""
COUNTED = """
import time
from experiments.watchdog import Watchdog

with Watchdog(2.0, field="hang_seconds", again="again") as watchdog:
    report = watchdog.counted("answer", lambda done, total, words: print(done, total, words))
    report(1, 3, "right")
    report(2, 3, "wrong")
    time.sleep(3600.0)
"""


def ends(program: str, *words: str) -> tuple[int, str, str]:
    ended = subprocess.run(
        [sys.executable, "-c", program, *words], cwd=ROOT, capture_output=True, text=True
    )
    return ended.returncode, ended.stdout, ended.stderr.strip().splitlines()[-1]


def test_a_group_of_texts_that_hangs_ends_and_keeps_those_before(tmp_path: pathlib.Path) -> None:
    code, _, last = ends(GROUPS, str(tmp_path / "made.jsonl"))
    assert code == 75
    assert last.startswith("error: answers, 3 to 4 took more than 2 s (train.hang_seconds)")
    assert "the same command goes on after the last group that was finished" in last
    assert len((tmp_path / "made.jsonl").read_text().splitlines()) == 2


def test_an_answer_of_an_evaluation_that_hangs_ends_it() -> None:
    code, out, last = ends(COUNTED)
    assert (code, out) == (75, "1 3 right\n2 3 wrong\n")
    assert last.startswith("error: answer 3 of 3 took more than 2 s (hang_seconds) in this process")
    assert last.endswith("; again")


def test_many_short_steps_are_no_hang() -> None:
    child = start(3.0, 1.0, 0.0)
    assert child.communicate(timeout=120) == ("through\ndone\n", "")
    assert child.returncode == 0


def test_zero_never_ends() -> None:
    child = start(0.0, 0.0, 1.0)
    assert child.communicate(timeout=120) == ("through\ndone\n", "")


def test_a_stopped_process_does_not_hang() -> None:
    """A laptop that slept, or Ctrl-Z: the time does not count."""
    child = start(5.0, 0.0, 9.0)
    assert child.stdout is not None
    assert child.stdout.readline() == "through\n"
    time.sleep(1)  # until it sleeps: a sleep that begins after the stop lasts all of its time
    child.send_signal(signal.SIGSTOP)
    time.sleep(6)
    child.send_signal(signal.SIGCONT)
    assert child.communicate(timeout=120) == ("done\n", "")
    assert child.returncode == 0


@pytest.mark.parametrize("name", ["hang_seconds", "check_replicas_every"])
def test_impossible_limits_are_refused(name: str) -> None:
    with pytest.raises(ConfigError, match=f"train.{name} is -1; it must be 0 .* or positive"):
        TrainConfig(**{name: -1})


@pytest.mark.parametrize("value", ["0", "-3", "nan", "inf", "soon"])
@pytest.mark.parametrize("option", ["--start-timeout", "--host-timeout"])
def test_impossible_times_are_refused(
    option: str, value: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stopped:
        main([f"{option}={value}"])
    assert stopped.value.code == 2
    assert f"argument {option}: '{value}' is no number of seconds, 1 or more" in (
        capsys.readouterr().err
    )


@pytest.mark.parametrize("value", [-1.0, float("inf"), float("nan")])
def test_an_impossible_limit_of_an_evaluation_is_refused(value: float) -> None:
    with pytest.raises(
        ConfigError, match=r"hang_seconds is .*; it must be 0 .no limit. or positive"
    ):
        EvaluateConfig(hang_seconds=value)
